"""Poses of queries of a made-up world: from every point once, from the map's images alone."""

from __future__ import annotations

import itertools
from pathlib import Path

from gloam.data.scene import position_error
from gloam.runtime.localization.mapping import build_map
from gloam.runtime.localization.pose import localize_locally, localize_on_map
from tests.runtime.localization.exact_world import MAP, POSES, matcher


def test_a_pose_uses_every_point_once_and_the_first_too(tmp_path: Path) -> None:
    given = matcher(tmp_path)
    world = build_map(given, list(itertools.combinations(MAP[:3], 2)))
    assert (world.observed["m.png"] == 0).any() or (world.observed["a.png"] == 0).any()
    found = localize_on_map(given, "q.png", ["c.png", *MAP[:3]], world)  # c is not of the map: passed over
    assert found.pose is not None
    assert position_error(found.pose, POSES["q.png"]) < 1e-2
    pairs = {
        (int(row), int(point))
        for name in MAP[:3]
        for row, column in given.matches("q.png", name)
        if (point := world.observed[name][column]) >= 0
    }
    assert found.correspondences == len(pairs)
    again = localize_on_map(given, "q.png", MAP[:3] * 2, world)
    assert again == found
    assert localize_on_map(given, "q.png", [], world).pose is None
    assert (localize_on_map(given, "q.png", [], world).inliers, localize_locally(given, "q.png", MAP[:1]).inliers) == (
        0,
        0,
    )


def test_a_mini_map_takes_two_images_or_none(tmp_path: Path) -> None:
    given = matcher(tmp_path)
    assert localize_locally(given, "q.png", ["m.png"]).pose is None
    assert localize_locally(given, "q.png", ["m.png", "m.png"]).pose is None
    found = localize_locally(given, "q.png", ["m.png", "a.png"])
    assert found.pose is not None
    assert position_error(found.pose, POSES["q.png"]) < 1e-2
