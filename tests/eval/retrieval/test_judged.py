"""A search of a map is judged by its ground truth, and a calibration on it by condition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gloam.errors import GloamError, IncompatibleError, UsageError
from gloam.eval.retrieval.ground_truth import parse_ground_truth, read_ground_truth
from gloam.eval.retrieval.judged import (
    EvaluationRequest,
    SearchedMap,
    evaluate_calibration,
    judge,
    score_search,
    search_map,
)
from gloam.runtime.search.calibration import Calibration
from gloam.runtime.search.verified import Found, MatchKind
from tests.runtime.search.searched_map import SPACE, write_map

KIND = MatchKind("sift", 128, "mutual neighbours, ratio 0.85", "solver 1, 9 trials")


def searched(folder: Path) -> SearchedMap:
    return SearchedMap(*(folder / name for name in ("index", "store", "matches.h5", "truth.json")))


def inliers_alone(k: int) -> Calibration:
    return Calibration(SPACE, k, KIND, ("log inliers",), (3.0,), (0.5,), (2.0,), 0.0)


def test_a_search_is_judged_by_its_most_verified_image(tmp_path: Path) -> None:
    search, card, kind = search_map(searched(write_map(tmp_path)), 6)
    assert (card.space, kind) == (SPACE, KIND)
    truth = read_ground_truth(tmp_path / "truth.json")
    assert sorted(search.names) == sorted(truth.query_names)
    for name, found, right in zip(search.names, search.ranked, search.right, strict=True):
        assert len(found) == 6
        assert found[0].inliers == max(each.inliers for each in found)
        row = truth.query_names.index(name)
        assert right == (truth.map_names.index(found[0].image) in truth.positives[row])
    unmapped = [row for row, name in enumerate(search.names) if int(name[-8:-4]) % 5 == 0]
    assert not search.right[unmapped].any()
    assert 0.4 < search.right.mean() < 0.8
    night = search.rows("night")
    assert [search.names[row] for row in night] == [name for name in search.names if name.startswith("night")]


def test_junk_and_queries_of_nothing_are_left_out() -> None:
    entries = [{"ok": [0], "junk": [1]}, {"ok": [1]}, {"ok": [0]}]
    truth = parse_ground_truth({"imlist": ["a", "b"], "qimlist": ["q", "r", "s"], "gnd": entries})
    first = {"q": "b", "r": "a", "s": "a", "elsewhere": "a"}
    search = judge({"empty": [], **{name: [Found(image, 0.5, 9)] for name, image in first.items()}}, truth)
    assert (list(search.names), search.right.tolist(), list(search.junk)) == (["r", "s"], [False, True], ["q"])


def test_scores_are_of_each_condition(tmp_path: Path) -> None:
    search, _, _ = search_map(searched(write_map(tmp_path)), 6)
    own = inliers_alone(6)
    scores = score_search(own, search)
    assert sorted(scores) == ["all", "day", "night"]
    assert scores["all"].queries == scores["day"].queries + scores["night"].queries == len(search.names)
    rows = search.rows("night")
    assert scores["night"].right == search.right[rows].mean()
    assert scores["night"].said == pytest.approx(np.mean([own.probability(search.ranked[row]) for row in rows]))
    # One weight orders as its evidence does.
    assert scores["all"].coverage == scores["all"].single["log inliers"]


def test_a_table_for_people_and_json(tmp_path: Path) -> None:
    write_map(tmp_path)
    path = inliers_alone(6).save(tmp_path / "c.json")
    found = evaluate_calibration(EvaluationRequest(path, **vars(searched(tmp_path))))
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines] == ["condition", "all", "day", "night", "coverage:"]
    assert f"{found.conditions['night'].ece:.3f}" in lines[3]
    value = found.to_dict()
    assert value["k"] == 6
    assert len(value["conditions"]["night"]["bins"]) == 10


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    files = searched(write_map(tmp_path))
    other = Calibration("b" * 64, 6, KIND, ("score",), (0.0,), (1.0,), (1.0,), 0.0).save(tmp_path / "c.json")
    with pytest.raises(IncompatibleError, match="space"):
        evaluate_calibration(EvaluationRequest(other, **vars(files)))
    with pytest.raises(UsageError, match="give 2 or more"):
        search_map(files, 1)
    for changed, why in (({"precision": 0.0}, "--precision 0"), ({"bins": 0}, "--bins 0")):
        with pytest.raises(UsageError, match=why):
            EvaluationRequest(other, **vars(files), **changed)
    with pytest.raises(GloamError, match="absent"):
        search_map(SearchedMap(files.index, files.store, tmp_path / "absent.h5", files.ground_truth), 6)
