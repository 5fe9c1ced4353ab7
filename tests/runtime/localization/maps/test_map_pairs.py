"""Which images of a map are pairs: near ones, those that share points, or all, and what is said where none is left."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.data.scene import Pose, Record, Scene
from gloam.errors import DataError, UsageError
from gloam.runtime.localization.maps.colmap_model import read_colmap_model
from gloam.runtime.localization.maps.map_pairs import (
    MapPairs,
    choose_pairs,
    pairs_by_covisibility,
    pairs_by_pose,
    usual_distance,
)
from tests.runtime.localization.colmap_files import write_text_model


def line(*places: tuple[float, float]) -> Scene:
    """Images along x, each turned about y by some degrees."""
    made = Scene(Path("nowhere"))
    for row, (x, degrees) in enumerate(places):
        half = np.radians(degrees) / 2
        rotation = Pose((float(np.cos(half)), 0.0, float(np.sin(half)), 0.0), (0.0, 0.0, 0.0)).rotation
        made.records[f"{row}"] = Record("c", row)
        made.poses[f"{row}"] = Pose.from_matrix(rotation, -rotation @ np.array([x, 0, 0]))
    return made


def test_neighbours_are_near_and_look_alike() -> None:
    given = line((0, 0), (1, 0), (2.5, 0), (14, 50), (31, 0))
    assert pairs_by_pose(given) == [("0", "1"), ("0", "2"), ("0", "3"), ("1", "2"), ("1", "3"), ("2", "3")]
    assert pairs_by_pose(given, max_angle=45) == [("0", "1"), ("0", "2"), ("1", "2")]
    assert pairs_by_pose(given, k=1) == [("0", "1"), ("1", "2"), ("2", "3")]
    assert pairs_by_pose(line((0, 0), (16, 0))) == []
    assert pairs_by_pose(line((0, 0), (1, 61))) == []
    del given.poses["1"]
    assert pairs_by_pose(given, max_angle=45) == [("0", "2")]


def test_neighbours_are_the_nearest_within_limits_that_count() -> None:
    assert pairs_by_pose(line((0, 0), (15, 0))) == [("0", "1")]
    assert pairs_by_pose(line((0, 0), (15.001, 0))) == []
    assert pairs_by_pose(line((0, 0), (1, 59.9))) == [("0", "1")]
    assert pairs_by_pose(line((0, 5), (1, 5), (2, 6)), max_angle=0.0) == [("0", "1")]
    assert pairs_by_pose(line((0, 0), (3, 0), (5, 0)), max_distance=2.0) == [("1", "2")]
    assert pairs_by_pose(line((0, 0), (2, 0), (-2, 0)), k=1) == [("0", "1"), ("0", "2")]  # the earlier of equals
    many = line(*((x, 0) for x in np.linspace(0, 14, 14)))
    assert sum("0" in pair for pair in pairs_by_pose(many)) == 10
    assert len(pairs_by_pose(many)) == 82
    assert pairs_by_pose(many) == sorted(pairs_by_pose(many))
    # Images that look elsewhere take none of the k places.
    assert pairs_by_pose(line((0, 0), (1, 90), (2, 180), (3, 0)), k=1) == [("0", "3")]


def enlarged(scene: Scene, factor: float) -> Scene:
    """The scene in another unit."""
    poses = {
        name: dataclasses.replace(pose, translation=tuple(factor * value for value in pose.translation))
        for name, pose in scene.poses.items()
    }
    return dataclasses.replace(scene, poses=poses)


def test_a_map_of_any_unit_has_its_neighbours() -> None:
    street = line(*((x, 0) for x in (0, 1, 2, 3, 4, 5, 60, 61)))
    metres, how = MapPairs(neighbours=2).choose(street)
    assert how == "pose, 2 neighbours within 15 units and 60 degrees"
    assert ("5", "6") not in metres
    for factor in (50.0, 1e4):
        found, how = MapPairs(neighbours=2).choose(enlarged(street, factor))
        # Twice the median distance to the second neighbour: 2 x 1.5 spacings, so both ends of the gap stay apart.
        # Twice the median distance to the second neighbour, 1.5: the gap between the two parts stays one.
        assert (found, how) == (metres, f"pose, 2 neighbours within {3.0 * factor:g} units and 60 degrees")
    assert MapPairs(neighbours=2).choose(enlarged(street, 1e-3))[0] == pairs_by_pose(street, 2, 1e9)
    assert usual_distance(line((0, 0), (1, 90)), 3) == 0.0


def test_metres_hold_where_half_of_the_images_have_neighbours() -> None:
    half = line((0, 0), (1, 0), (100, 0), (200, 0))
    assert MapPairs().choose(half)[0] == [("0", "1")]
    fewer = line((0, 0), (1, 0), (100, 0), (200, 0), (300, 0))
    assert len(MapPairs().choose(fewer)[0]) == 10


def test_pairs_come_from_a_list_a_rule_or_by_default(tmp_path: Path) -> None:
    listed = [("b", "a"), ("a", "b")]
    scene = line((0, 0), (1, 0), (2, 0))
    assert choose_pairs(listed, scene) == (listed, "a list")
    assert choose_pairs([], scene) == ([], "a list")
    assert choose_pairs(MapPairs("exhaustive"), scene)[1] == "exhaustive"
    assert choose_pairs(None, scene)[1].startswith("pose, 10 neighbours")
    model = read_colmap_model(write_text_model(tmp_path / "model"), tmp_path)
    assert choose_pairs(None, model.scene, model)[1] == "covisibility, 20 neighbours"
    assert choose_pairs(MapPairs("pose"), model.scene, model)[1].startswith("pose")


def test_limits_that_are_given_hold_whatever_is_left() -> None:
    street = line((0, 0), (1, 0), (2.5, 70), (40, 70))
    assert MapPairs(distance=1.2).choose(street)[0] == [("0", "1")]
    assert MapPairs("pose", angle=80).choose(street)[0] == pairs_by_pose(street, 10, 15.0, 80)
    assert MapPairs(distance=38.0).choose(street)[0] == [("0", "1"), ("2", "3")]
    with pytest.raises(DataError) as caught:
        MapPairs(distance=0.5, neighbours=3).choose(street)
    assert str(caught.value) == (
        "nowhere: no two of the map's 4 images are a pair by pose, 3 neighbours within 0.5 units and 60 degrees; "
        "change it by --map-pairs, --map-neighbours, --map-distance or --map-angle"
    )


OBSERVED = {
    "d": [0, 1, 2, 3, -1],
    "a": [-1, 3, 2, 1],
    "b": [4, 5, 0, 0, -1],
    "c": [5, 4, 3, 6],
    "e": [7, -1],
    "f": [],
}


def rows(observed: dict[str, list[int]]) -> dict[str, Any]:
    return {name: np.array(points, np.int64) for name, points in observed.items()}


def counted(observed: dict[str, list[int]], k: int) -> list[tuple[str, str]]:
    """The plain twin: sets of points, pair by pair."""
    shared: Counter[tuple[str, str]] = Counter()
    for first, second in itertools.permutations(sorted(observed), 2):
        shared[first, second] = len({*observed[first]} & {*observed[second]} - {-1})
    pairs = set()
    for name in observed:
        others = sorted((other for other in observed if other != name), key=lambda other: (-shared[name, other], other))
        pairs |= {(min(name, other), max(name, other)) for other in others[:k] if shared[name, other]}
    return sorted(pairs)


def test_neighbours_share_most_points() -> None:
    assert pairs_by_covisibility(rows(OBSERVED), 1) == [("a", "d"), ("b", "c")]
    assert pairs_by_covisibility(rows(OBSERVED), 2) == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]
    assert pairs_by_covisibility(rows(OBSERVED)) == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]
    assert pairs_by_covisibility(rows({"a": [-1], "b": []})) == []
    assert pairs_by_covisibility({}) == []
    draw = np.random.default_rng(5)
    many = {f"{n:02d}": draw.integers(-1, 60, draw.integers(0, 40)).tolist() for n in range(30)}
    for k in (1, 3, 29):
        assert pairs_by_covisibility(rows(many), k) == counted(many, k)


def test_pairs_are_by_points_where_there_are_any() -> None:
    scene = line((0, 0), (1, 0), (2, 0))
    observed = rows({"0": [1, 2], "1": [-1], "2": [2]})
    assert MapPairs().choose(scene, observed) == ([("0", "2")], "covisibility, 20 neighbours")
    assert MapPairs("covisibility", 1).choose(scene, observed) == ([("0", "2")], "covisibility, 1 neighbours")
    assert MapPairs("pose").choose(scene, observed)[0] == [("0", "1"), ("0", "2"), ("1", "2")]
    assert MapPairs(distance=1.5).choose(scene, observed)[0] == [("0", "1"), ("1", "2")]  # a limit is of pose
    assert MapPairs("exhaustive").choose(scene) == ([("0", "1"), ("0", "2"), ("1", "2")], "exhaustive")
    for without in (None, rows({"0": [-1]})):
        assert MapPairs().choose(scene, without)[1].startswith("pose, 10 neighbours")
        with pytest.raises(
            DataError, match=r"^nowhere: has no points, which covisibility is of; use --map-pairs pose$"
        ):
            MapPairs("covisibility").choose(scene, without)
    with pytest.raises(DataError, match=r"no two of the map's 1 images are a pair by exhaustive; change it by"):
        MapPairs("exhaustive").choose(line((0, 0)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"neighbours": 0}, "--map-neighbours must be 1 or more"),
        ({"distance": 0.0}, "--map-distance must be above 0"),
        ({"distance": float("inf")}, "--map-distance must be above 0"),
        ({"distance": float("nan")}, "--map-distance must be above 0"),
        ({"angle": 181.0}, "--map-angle is in degrees"),
        ({"angle": float("nan")}, "--map-angle is in degrees"),
        ({"rule": "exhaustive", "neighbours": 3}, "--map-neighbours is for pairs by covisibility or pose"),
        ({"rule": "exhaustive", "angle": 3.0}, "--map-distance and --map-angle are for pairs by pose, not exhaustive"),
        ({"rule": "covisibility", "distance": 3.0}, "--map-distance and --map-angle are for pairs by pose, not covis"),
    ],
)
def test_limits_that_choose_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        MapPairs(**given)
