"""A map from a COLMAP model, as text or binary: its cameras, images, poses, keypoints and points.

pycolmap reads it. It takes the counts in a binary file on trust, and one that is cut off keeps it busy for ever or is
read in part, so the length of every record is checked first.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.kapture_text import LARGEST, transform_problem
from gloam.data.query_list import COLMAP_ORIGIN
from gloam.data.scene import Camera, Pose, Record, Scene, SceneFiles
from gloam.data.text import text_lines
from gloam.errors import DataError
from gloam.files import bad_name, read_file
from gloam.runtime.localization.colmap import Triangulation, _pycolmap

PARTS = ("cameras", "images", "points3D")
NO_POINT = np.uint64(2**64 - 1)
SAME = 0.01  # pixels: what COLMAP's text of six digits rounds away


@dataclass(frozen=True)
class ColmapModel:
    """What a model holds.

    Attributes:
        scene: cameras, images and poses; the intrinsics' origin is COLMAP's.
        keypoints: per image float32 ``[n, 2]``, pixels.
        points: of the map, seen by those keypoints.
    """

    scene: Scene
    keypoints: dict[str, npt.NDArray[np.float32]]
    points: Triangulation

    def has_keypoints(self, name: str, keypoints: npt.NDArray[np.float32]) -> bool:
        """Whether an image's keypoints ``[n, 2]`` are the model's own, row by row."""
        own = self.keypoints[name]
        return own.shape == keypoints.shape and bool(np.allclose(own, keypoints, rtol=1e-5, atol=SAME))


def is_colmap_model(folder: Path) -> bool:
    """Whether a folder holds a file of a COLMAP model."""
    return any((folder / f"{part}{suffix}").is_file() for part in PARTS for suffix in (".bin", ".txt"))


def read_colmap_model(folder: str | Path, images: str | Path) -> ColmapModel:
    """Read a model; the binary files where both are there, as COLMAP does.

    Args:
        folder: with ``cameras``, ``images`` and ``points3D``, ``.bin`` or ``.txt``.
        images: folder that the images' names are relative to; its files are not looked at.

    Raises:
        DataError: a file is missing, cut off or malformed, or holds what is no camera, pose or point.
        MissingExtraError: pycolmap is not installed.
    """
    place = Path(folder)
    count = {kind: sum((place / f"{part}{kind}").is_file() for part in PARTS) for kind in (".bin", ".txt")}
    suffix = max(count, key=lambda kind: count[kind])  # of equals the first
    for part in PARTS:
        if not (place / f"{part}{suffix}").is_file():
            raise DataError(
                f"{place}: {part}{suffix} is missing; a COLMAP model is {', '.join(PARTS)}, all .bin or all .txt"
            )
    pc = _pycolmap()
    if suffix == ".bin":
        for part, walk in WALKS.items():
            if (place / f"{part}.bin").is_file():
                _expect_whole(place / f"{part}.bin", walk)
    else:
        _expect_camera_models(place / "cameras.txt", pc)
    try:
        model = pc.Reconstruction(place)
        model.update_point_3d_errors()
        scene = Scene(place, images=Path(images), origin=COLMAP_ORIGIN, files=SceneFiles(*_files(suffix)))
        for number, camera in model.cameras.items():
            scene.cameras[str(number)] = _camera(camera, f"{place / f'cameras{suffix}'}: camera {number}")
        return _filled(scene, model)
    except (ValueError, IndexError, RuntimeError, MemoryError) as error:
        reason = str(error).partition("\n")[0].partition("] ")[2] or str(error).partition("\n")[0]
        raise DataError(f"{place}: pycolmap cannot read this COLMAP model ({reason[:160]}); export it again") from error


def _files(suffix: str) -> tuple[str, str, str]:
    return f"cameras{suffix}", f"images{suffix}", f"images{suffix}"


def _camera(camera: Any, where: str) -> Camera:
    params = tuple(map(float, camera.params))
    focal = [params[index] for index in camera.focal_length_idxs()]
    if not all(0 < side <= LARGEST for side in (camera.width, camera.height)):
        raise DataError(f"{where} has a size of {camera.width}x{camera.height} pixels; export the model again")
    if not focal or not all(map(math.isfinite, params)) or min(focal) <= 0:
        raise DataError(
            f"{where}, {camera.model.name}, has no focal length above 0 among {', '.join(map(str, params))}; give a "
            "model of perspective cameras"
        )
    return Camera(camera.model.name, int(camera.width), int(camera.height), params)


def _filled(scene: Scene, model: Any) -> ColmapModel:
    """Images and points of a model that pycolmap has read."""
    rows = {number: row for row, number in enumerate(sorted(model.point3D_ids()))}
    points = np.array([model.points3D[number].xyz for number in rows], np.float64).reshape(-1, 3)
    where = scene.root / scene.files.images
    if not np.isfinite(points).all():
        number = list(rows)[int(np.argmin(np.isfinite(points).all(axis=1)))]
        raise DataError(f"{scene.root}: point {number} is not finite; remove it from the model")
    twice = [name for name, count in Counter(image.name for image in model.images.values()).items() if count > 1]
    if twice:
        raise DataError(f"{where}: image {twice[0]!r} is there twice; remove one of the two")
    keypoints, observed = {}, {}
    for number, image in sorted(model.images.items()):
        if reason := bad_name(image.name):
            raise DataError(f"{where}: image name {image.name!r} {reason}; rename the image")
        if not image.has_pose:
            continue  # not registered: no part of the map
        rigid = image.cam_from_world()
        x, y, z, w = map(float, rigid.rotation.quat)
        tx, ty, tz = map(float, rigid.translation)
        if reason := transform_problem((w, x, y, z), (tx, ty, tz)):
            raise DataError(f"{where}: image {image.name!r} has no usable pose: {reason}; remove it from the model")
        scene.records[image.name] = Record(str(image.camera_id), number)
        scene.poses[image.name] = Pose((w, x, y, z), (tx, ty, tz))
        seen = image.points2D
        keypoints[image.name] = np.array([point.xy for point in seen], np.float32).reshape(-1, 2)
        ids = np.array([point.point3D_id for point in seen], np.uint64)
        lost = [int(key) for key in np.unique(ids[ids != NO_POINT]) if int(key) not in rows]
        if lost:
            raise DataError(
                f"{where}: image {image.name!r} sees point {lost[0]}, which points3D has not; copy the model again"
            )
        observed[image.name] = np.array([-1 if key == NO_POINT else rows[int(key)] for key in ids], np.int64)
    if not scene.records:
        raise DataError(f"{where}: no image has a pose; give a reconstructed model")
    error = float(model.compute_mean_reprojection_error()) if len(points) else float("nan")
    return ColmapModel(scene, keypoints, Triangulation(points, observed, error))


def _expect_camera_models(path: Path, pc: Any) -> None:
    """Name the line of a camera whose model pycolmap does not know."""
    known = [name for name in pc.CameraModelId.__members__ if name != "INVALID"]
    for number, line in text_lines(path, "a COLMAP model cannot be read"):
        fields = line.split()
        if len(fields) < 2 or fields[1] not in known:
            raise DataError(
                f"{path}:{number}: unknown camera model {''.join(fields[1:2])!r}; choose one of {', '.join(known)}"
            )


class _Records:
    """Walks over a binary file's records; a struct.error where they end beyond it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.content, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.content):
            raise struct.error("ends beyond the file")

    def text(self) -> None:
        end = self.content.find(b"\0", self.at)
        if end < 0:
            raise struct.error("a name has no end")
        self.at = end + 1


