"""The index equals numpy where it is exact, and refuses what is not its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gloam.errors import DataError, IncompatibleError, StoreError, UsageError
from gloam.files import sha256_file
from gloam.runtime.search.index import DescriptorIndex, build_index
from tests.runtime.sources import random_source

SPACE = "a" * 64


def test_flat_equals_numpy(tmp_path: Path) -> None:
    source, queries = random_source(200, 32, 1), random_source(30, 32, 2, "query").rows
    card = build_index(source, tmp_path)
    assert (card.count, card.dimension, card.factory) == (200, 32, "Flat")
    names, scores = DescriptorIndex.open(tmp_path).search(queries, 10, space=SPACE, batch=7)
    dense = queries @ source.rows.T
    order = np.argsort(-dense, axis=1)[:, :10]
    assert names == [[source.names[column] for column in row] for row in order]
    assert np.allclose(scores, np.take_along_axis(dense, order, axis=1), atol=1e-6)


def test_k_beyond_the_index_gives_all_and_no_queries_give_none(tmp_path: Path) -> None:
    source = random_source(4, 8)
    build_index(source, tmp_path)
    index = DescriptorIndex.open(tmp_path)
    names, scores = index.search(source.rows, 10, space=SPACE)
    assert scores.shape == (4, 4)
    assert all(sorted(row) == sorted(source.names) for row in names)
    assert index.search(source.rows[:0], 3, space=SPACE)[0] == []


def test_inverted_file_with_all_cells_equals_flat(tmp_path: Path) -> None:
    source, queries = random_source(400, 16, 1), random_source(20, 16, 2, "query").rows
    build_index(source, tmp_path / "flat")
    build_index(source, tmp_path / "ivf", "IVF8,Flat", train_samples=320)
    flat, _ = DescriptorIndex.open(tmp_path / "flat").search(queries, 5, space=SPACE)
    ivf, _ = DescriptorIndex.open(tmp_path / "ivf").search(queries, 5, space=SPACE, nprobe=8)
    assert ivf == flat


def test_results_that_an_inverted_file_lacks_are_empty(tmp_path: Path) -> None:
    build_index(random_source(60, 8), tmp_path, "IVF16,Flat")
    names, scores = DescriptorIndex.open(tmp_path).search(random_source(5, 8, 9).rows, 60, space=SPACE, nprobe=1)
    assert (np.array(names) == "").any()
    assert np.array_equal(np.array(names) == "", np.isneginf(scores))


def test_the_same_store_gives_the_same_bytes(tmp_path: Path) -> None:
    cards = [build_index(random_source(400, 16), tmp_path / name, "IVF4,Flat", train_samples=200) for name in "ab"]
    assert cards[0] == cards[1]


def test_too_few_vectors_to_train_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few") as error:
        build_index(random_source(10, 8), tmp_path / "index", "IVF64,Flat")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "index").exists()


def test_unknown_factory_and_empty_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Nonsense"):
        build_index(random_source(10, 8), tmp_path, "Nonsense12")
    with pytest.raises(DataError, match="no descriptors"):
        build_index(random_source(0, 8), tmp_path)


def test_another_space_or_dimension_is_refused(tmp_path: Path) -> None:
    build_index(random_source(10, 8), tmp_path)
    index = DescriptorIndex.open(tmp_path)
    with pytest.raises(IncompatibleError, match="space"):
        index.search(random_source(1, 8).rows, 1, space="d" * 64)
    with pytest.raises(IncompatibleError, match="shape"):
        index.search(random_source(1, 9).rows, 1, space=SPACE)
    with pytest.raises(UsageError, match="nprobe"):
        index.search(random_source(1, 8).rows, 1, space=SPACE, nprobe=2)


@pytest.mark.parametrize("name", ["index.faiss", "names.txt"])
def test_damage_is_found_by_checksum(tmp_path: Path, name: str) -> None:
    build_index(random_source(10, 8), tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match=name):
        DescriptorIndex.open(tmp_path)


def test_an_unfinished_or_foreign_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not an index"):
        DescriptorIndex.open(tmp_path)
    for text in ("{", "[]", '{"schema": 1}', '{"schema": 9}'):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(StoreError):
            DescriptorIndex.open(tmp_path)


def test_a_failed_rebuild_leaves_the_index_that_was_there(tmp_path: Path) -> None:
    card = build_index(random_source(10, 8), tmp_path)
    broken = random_source(10, 8, 3)
    broken.rows[9, 0] = np.inf
    with pytest.raises(DataError, match="finite"):
        build_index(broken, tmp_path)
    assert DescriptorIndex.open(tmp_path).card == card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.faiss", "index.json", "names.txt"]


@pytest.mark.parametrize("name", ["../other/index.faiss", "/etc/passwd", "a/b", "..", "index.json", "a\x1b.faiss"])
@pytest.mark.parametrize("key", ["files", "names"])
def test_a_card_that_names_a_file_elsewhere_is_refused(tmp_path: Path, name: str, key: str) -> None:
    build_index(random_source(10, 8), tmp_path / "other")
    build_index(random_source(10, 8), tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    card = json.loads(path.read_text())
    old = card[key][0] if key == "files" else card[key]
    card[key] = [name] if key == "files" else name
    card["sha256"][name] = card["sha256"].pop(old)
    path.write_text(json.dumps(card))
    with pytest.raises(StoreError, match=r"index\.json: damaged \(.* is no file of an index\)"):
        DescriptorIndex.open(tmp_path / "index")


def test_names_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    build_index(random_source(10, 8), tmp_path)
    (tmp_path / "names.txt").write_bytes(b"\xff\n" * 10)
    card = json.loads((tmp_path / "index.json").read_text())
    card["sha256"]["names.txt"] = sha256_file(tmp_path / "names.txt")
    card["sizes"]["names.txt"] = 20
    (tmp_path / "index.json").write_text(json.dumps(card))
    with pytest.raises(StoreError, match=r"names\.txt: cannot be read"):
        DescriptorIndex.open(tmp_path)
