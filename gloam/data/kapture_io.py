"""Reading and writing kapture 1.1 datasets as :class:`gloam.data.scene.Scene`, and its features.

The ``kapture`` package moves the poses of rigs and is imported on first use.
Features may lie in a kapture tree (``reconstruction/<kind>/<type>``) or in the side-by-side layout of kapture's
recommended datasets (``<type>/<kind>``), as loose files or as one tar.
"""

from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.kapture_text import (
    Transform,
    read_features_type,
    read_records,
    read_sensors,
    read_transforms,
    transform_problem,
)
from gloam.data.scene import Pose, Record, Scene
from gloam.data.sources.files import local_files
from gloam.data.sources.items import IMAGE_SUFFIXES
from gloam.data.sources.tar import tar_members
from gloam.data.text import listed_name, plain_name, text_lines
from gloam.errors import DataError, ImageError, require
from gloam.files import inside, read_file, write_bytes, write_text

EXTENSIONS = {"keypoints": ".kpt", "descriptors": ".desc", "global_features": ".gfeat"}
HEADER = "# kapture format: 1.1"
MODEL_FILES, MODEL_FOLDERS = (
    (".bin", ".txt"),
    (".", "sparse/0", "sparse"),
)  # endings of a COLMAP model's, where they lie


def read_scene(root: str | Path, *, need_poses: bool = False, need_cameras: bool = False) -> Scene:
    """Read the sensors, image records and trajectories of a kapture dataset; rigs become poses of their cameras.

    Args:
        root: folder that holds ``sensors/``.
        need_poses: refuse images without a pose.
        need_cameras: refuse images without intrinsics.

    Raises:
        DataError: no ``sensors.txt`` or image records, or what was needed is missing; a row that is malformed, not
            finite or there twice, with its line.
    """
    folder = Path(root)
    sensors_folder = folder / "sensors"
    for required in ("sensors.txt", "records_camera.txt"):
        if not (sensors_folder / required).is_file():
            what = f"{sensors_folder / required} is missing; {folder} is not a kapture dataset with images"
            raise DataError(f"{what}{_way_in(folder)}")
    scene = Scene(folder, cameras=read_sensors(sensors_folder / "sensors.txt"))
    by_place: dict[tuple[int, str], str] = {}
    for timestamp, camera_id, name in read_records(sensors_folder / "records_camera.txt"):
        scene.records[name] = Record(camera_id, timestamp)
        by_place[timestamp, camera_id] = name
    if (sensors_folder / "trajectories.txt").is_file():
        for place, pose in _poses(sensors_folder).items():
            if place in by_place:
                scene.poses[by_place[place]] = pose
    if not scene.records:
        raise DataError(f"{folder}: records_camera.txt lists no images")
    _require_all(scene, need_poses, need_cameras)
    return scene


def _way_in(folder: Path) -> str:
    """The end of a message: what lies there instead of a kapture dataset, and which commands take it."""
    if not folder.exists() or (folder / "sensors").is_dir():
        return ""
    if folder.is_file():
        found = "it is a file"
    elif any((folder / inner / f"cameras{end}").is_file() for inner in MODEL_FOLDERS for end in MODEL_FILES):
        found = "it holds a COLMAP model"
    elif any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir()):
        found = "it is a folder of images"
    else:
        found = "neither lies a COLMAP model there"
    return (
        f"; {found}. `gloam localize` takes the folder of a COLMAP model as it is, and as --query a list of 'name "
        "MODEL width height parameters'; `gloam extract` takes a folder of images or a list of names"
    )


def beside_intrinsics(place: str | Path) -> bool:
    """Whether images of a place are those of a kapture dataset, whose intrinsics are of the pixels as stored.

    Args:
        place: a dataset, or a folder or file at or below its ``sensors/records_data``. Of a URL it is not known.
    """
    path = Path(place).absolute()
    if os.path.isfile(path / "sensors" / "sensors.txt"):
        return True
    above = (path, *path.parents, path.resolve(), *path.resolve().parents)
    return any(part.name == "records_data" and os.path.isfile(part.parent / "sensors.txt") for part in above)


