"""A calibration's probability is its formula's, survives its file, and is refused for what it does not speak of."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloam.errors import GloamError, IncompatibleError, ModelError, UsageError
from gloam.files import sealed_json
from gloam.runtime.search.calibration import EVIDENCE, Calibration, Verification, gathered, sigmoid
from gloam.runtime.search.queries import Answers
from gloam.runtime.search.verified import Found, MatchKind
from tests.damage import flip
from tests.runtime.search.searched_map import write_matches

KIND = MatchKind("sift", 128, "mutual neighbours, ratio 0.85", "solver 1, 9 trials")
FOUND = [Found("b", 0.7, 40), Found("a", 0.9, 8), Found("c", 0.5, 3)]
SPACE = "a" * 64


def made(**changed: Any) -> Calibration:
    names = tuple(EVIDENCE)
    numbers = {"mean": (3.0, 1.0, 0.6, 0.1), "scale": (0.5, 0.4, 0.1, 0.05), "weights": (1.0, 2.0, 0.5, -0.25)}
    return Calibration(
        **{"space": SPACE, "k": 3, "matches": KIND, "evidence": names, **numbers, "bias": -0.5, **changed}
    )


def test_the_evidence_is_what_its_names_say() -> None:
    by_name = dict(zip(EVIDENCE, gathered([FOUND], tuple(EVIDENCE))[0].tolist(), strict=True))
    expected = {
        "log inliers": math.log(41),
        "inlier margin": math.log(41 / 9),
        "score": 0.7,
        "score margin": 0.0,
    }
    assert by_name == pytest.approx(expected)
    assert gathered([FOUND, FOUND[:1]], ("score",)).tolist() == [[0.7], [0.7]]
    assert gathered([], ("score", "log inliers")).shape == (0, 2)


def test_the_probability_is_the_formulas() -> None:
    values = [math.log(41), math.log(41 / 9), 0.7, 0.0]
    own = made()
    total = own.bias + sum(
        weight * (value - mean) / scale
        for value, mean, scale, weight in zip(values, own.mean, own.scale, own.weights, strict=True)
    )
    assert own.probability(FOUND) == pytest.approx(1 / (1 + math.exp(-total)))
    assert own.probability([]) == 0.0


@given(st.floats(-1e4, 1e4))
def test_the_sigmoid_is_a_probability_and_odd_about_a_half(value: float) -> None:
    said = float(sigmoid(value))
    assert 0 <= said <= 1
    assert said + float(sigmoid(-value)) == pytest.approx(1)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    own = made(provenance={"queries": 7})
    assert Calibration.load(own.save(tmp_path / "c.json")) == own


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = made().save(tmp_path / "c.json")
    flip(path)
    with pytest.raises(ModelError, match=r"c\.json"):
        Calibration.load(path)
    with pytest.raises(ModelError, match="No such file"):
        Calibration.load(tmp_path / "absent.json")
    with pytest.raises(UsageError, match=r"ends in \.json"):
        Calibration.load(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schema": 2}, "schema 2"),
        ({"evidence": ["luck", "score", "score margin", "log inliers"]}, "luck"),
        ({"evidence": [], "mean": [], "scale": [], "weights": []}, "unknown"),
        ({"weights": [1.0]}, "not as many"),
        ({"scale": [1.0, 1.0, 1.0, 0.0]}, "no regression"),
        ({"k": 0}, "of 0 images"),
        ({"bias": "much"}, "bias"),
        ({"matches": None}, "matches"),
    ],
)
def test_values_that_are_no_calibration_are_one_line(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    path = made().save(tmp_path / "c.json")
    value = {**json.loads(path.read_text()), **change}
    path.write_bytes(sealed_json(value))
    with pytest.raises(ModelError, match=why) as error:
        Calibration.load(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_another_space_k_or_kind_is_refused() -> None:
    own = made()
    own.expect(SPACE, 3, KIND, "c.json")
    for space, k, kind, why in (
        ("b" * 64, 3, KIND, r"c\.json: descriptors of space bbbb"),
        (SPACE, 10, KIND, r"c\.json: learned from 3 images a query, not 10; search with -k 3"),
        (SPACE, 3, replace(KIND, matcher="other"), "matcher 'other'"),
    ):
        with pytest.raises(IncompatibleError, match=why):
            own.expect(space, k, kind, "c.json")


def test_answers_are_put_in_order_and_get_their_probability(tmp_path: Path) -> None:
    counts = {("q", each.image): each.inliers for each in FOUND}
    matches, calibration = write_matches(tmp_path / "m.h5", counts), made().save(tmp_path / "c.json")
    answers = Answers({"q": [("a", 0.9), ("b", 0.7), ("c", 0.5)], "nothing": []}, {"bad": "no image"}, {"space": SPACE})
    opened = Verification.open(matches, calibration, SPACE, 3)
    assert opened is not None
    said = opened.apply(answers)
    assert said.ranked["q"] == FOUND
    assert said.results["q"][0] == ("b", 0.7)
    assert said.probabilities == {"q": made().probability(FOUND), "nothing": 0.0}
    value = said.to_dict()
    assert value["results"]["q"][0] == {"image": "b", "score": 0.7, "inliers": 40}
    assert value["probabilities"] == said.probabilities
    assert value["failures"] == {"bad": "no image"}
    assert f"q  right with probability {said.probabilities['q']:.3f}" in str(said).splitlines()
    alone = Verification.open(matches, None, SPACE, 3)
    assert alone is not None
    assert alone.apply(answers).ranked == said.ranked
    assert "probabilities" not in alone.apply(answers).to_dict()
    assert "probability" not in str(alone.apply(answers))


def test_a_calibration_without_matches_says_which_option_is_missing(tmp_path: Path) -> None:
    path = made().save(tmp_path / "c.json")
    assert Verification.open(None, None, SPACE, 3) is None
    with pytest.raises(UsageError, match="add --matches"):
        Verification.open(None, path, SPACE, 3)
    matches = write_matches(tmp_path / "m.h5", {("q", "a"): 3})
    for space, k in (("b" * 64, 3), (SPACE, 4)):
        with pytest.raises(GloamError, match=r"c\.json"):
            Verification.open(matches, path, space, k)


def test_more_inliers_never_say_less_where_weights_are_positive() -> None:
    own = made()
    said = [own.probability([Found("b", 0.7, count), *FOUND[1:]]) for count in range(8, 200, 10)]
    assert (np.diff(said) > 0).all()
