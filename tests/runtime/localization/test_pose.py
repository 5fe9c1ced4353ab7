"""Poses of queries of a made-up world: from every point once, from the map's images alone."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.data.scene import position_error
from gloam.errors import DataError
from gloam.runtime.localization import pose
from gloam.runtime.localization.colmap import AbsolutePose, AbsolutePoseOptions
from gloam.runtime.localization.maps.mapping import build_map
from gloam.runtime.localization.pose import Localized, localize_locally, localize_on_map, standard_deviations, why_not
from tests.runtime.localization.exact_world import CAMERA, MAP, POSES, matcher, project


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


def test_correspondences_are_of_the_true_geometry_and_the_solver_gets_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = dataclasses.replace(matcher(tmp_path), seed=7)
    options = AbsolutePoseOptions(max_error=3.0)
    covariance = np.diag(np.arange(1.0, 7))
    agree = np.arange(9) < 5
    answers: list[AbsolutePose | None] = [AbsolutePose(POSES["b.png"], agree, covariance), None]
    asked = []

    def solver(*arguments: Any) -> AbsolutePose | None:
        asked.append(arguments)
        return answers[len(asked) % 2 - 1]

    monkeypatch.setattr(pose, "absolute_pose", solver)
    world = build_map(given, list(itertools.combinations(MAP, 2)))
    found = localize_on_map(given, "q.png", MAP, world, options)
    pixels, points, *rest = asked[0]
    assert rest == [CAMERA, options, 7]
    np.testing.assert_allclose(pixels, project(POSES["q.png"], points), atol=0.05)
    assert len(np.unique(np.hstack([pixels, points]), axis=0)) == len(pixels) > 60
    assert found == Localized(POSES["b.png"], 5, len(pixels))
    assert found.covariance is covariance
    assert localize_on_map(given, "q.png", MAP, world, options) == Localized(None, 0, len(pixels), None)
    assert localize_locally(given, "q.png", MAP, options).pose == POSES["b.png"]
    assert asked[2][2:] == (CAMERA, options, 7)
    np.testing.assert_allclose(asked[2][0], project(POSES["q.png"], asked[2][1]), atol=0.05)


def test_a_query_of_neither_dataset_is_named(tmp_path: Path) -> None:
    given = matcher(tmp_path)
    for call in (
        lambda: localize_locally(given, "x.png", MAP),
        lambda: localize_locally(given, "q.png", ["m.png", "x.png"]),
        lambda: localize_on_map(given, "x.png", MAP, build_map(given, [("m.png", "a.png")])),
    ):
        with pytest.raises(DataError, match=r"^image 'x\.png' of the pair list is in neither dataset$"):
            call()


def test_a_mini_map_takes_two_images_or_none(tmp_path: Path) -> None:
    given = matcher(tmp_path)
    for images in ([], ["m.png"], ["m.png", "m.png"]):
        assert localize_locally(given, "q.png", images) == Localized(None, 0, 0)
    found = localize_locally(given, "q.png", ["m.png", "a.png"])
    assert found.pose is not None
    assert position_error(found.pose, POSES["q.png"]) < 1e-2


def test_standard_deviations_are_of_the_centre_and_the_rotation() -> None:
    covariance = np.diag([1.0, 4.0, 4.0, 0.04, 0.09, 0.36])
    metres, degrees = standard_deviations(covariance)
    assert metres == pytest.approx(0.7)
    assert degrees == pytest.approx(np.degrees(3.0))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((0, [], 12), "no map image was retrieved"),
        ((None, ["m.png"], 12), "no usable pose"),
        ((11, ["m.png"], 12), "11 correspondences with the map, 12 are needed"),
        ((12, ["m.png"], 12), "no pose agrees with 12 correspondences"),
    ],
)
def test_a_query_without_a_pose_is_told_why(given: Any, reason: str) -> None:
    assert why_not(*given) == reason