def _poses(folder: Path) -> dict[tuple[int, str], Pose]:
    """Whole poses of ``trajectories.txt``, those of a rig as poses of its cameras; by timestamp and camera.

    Where a part of a pose or of a mount is not known, there is no pose.
    """
    rows = [(int(time), device, pose) for time, device, pose in _whole(read_transforms(folder / "trajectories.txt"))]
    if (folder / "rigs.txt").is_file():
        rigs = list(_whole(read_transforms(folder / "rigs.txt", of_rig=True)))
        if {rig for rig, _, _ in rigs} & {device for _, device, _ in rows}:
            rows = _without_rigs(folder, rows, rigs)
    return {(time, device): pose for time, device, pose in sorted(rows, key=lambda row: row[:2])}


def _whole(rows: Iterable[tuple[str, str, Transform]]) -> Iterator[tuple[str, str, Pose]]:
    for first, device, (rotation, translation) in rows:
        if rotation is not None and translation is not None:
            (w, x, y, z), (tx, ty, tz) = rotation, translation
            yield first, device, Pose((w, x, y, z), (tx, ty, tz))


def _without_rigs(
    folder: Path, rows: list[tuple[int, str, Pose]], rigs: list[tuple[str, str, Pose]]
) -> list[tuple[int, str, Pose]]:
    require("kapture", "localization", "read the rigs of kapture datasets")
    kapture = importlib.import_module("kapture")
    trajectories, mounts = kapture.Trajectories(), kapture.Rigs()
    for time, device, pose in rows:
        trajectories[time, device] = kapture.PoseTransform(list(pose.quaternion), list(pose.translation))
    for rig, device, pose in rigs:
        mounts[rig, device] = kapture.PoseTransform(list(pose.quaternion), list(pose.translation))
    try:
        kapture.rigs_remove_inplace(trajectories, mounts)
    except (ValueError, IndexError, TypeError, KeyError, AssertionError, RecursionError) as error:
        raise DataError(f"{folder / 'rigs.txt'}: the rigs are malformed ({error}); correct them") from error
    found = []
    for time, device, moved in kapture.flatten(trajectories):
        (w, x, y, z), (tx, ty, tz) = map(float, moved.r_raw), map(float, moved.t_raw)
        found.append((int(time), device, Pose((w, x, y, z), (tx, ty, tz))))
    return found


def _require_all(scene: Scene, need_poses: bool, need_cameras: bool) -> None:
    if need_poses:
        missing = [name for name in scene.names if name not in scene.poses]
        if missing:
            raise DataError(
                f"{scene.root}: {len(missing)} of {len(scene.records)} images have no pose in trajectories.txt, "
                f"first {missing[0]!r}"
            )
    if need_cameras:
        missing = [name for name in scene.names if scene.records[name].camera_id not in scene.cameras]
        if missing:
            raise DataError(
                f"{scene.root}: {len(missing)} of {len(scene.records)} images have no intrinsics in sensors.txt, "
                f"first {missing[0]!r} (camera {scene.records[missing[0]].camera_id!r})"
            )


