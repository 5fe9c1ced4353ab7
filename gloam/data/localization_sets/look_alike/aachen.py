"""The look-alike of Aachen Day-Night v1.1: hand-held cameras of many sizes, each image with intrinsics of its own."""

from __future__ import annotations

import datetime
import math
import zlib
from collections.abc import Iterator

import numpy as np

from gloam.data.localization_sets.look_alike.sizes import LookAlikeSize
from gloam.data.localization_sets.look_alike.views import PlannedStreet, SetPlan, View, spread, street_at
from gloam.data.scene import Camera, Pose
from gloam.data.town.look2.queries import changing_query_poses
from gloam.data.town.sampling import camera_pose, mapping_poses

SPACING = 2.5  # metres between map views of a lane
LONGEST_SIDE = 1600  # pixels, of the benchmark's images
# Width, height, focal length and distortion that images of a folder have, one after another.
LENSES: dict[str, tuple[tuple[int, int, float, float], ...]] = {
    "db": (
        (1600, 1067, 1150.0, -0.09),
        (1200, 1600, 1500.0, -0.08),
        (1600, 1200, 1350.0, -0.07),
        (1067, 1600, 1150.0, -0.09),
        (1600, 1063, 1240.0, -0.11),
        (1063, 1600, 1240.0, -0.11),
    ),
    "sequences/gopro3_undistorted": ((1600, 640, 454.133, -0.00042624),),
    "sequences/nexus4_sequences/sequence_3": ((720, 480, 700.0, -0.02),),
    "sequences": ((1280, 720, 1196.77, -0.0259629),),
    "query/day/milestone": ((1024, 768, 977.494, 0.0476376), (768, 1024, 971.838, -0.00177789)),
    "query/night/milestone": ((1024, 768, 977.494, 0.0476376),),
    "query/day/nexus4": ((1600, 1200, 1469.2, -0.0353019),),
    "query": ((1600, 1200, 1199.91, -0.0324314), (1200, 1600, 1195.8, 0.0142778)),
}
FIRST_TAKEN = {  # the first photograph of a folder
    "query/day/milestone": datetime.datetime(2010, 10, 30, 17, 47, 25),
    "query/night/milestone": datetime.datetime(2010, 11, 2, 21, 3, 10),
    "query/day/nexus4": datetime.datetime(2013, 2, 10, 16, 31, 56),
    "query/day/nexus5x": datetime.datetime(2016, 12, 27, 16, 32, 4),
    "query/night/nexus5x": datetime.datetime(2016, 12, 27, 17, 24, 39),
    "query/night/nexus5x_additional_night": datetime.datetime(2017, 7, 2, 0, 21, 5),
}


def plan_aachen(size: LookAlikeSize, seed: int) -> SetPlan:
    """Every photograph: the map by day from two lanes and along the middle of each street, then the queries."""
    steps = math.ceil(size.mapping.get("db", 0) / size.streets / 2)
    streets = [street_at(index, seed, max(30.0, SPACING * steps + 1)) for index in range(size.streets)]
    lanes = [mapping_poses(street.seed, street.length, SPACING) for street in streets]
    views: list[View] = []
    for folder, count in size.mapping.items():
        at = _lane_views(lanes, count) if folder == "db" else _drive(streets, folder, count)
        for number, (street, pose) in enumerate(at):
            sensor = f"cam_{len(views) + 1:05d}"
            views.append(
                View("mapping", map_name(folder, number), sensor, len(views) + 1, street, pose, "day", "map", True)
            )
    queries = sum(size.queries.values())
    places = iter(_query_places(streets, lanes, queries))
    for part, light in (("query_day", "day"), ("query_night", "night")):
        taken = 0
        for folder, count in size.queries.items():
            if folder.split("/")[1] != light:
                continue
            for number in range(count):
                street, pose = next(places)
                name = query_name(folder, number)
                views.append(View(part, name, f"sensor{taken}", taken, street, pose, light, folder))
                taken += 1
    cameras: dict[str, dict[str, Camera]] = {"mapping": {}, "query_day": {}, "query_night": {}}
    seen: dict[str, int] = {}
    rng = np.random.default_rng([seed, 505])
    for view in views:
        folder = view.name.rpartition("/")[0]
        seen[folder] = seen.get(folder, -1) + 1
        change = float(rng.uniform(0.97, 1.03)) if folder == "db" else 1.0
        cameras[view.part][view.camera_id] = _camera(folder, seen[folder], size.picture, change)
    return SetPlan("aachen-v1.1", streets, {part: held for part, held in cameras.items() if held}, views)


