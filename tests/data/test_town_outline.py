"""The street from above: houses stand beside the road that the cameras are on, in both looks."""

from __future__ import annotations

import numpy as np
import pytest

from gloam.data.town.layout import plan_street
from gloam.data.town.outline import BUILDERS, outline_of, street_outline
from gloam.data.town.sampling import mapping_poses

LENGTH = 30.0


def inside(rectangles: np.ndarray, x: float, y: float) -> bool:
    low, high = (function(rectangles[:, :2], rectangles[:, 2:]) for function in (np.minimum, np.maximum))
    return bool(((low < (x, y)) & ((x, y) < high)).all(axis=1).any())


@pytest.mark.parametrize("look", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_cameras_are_on_the_road_and_in_no_house(look: int) -> None:
    found = street_outline(7, LENGTH, look)
    assert list(found) == ["road", "pavement", "house", "lamp"]
    assert all(rectangles.shape[1:] == (4,) and len(rectangles) for rectangles in found.values())
    for pose in mapping_poses(7, LENGTH, 2.0):
        x, y = pose.center[:2]
        assert inside(np.concatenate([found["road"], found["pavement"]]), x, y)
        assert not inside(found["house"], x, y)
    sides = np.sign(found["house"][:, [1, 3]].mean(axis=1))
    assert (sides > 0).any()
    assert (sides < 0).any()


@pytest.mark.slow
def test_the_outline_is_that_of_the_street_that_is_photographed() -> None:
    fine = outline_of(plan_street(7, LENGTH, 16, BUILDERS[2]))
    for kind, rectangles in street_outline(7, LENGTH, 2).items():
        np.testing.assert_array_equal(rectangles, fine[kind])
