"""Shards and memory maps change nothing but where the vectors lie; damage and interruption are found."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import faiss
import numpy as np
import pytest

from gloam.errors import StoreError, UsageError
from gloam.runtime.search.index import DescriptorIndex, build_index
from tests.runtime.search.index.clustered import clustered
from tests.runtime.sources import random_source

SPACE = "a" * 64


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("shards", [2, 5])
@pytest.mark.parametrize("mmap", [False, True])
def test_shards_find_what_one_file_finds(tmp_path: Path, shards: int, mmap: bool) -> None:
    source, queries = random_source(203, 16, 1), random_source(30, 16, 2, "query").rows
    build_index(source, tmp_path / "one")
    card = build_index(source, tmp_path / "many", shards=shards)
    assert len(card.files) == shards
    one, expected = DescriptorIndex.open(tmp_path / "one").search(queries, 12, space=SPACE)
    names, scores = DescriptorIndex.open(tmp_path / "many", mmap=mmap).search(queries, 12, space=SPACE)
    assert names == one
    assert np.allclose(scores, expected, atol=1e-6)


@pytest.mark.parametrize("factory", ["IVF16,PQ8x4fs,RFlat", "IVF16,PQ8x4fs,Refine(SQfp16)", "IVF16,Flat", "HNSW8"])
def test_a_memory_map_finds_the_same(tmp_path: Path, factory: str) -> None:
    source = clustered(1500, 32)
    build_index(source, tmp_path, factory, shards=2)
    found = [DescriptorIndex.open(tmp_path, mmap=mmap).search(source.rows[:40], 8, space=SPACE) for mmap in (0, 1)]
    assert found[0][0] == found[1][0]
    assert np.array_equal(found[0][1], found[1][1])


def test_shards_of_one_training_find_what_one_file_finds(tmp_path: Path) -> None:
    source = clustered(1500, 32)
    for name, shards in (("one", 1), ("many", 4)):
        build_index(source, tmp_path / name, "IVF16,Flat", shards=shards)
    found = [
        DescriptorIndex.open(tmp_path / name).search(source.rows[:60], 5, space=SPACE, nprobe=2)[0]
        for name in ("one", "many")
    ]
    assert found[0] == found[1]


def test_more_shards_than_vectors_are_refused(tmp_path: Path) -> None:
    for shards in (0, 11):
        with pytest.raises(UsageError, match="choose 1 to 10"):
            build_index(random_source(10, 8), tmp_path, shards=shards)


@pytest.mark.parametrize("mmap", [False, True])
def test_a_truncated_or_absent_shard_is_one_line(tmp_path: Path, mmap: bool) -> None:
    build_index(random_source(50, 8), tmp_path, shards=3)
    path = tmp_path / "index-00001.faiss"
    os.truncate(path, path.stat().st_size - 5)
    with pytest.raises(StoreError, match=r"index-00001\.faiss: damaged") as error:
        DescriptorIndex.open(tmp_path, mmap=mmap)
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(StoreError, match=r"index-00001\.faiss: cannot be read"):
        DescriptorIndex.open(tmp_path, mmap=mmap)


def test_a_flipped_bit_is_found_unless_memory_mapped(tmp_path: Path) -> None:
    build_index(random_source(50, 8), tmp_path)
    content = bytearray((tmp_path / "index.faiss").read_bytes())
    content[-2] ^= 1
    (tmp_path / "index.faiss").write_bytes(content)
    with pytest.raises(StoreError, match="checksum"):
        DescriptorIndex.open(tmp_path)
    DescriptorIndex.open(tmp_path, mmap=True)  # as its documentation says
    names = (tmp_path / "names.txt").read_bytes()
    (tmp_path / "names.txt").write_bytes(names.replace(b"map", b"mop", 1))
    with pytest.raises(StoreError, match=r"names\.txt.*checksum"):
        DescriptorIndex.open(tmp_path, mmap=True)


class Killed(BaseException):
    """What a signal raises."""


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_interrupted_rebuild_leaves_the_old_index(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = random_source(40, 8, 1, "old"), random_source(60, 8, 2, "new")
    card = build_index(old, tmp_path, shards=3)
    before = listing(tmp_path)
    writes, write = [], faiss.write_index

    def interrupted(index: object, path: str) -> None:
        if len(writes) == at:
            raise Killed
        writes.append(path)
        write(index, path)

    monkeypatch.setattr(faiss, "write_index", interrupted)
    with pytest.raises(Killed):
        build_index(new, tmp_path, shards=3)
    monkeypatch.undo()
    assert listing(tmp_path) == before
    assert DescriptorIndex.open(tmp_path).card == card
    build_index(new, tmp_path, shards=3)
    assert DescriptorIndex.open(tmp_path).names == new.names
    assert len(listing(tmp_path)) == len(before)


def test_a_full_disk_is_one_line_and_leaves_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, write = build_index(random_source(40, 8, 1, "old"), tmp_path), faiss.write_index
    monkeypatch.setattr(faiss, "write_index", lambda index, _: write(index, "/dev/full"))
    with pytest.raises(StoreError, match=r"index\.2\.faiss.*disk full") as error:
        build_index(random_source(60_000, 8, 2, "new"), tmp_path)
    assert "\n" not in str(error.value)
    assert DescriptorIndex.open(tmp_path).card == card
    assert len(listing(tmp_path)) == 3


def test_an_error_after_the_card_was_replaced_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(random_source(40, 8, 1, "old"), tmp_path)
    new = random_source(60, 8, 2, "new")

    def fail(folder: Path) -> None:
        raise Killed

    monkeypatch.setattr("gloam.files._sync_folder", lambda folder: fail(folder) if "index.json" in landed() else None)

    def landed() -> str:
        return "index.json" if json.loads((tmp_path / "index.json").read_text())["count"] == 60 else ""

    with pytest.raises(Killed):
        build_index(new, tmp_path)
    monkeypatch.undo()
    assert DescriptorIndex.open(tmp_path).names == new.names


def test_leftovers_of_a_killed_rebuild_are_removed_by_the_next(tmp_path: Path) -> None:
    build_index(random_source(40, 8), tmp_path)
    for name in ("index.2.faiss", "index-00007.faiss", "names.3.txt"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "index.notes.txt").write_text("mine")
    build_index(random_source(40, 8), tmp_path)
    kept = listing(tmp_path)
    assert len(kept) == 4
    assert "index.notes.txt" in kept
    DescriptorIndex.open(tmp_path)


def test_a_card_of_schema_1_still_opens(tmp_path: Path) -> None:
    source = random_source(20, 8)
    build_index(source, tmp_path)
    card = json.loads((tmp_path / "index.json").read_text())
    for key in ("files", "names", "sizes", "search", "recall", "training"):
        del card[key]
    (tmp_path / "index.json").write_text(json.dumps(card | {"schema": 1}))
    for mmap in (False, True):
        assert DescriptorIndex.open(tmp_path, mmap=mmap).search(source.rows[:1], 1, space=SPACE)[0] == [
            source.names[:1]
        ]
    os.truncate(tmp_path / "index.faiss", 100)
    with pytest.raises(StoreError, match="damaged"):
        DescriptorIndex.open(tmp_path, mmap=True)  # it states no sizes, so the checksum is compared


def test_what_a_search_cannot_do_is_one_line(tmp_path: Path) -> None:
    source = random_source(60, 8)
    build_index(source, tmp_path, "IVF4,Flat")
    with pytest.raises(UsageError, match="at least 1"):
        DescriptorIndex.open(tmp_path).search(source.rows[:1], 1, space=SPACE, nprobe=0)
    with pytest.raises(UsageError, match="memory-mapped"):
        DescriptorIndex.open(tmp_path, mmap=True, device="cuda")


def test_few_queries_are_multiplied_and_the_variable_of_faiss_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = random_source(60, 8)
    build_index(source, tmp_path)
    index = DescriptorIndex.open(tmp_path)
    seen, blocks, inner = [], [], index._index

    def search(rows: object, k: int) -> object:
        seen.append(faiss.cvar.distance_compute_blas_threshold)
        blocks.append(faiss.cvar.distance_compute_blas_database_bs)
        if k == 3:
            raise RuntimeError("Error in search\nno memory")
        return inner.search(rows, k)

    monkeypatch.setattr(index, "_index", SimpleNamespace(search=search))
    for limit, expected in ((128_000, 800 * faiss.omp_get_max_threads()), (20, 20)):
        monkeypatch.setattr(faiss.cvar, "distance_compute_blas_threshold", limit)
        index.search(source.rows[:2], 2, space=SPACE)
        with pytest.raises(StoreError, match="no memory") as error:
            index.search(source.rows[:2], 3, space=SPACE)
        assert "\n" not in str(error.value)
        assert seen[-2:] == [expected, expected]
        assert faiss.cvar.distance_compute_blas_threshold == limit
        assert blocks[-1] == 4096
        assert faiss.cvar.distance_compute_blas_database_bs == 1024


@pytest.mark.parametrize(("factory", "shards"), [("Flat", 1), ("Flat", 3), ("HNSW8", 1)])
@pytest.mark.parametrize("queries", [1, 7, 8, 61])
def test_queries_of_several_threads_find_what_one_call_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, shards: int, queries: int
) -> None:
    monkeypatch.setattr("gloam.runtime.search.index.search.APART", 4)
    source, asked = random_source(203, 16, 1), random_source(queries, 16, 2, "query").rows
    build_index(source, tmp_path, factory, shards=shards)
    threads = faiss.omp_get_max_threads()
    try:
        found = {}
        for count in (1, 2):
            faiss.omp_set_num_threads(count)
            index, calls = DescriptorIndex.open(tmp_path), []
            plain = index._index.search

            def search(rows, k, plain=plain, calls=calls):
                calls.append((len(rows), faiss.omp_get_max_threads()))
                return plain(rows, k)

            index._index = SimpleNamespace(search=search)
            found[count] = index.search(asked, 12, space=SPACE)
            apart = count == 2 and factory == "Flat" and queries >= 8
            assert sorted(calls) == ([(queries // 2, 1), (queries - queries // 2, 1)] if apart else [(queries, count)])
            assert faiss.omp_get_max_threads() == count
        assert found[1][0] == found[2][0]
        assert np.allclose(found[1][1], found[2][1], atol=1e-6)
    finally:
        faiss.omp_set_num_threads(threads)