def write_scene(scene: Scene) -> None:
    """Write sensors, records and trajectories of a scene under its root; images are the caller's.

    Plain text by kapture's format 1.1, sorted, numbers in shortest exact form, each file atomic. A scene without poses
    has no ``trajectories.txt``, and one of an earlier scene goes.

    Raises:
        DataError: a name that the format cannot hold, a pose that is not finite, or two images of one timestamp and
            camera, of which a reader would see one.
    """
    places: dict[Record, str] = {}
    sensors = [HEADER, "# sensor_id, name, sensor_type, [sensor_params]+"]
    for key in sorted(scene.cameras):
        camera = scene.cameras[key]
        numbers = ", ".join(repr(value.item() if isinstance(value, np.generic) else value) for value in camera.params)
        sensors.append(f"{key}, {key}, camera, {camera.model}, {camera.width}, {camera.height}, {numbers}")
    known = sorted({record.camera_id for record in scene.records.values()} - set(scene.cameras))
    sensors += [f"{key}, {key}, camera, UNKNOWN_CAMERA, 0, 0" for key in known]
    records = [HEADER, "# timestamp, device_id, image_path"]
    trajectories = [HEADER, "# timestamp, device_id, qw, qx, qy, qz, tx, ty, tz"]
    ordered = sorted(scene.records.items(), key=lambda item: (item[1].timestamp, item[1].camera_id, item[0]))
    for name, record in ordered:
        inside(scene.root, name)
        if "," in name:
            raise DataError(f"image name {name!r} contains a comma, which kapture's text files cannot hold; rename it")
        if places.setdefault(record, name) != name:
            raise DataError(
                f"{scene.root}: {places[record]!r} and {name!r} are of one camera {record.camera_id!r} and timestamp "
                f"{record.timestamp}; give them different timestamps"
            )
        records.append(f"{record.timestamp}, {record.camera_id}, {name}")
        if name in scene.poses:
            pose = scene.poses[name]
            if reason := transform_problem(pose.quaternion, pose.translation):
                raise DataError(f"{scene.root}: image {name!r} has no usable pose: {reason}; leave it out")
            numbers = ", ".join(repr(float(value)) for value in (*pose.quaternion, *pose.translation))
            trajectories.append(f"{record.timestamp}, {record.camera_id}, {numbers}")
    folder = scene.root / "sensors"
    write_text(folder / "sensors.txt", "\n".join(sensors) + "\n")
    write_text(folder / "records_camera.txt", "\n".join(records) + "\n")
    if len(trajectories) > 2:
        write_text(folder / "trajectories.txt", "\n".join(trajectories) + "\n")
    else:
        (folder / "trajectories.txt").unlink(missing_ok=True)  # an earlier scene's poses are none of this one's


def read_rig(root: Path) -> dict[str, Pose]:
    """From a rig to its sensors, by sensor id; empty where a kapture dataset has none, or several.

    Raises:
        DataError: a malformed ``rigs.txt``.
    """
    path = root / "sensors" / "rigs.txt"
    rows = list(_whole(read_transforms(path, of_rig=True))) if path.is_file() else []
    return {sensor: pose for _, sensor, pose in rows} if len({rig for rig, _, _ in rows}) == 1 else {}


def write_rig(root: Path, name: str, mounts: Mapping[str, Pose]) -> None:
    """Write ``rigs.txt`` of a kapture dataset with one rig.

    Args:
        name: of the rig; mounts: from the rig to its sensors, by sensor id.
    """
    rows = [HEADER, "# rig_id, sensor_id, qw, qx, qy, qz, tx, ty, tz"]
    for sensor, pose in sorted(mounts.items()):
        rows.append(f"{name}, {sensor}, " + ", ".join(map(repr, (*pose.quaternion, *pose.translation))))
    write_text(root / "sensors" / "rigs.txt", "\n".join(rows) + "\n")


