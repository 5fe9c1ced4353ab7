"""A look-alike in the form in which the benchmark's authors give it: models, lists, and text files of the cameras."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gloam.data.localization_sets.aachen import CONDITIONS, IMAGES, MODELS, QUERIES
from gloam.data.localization_sets.colmap_poses import MODELS as CAMERA_MODELS
from gloam.data.localization_sets.dataset import SetName
from gloam.data.localization_sets.look_alike.views import SetPlan, View
from gloam.data.localization_sets.robotcar import CAMERAS, REFERENCE, SCORED
from gloam.data.localization_sets.robotcar_original import MERGED, TEST, TRAIN
from gloam.data.localization_sets.robotcar_original import MODELS as LOCATION_MODELS
from gloam.data.localization_sets.robotcar_original import QUERIES as LOCATION_QUERIES
from gloam.data.scene import Camera, Pose
from gloam.files import write_bytes, write_text


def original_image(root: Path, name: SetName, view: View) -> Path:
    """Where an image lies in the authors' form."""
    return root / (IMAGES[0] if name == "aachen-v1.1" else "images") / view.name


def write_original(root: Path, plan: SetPlan) -> None:
    """Write all but the images."""
    _WRITERS[plan.name](root, plan)


def _write_aachen(root: Path, plan: SetPlan) -> None:
    mapping = [view for view in plan.views if view.part == "mapping"]
    folder = root / "3D-models" / MODELS[0]
    cameras, images = [struct.pack("<Q", len(mapping))], [struct.pack("<Q", len(mapping))]
    for number, view in enumerate(mapping, 1):
        camera, pose = plan.camera(view), plan.world_pose(view)
        form = f"<IiQQ{len(camera.params)}d"
        model = CAMERA_MODELS.index(camera.model)
        cameras.append(struct.pack(form, number, model, camera.width, camera.height, *camera.params))
        images.append(struct.pack("<I7dI", number, *pose.quaternion, *pose.translation, number))
        images.append(view.name.encode() + b"\0" + struct.pack("<Q", 0))
    write_bytes(folder / "cameras.bin", b"".join(cameras))
    write_bytes(folder / "images.bin", b"".join(images))
    write_bytes(folder / "points3D.bin", struct.pack("<Q", 0))
    for condition in CONDITIONS:
        asked = [view for view in plan.views if view.part == f"query_{condition}"]
        rows = [f"{view.name} {_intrinsics(plan.camera(view))}" for view in asked]
        _write_lines(root / "queries" / QUERIES.format(condition), rows)


def _write_robotcar(root: Path, plan: SetPlan) -> None:
    cameras = next(iter(plan.cameras.values()))
    for key in CAMERAS:
        values = zip(("fx", "fy", "cx", "cy"), cameras[key].params, strict=True)
        _write_lines(root / "intrinsics" / f"{key}_intrinsics.txt", (f"{name} {value!r}" for name, value in values))
        matrix = _from_camera(plan.rig[key]).tolist()
        _write_lines(root / "extrinsics" / f"{key}_extrinsics.txt", (",".join(map(repr, row)) for row in matrix))
    mapping = [view for view in plan.views if view.visit == REFERENCE]
    training = [view for view in plan.views if view.posed and view.visit != REFERENCE]
    asked = [view for view in plan.views if view.visit != REFERENCE]
    for street in range(len(plan.streets)):
        here = [view for view in mapping if view.street == street]
        _write_location(root / LOCATION_MODELS / f"{street + 1:03d}_aligned", plan, cameras, here)
        names = [view.name for view in asked if view.street == street]
        if names:
            _write_lines(root / LOCATION_QUERIES / f"queries_location_{street + 1:03d}.txt", names)
    rows = ["NVM_V3", "", str(len(mapping))]
    for view in mapping:
        pose, focal = plan.world_pose(view), plan.camera(view).params[0]
        numbers = " ".join(map(repr, (focal, *pose.quaternion, *pose.center.tolist())))
        rows.append(f"./{_png(view.name)} {numbers} 0 0")
    _write_lines(root / MERGED, [*rows, "", "0", "0"])
    if plan.name == "robotcar-v2":
        matrices = ((view.name, _from_camera(plan.world_pose(view)).ravel().tolist()) for view in training)
        _write_lines(root / TRAIN, (f"{_png(name)} {' '.join(map(repr, values))}" for name, values in matrices))
        tested = (view.name for view in asked if "query" in view.part and view.camera_id == SCORED)
        _write_lines(root / TEST, map(_png, tested))


def _write_location(folder: Path, plan: SetPlan, cameras: Mapping[str, Camera], views: list[View]) -> None:
    """A location's model as text; its cameras are 1 to 3."""
    numbers = {key: number for number, key in enumerate(CAMERAS, 1)}
    _write_lines(folder / "cameras.txt", (f"{number} {_intrinsics(cameras[key])}" for key, number in numbers.items()))
    rows = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME"]
    for number, view in enumerate(views, 1):
        pose = plan.world_pose(view)
        values = " ".join(map(repr, (*pose.quaternion, *pose.translation)))
        rows += [f"{number} {values} {numbers[view.camera_id]} {_png(view.name)}", ""]
    _write_lines(folder / "images.txt", rows)
    _write_lines(folder / "points3D.txt", ["# no points"])


def _from_camera(pose: Pose) -> npt.NDArray[np.float64]:
    """Matrix float64 ``[4, 4]`` from the camera to the world."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = pose.rotation.T, pose.center
    return matrix


def _intrinsics(camera: Camera) -> str:
    return f"{camera.model} {camera.width} {camera.height} {' '.join(map(repr, camera.params))}"


def _png(name: str) -> str:
    return f"{name.removesuffix('.jpg')}.png"


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    write_text(path, "\n".join(lines) + "\n")


_WRITERS: dict[SetName, Callable[[Path, SetPlan], None]] = {
    "aachen-v1.1": _write_aachen,
    "robotcar-v1": _write_robotcar,
    "robotcar-v2": _write_robotcar,
}
