"""Rules of pairs need the files that know of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gloam.errors import DataError, UsageError
from gloam.runtime.search.pair_rules import PairRules


def test_a_rule_without_its_file_is_refused() -> None:
    with pytest.raises(UsageError, match=r"a rule by 'season' needs --groups FILE$"):
        PairRules(exclude_same=["season"])
    with pytest.raises(UsageError, match="a rule by 'camera' needs --groups FILE or --kapture DATASET"):
        PairRules(only_same=["camera"])
    with pytest.raises(UsageError, match="--min-distance needs the poses"):
        PairRules(min_distance=3.0)


def test_masks_say_how_many_images_they_do_not_know(tmp_path: Path) -> None:
    groups = tmp_path / "groups.csv"
    groups.write_text("image,place\na.jpg,1\nb.jpg,2\n")
    rules = PairRules(exclude_same=["place"], groups=groups)
    masks, unknown = rules.masks(["a.jpg", "c.jpg"], ["b.jpg", "a.jpg"])
    assert unknown == {"place": 1}
    assert masks[0].hidden(slice(0, 2), slice(0, 2)).tolist() == [[False, True], [False, False]]
    with pytest.raises(DataError, match=r"none of the images has a place: .*groups\.csv"):
        rules.masks(["x.jpg"], ["y.jpg"])