def _walk_camera(records: _Records) -> None:
    number, model, _, _ = records.take("IiQQ")
    try:
        count = len(_pycolmap().Camera.create_from_model_id(number, _pycolmap().CameraModelId(model), 1.0, 1, 1).params)
    except ValueError as error:
        raise DataError(f"camera {number} is of the unknown camera model {model}; update pycolmap") from error
    records.skip(8 * count)


def _walk_image(records: _Records) -> None:
    records.skip(4 + 7 * 8 + 4)
    records.text()
    records.skip(24 * records.take("Q")[0])


def _walk_point(records: _Records) -> None:
    records.skip(8 + 3 * 8 + 3 + 8)
    records.skip(8 * records.take("Q")[0])


def _walk_rig(records: _Records) -> None:
    _, sensors = records.take("II")
    if sensors:
        records.skip(8)
    for _ in range(1, sensors):
        *_, posed = records.take("iIB")
        records.skip(56 if posed else 0)


def _walk_frame(records: _Records) -> None:
    records.skip(8 + 7 * 8)
    records.skip(16 * records.take("I")[0])


WALKS: dict[str, Callable[[_Records], None]] = {
    "cameras": _walk_camera,
    "images": _walk_image,
    "points3D": _walk_point,
    "rigs": _walk_rig,
    "frames": _walk_frame,
}


def _expect_whole(path: Path, walk: Callable[[_Records], None]) -> None:
    """Refuse a binary file whose records are not exactly as many bytes as it has."""
    records = _Records(read_file(path))
    done = 0
    try:
        (count,) = records.take("Q")
        for done in range(count):  # noqa: B007  # told where it ends
            walk(records)
    except struct.error as error:
        raise DataError(
            f"{path}: is cut off in record {done + 1}, after {len(records.content)} bytes; copy the model again"
        ) from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if records.at != len(records.content):
        raise DataError(
            f"{path}: {len(records.content) - records.at} bytes follow its last record; copy the model again"
        )
