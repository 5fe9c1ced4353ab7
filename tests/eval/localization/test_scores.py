"""Recalls against hand-made cases, and the benchmark's text format."""

from __future__ import annotations

import numpy as np
import pytest

from gloam.data.scene import Pose
from gloam.errors import DataError
from gloam.eval.localization.scores import pose_errors, score, score_conditions

STILL = (1.0, 0.0, 0.0, 0.0)
TURNED = (0.9998476951563913, 0.0, 0.01745240643728351, 0.0)  # 2 degrees about y


def pose(x: float, quaternion: tuple[float, float, float, float] = STILL) -> Pose:
    return Pose(quaternion, (-x, 0.0, 0.0))


TRUTH = {f"{condition}/{i}.jpg": pose(0.0) for condition in ("day", "night") for i in range(4)}
ESTIMATED = {
    "day/0.jpg": pose(0.2),
    "day/1.jpg": pose(0.25),
    "day/2.jpg": pose(0.26),
    "day/3.jpg": pose(0.0, TURNED),
    "night/0.jpg": pose(4.9),
    "night/1.jpg": None,
    "night/2.jpg": pose(5.1),
}


def test_recalls_medians_and_failures() -> None:
    scores = score_conditions(
        pose_errors(ESTIMATED, TRUTH),
        {name: [key for key in TRUTH if key.startswith(name)] for name in ("day", "night")},
    )
    assert scores["day"].recalls == (0.75, 1.0, 1.0)
    assert scores["night"].recalls == (0.0, 0.0, 0.25)
    assert (scores["night"].queries, scores["night"].localized) == (4, 2)
    assert scores["night"].median_position == float("inf")
    assert scores["night"].mean_position == pytest.approx(5.0)
    assert scores["all"].recalls == (0.375, 0.5, 0.625)


def test_a_threshold_needs_both_errors() -> None:
    errors = pose_errors({"day/3.jpg": pose(0.0, TURNED)}, {"day/3.jpg": pose(0.0)})
    assert score(errors, [(0.25, 1.9)]).recalls == (0.0,)
    assert score(errors, [(0.25, 2.1)]).recalls == (1.0,)


def test_unknown_queries_are_refused() -> None:
    with pytest.raises(DataError, match="no ground truth, first 'x'"):
        pose_errors({"x": pose(0)}, TRUTH)
    with pytest.raises(DataError, match="condition 'dusk'"):
        score_conditions(pose_errors({}, TRUTH), {"dusk": ["dusk/0.jpg"]})


def test_medians_count_failures_as_infinite_and_means_leave_them_out() -> None:
    estimated = {"day/0.jpg": pose(0.1, TURNED), "day/1.jpg": pose(0.2, TURNED), "day/2.jpg": pose(3.0)}
    truth = {name: TRUTH[name] for name in TRUTH if name.startswith("day")}
    found = score(pose_errors(estimated, truth))
    assert found.median_position == pytest.approx(1.6)  # of 0.1, 0.2, 3 and infinite
    assert found.median_rotation == pytest.approx(2.0, abs=1e-5)
    assert found.mean_position == pytest.approx(1.1)
    assert found.mean_rotation == pytest.approx(4 / 3, abs=1e-5)
    nothing = score(pose_errors({}, truth))
    assert nothing.median_rotation == float("inf")
    assert nothing.mean_rotation != nothing.mean_rotation


def test_all_conditions_together_have_the_same_thresholds_and_one_needs_no_sum() -> None:
    errors = pose_errors(ESTIMATED, TRUTH)
    parts = {name: [key for key in TRUTH if key.startswith(name)] for name in ("day", "night")}
    assert score_conditions(errors, parts, [(0.1, 1.0)])["all"].recalls == (0.0,)
    assert list(score_conditions(errors, {"day": parts["day"]})) == ["day"]


def test_errors_are_of_every_query_of_the_truth_by_name() -> None:
    errors = pose_errors({"b": pose(2.0), "c": None}, {"c": pose(0.0), "b": pose(0.5, TURNED), "a": pose(0.0)})
    assert errors.names == ("a", "b", "c")
    np.testing.assert_array_equal(np.isnan(errors.position), [True, False, True])
    np.testing.assert_array_equal(np.isnan(errors.rotation), [True, False, True])
    assert errors.rotation[1] == pytest.approx(2.0)
    estimated = {f"x{number:02}": None for number in range(50)}
    with pytest.raises(DataError, match=r"^50 estimated poses have no ground truth, first 'x00'$"):
        pose_errors(estimated, TRUTH)


def test_nothing_has_no_score() -> None:
    with pytest.raises(DataError, match="no queries to score"):
        score(pose_errors({}, {}))
    with pytest.raises(DataError, match="no queries to score"):
        score_conditions(pose_errors(ESTIMATED, TRUTH), {"day": []})


def test_a_limit_is_within_and_every_condition_has_the_thresholds() -> None:
    truth = {"a": pose(0.0), "b": pose(0.0)}
    errors = pose_errors({"a": pose(0.5), "b": pose(1.0)}, truth)
    assert score(errors, [(0.5, 0.0), (0.4999, 0.0), (1.0, 180.0)]).recalls == (0.5, 0.0, 1.0)
    found = score_conditions(errors, {"a": ["a"], "b": ["b"], "both": ["b", "a"]}, [(0.5, 1.0)])
    assert {name: item.recalls for name, item in found.items()} == {
        "a": (1.0,),
        "b": (0.0,),
        "both": (0.5,),
        "all": (0.5,),
    }
    assert (found["b"].mean_position, found["both"].median_position) == (1.0, 0.75)
    assert list(score_conditions(errors, {})) == ["all"]
