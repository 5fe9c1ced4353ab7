"""Calibration error, reliability and coverage equal their plain twins, and the control is what chance gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gloam.errors import DataError
from gloam.eval.retrieval.calibration import (
    coverage_at_precision,
    expected_calibration_error,
    expected_of_calibrated,
    rank_quality,
    reliability,
    right_first,
    score_calibration,
)
from gloam.eval.retrieval.ground_truth import parse_ground_truth

OUTCOMES = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=60)


def plain_error(said: list[float], right: list[bool], bins: int) -> float:
    """The plain twin: one bin after another, each of as many queries or one more, the first ones the larger."""
    order = sorted(range(len(said)), key=lambda row: said[row])
    total, start = 0.0, 0
    for number in range(bins):
        size = len(said) // bins + (number < len(said) % bins)
        rows = order[start : start + size]
        start += size
        total += abs(sum(said[row] for row in rows) - sum(right[row] for row in rows))
    return total / len(said)


@given(OUTCOMES, st.integers(1, 12))
def test_the_error_is_its_plain_twins(outcomes: list[tuple[int, bool]], bins: int) -> None:
    said, right = [value / 20 for value, _ in outcomes], [truth for _, truth in outcomes]
    assert expected_calibration_error(said, right, bins) == pytest.approx(plain_error(said, right, bins))


def test_the_error_of_known_probabilities() -> None:
    said, right = [0.1] * 10 + [0.8] * 10, [False] * 9 + [True] + [True] * 5 + [False] * 5
    assert expected_calibration_error(said, right, 2) == pytest.approx(0.15)  # 0 and |0.8 - 0.5|, halved
    rows = reliability(said, right, 2)
    assert [(row.queries, row.least, row.most) for row in rows] == [(10, 0.1, 0.1), (10, 0.8, 0.8)]
    assert [row.right for row in rows] == pytest.approx([0.1, 0.5])
    assert len(reliability([0.5, 0.6], [True, False], 10)) == 2
    assert expected_calibration_error([0.0, 1.0], [False, True]) == 0.0


@given(OUTCOMES, st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_coverage_is_the_largest_of_every_threshold(outcomes: list[tuple[int, bool]], precision: float) -> None:
    scores, right = np.array([value for value, _ in outcomes]), np.array([truth for _, truth in outcomes])
    above = [scores >= threshold for threshold in np.unique(scores)]
    every = [float(rows.mean()) for rows in above if right[rows].mean() >= precision]
    assert coverage_at_precision(scores, right, precision) == max(every, default=0.0)


@given(OUTCOMES)
def test_rank_quality_counts_pairs(outcomes: list[tuple[int, bool]]) -> None:
    wins, losses = ([value for value, truth in outcomes if truth == want] for want in (True, False))
    found = rank_quality([value for value, _ in outcomes], [truth for _, truth in outcomes])
    if not wins or not losses:
        assert found is None
    else:
        pairs = [(win > loss) + (win == loss) / 2 for win in wins for loss in losses]
        assert found == pytest.approx(sum(pairs) / len(pairs))


@settings(deadline=None)
@given(st.integers(1, 50))
def test_what_is_certain_has_no_error_by_chance(count: int) -> None:
    assert expected_of_calibrated([0.0, 1.0] * count) == (0.0, 0.0)


def test_the_control_is_the_mean_error_of_outcomes_that_are_drawn() -> None:
    random = np.random.default_rng(5)
    said = random.uniform(0, 1, 200)
    drawn = [expected_calibration_error(said, random.random(200) < said) for _ in range(400)]
    mean, most = expected_of_calibrated(said)
    assert mean == pytest.approx(np.mean(drawn), abs=0.003)
    assert most == pytest.approx(np.quantile(drawn, 0.95), abs=0.006)
    fewer, _ = expected_of_calibrated(said[:50])
    assert fewer > 1.5 * mean  # of a quarter of the queries twice as much


def test_scores_say_what_is_answered_and_how_well() -> None:
    said = [0.99, 0.97, 0.96, 0.5, 0.3, 0.1, 0.1, 0.05, 0.02, 0.01]
    right = [True, True, False, True, True, False, False, False, False, False]
    single = {"good": said, "bad": [-value for value in said]}
    scores = score_calibration(said, right, single, junk=3)
    assert (scores.queries, scores.right, scores.junk) == (10, 0.4, 3)
    assert scores.said == pytest.approx(np.mean(said))
    assert (scores.answered, scores.precision) == (0.3, pytest.approx(2 / 3))
    assert scores.coverage == 0.2
    assert scores.best_single == ("good", 0.2)
    assert scores.brier == pytest.approx(np.mean((np.array(said) - right) ** 2))
    assert scores.auc == pytest.approx(22 / 24)
    assert scores.to_dict()["bins"][0]["queries"] == 1
    none = score_calibration([0.1, 0.2], [False, True], {"one": [1.0, 2.0]})
    assert (none.answered, none.precision) == (0.0, None)


def test_a_first_image_is_right_wrong_or_junk() -> None:
    truth = parse_ground_truth(
        {
            "imlist": ["a", "b", "c"],
            "qimlist": ["q", "r", "nowhere"],
            "gnd": [{"ok": [0], "junk": [1]}, {"ok": [1, 2]}, {"ok": []}],
        }
    )
    assert right_first(truth, {"q": "a", "r": "a", "other": "a"}) == {"q": True, "r": False}
    assert right_first(truth, {"q": "b", "r": "c", "nowhere": "c"}) == {"q": None, "r": True, "nowhere": False}
    with pytest.raises(DataError, match="'x' was found for 'q'"):
        right_first(truth, {"q": "x"})
    with pytest.raises(DataError, match="knows none of the queries"):
        right_first(truth, {"other": "a"})


def test_what_is_no_probability_is_refused() -> None:
    for said, right, why in (
        ([], [], "0 scores for 0"),
        ([0.1, 0.2], [True], "2 scores for 1"),
        ([0.1, np.nan], [True, False], "finite"),
        ([0.1, 1.1], [True, False], "from 0 to 1"),
        ([-0.1, 1.0], [True, False], "from 0 to 1"),
    ):
        with pytest.raises(DataError, match=why):
            expected_calibration_error(said, right)
