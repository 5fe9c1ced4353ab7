"""The benchmark of calibration puts its figures together as it says; what it measures is tested where it lives."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import calibration
from gloam.eval.retrieval.ground_truth import parse_ground_truth
from gloam.eval.retrieval.judged import JudgedSearch, judge
from gloam.runtime.search.verified import Found, MatchKind


def town(seed: int, shift: float = 0.0) -> JudgedSearch:
    """Queries by night, of which the more are right the more matches are verified; ``shift`` makes fewer right."""
    random = np.random.default_rng(seed)
    inliers = random.integers(15, 200, 400)
    right = random.random(400) < 1 / (1 + np.exp(-(np.log(inliers) - 4) * 4 + shift))
    ranked = [[Found("a", 0.5, int(count)), Found("b", 0.4, 15)] for count in inliers]
    names = [f"{number}.jpg" for number in range(400)]
    return JudgedSearch(names, ranked, right, {"night": names})


@pytest.mark.parametrize(("shift", "met"), [(0.0, True), (6.0, False)])
def test_the_value_is_of_the_nights_of_the_held_out_towns(
    monkeypatch: pytest.MonkeyPatch, shift: float, met: bool
) -> None:
    kind = MatchKind("made up", 8, "mutual", "solver")
    monkeypatch.setattr(calibration, "_features", lambda folder: SimpleNamespace(name="made up", kind=kind))

    def searched(folder: Path, seed: int, features: Any) -> tuple[JudgedSearch, JudgedSearch]:
        found = town(seed, shift if seed in calibration.HELD_OUT else 0.0)
        nowhere = JudgedSearch(found.names, [[each[1], each[1]] for each in found.ranked], np.zeros(400, bool))
        return found, nowhere

    monkeypatch.setattr(calibration, "_town", searched)
    monkeypatch.setattr(calibration, "_webcams", lambda folder, learned, features: {})
    result = calibration.run()
    nights = result.detail["held-out towns, nights"]
    assert result.value == nights["ece"]
    assert nights["queries"] == 400 * len(calibration.HELD_OUT)
    assert result.met is met
    assert sorted(result.detail["each held-out town"]) == sorted(map(str, calibration.HELD_OUT))
    assert sorted(result.detail["developed, each by the others"]) == sorted(map(str, calibration.DEVELOPED))
    assert result.detail["learned"]["queries"] == 400 * len(calibration.DEVELOPED)
    assert result.detail["nothing right to be found"]["mean probability"] < 0.1
    assert nights["best single score"] == {"log inliers": pytest.approx(nights["coverage"], abs=0.05)}


def test_no_seed_is_learned_from_and_judged_on() -> None:
    assert not set(calibration.DEVELOPED) & set(calibration.HELD_OUT)
    assert set(calibration.ROADS) == {*calibration.DEVELOPED, *calibration.HELD_OUT}
    assert all(queries >= 200 for seed, (queries, _) in calibration.ROADS.items() if seed in calibration.HELD_OUT)


def test_what_is_right_or_junk_is_taken_out() -> None:
    value = {"imlist": ["a", "b", "c"], "qimlist": ["q"], "gnd": [{"ok": [0], "junk": [1]}]}
    truth = parse_ground_truth(value)
    found = {"q": [Found("a", 0.9, 90), Found("b", 0.8, 80), Found("c", 0.7, 70)]}
    left = calibration._without_right(found, truth)
    assert left == {"q": [Found("c", 0.7, 70)]}
    assert judge(left, truth).right.tolist() == [False]