@dataclass
class FeatureFolder:
    """The features of one kind and type: ``.array(name)`` is ``[n, dsize]`` of the stored dtype.

    Attributes:
        folder: where the files or the tar lie.
        kind: ``keypoints``, ``descriptors`` or ``global_features``.
        feature_type: kapture's type name, from the configuration file.
    """

    folder: Path
    kind: str
    feature_type: str
    dtype: Any
    dsize: int
    names: list[str]
    _members: dict[str, tuple[int, int]] | None = field(default=None, repr=False)  # of the tar: offset and size

    def array(self, name: str) -> npt.NDArray[Any]:
        """Features of one image, ``[n, dsize]``.

        Raises:
            DataError: no features for that image, a file of a length that does not fit, or values that are not finite.
        """
        filename = name + EXTENSIONS[self.kind]
        try:
            if self._members is not None:
                offset, size = self._members[filename]
                content = local_files.read(str(self.folder / f"{self.kind}.tar"), offset, size)
            else:
                content = read_file(inside(self.folder, filename))
            values = np.frombuffer(content, dtype=self.dtype).reshape(-1, self.dsize)
        except (OSError, KeyError, ImageError) as error:
            raise DataError(f"{self.folder}: no {self.kind} for image {name!r}") from error
        except ValueError as error:
            raise DataError(f"{self.folder / filename}: length is not a multiple of {self.dsize} values") from error
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(wrong):
            raise DataError(
                f"{self.folder / filename}: {len(wrong)} of {len(values)} {self.kind} are not finite, first in row "
                f"{wrong[0]}; extract this image again"
            )
        return values


def open_features(root: str | Path, kind: str, feature_type: str | None = None) -> FeatureFolder:
    """Find the features of one kind below ``root``.

    Args:
        root: a kapture dataset, the folder of one type, or the folder that holds ``<kind>.txt`` itself.
        kind: ``keypoints``, ``descriptors`` or ``global_features``.
        feature_type: needed where a dataset holds several types.

    Raises:
        DataError: none or several found; the message lists the choices.
    """
    top = Path(root)
    candidates: dict[str, Path] = {}
    for config in (top / f"{kind}.txt", top / kind / f"{kind}.txt"):
        if config.is_file():
            candidates[feature_type or top.name] = config
    for config in sorted((top / "reconstruction" / kind).glob(f"*/{kind}.txt")):
        candidates[config.parent.name] = config
    if feature_type is not None:
        candidates = {key: value for key, value in candidates.items() if key == feature_type}
    if len(candidates) != 1:
        found = ", ".join(sorted(candidates)) or "none"
        raise DataError(f"{top}: need one type of {kind}, found {found}; name one of them or check the folder")
    name, config = next(iter(candidates.items()))
    _, dtype, dsize = read_features_type(config, kind)
    folder = config.parent
    tar_path = folder / f"{kind}.tar"
    members = None
    suffix = EXTENSIONS[kind]
    if tar_path.is_file():
        members = tar_contents(tar_path, suffix)
        names = sorted(item[: -len(suffix)] for item in members)
    else:
        names = sorted(
            path.relative_to(folder).as_posix()[: -len(suffix)] for path in folder.rglob(f"*{suffix}") if path.is_file()
        )
    return FeatureFolder(folder, kind, name, dtype, dsize, names, members)


def tar_contents(path: Path, suffix: str) -> dict[str, tuple[int, int]]:
    """Offset and size of every file of features in a tar; of one that is there twice, the later."""
    found = {}
    for name, offset, size, problem in tar_members(local_files, str(path), {}, (suffix,)):
        if problem is not None:
            raise DataError(f"{path}: {name}: {problem}; pack the features again")
        found[plain_name(name)] = (offset, size)
    return found


def read_global_features(
    root: str | Path, feature_type: str | None = None
) -> tuple[list[str], npt.NDArray[np.float32], str]:
    """All global features below ``root``.

    Returns:
        image names (sorted), float32 ``[n, D]`` as stored (not normalised), and the type's name.
    """
    features = open_features(root, "global_features", feature_type)
    matrix = np.empty((len(features.names), features.dsize), np.float32)
    for row, name in enumerate(features.names):
        values = features.array(name).reshape(-1)
        if values.size != features.dsize:
            raise DataError(f"{features.folder}: {name!r} has {values.size} values, {features.dsize} are declared")
        matrix[row] = values
    return features.names, matrix, features.feature_type


