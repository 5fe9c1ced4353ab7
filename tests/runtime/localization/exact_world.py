"""A made-up world whose images see every point where the true geometry puts it: keypoints and matches are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from gloam.data.scene import Camera, Pose, Record, Scene
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.models.local_features import LocalFeatures
from tests.runtime.localization.bright_points import DIMENSION

CAMERA = Camera("PINHOLE", 640, 480, (500.0, 510.0, 320.0, 240.0))
POINTS = np.random.default_rng(2).uniform([-2, -1.5, 5], [2, 1.5, 9], (120, 3))
WORDS = np.random.default_rng(3).normal(size=(120, 32))
WORDS = (WORDS / np.linalg.norm(WORDS, axis=1, keepdims=True)).astype(np.float32)
POSES = {
    f"{name}.png": Pose.from_matrix(
        Pose((1.0, 0.02 * n, -0.03 * n, 0.01), (0, 0, 0)).rotation, (0.6 * n - 1, 0.1 * n, 0)
    )
    for n, name in enumerate("mabcq")
}
MAP = ["m.png", "a.png", "b.png", "c.png"]


def project(pose: Pose, points: np.ndarray) -> np.ndarray:
    """Pixels ``[n, 2]`` of points ``[n, 3]`` in :data:`CAMERA`."""
    local = pose.transform(points)
    return local[:, :2] / local[:, 2:] * np.array(CAMERA.params[:2]) + np.array(CAMERA.params[2:])


def seen(name: str) -> np.ndarray:
    """The points that an image sees, in the order of its keypoints."""
    order = np.random.default_rng(ord(name[0])).permutation(len(POINTS))
    pixels = project(POSES[name], POINTS[order])
    return order[((pixels > 0) & (pixels < [640, 480])).all(axis=1)]


def true_matches(first: str, second: str) -> list[list[int]]:
    """Rows of the keypoints of two images that show one point, ascending in the first."""
    place = {point: row for row, point in enumerate(seen(second))}
    return [[row, place[point]] for row, point in enumerate(seen(first)) if point in place]


class Projected:
    """Each image sees every point where the true geometry puts it, in an order of its own."""

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        points = seen(name)
        pixels = project(POSES[name], POINTS[points]).astype(np.float32)
        return LocalFeatures(pixels, np.ones(len(points), np.float32), WORDS[points], (640, 480), name="projected")

    def key(self, scene: Scene, name: str) -> str:
        return f"projected {name}"


def scenes(root: Path, poses: dict[str, Pose] | None = None, camera: Camera = CAMERA) -> tuple[Scene, Scene]:
    records = {name: Record("c", n) for n, name in enumerate(MAP)}
    known = {name: (poses or POSES)[name] for name in MAP}
    return (
        Scene(root / "m", {"c": camera}, records, known),
        Scene(root / "q", {"c": CAMERA}, {"q.png": Record("c", 9)}, {}),
    )


def matcher(root: Path, cache: Path | None = None, **changed: object) -> PairMatcher:
    return PairMatcher(Projected(), *scenes(root, **changed), cache=cache)  # type: ignore[arg-type]  # mixed


def put(scene: Scene, name: str, size: tuple[int, int], orientation: int = 1) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene.image_path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(scene.image_path(name), exif=exif)


def altered(given: PairMatcher, **changed: object) -> PairMatcher:
    """The matcher with other fields, and nothing kept in memory."""
    return dataclasses.replace(given, **changed)  # type: ignore[arg-type]  # mixed


class Words(Projected):
    """With descriptors of the length that the matcher of the tests takes."""

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        found = super().features(scene, name)
        short = found.descriptors[:, :DIMENSION]
        short = short / np.linalg.norm(short, axis=1, keepdims=True)
        return dataclasses.replace(found, descriptors=short, name="bright")
