"""COLMAP models of the made-up world, written by hand as text, and by pycolmap as binary."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
from PIL import Image

from gloam.runtime.localization.colmap import _pycolmap
from tests.runtime.localization.exact_world import CAMERA, MAP, POINTS, POSES, WORDS, project, seen


def write_text_model(folder: Path, scale: float = 1.0, names: list[str] | None = None) -> Path:
    """Cameras, images and points of the world, its unit ``1 / scale`` of the true one."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {name: 7 + row for row, name in enumerate(names or MAP)}
    params = " ".join(map(str, CAMERA.params))
    (folder / "cameras.txt").write_text(f"# cameras\n3 {CAMERA.model} {CAMERA.width} {CAMERA.height} {params}\n")
    images, tracks = [], {}
    for name, number in numbers.items():
        quaternion = " ".join(map(repr, POSES[name].quaternion))
        translation = " ".join(repr(scale * value) for value in POSES[name].translation)
        images.append(f"{number} {quaternion} {translation} 3 {name}")
        pixels = project(POSES[name], POINTS[seen(name)])
        rows = zip(pixels.tolist(), seen(name), strict=True)
        images.append(" ".join(f"{x!r} {y!r} {100 + point}" for (x, y), point in rows))
        for row, point in enumerate(seen(name)):
            tracks.setdefault(int(point), []).append(f"{number} {row}")
    (folder / "images.txt").write_text("# images\n" + "\n".join(images) + "\n")
    points = [
        f"{100 + point} {' '.join(repr(float(scale * value)) for value in POINTS[point])} 1 2 3 0.5 {' '.join(track)}"
        for point, track in sorted(tracks.items(), reverse=True)
    ]
    (folder / "points3D.txt").write_text("# points\n" + "\n".join(points) + "\n")
    return folder


def write_binary_model(folder: Path, scale: float = 1.0) -> Path:
    """The same as pycolmap writes it, with rigs and frames."""
    model = _pycolmap().Reconstruction(write_text_model(folder / "text", scale))
    model.write_binary(folder)
    return folder


def write_database(path: Path, names: list[str], columns: int = 4) -> Path:
    """A COLMAP database with keypoints of the world, descriptors of 128 bytes that differ as its words do."""
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE images (image_id INTEGER PRIMARY KEY, name TEXT, camera_id INTEGER)")
        for table in ("keypoints", "descriptors"):
            database.execute(
                f"CREATE TABLE {table} (image_id INTEGER PRIMARY KEY, rows INTEGER, cols INTEGER, data BLOB)"
            )
        for number, name in enumerate(names, 1):
            points = np.zeros((len(seen(name)), columns), np.float32)
            points[:, :2] = project(POSES[name], POINTS[seen(name)])
            points[:, 2:4] = [[2.0, 0.5]] if columns == 4 else points[:, 2:4]
            if columns == 6:
                points[:, 2:] = [3.0, -4.0, 4.0, 3.0]  # a turn by atan2(4, 3), and a scale of 5
            words = np.tile(np.clip(WORDS[seen(name)] * 250 + 120, 0, 255), (1, 4)).astype(np.uint8)
            database.execute("INSERT INTO images VALUES (?, ?, 1)", (number, name))
            for table, values in (("keypoints", points), ("descriptors", words)):
                row = (number, *values.shape, values.tobytes())
                database.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", row)
    database.close()
    return path


def write_images(folder: Path, names: list[str], size: tuple[int, int] = (CAMERA.width, CAMERA.height)) -> Path:
    """Pictures, all black."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", size).save(folder / name)
    return folder