def write_global_features(
    root: str | Path,
    feature_type: str,
    rows: Iterable[tuple[str, npt.NDArray[np.floating[Any]]]],
    dimension: int,
    dtype: str = "float32",
    metric: str = "L2",
    without: Iterable[str] = (),
) -> int:
    """Write ``.gfeat`` files and their configuration into a kapture tree, streamed.

    Args:
        root: kapture dataset folder.
        feature_type: name of the type; the folder under ``reconstruction/global_features``.
        rows: pairs of image name and descriptor ``[D]``.
        dimension: D.
        dtype, metric: as kapture's configuration states them; ``L2`` of unit vectors orders like cosine.
        without: images that have no descriptor; what an earlier run wrote of them is removed.

    Returns:
        number of descriptors written.

    Raises:
        DataError: a descriptor that is not finite, also when it is of ``dtype``; or a name that leaves the folder.
    """
    folder = inside(Path(root) / "reconstruction" / "global_features", feature_type)
    count = 0
    for name, descriptor in rows:
        with np.errstate(over="ignore"):
            values = np.asarray(descriptor, np.dtype(dtype).newbyteorder("<"))
        if not np.isfinite(values).all():
            raise DataError(f"image {name!r}: its descriptor is not finite as {dtype}; describe the image again")
        write_bytes(inside(folder, name + ".gfeat"), values.tobytes())
        count += 1
    for name in without:
        inside(folder, name + ".gfeat").unlink(missing_ok=True)
    config = f"{HEADER}\n# name, dtype, dsize, metric_type\n{feature_type}, {dtype}, {dimension}, {metric}\n"
    write_text(folder / "global_features.txt", config)
    return count


class LocalFeatureReader:
    """Keypoints and descriptors of a kapture feature type, by image name."""

    def __init__(self, keypoints: FeatureFolder, descriptors: FeatureFolder) -> None:
        self.feature_type = keypoints.feature_type
        both = set(keypoints.names) & set(descriptors.names)
        self.names, self._both = sorted(both), both
        self.folders = (keypoints.folder, descriptors.folder)
        self.dimension = descriptors.dsize
        self._keypoints = keypoints
        self._descriptors = descriptors

    def __contains__(self, name: str) -> bool:
        """Whether an image has both."""
        return name in self._both

    def keypoints(self, name: str) -> npt.NDArray[np.float32]:
        """float32 ``[n, 2+]``: x, y in pixels as stored (kapture never shifts the pixel origin), then extras."""
        return self._keypoints.array(name).astype(np.float32)

    def descriptors(self, name: str) -> npt.NDArray[np.float32]:
        """float32 ``[n, D]`` in the order of the keypoints."""
        return self._descriptors.array(name).astype(np.float32)


def read_local_features(
    root: str | Path, names: Sequence[str] | None = None, keypoints_type: str | None = None
) -> LocalFeatureReader:
    """Open local features below ``root``.

    Args:
        root: a kapture dataset or the folder of one type.
        names: images that must have features; a missing one is a DataError.
        keypoints_type: needed where several types are present.
    """
    reader = LocalFeatureReader(
        open_features(root, "keypoints", keypoints_type), open_features(root, "descriptors", keypoints_type)
    )
    missing = sorted(set(names or ()) - set(reader.names))
    if missing:
        raise DataError(f"{root}: {len(missing)} images have no local features, first {missing[0]!r}")
    return reader


def read_image_list(path: str | Path) -> list[str]:
    """Image names of a text list, one a line, as :mod:`gloam.data.text` reads them.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or names an image twice.
    """
    names = [listed_name(line) for _, line in text_lines(Path(path), "the image list cannot be read")]
    if len(names) != len(set(names)):
        repeated = Counter(names).most_common(1)[0][0]
        raise DataError(f"{path}: image {repeated!r} is listed twice")
    return names


def read_conditions(folder: str | Path) -> dict[str, list[str]]:
    """Image lists per condition: every ``<condition>.txt`` of a folder.

    Raises:
        DataError: the folder holds no list.
    """
    lists = {path.stem: read_image_list(path) for path in sorted(Path(folder).glob("*.txt"))}
    if not lists:
        raise DataError(f"{folder}: no <condition>.txt image lists found")
    return lists
