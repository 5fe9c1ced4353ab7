"""Compact indexes: codes in memory, exact scores from the store on disk, bytes and recall as predicted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from gloam.cli.main import main
from gloam.errors import DataError, GloamError, IncompatibleError, StoreError, UsageError
from gloam.files import read_sealed, sealed_json
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import DescriptorStore, Job, Row
from gloam.runtime.search.index import DescriptorIndex, add_to_index, build_index, merge_indexes
from gloam.runtime.search.index.card import NameTable, resident_bytes
from gloam.runtime.search.index.compact import (
    COMPACT,
    PlanSample,
    compact_bytes,
    compact_factory,
    fitted,
    names_bytes,
    plan_compact,
    principal,
)
from gloam.runtime.search.index.make import IndexRequest, make_index
from gloam.runtime.search.index.recall import select
from tests.runtime.search.index.clustered import clustered
from tests.runtime.sources import MemorySource

COUNT, DIMENSION, SPACE = 2000, 96, "a" * 64


def write(folder: Path, count: int = COUNT, seed: int = 0, prefix: str = "map") -> Path:
    source = clustered(count, DIMENSION, seed, prefix, noise=0.9)
    shards = -(-count // 800)
    writer = ShardWriter.begin(folder, Job(SPACE, "b" * 64, DIMENSION, "cosine", f"{seed:064x}", count, {}), shards)
    for shard in range(shards):
        span = slice(800 * shard, 800 * shard + 800)
        writer.write(shard, [Row(name) for name in source.names[span]], source.rows[span])
    writer.finish()
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("compact") / "store")


def recall(index: DescriptorIndex, rows: np.ndarray, queries: np.ndarray) -> float:
    """Share of the 10 best, the queries' own images left out, that are found."""
    names, scores = index.search(rows[queries], 11, space=SPACE)
    exact = rows[queries] @ rows.T
    exact[np.arange(len(queries)), queries] = -np.inf
    tenth = np.sort(exact, axis=1)[:, -10]
    others = np.array(
        [[name != index.names[query] for name in found] for found, query in zip(names, queries, strict=True)]
    )
    return float(((scores >= tenth[:, None] - 1e-6) & others).sum() / 10 / len(queries))


@pytest.mark.parametrize("kind", sorted(COMPACT))
def test_bytes_and_recall_are_those_that_were_predicted(store: Path, tmp_path: Path, kind: str) -> None:
    made = make_index(IndexRequest(tmp_path / "index", store=store, kind=kind, memory=COUNT * 66 + 20000))
    assert made.plan is not None
    predicted = made.to_dict()["predicted"]
    assert resident_bytes(made.card) == pytest.approx(predicted["nbytes"], rel=0.05)
    index = DescriptorIndex.open(tmp_path / "index")
    index.card.search["rerank"] = predicted["rerank"]
    rows = DescriptorStore.open(store).load()
    queries = np.random.default_rng(9).choice(COUNT, 300, replace=False)
    assert recall(index, rows, queries) == pytest.approx(predicted["recall"], rel=0.05)
    assert made.card.recall["recall@10"] >= 0.95
    assert "an image; exact vectors stay in" in str(made)


@pytest.mark.parametrize("code", COMPACT["compact"])
@pytest.mark.parametrize("directions", [32, 64, DIMENSION])
def test_the_model_of_bytes(code: str, directions: int) -> None:
    rows = clustered(1000, DIMENSION).rows
    index = fitted(faiss, compact_factory(code, directions, DIMENSION), rows, 0)
    index.add(rows)
    found = len(faiss.serialize_index(index))
    assert compact_bytes(faiss, code, directions, 1000, DIMENSION) == pytest.approx(found, rel=0.05)


