"""The file of weak pairs as a set for metric learning."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gloam.data.retrieval_sets.sets import read_retrieval_set
from gloam.data.weak_pairs.pair_file import Listed, write_pair_file
from gloam.errors import DataError, UsageError

DOMAINS = {"day": {}, "night": {}}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten places 10 m apart, once by day and once by night; the last two are of the test."""
    root = tmp_path_factory.mktemp("weak")
    paths, labels, parts, positions = [], [], [], []
    for label, domain in enumerate(DOMAINS):
        (root / domain).mkdir()
        for place in range(10):
            paths.append(root / domain / f"{place}.png")
            Image.new("RGB", (32, 32), (place, label, 0)).save(paths[-1])
            labels.append(label)
            parts.append("train" if place < 8 else "test")
            positions.append((10.0 * place, float(label), 0.0))
    found = [(place, 10 + place, 1.0, 0.0) for place in range(10)]
    write_pair_file(root / "pairs.json", Listed(DOMAINS, paths, labels, parts, positions, found))
    (root / "pairs.csv").write_text(
        "path_a,domain_a,path_b,domain_b\n" + "".join(f"day/{n}.png,day,night/{n}.png,night\n" for n in range(3))
    )
    return root / "pairs.json"


def places(found) -> list[int]:
    return sorted({int(Path(name).stem) for name in found.names})


def test_pairs_are_positives_within_blocks_of_the_map(pairs: Path) -> None:
    found = read_retrieval_set("weak_pairs", path=str(pairs), side=11.0, apart=9.0)
    assert places(found) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert found.cluster_count == 4
    assert len(found.queries) == 16
    for query, positive in zip(found.queries, found.positives, strict=True):
        assert Path(found.names[query]).stem == Path(found.names[positive]).stem
        assert {found.conditions[query], found.conditions[positive]} == {"day", "night"}
        assert found.clusters[query] == found.clusters[positive]


def test_blocks_are_shared_out_between_training_and_validation(pairs: Path) -> None:
    blocks = {"path": str(pairs), "side": 11.0, "apart": 9.0}
    validation, training = (read_retrieval_set("weak_pairs", every=every, **blocks) for every in (2, -2))
    assert places(validation) == [0, 1, 4, 5]
    assert places(training) == [2, 3, 6, 7]


def test_what_lies_between_blocks_is_left_out_and_counted(pairs: Path) -> None:
    found = read_retrieval_set("weak_pairs", path=str(pairs), side=5.0, apart=15.0)
    assert places(found) == [0, 2, 4, 6]
    assert found.left_out == {"in a gap between blocks": 8}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"side": 0.0}, UsageError, "side 0, apart 25: must be above 0 metres"),
        ({"side": 500.0}, DataError, "8 pairs|16 pairs in 1 blocks of 500 m"),
        ({"part": "tests"}, UsageError, "unknown part 'tests'"),
        ({"path": "pairs.csv"}, DataError, "images have no positions"),
    ],
)
def test_bad_input(pairs: Path, options: dict, error: type, message: str) -> None:
    given = {"path": pairs, **options}
    with pytest.raises(error, match=message):
        read_retrieval_set("weak_pairs", **{**given, "path": str(pairs.parent / given["path"])})
