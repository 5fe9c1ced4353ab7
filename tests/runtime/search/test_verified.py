"""Verified matches of a file are counted, order what was found, and are refused where they are not what they seem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.data.kapture_matches import encoded
from gloam.errors import DataError, GloamError, IncompatibleError, UsageError
from gloam.files import sealed_json
from gloam.runtime.search.verified import Found, MatchKind, VerifiedMatches, expect_kind, rerank
from tests.damage import flip
from tests.runtime.search.searched_map import KIND, write_matches

COUNTS = {("q.jpg", "a.jpg"): 9, ("q.jpg", "b.jpg"): 30, ("q.jpg", "c.jpg"): 0}


def test_matches_are_counted_whichever_way_a_pair_is_named(tmp_path: Path) -> None:
    matches = VerifiedMatches.open(write_matches(tmp_path / "m.h5", COUNTS))
    for (query, image), count in COUNTS.items():
        assert matches.count(query, image) == matches.count(image, query) == count
    assert matches.kind == MatchKind("sift", 128, "mutual neighbours, ratio 0.85", "solver 1, 9 trials")
    with pytest.raises(DataError, match=r"no matches of 'q.jpg' and 'x.jpg'"):
        matches.count("q.jpg", "x.jpg")


def test_kaptures_files_are_counted_too(tmp_path: Path) -> None:
    for (query, image), count in COUNTS.items():
        path = tmp_path / f"{image}.overlapping" / f"{query}.matches"
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(np.zeros((count, 2), np.uint32), np.ones(count, np.float32)))
    (tmp_path / "gloam.json").write_bytes(sealed_json({"source": ["kapture", *KIND], "content": "", "sha256": ""}))
    matches = VerifiedMatches.open(tmp_path)
    assert [matches.count(*pair) for pair in COUNTS] == [9, 30, 0]
    assert matches.kind.features == "sift"


def test_more_verified_matches_come_first_and_ties_stay() -> None:
    results = {"q": [("a", 0.9), ("b", 0.8), ("c", 0.7), ("d", 0.6)], "r": []}
    counts = {"a": 5, "b": 20, "c": 5, "d": 21}
    ranked = rerank(results, lambda query, image: counts[image])
    assert ranked == {"q": [Found("d", 0.6, 21), Found("b", 0.8, 20), Found("a", 0.9, 5), Found("c", 0.7, 5)], "r": []}


def test_what_is_not_verified_or_has_no_record_is_refused(tmp_path: Path) -> None:
    path = write_matches(tmp_path / "m.h5", COUNTS, [*KIND[:3], "raw"])
    with pytest.raises(UsageError, match=r"m.h5: its matches are not verified; match with `gloam match --verify`"):
        VerifiedMatches.open(path)
    Path(f"{path}.json").unlink()
    with pytest.raises(DataError, match="no record"):
        VerifiedMatches.open(path)
    with pytest.raises(DataError, match="no matches there"):
        VerifiedMatches.open(tmp_path / "absent.h5")


def test_a_file_that_was_damaged_is_refused_unless_trusted(tmp_path: Path) -> None:
    path = write_matches(tmp_path / "m.h5", COUNTS)
    flip(path)
    with pytest.raises(DataError, match=r"is not the file that m.h5.json describes"):
        VerifiedMatches.open(path)
    path = write_matches(tmp_path / "n.h5", COUNTS)
    Path(f"{path}.json").write_bytes(sealed_json({"source": ["hloc", *KIND], "content": "", "sha256": "0"}))
    assert VerifiedMatches.open(path, trust=True).count("q.jpg", "b.jpg") == 30


@pytest.mark.parametrize(
    "source",
    [None, 3, [], ["hloc"], ["hloc", "sift", "128", "mutual", [0, "s"]], ["hloc", "sift", 128, "mutual", [0]]],
)
def test_a_record_that_is_none_is_one_line(tmp_path: Path, source: Any) -> None:
    path = write_matches(tmp_path / "m.h5", COUNTS)
    record = json.loads(Path(f"{path}.json").read_text())
    Path(f"{path}.json").write_bytes(sealed_json({**record, "source": source}))
    with pytest.raises(GloamError) as error:
        VerifiedMatches.open(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("features", "disk"), ("dimension", 64), ("matcher", "mutual neighbours, ratio None"), ("verification", "other")],
)
def test_every_difference_of_kind_is_named(name: str, value: Any) -> None:
    kind = MatchKind("sift", 128, "mutual neighbours, ratio 0.85", "solver 1, 9 trials")
    expect_kind(kind, kind, "m.h5", "c.json")
    other = MatchKind(**{**vars(kind), name: value})
    with pytest.raises(IncompatibleError, match=f"^m.h5: {name} "):
        expect_kind(kind, other, "m.h5", "c.json")
