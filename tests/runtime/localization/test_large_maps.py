"""A large map's points are those of a small one, whatever the size of a block."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gloam.runtime.localization import colmap, large_maps
from gloam.runtime.localization.colmap import Triangulation, View, triangulate
from tests.runtime.localization.exact_world import CAMERA, POINTS, POSES, project


def triangulated() -> Triangulation:
    """Of five images that see every point, with a little noise and some wrong matches."""
    rng = np.random.default_rng(0)
    views = {
        name: View(CAMERA, pose, project(pose, POINTS) + rng.normal(0, 0.3, (120, 2))) for name, pose in POSES.items()
    }
    matches = {}
    for pair in itertools.combinations(sorted(views), 2):
        rows = np.stack([np.arange(120)] * 2, 1)
        rows[:6, 1] = rng.permutation(120)[:6]
        matches[pair] = rows.astype(np.uint32)
    return triangulate(views, matches)


@pytest.mark.parametrize("block", [7, large_maps.BLOCK])
def test_blocks_give_the_points_of_one_problem(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    whole = triangulated()
    assert len(whole.points) > 100
    refined = []
    monkeypatch.setattr(colmap, "LARGE", 5 * 120)
    monkeypatch.setattr(large_maps, "BLOCK", block)
    plain = large_maps._refine
    monkeypatch.setattr(large_maps, "_refine", lambda *given: refined.append(1) or plain(*given))
    found, again = triangulated(), triangulated()
    assert refined
    assert found.points.shape == whole.points.shape
    np.testing.assert_allclose(found.points, whole.points, atol=1e-3)
    assert found.mean_error == pytest.approx(whole.mean_error, abs=1e-4)
    for name, rows in whole.observed.items():
        np.testing.assert_array_equal(found.observed[name], rows)
    assert found.points.tobytes() == again.points.tobytes()


def test_a_map_below_the_bound_is_one_problem_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = triangulated()
    monkeypatch.setattr(colmap, "LARGE", 5 * 120 + 1)
    monkeypatch.setattr(colmap, "triangulate_in_blocks", None)
    assert triangulated().points.tobytes() == whole.points.tobytes()
