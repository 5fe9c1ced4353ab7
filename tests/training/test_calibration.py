"""The regression's answer is the optimum, finds what made the outcomes, and keeps its word on another map."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from gloam.errors import DataError, DivergenceError, GloamError, IncompatibleError, UsageError
from gloam.eval.retrieval.judged import EvaluationRequest, SearchedMap, evaluate_calibration, search_map
from gloam.runtime.search.calibration import EVIDENCE, Calibration, sigmoid
from gloam.training.calibration import CalibrationRequest, fit_calibration, fit_logistic, learn_calibration
from tests.runtime.search.searched_map import KIND, SPACE, write_map, write_matches

FILES = {"index": "index", "store": "store", "matches": "matches.h5", "ground_truth": "truth.json"}


def request(output: Path, folders: list[Path], **changed: Any) -> CalibrationRequest:
    lists = {name: [folder / file for folder in folders] for name, file in FILES.items()}
    return CalibrationRequest(**{**lists, "output": output, "k": 6, **changed})


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("maps")
    return [write_map(folder / str(seed), seed, 120) for seed in range(3)]


@pytest.mark.parametrize("ridge", [0.0, 1.0, 30.0])
def test_the_answer_is_that_of_a_general_minimiser(ridge: float) -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(300, 3))
    right = random.random(300) < sigmoid(values @ [1.5, -0.5, 0.0] + 0.7)

    def cost(at: np.ndarray) -> float:
        margins = (values @ at[:-1] + at[-1]) * np.where(right, 1, -1)
        return float(np.logaddexp(0, -margins).sum() + ridge * (at[:-1] ** 2).sum() / 2)

    weights, bias = fit_logistic(values, right, ridge)
    expected = minimize(cost, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose([*weights, bias], expected, atol=1e-5)
    assert np.mean(sigmoid(values @ weights + bias)) == pytest.approx(right.mean(), abs=1e-9)


def test_the_weights_that_made_the_outcomes_are_found() -> None:
    random = np.random.default_rng(2)
    values = random.normal(size=(20_000, 2))
    right = random.random(20_000) < sigmoid(values @ [2.0, -1.0] - 0.5)
    weights, bias = fit_logistic(values, right)
    np.testing.assert_allclose([*weights, bias], [2.0, -1.0, -0.5], atol=0.1)


def test_what_a_plane_parts_has_an_answer_with_a_penalty_alone() -> None:
    values = np.linspace(-1, 1, 20)[:, None]
    weights, bias = fit_logistic(values, values[:, 0] > 0)
    assert np.isfinite([*weights, bias]).all()
    with pytest.raises(DivergenceError, match="raise --ridge"):
        fit_logistic(values, values[:, 0] > 0, 0.0)


def test_what_is_learned_keeps_its_word_on_another_map(maps: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "c.json"
    learned = learn_calibration(request(output, maps[:2]))
    own = Calibration.load(output)
    assert own == learned.calibration
    assert (own.space, own.k, own.evidence) == (SPACE, 6, tuple(EVIDENCE))
    facts = own.provenance
    assert (facts["maps"], facts["queries"], facts["junk"], facts["factory"]) == (2, 240, 0, "Flat")
    assert str(learned).startswith(f"{output}: from 240 queries of 2 maps")
    assert learned.to_dict()["weights"]["log inliers"] == own.weights[0]
    new = {name: maps[2] / file for name, file in FILES.items()}
    scores = evaluate_calibration(EvaluationRequest(output, **new)).conditions["all"]
    assert scores.ece < scores.ece_calibrated[1] + 0.02
    assert scores.auc is not None
    assert scores.auc > 0.85


def test_the_same_maps_give_the_same_bytes(maps: list[Path], tmp_path: Path) -> None:
    for name in "ab":
        learn_calibration(request(tmp_path / f"{name}.json", maps))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_evidence_that_is_the_same_for_all_gets_no_weight(maps: list[Path]) -> None:
    search, _, kind = search_map(SearchedMap(**{name: maps[0] / file for name, file in FILES.items()}), 6)
    flat = type(search)(
        search.names, [[each._replace(score=0.5) for each in found] for found in search.ranked], search.right
    )
    own = fit_calibration([flat], SPACE, 6, kind)
    by_name = dict(zip(own.evidence, own.weights, strict=True))
    assert by_name["score"] == by_name["score margin"] == 0.0


def test_maps_of_two_kinds_are_refused(maps: list[Path], tmp_path: Path) -> None:
    elsewhere = write_map(tmp_path / "space", 5, space="b" * 64)
    with pytest.raises(IncompatibleError, match="space"):
        learn_calibration(request(tmp_path / "c.json", [maps[0], elsewhere]))
    matched = tmp_path / "kind"
    shutil.copytree(maps[1], matched)
    write_matches(matched / "other.h5", {("a", "b"): 3}, [KIND[0], 64, *KIND[2:]])
    both = [maps[0] / "matches.h5", matched / "other.h5"]
    with pytest.raises(GloamError, match=r"other\.h5"):
        learn_calibration(request(tmp_path / "c.json", [maps[0], matched], matches=both))
    assert not (tmp_path / "c.json").exists()


def test_too_few_right_or_wrong_ones_are_refused(maps: list[Path]) -> None:
    search, _, kind = search_map(SearchedMap(**{name: maps[0] / file for name, file in FILES.items()}), 6)
    for right in (np.zeros(len(search.names), bool), np.ones(len(search.names), bool)):
        with pytest.raises(DataError, match="10 right and 10 wrong"):
            fit_calibration([type(search)(search.names, search.ranked, right)], SPACE, 6, kind)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"index": []}, "0 of --index, 1 of --store, 1 of --matches, 1 of --ground-truth"),
        ({"output": "c.npz"}, "written as .json"),
        ({"ridge": -1.0}, "--ridge -1"),
        ({"ridge": float("nan")}, "--ridge nan"),
    ],
)
def test_options_that_mean_nothing_are_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        request(Path(changed.pop("output", "c.json")), [Path("x")], **changed)