def test_directions_are_those_of_an_exact_decomposition() -> None:
    rows = np.random.default_rng(0).normal(size=(400, 60)).astype(np.float32) * 0.8 ** np.arange(60, dtype=np.float32)
    found, exact = principal(rows, 6), np.linalg.svd(rows)[2][:6]
    np.testing.assert_allclose(np.abs((found * exact).sum(axis=1)), 1, atol=1e-3)
    np.testing.assert_allclose(found @ found.T, np.eye(6), atol=1e-5)


def test_names_are_those_of_a_list() -> None:
    names = ["a/1.jpg", "día/2.jpg", "", "ü"]
    table = NameTable("".join(f"{name}\n" for name in names).encode())
    assert (len(table), list(table), table[1], table[-1], table[-3:]) == (4, names, names[1], "ü", names[1:])
    assert table == names
    assert table != names[:3]
    assert table != [*names[:3], "u"]
    assert "ü" in table
    for place in (4, -5):
        with pytest.raises(IndexError):
            table[place]
    assert (list(NameTable(b"")), names_bytes(names)) == ([], len(table._text) + table._ends.nbytes)
    for text in (b"half", b"\xff\n"):
        with pytest.raises(ValueError, match=r"utf-8|does not end"):
            NameTable(text)


def test_what_is_drawn_from_a_store_on_disk_is_what_a_stream_gives(store: Path) -> None:
    opened = DescriptorStore.open(store)
    rows = opened.load()
    places = np.array([0, 3, 799, 800, 1999])
    streamed = select(MemorySource(opened.names, rows), places)
    assert np.array_equal(select(opened, places), streamed)
    opened.drop_names()
    assert len(opened) == COUNT
    assert np.array_equal(opened.take(places), streamed)
    with pytest.raises(StoreError, match="names were dropped"):
        next(opened.blocks())


