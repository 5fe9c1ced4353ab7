"""The look-alikes of RobotCar Seasons: a car with three cameras that drives each location at many times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from gloam.data.localization_sets.look_alike.sizes import LookAlikeSize
from gloam.data.localization_sets.look_alike.views import PlannedStreet, SetPlan, View, spread, street_at
from gloam.data.localization_sets.robotcar import REFERENCE, V2_ASKED, V2_LOCATIONS
from gloam.data.localization_sets.robotcar_original import SIDE
from gloam.data.scene import Camera, Pose
from gloam.data.town.sampling import AHEAD, camera_pose

INTRINSICS = {  # fx = fy, cx, cy
    "left": (400.0, 500.107605, 511.461426),
    "rear": (397.949005, 508.222931, 498.187378),
    "right": (400.0, 502.503754, 490.259033),
}
# Where a camera sits on the car (x right, y down, z ahead, metres), and its heading to the left of the car's, degrees.
MOUNTS = {"left": ((-0.4, 0.0, 0.1), 91.5), "rear": ((0.05, 0.1, -0.9), 179.0), "right": ((0.4, 0.0, 0.1), -92.0)}
LANE = -1.2  # metres from the middle of the road
# The town has no rain by day, no snow and no seasons: each of those days is a visit of its own.
LIGHTS = {"dawn": "dusk", "dusk": "dusk", "night": "night", "night-rain": "night-rain"}
FIRST_TAKEN = {  # microseconds of the first shot of a condition
    REFERENCE: 1417177821000000,
    "dawn": 1418721355000000,
    "dusk": 1424450252000000,
    "night": 1418235223000000,
    "night-rain": 1418841739000000,
    "overcast-summer": 1432293420000000,
    "overcast-winter": 1447410405000000,
    "rain": 1416905436000000,
    "snow": 1422953632000000,
    "sun": 1425997239000000,
}
APART = 500_000  # microseconds between shots


def rig() -> dict[str, Pose]:
    """From the car to each camera, by sensor id."""
    return {camera: _mount(*place) for camera, place in MOUNTS.items()}


def _mount(at: tuple[float, float, float], heading: float) -> Pose:
    turn = np.radians(heading)
    rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    return Pose.from_matrix(rotation, -rotation @ np.array(at)).rounded()


def cameras(picture: int) -> dict[str, Camera]:
    """Intrinsics of the three cameras at a picture's size."""
    scale = picture / SIDE
    return {
        camera: Camera("PINHOLE", picture, picture, tuple(round(value * scale, 6) for value in (f, f, cx, cy)))
        for camera, (f, cx, cy) in INTRINSICS.items()
    }


def plan_robotcar_v1(size: LookAlikeSize, seed: int) -> SetPlan:
    """All locations in one dataset for the map and one for the queries."""
    plan = _plan(size, seed)
    views = [replace(view, part=view.part.rpartition("/")[2]) for view in plan.views]
    held = cameras(size.picture)
    return replace(plan, views=views, cameras={"mapping": held, "query": held})


def plan_robotcar_v2(size: LookAlikeSize, seed: int) -> SetPlan:
    """A dataset of each location for the map and training images, and of some for queries."""
    plan = _plan(size, seed, by_location=True)
    parts = sorted({view.part for view in plan.views})
    return replace(plan, name="robotcar-v2", cameras=dict.fromkeys(parts, cameras(size.picture)))


def _plan(size: LookAlikeSize, seed: int, by_location: bool = False) -> SetPlan:
    shots = sum(size.mapping.values())
    spacing = min(max(50 * size.streets / shots, 0.4), 3.0)
    length = max(30.0, spacing * -(-shots // size.streets) + AHEAD)
    streets = [street_at(index, seed, length) for index in range(size.streets)]
    every = range(size.streets)
    asked, trained = _split(size.streets) if by_location else (list(every), [])
    car, mounts = _Car(streets, spacing), rig()
    views: list[View] = []
    for folder, counts, places, posed in (
        ("mapping", size.mapping, every, tuple(mounts)),
        ("mapping", size.training, trained, ("rear",)),
        ("query", size.queries, asked, ()),
    ):
        for condition, street, shot, pose in car.drive(counts, places):
            for camera, mount in mounts.items():
                views.append(
                    View(
                        part=f"{street + 1:02d}/{folder}",
                        name=f"{condition}/{camera}/{shot}.jpg",
                        camera_id=camera,
                        timestamp=shot,
                        street=street,
                        pose=pose.seen_from(mount).rounded(),
                        light=LIGHTS.get(condition, "day"),
                        visit=condition,
                        posed=camera in posed,
                    )
                )
    return SetPlan("robotcar-v1", streets, {}, views, mounts)


def _split(streets: int) -> tuple[list[int], list[int]]:
    """Streets with queries and with training images, as version 2 has them; of fewer the last is for training."""
    asked = [location - 1 for location in V2_ASKED] if streets == V2_LOCATIONS else list(range(max(streets - 1, 1)))
    return asked, [index for index in range(streets) if index not in asked] or asked


class _Car:
    """Drives the streets; no two of its shots have the same time."""

    def __init__(self, streets: list[PlannedStreet], spacing: float) -> None:
        self.streets, self.spacing = streets, spacing
        self.taken: dict[str, int] = {}

    def drive(self, counts: Mapping[str, int], places: range | list[int]) -> Iterator[tuple[str, int, int, Pose]]:
        """Condition, street, timestamp and pose of the car of each shot."""
        for first, (condition, count) in enumerate(counts.items()):
            turned = [places[(index + first) % len(places)] for index in range(len(places))]
            for street, wanted in zip(turned, spread(count, len(places)), strict=True):
                for pose in self._poses(self.streets[street], condition, wanted):
                    number = self.taken[condition] = self.taken.get(condition, -1) + 1
                    yield condition, street, FIRST_TAKEN[condition] + APART * number, pose

    def _poses(self, street: PlannedStreet, condition: str, count: int) -> Iterator[Pose]:
        rng = np.random.default_rng([street.seed, 808, FIRST_TAKEN[condition] // APART, self.taken.get(condition, 0)])
        reference = condition == REFERENCE
        for index in range(count):
            if reference:
                x, y, heading = 1.0 + self.spacing * index, LANE, 0.0
            else:
                x = 2.0 + (index + float(rng.uniform(0.1, 0.9))) / count * (street.length - AHEAD - 3)
                y, heading = LANE + float(rng.uniform(-0.35, 0.35)), float(rng.uniform(-4, 4))
            yield camera_pose(x, y, 1.6 + float(rng.uniform(0, 0.05)), heading, float(rng.uniform(-0.5, 0.5)))
