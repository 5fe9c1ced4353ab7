"""Matches that are stored take the place of a matcher, and are of no other features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gloam.data.hloc_io import write_hloc_matches
from gloam.data.kapture_matches import encoded, match_file
from gloam.data.scene import Scene
from gloam.errors import DataError
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.localization.matches.stored import StoredMatches
from gloam.runtime.models.local_features import LocalFeatures
from tests.runtime.localization.exact_world import Projected, scenes, true_matches

PAIRS = [("a.png", "m.png"), ("b.png", "q.png")]


def write_kapture(folder: Path) -> Path:
    for pair in PAIRS:
        rows = np.array(true_matches(*pair), np.uint32)
        path = folder / match_file(*pair)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(rows, np.ones(len(rows), np.float32)))
    return folder


def write_hloc(path: Path, last_first: bool = True) -> Path:
    """In hloc's file, each pair in the other order."""

    def pairs() -> object:
        for first, second in PAIRS:
            rows = np.array(true_matches(second, first) if last_first else true_matches(first, second), np.uint32)
            names = (second, first) if last_first else (first, second)
            count = len(Projected().features(Scene(path), names[0]))
            yield *names, count, rows, np.ones(len(rows), np.float32)

    write_hloc_matches(path, pairs())  # type: ignore[arg-type]  # of tuples
    return path


@pytest.mark.parametrize("kind", ["kapture", "hloc"])
def test_the_matches_of_a_pair_are_those_stored_whatever_their_order(tmp_path: Path, kind: str) -> None:
    stored = StoredMatches(write_kapture(tmp_path / "made") if kind == "kapture" else write_hloc(tmp_path / "m.h5"))
    given = PairMatcher(Projected(), *scenes(tmp_path), rule=stored, verify_queries=False)
    for first, second in PAIRS:
        assert given.matches(first, second).tolist() == true_matches(first, second)
        assert sorted(given.matches(second, first).tolist()) == sorted(true_matches(second, first))
    with pytest.raises(DataError, match=r"has no matches of 'b\.png' and 'c\.png'; match with this list of pairs"):
        given.matches("c.png", "b.png")


def test_matches_of_other_features_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "made" / match_file(*PAIRS[0])
    write_kapture(tmp_path / "made")
    place.write_bytes(encoded(np.array([[0, 5000]], np.uint32), np.ones(1, np.float32)))
    given = PairMatcher(Projected(), *scenes(tmp_path), rule=StoredMatches(tmp_path / "made"))
    with pytest.raises(DataError, match=r"made: the matches of 'a\.png' and 'm\.png' go to keypoint 5000 of 'm\.png'"):
        given.matches("a.png", "m.png")
    write_hloc(tmp_path / "m.h5")
    (tmp_path / "m.h5").write_bytes((tmp_path / "m.h5").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"m\.h5: the HDF5 file cannot be read"):
        StoredMatches(tmp_path / "m.h5")


def test_the_key_is_of_every_match(tmp_path: Path) -> None:
    folder = write_kapture(tmp_path / "made")
    keys = [StoredMatches(folder).key]
    (folder / "failures.csv").write_text("of no matter")
    assert StoredMatches(folder).key == keys[0]
    path = folder / match_file(*PAIRS[0])
    path.write_bytes(path.read_bytes()[24:])
    keys.append(StoredMatches(folder).key)
    path.rename(folder / match_file("a.png", "n.png"))
    keys.append(StoredMatches(folder).key)
    keys += [StoredMatches(write_hloc(tmp_path / f"{row}.h5", bool(row))).key for row in (0, 1)]
    assert len(set(keys)) == len(keys)


def test_a_pair_may_have_one_keypoint_or_none(tmp_path: Path) -> None:
    place = tmp_path / match_file("a", "b")
    place.parent.mkdir()
    for count in (0, 1):
        place.write_bytes(encoded(np.zeros((count, 2), np.uint32), np.ones(count, np.float32)))
        few = LocalFeatures(*(np.zeros((count, size), np.float32) for size in (2, 1, 8)), (640, 480))
        rows, scores = StoredMatches(tmp_path).match(("a", "b"), (few, few))
        assert (rows.tolist(), scores.tolist()) == ([[0, 0]] * count, [1.0] * count)
