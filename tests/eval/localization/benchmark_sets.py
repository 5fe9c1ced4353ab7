"""Small benchmarks with exact poses and no pictures: names, cameras and splits are those of the public ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gloam.data.localization_sets.dataset import LocalizationSet
from gloam.data.scene import Camera, Pose, Record, Scene

PHONE = Camera("SIMPLE_RADIAL", 1600, 1200, (1469.2, 800.0, 600.0, -0.0353))
CAR = Camera("PINHOLE", 1024, 1024, (400.0, 400.0, 512.0, 512.0))
FORWARD = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # looks along x, upright where z is up


def standing(x: float, y: float = 0.0, z: float = 1.7, yaw: float = 0.0) -> Pose:
    """Of an upright camera at a place of a street along x, metres; ``yaw`` in degrees to the left."""
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    rotation = FORWARD @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    return Pose.from_matrix(rotation, -rotation @ np.array([x, y, z]))


def aachen(root: Path = Path("aachen")) -> tuple[LocalizationSet, dict[str, Pose]]:
    """Aachen Day-Night v1.1 in small, and the hidden poses of its queries."""
    mapping = {f"db/{n}.jpg": standing(40 + 4.0 * n, n % 3, yaw=17.0 * (n % 9)) for n in range(40)}
    mapping |= {f"sequences/gopro3_undistorted/{n:05d}.png": standing(40 + 4.0 * n, 2) for n in range(20)}
    truth = {
        f"query/day/milestone/2010-10-30_17-47-{n:02d}_73.jpg": standing(45 + 9.0 * n, 1, 1.5, 20.0 * n)
        for n in range(12)
    }
    truth |= {
        f"query/night/nexus5x/IMG_20161227_1726{n:02d}.jpg": standing(50 + 11.0 * n, 2, 1.6, -30.0 * n)
        for n in range(10)
    }
    conditions = {name: [query for query in truth if f"/{name}/" in query] for name in ("day", "night")}
    cameras = {"db": PHONE, "phone": PHONE}
    return (
        LocalizationSet(
            "aachen-v1.1",
            root,
            _scene(root / "mapping", cameras, mapping, "db", poses=True),
            _scene(root / "query", cameras, truth, "phone"),
            conditions,
            ("day",),
            ("night",),
            "aachen",
        ),
        truth,
    )


TURNS = {"left": 90.0, "rear": 180.0, "right": -90.0}


def robotcar(root: Path = Path("robotcar"), *, v2: bool = False) -> tuple[LocalizationSet, dict[str, Pose]]:
    """RobotCar Seasons in small, and the hidden poses of its queries; v2 with training images by night."""
    mapping, truth, training = {}, {}, {}
    for camera, turn in TURNS.items():
        for n in range(30):
            mapping[f"overcast-reference/{camera}/{1417178700000000 + 1000 * n}.jpg"] = standing(
                5620.0 + 3 * n, 20, yaw=turn
            )
        for c, condition in enumerate(("sun", "night", "night-rain")):
            for n in range(8):
                name = f"{condition}/{camera}/{1418133450000000 + 10**9 * c + 1000 * n}.jpg"
                truth[name] = standing(5622.0 + 10 * n, 21 + c, yaw=turn + 3 * c)
    if v2:
        training = {name: truth.pop(name) for name in list(truth) if int(Path(name).stem) % 2000 and "night/" in name}
    conditions = {
        name: [query for query in truth if query.startswith(f"{name}/")] for name in ("sun", "night", "night-rain")
    }
    cameras = dict.fromkeys(TURNS, CAR)
    return (
        LocalizationSet(
            "robotcar-v2" if v2 else "robotcar-v1",
            root,
            _scene(root / "mapping", cameras, mapping, poses=True),
            _scene(root / "query", cameras, truth),
            conditions,
            ("sun",),
            ("night", "night-rain"),
            "robotcar",
            ("rear",),
            known=training,
            known_query=_scene(root / "training", cameras, training) if v2 else None,
        ),
        truth,
    )


def _scene(
    root: Path, cameras: dict[str, Camera], truth: dict[str, Pose], camera: str = "", *, poses: bool = False
) -> Scene:
    def record(n: int, name: str) -> Record:
        if camera:
            return Record(camera, n)
        return Record(Path(name).parent.name, int(Path(name).stem))

    records = {name: record(n, name) for n, name in enumerate(truth)}
    return Scene(root, cameras, records, dict(truth) if poses else {})