def test_a_sample_serves_several_budgets(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = DescriptorStore.open(store)
    sample = PlanSample.of(opened, DIMENSION, 0)
    reads: list[int] = []
    monkeypatch.setattr(DescriptorStore, "blocks", lambda self, rows=0: reads.append(rows))
    for memory in (COUNT * 60 + 20000, COUNT * 80 + 40000, None):
        again = plan_compact(faiss, opened, memory=memory, sample=sample)
        assert memory is None or again.nbytes <= memory
    assert not reads
    monkeypatch.undo()
    assert again == plan_compact(faiss, opened)
    with pytest.raises(UsageError, match="a sample of 32 directions"):
        plan_compact(faiss, opened, sample=PlanSample.of(opened, 32, 0))


def test_scores_are_exact_and_only_candidates_are_read(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = build_index(DescriptorStore.open(store), tmp_path / "index", "PCAR32,RaBitQ", rerank=True, shards=3)
    index = DescriptorIndex.open(tmp_path / "index", mmap=True)
    opened = DescriptorStore.open(store)
    rows, place = opened.load(), {name: row for row, name in enumerate(opened.names)}
    monkeypatch.setattr(DescriptorStore, "blocks", None)
    taken: list[int] = []
    take = DescriptorStore.take
    monkeypatch.setattr(DescriptorStore, "take", lambda self, rows: taken.append(len(rows)) or take(self, rows))
    names, scores = index.search(rows[:4], 5, space=SPACE)
    assert taken == [11 * card.search["rerank"]] * 4
    exact = [[rows[query] @ rows[place[name]] for name in found] for query, found in enumerate(names)]
    np.testing.assert_allclose(scores, exact, atol=1e-6)
    assert [found[0] for found in names] == opened.names[:4]
    assert (np.diff(scores, axis=1) <= 0).all()
    assert index.search(rows[:1], COUNT + 5, space=SPACE)[1].shape == (1, COUNT)


def test_an_index_grows_and_is_merged_with_the_stores_behind_it(store: Path, tmp_path: Path) -> None:
    more = write(tmp_path / "more", 700, 1, "more")
    first, second = DescriptorStore.open(store), DescriptorStore.open(more)
    for name, source in (("one", first), ("two", second)):
        build_index(source, tmp_path / name, "PCA64,SQ8", rerank=True)
    merge_indexes([tmp_path / "one", tmp_path / "two"], tmp_path / "merged")
    add_to_index(second, tmp_path / "one")
    for name in ("one", "merged"):
        index = DescriptorIndex.open(tmp_path / name)
        assert [item.count for item in index.card.exact] == [COUNT, 700]
        for source in (first, second):
            names, scores = index.search(source.load()[5:8], 1, space=SPACE)
            assert [found[0] for found in names] == source.names[5:8]
            np.testing.assert_allclose(scores, 1, atol=1e-5)
    build_index(second, tmp_path / "codes", "PCA64,SQ8")
    with pytest.raises(IncompatibleError, match="only one of these indexes is re-ranked"):
        merge_indexes([tmp_path / "two", tmp_path / "codes"], tmp_path / "mixed")


def test_a_store_that_moved_is_found_and_another_is_refused(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = write(tmp_path / "mine", 700, 1)
    build_index(DescriptorStore.open(mine), tmp_path / "index", "PCA64,SQ8", rerank=True)
    shutil.move(mine, tmp_path / "moved")
    search = ["search", str(tmp_path / "index"), "--store", str(tmp_path / "moved"), "-k", "1", "--json"]
    assert main(search) == 2
    assert "say where it is now with --exact" in capsys.readouterr().out
    assert main([*search, "--exact", str(tmp_path / "moved")]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert all(found[0]["image"] == query for query, found in results.items())
    with pytest.raises(StoreError, match="not the store that the index was built from"):
        DescriptorIndex.open(tmp_path / "index", exact=[store])
    with pytest.raises(UsageError, match="--exact names 2 stores"):
        DescriptorIndex.open(tmp_path / "index", exact=[store, store])
    for change in ({"exact": []}, {"search": {}}, {"count": 699}):
        path = tmp_path / "index" / "index.json"
        before = path.read_bytes()
        path.write_bytes(sealed_json(read_sealed(path) | change))
        with pytest.raises(StoreError):
            DescriptorIndex.open(tmp_path / "index", exact=[tmp_path / "moved"])
        path.write_bytes(before)


def test_auto_becomes_compact_where_codes_alone_would_fit(store: Path, tmp_path: Path) -> None:
    made = make_index(IndexRequest(tmp_path / "index", store=store, memory=COUNT * 40 + 30000))
    assert made.card.exact
    assert made.card.sizes[made.card.files[0]] <= COUNT * 40 + 30000
    large = make_index(IndexRequest(tmp_path / "large", store=store, memory=10**7))
    assert (large.card.factory, large.card.exact) == ("Flat", [])
    assert "exact" not in json.loads((tmp_path / "large" / "index.json").read_text())


BAD: list[tuple[Callable[[Path, Path], Any], type[GloamError], str]] = [
    (
        lambda s, t: make_index(IndexRequest(t, store=s, kind="sq8", memory=1000)),
        UsageError,
        "smallest index of kind sq8",
    ),
    (lambda s, t: make_index(IndexRequest(t, store=s, rerank=True)), UsageError, "--rerank goes with --factory"),
    (
        lambda s, t: make_index(IndexRequest(t, store=s, factory="PCA97,SQ8", rerank=True)),
        UsageError,
        "have no 97 directions",
    ),
    (lambda s, t: build_index(clustered(700), t, "SQ8", rerank=True), UsageError, "these descriptors are in none"),
    (lambda s, t: plan_compact(faiss, clustered(100)), DataError, "100 vectors are too few"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_what_cannot_be_is_one_line(
    call: Callable[[Path, Path], Any], error: type[GloamError], words: str, store: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words) as raised:
        call(store, tmp_path / "index")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "index").exists()


def test_exact_is_refused_where_nothing_is_re_ranked(store: Path, tmp_path: Path) -> None:
    build_index(DescriptorStore.open(store), tmp_path / "index")
    with pytest.raises(UsageError, match="leave out --exact"):
        DescriptorIndex.open(tmp_path / "index", exact=[store])
