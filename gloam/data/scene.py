"""Scene: the cameras, images and poses of one kapture dataset, as plain numpy-friendly values.

Poses are world to camera, as in kapture and COLMAP: ``x_camera = R x_world + t``. Quaternions are (w, x, y, z).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """Intrinsics with COLMAP's model names and parameter order, in pixels."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class Pose:
    """A rigid transform from world to camera.

    Attributes:
        quaternion: unit quaternion (w, x, y, z).
        translation: (x, y, z) in metres.
    """

    quaternion: tuple[float, float, float, float]
    translation: tuple[float, float, float]

    @property
    def rotation(self) -> Array:
        """Rotation matrix float64 ``[3, 3]``."""
        w, x, y, z = np.asarray(self.quaternion) / np.linalg.norm(self.quaternion)
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )

    @property
    def center(self) -> Array:
        """Camera centre in the world, float64 ``[3]``, metres."""
        center: Array = -self.rotation.T @ np.asarray(self.translation)
        return center

    @classmethod
    def from_matrix(cls, rotation: npt.ArrayLike, translation: npt.ArrayLike) -> Pose:
        """Pose of a rotation matrix ``[3, 3]`` and a translation ``[3]``.

        The quaternion is the eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack 2000), which is
        stable at every angle; its first non-zero entry is positive.
        """
        r = np.asarray(rotation, np.float64)
        t = np.asarray(translation, np.float64).reshape(3)
        k = np.array(
            [
                [r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
                [0, r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
                [0, 0, r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1]],
                [0, 0, 0, r[2, 2] - r[0, 0] - r[1, 1]],
            ]
        )
        q = np.linalg.eigh(k, UPLO="U")[1][:, -1]
        leading = q[np.argmax(np.abs(q) > 1e-9)]
        q = q if leading > 0 else -q
        return cls(
            (float(q[0]), float(q[1]), float(q[2]), float(q[3])),
            (float(t[0]), float(t[1]), float(t[2])),
        )

    @property
    def inverse(self) -> Pose:
        """The transform the other way, from camera to world."""
        return Pose.from_matrix(self.rotation.T, self.center)

    def seen_from(self, mount: Pose) -> Pose:
        """Pose of a camera on a rig whose pose this is.

        Args:
            mount: from the rig to the camera.
        """
        translation = mount.rotation @ np.asarray(self.translation) + np.asarray(mount.translation)
        return Pose.from_matrix(mount.rotation @ self.rotation, translation)

    def rounded(self) -> Pose:
        """To twelve decimals: the last bits of a computed pose differ between processors."""
        parts = (tuple(round(float(value), 12) for value in part) for part in (self.quaternion, self.translation))
        return Pose(*parts)  # type: ignore[arg-type]  # of four and three

    def transform(self, points: npt.ArrayLike) -> Array:
        """World points ``[n, 3]`` in the camera's frame, float64 ``[n, 3]``."""
        moved: Array = np.asarray(points, np.float64) @ self.rotation.T + np.asarray(self.translation)
        return moved


def position_error(first: Pose, second: Pose) -> float:
    """Distance between the two camera centres, metres."""
    return float(np.linalg.norm(first.center - second.center))


def rotation_error(first: Pose, second: Pose) -> float:
    """Geodesic angle between the two rotations, degrees; the sign of a quaternion does not matter."""
    a = np.asarray(first.quaternion) / np.linalg.norm(first.quaternion)
    b = np.asarray(second.quaternion) / np.linalg.norm(second.quaternion)
    b = b if a @ b >= 0 else -b
    # atan2 of the half-angle's sine and cosine keeps small angles exact where arccos loses half the digits.
    return float(np.degrees(4 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))))


@dataclass(frozen=True)
class Record:
    """One image: the camera that took it and kapture's timestamp."""

    camera_id: str
    timestamp: int


class SceneFiles(NamedTuple):
    """Where a scene was read from: the files that state cameras, images and poses, as messages name them."""

    cameras: str = "sensors.txt"
    images: str = "records_camera.txt"
    poses: str = "trajectories.txt"


KAPTURE_FILES = SceneFiles()


@dataclass
class Scene:
    """Images with their cameras and poses: a kapture dataset, a COLMAP model, or a list of queries.

    Attributes:
        root: its folder, or the list.
        cameras: by sensor id.
        records: by image name (relative posix path).
        poses: by image name; images without a known pose are absent.
        images: folder of the images; None where they are kapture's, under ``sensors/records_data``.
        folders: of the images that lie elsewhere, by name.
        origin: where the intrinsics have the centre of the first pixel, where the format says so: 0.5 in COLMAP's.
        files: that it was read from.
    """

    root: Path
    cameras: dict[str, Camera] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    poses: dict[str, Pose] = field(default_factory=dict)
    images: Path | None = None
    origin: float | None = None
    files: SceneFiles = KAPTURE_FILES
    folders: Mapping[str, Path] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Image names, sorted."""
        return sorted(self.records)

    def camera(self, name: str) -> Camera:
        """Intrinsics of an image.

        Raises:
            DataError: no such image, or no intrinsics for its camera.
        """
        record = self.records.get(name)
        if record is None:
            raise DataError(f"{self.root}: no image named {name!r} in {self.files.images}")
        camera = self.cameras.get(record.camera_id)
        if camera is None:
            raise DataError(
                f"{self.root}: image {name!r} has no intrinsics (camera {record.camera_id!r} in {self.files.cameras})"
            )
        return camera

    def part(self, names: Iterable[str]) -> Scene:
        """The same scene with some of its images alone; the cameras are shared."""
        chosen = sorted(names)
        return replace(
            self,
            records={name: self.records[name] for name in chosen},
            poses={name: self.poses[name] for name in chosen if name in self.poses},
        )

    @property
    def image_folder(self) -> Path:
        """Folder of the images that are in none of their own."""
        return self.root / "sensors" / "records_data" if self.images is None else self.images

    def image_path(self, name: str) -> Path:
        """Path of an image file."""
        return self.folders.get(name, self.image_folder) / name
