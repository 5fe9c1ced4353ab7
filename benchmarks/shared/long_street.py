"""A street as long as wanted, with pictures and exact poses of it: what a benchmark of cost is localized in.

A wall with boxes before it, all painted with noise that SIFT finds more than 1,024 keypoints in. A picture is drawn by
homographies in some ten milliseconds, where a picture of the town takes a hundred times as long; what counts here is
that pictures, keypoints and pairs are as many and as hard as those of a real street, and that poses are known.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.kapture_io import write_scene
from gloam.data.scene import Camera, Pose, Record, Scene
from gloam.files import write_bytes, write_text

SIZE = (480, 360)
FOCAL = 400.0  # pixels
CAMERA = Camera("PINHOLE", *SIZE, (FOCAL, FOCAL, SIZE[0] / 2, SIZE[1] / 2))  # the first pixel's centre at 0.5
STEP = 0.5  # metres from a map picture to the next
WALL, BOXES = 12.0, (7.0, 10.5)  # metres ahead of the camera's way
TILE = 8.0  # metres of the wall, with two boxes
TEXELS = 40  # a metre
NEAR, FAR = 7, 3  # map pictures of a query that show its place, and that do not
WIDEST = 16.0  # metres that a picture can show to either side

Picture = npt.NDArray[np.uint8]


def write_street(folder: Path, pictures: int, queries: int, top_k: int = NEAR + FAR, workers: int = 2) -> None:
    """Write two kapture datasets, ``mapping`` and ``query``, and ``pairs.txt``; what is there already stays.

    Args:
        folder: of all three.
        pictures, queries: how many.
        top_k: map pictures of a query; three of ten show another place.
        workers: threads that draw.
    """
    if (folder / "pairs.txt").is_file():
        return
    rng = np.random.default_rng(0)
    names = [f"{number:05d}.jpg" for number in range(pictures)]
    poses = {name: _pose(STEP * number, 0.0, 12.0 * (-1) ** number, rng) for number, name in enumerate(names)}
    asked = {f"q{number:04d}.jpg": float(rng.uniform(0, STEP * (pictures - 1))) for number in range(queries)}
    query_poses = {
        name: _pose(x, float(rng.uniform(-1, 1)), float(rng.uniform(-8, 8)), rng) for name, x in asked.items()
    }
    with ThreadPoolExecutor(workers, "draw") as pool:
        for part, views, light in (("mapping", poses, 1.0), ("query", query_poses, 0.7)):
            records = {name: Record("camera", number) for number, name in enumerate(views)}
            scene = Scene(folder / part, {"camera": CAMERA}, records, views)
            places = [
                (scene.image_path(name), pose, number, light) for number, (name, pose) in enumerate(views.items())
            ]
            list(pool.map(lambda place: _write(*place), places))
            write_scene(scene)
    lines = []
    for name, x in asked.items():
        order = np.argsort(np.abs(STEP * np.arange(pictures) - x), kind="stable")
        far = rng.permutation(order[pictures // 2 :])[: top_k * FAR // (NEAR + FAR)]
        lines += [f"{name} {names[row]}\n" for row in (*order[: top_k - len(far)], *far)]
    write_text(folder / "pairs.txt", "".join(lines))


def picture(pose: Pose, seed: int, light: float = 1.0) -> Picture:
    """A picture, uint8 ``[H, W]``.

    Args:
        pose: of the camera.
        seed: of its noise.
        light: 1 by day; less is darker, with less contrast.
    """
    canvas = np.zeros(SIZE[::-1], np.uint8)
    centre = pose.center
    first, last = (int(np.floor((centre[0] + side) / TILE)) for side in (-WIDEST, WIDEST))
    planes = [plane for tile in range(first, last + 1) for plane in _tile(tile)]
    for (x, y, z), texture in sorted(planes, key=lambda plane: -plane[0][2]):
        corner = pose.rotation @ np.array([x, y, z]) + np.asarray(pose.translation)
        plane = np.column_stack([pose.rotation[:, 0] / TEXELS, pose.rotation[:, 1] / TEXELS, corner])
        # OpenCV's pixels and texels have their centres at whole numbers, the intrinsics at halves.
        half = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
        homography = half @ _intrinsics() @ plane @ np.linalg.inv(half)
        cv2.warpPerspective(
            texture, homography, SIZE, dst=canvas, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT
        )
    noise = np.random.default_rng(seed).normal(0, 2, canvas.shape)
    drawn: Picture = np.clip(255 * (canvas / 255 * light) ** (1 / light) + noise, 0, 255).astype(np.uint8)
    return drawn


def _write(path: Path, pose: Pose, seed: int, light: float) -> None:
    done, content = cv2.imencode(".jpg", picture(pose, seed, light), [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert done
    write_bytes(path, content.tobytes())


def _pose(x: float, ahead: float, yaw: float, rng: np.random.Generator) -> Pose:
    """A camera at ``x`` along the street that looks at the wall, turned by some degrees and shaken a little."""
    turn, tilt = np.radians(yaw), np.radians(rng.uniform(-2, 2))
    c, s = np.cos(turn), np.sin(turn)
    about_y = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    rotation = about_x @ about_y
    centre = np.array([x, rng.uniform(-0.2, 0.2), ahead])
    return Pose.from_matrix(rotation, -rotation @ centre)


def _intrinsics() -> npt.NDArray[np.float64]:
    fx, fy, cx, cy = CAMERA.params
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


@lru_cache(maxsize=16)
def _tile(number: int) -> list[tuple[tuple[float, float, float], Picture]]:
    """The planes of a piece of the street: the corner of each, and its texture."""
    rng = np.random.default_rng([number % 2**32, 1])
    planes = [((number * TILE, -8.0, WALL), _paint(rng, TILE, 16.0))]
    for box in range(2):
        width, height, z = rng.uniform(1.5, 3), rng.uniform(3, 6), rng.uniform(*BOXES)
        corner = (number * TILE + 4 * box + rng.uniform(0, 1), float(rng.uniform(-3, -1)), float(z))
        planes.append((corner, _paint(rng, width, height)))
    return planes


def _paint(rng: np.random.Generator, width: float, height: float) -> Picture:
    """Noise of several scales, as plaster and windows have."""
    shape = (round(height * TEXELS), round(width * TEXELS))
    total = np.zeros(shape, np.float32)
    for scale, weight in ((3, 1.0), (6, 1.0), (12, 1.5), (30, 2.0)):
        coarse = rng.random((shape[0] // scale + 2, shape[1] // scale + 2), np.float32)
        total += weight * cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    low, high = np.percentile(total, (2, 98))
    return np.clip(255 * (total - low) / (high - low), 0, 255).astype(np.uint8)
