"""Poses as others read them: COLMAP's text and a table. Kapture's files are of :mod:`gloam.data.kapture_io`."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from gloam.data.scene import Pose, Scene
from gloam.files import plain_cell, write_text

COLUMNS = ("image", "qw", "qx", "qy", "qz", "tx", "ty", "tz", "x", "y", "z")


def write_colmap_text(folder: str | Path, scene: Scene) -> None:
    """Write the images with poses as a COLMAP model without points: ``cameras.txt``, ``images.txt``, ``points3D.txt``.

    Intrinsics are written as they are, wherever they have the centre of the first pixel; COLMAP has it at 0.5.

    Args:
        folder: of the three files.
        scene: cameras, images and poses, world to camera.
    """
    place = Path(folder)
    names = sorted(scene.poses)
    cameras = {
        key: number for number, key in enumerate(sorted({scene.records[name].camera_id for name in names}), start=1)
    }
    rows = []
    for key, number in cameras.items():
        camera = scene.cameras[key]
        rows.append([number, camera.model, camera.width, camera.height, *camera.params])
    _write(place / "cameras.txt", ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"], rows)
    images: list[list[object]] = []
    for number, name in enumerate(names, start=1):
        images += [[number, *_numbers(scene.poses[name]), cameras[scene.records[name].camera_id], name], []]
    heads = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME", "# POINTS2D[] as (X, Y, POINT3D_ID)"]
    _write(place / "images.txt", heads, images)
    _write(place / "points3D.txt", ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"], [])


def write_pose_table(path: str | Path, scene: Scene) -> None:
    """Write a CSV of the images with poses: world to camera, and the camera's centre in the world.

    Args:
        path: the file.
        scene: images and poses.
    """
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(COLUMNS)
    for name, pose in sorted(scene.poses.items()):
        rows.writerow([plain_cell(name), *map(repr, (*_numbers(pose), *map(float, pose.center)))])
    write_text(path, table.getvalue())


def _numbers(pose: Pose) -> list[float]:
    """Unit quaternion (w, x, y, z) and translation."""
    quaternion = np.asarray(pose.quaternion) / np.linalg.norm(pose.quaternion)
    return [*map(float, quaternion), *map(float, pose.translation)]


def _write(path: Path, heads: list[str], rows: list[list[object]]) -> None:
    lines = [*heads, *(" ".join(map(str, row)) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")