def map_name(folder: str, number: int) -> str:
    """Name of a map image, as the benchmark's."""
    if folder == "db":
        return f"db/{number + 1}.jpg"
    if "gopro3" in folder:
        return f"{folder}/gopro3_{number + 1:05d}.png"
    sequence = folder.rpartition("_")[2]
    return f"{folder}/aachen_nexus4_seq{sequence}_{number + 1:04d}.png"


def query_name(folder: str, number: int) -> str:
    """Name of a query, as the benchmark's: when it was taken."""
    taken = FIRST_TAKEN[folder] + datetime.timedelta(seconds=23 * number)
    if folder.endswith("milestone"):
        return f"{folder}/{taken:%Y-%m-%d_%H-%M-%S}_{(73 + 137 * number) % 1000}.jpg"
    return f"{folder}/IMG_{taken:%Y%m%d_%H%M%S}.jpg"


def _lane_views(lanes: list[list[Pose]], count: int) -> Iterator[tuple[int, Pose]]:
    for street, (lane, wanted) in enumerate(zip(lanes, spread(count, len(lanes)), strict=True)):
        for index in np.linspace(0, len(lane) - 1, wanted).round().astype(int):
            yield street, lane[index]


def _drive(streets: list[PlannedStreet], folder: str, count: int) -> Iterator[tuple[int, Pose]]:
    """Along the middle of each street, looking ahead."""
    for street, (planned, wanted) in enumerate(zip(streets, spread(count, len(streets)), strict=True)):
        rng = np.random.default_rng([planned.seed, 606, zlib.crc32(folder.encode())])
        for x in np.linspace(1.0, planned.length - 12.0, wanted) + rng.uniform(0, 2):
            yield street, camera_pose(float(x), float(rng.uniform(-0.2, 0.2)), 1.7, float(rng.uniform(-3, 3)), 4.0)


def _query_places(streets: list[PlannedStreet], lanes: list[list[Pose]], count: int) -> Iterator[tuple[int, Pose]]:
    """Places of the queries, by turns of the streets, so that every folder has some of many."""
    found = [
        changing_query_poses(street.seed, street.length, wanted, lane) if wanted else []
        for street, lane, wanted in zip(streets, lanes, spread(count, len(streets)), strict=True)
    ]
    mixed = [
        np.random.default_rng([street.seed, 707]).permutation(len(f)) for street, f in zip(streets, found, strict=True)
    ]
    for turn in range(max(map(len, found))):
        yield from ((street, poses[mixed[street][turn]]) for street, poses in enumerate(found) if turn < len(poses))


def _camera(folder: str, number: int, picture: int, change: float) -> Camera:
    lenses = next(lenses for prefix, lenses in LENSES.items() if folder.startswith(prefix))
    width, height, focal, distortion = lenses[number % len(lenses)]
    scale = picture / LONGEST_SIDE
    small = max(round(width * scale), 16), max(round(height * scale), 16)
    # Six digits, as the benchmark's lists state them.
    params = (float(f"{focal * change * scale:.6g}"), small[0] / 2, small[1] / 2, float(f"{distortion * change:.6g}"))
    return Camera("SIMPLE_RADIAL", *small, params)
