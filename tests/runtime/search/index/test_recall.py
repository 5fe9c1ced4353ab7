"""The recall in the card is that of a plain comparison with every score, and the settings are the smallest that do."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from gloam.errors import UsageError
from gloam.runtime.search.index import DescriptorIndex, IndexCard, build_index
from gloam.runtime.search.index.recall import QUERIES, draw, search_settings
from tests.runtime.search.index.clustered import clustered
from tests.runtime.sources import MemorySource

SPACE = "a" * 64
CODES = "IVF16,PQ8x4fs,RFlat"


def plain_recall(source: MemorySource, folder: Path, k: int = 10) -> tuple[float, float]:
    """The twin: search for the same sample as anybody would, count who is among the exact k nearest."""
    card = DescriptorIndex.open(folder).card
    index = DescriptorIndex.open(folder)
    rows = draw(card.count, min(QUERIES, card.count), card.training.get("seed", 0) + 1)
    found, _ = index.search(source.rows[rows], k + 1, space=SPACE)
    at_k, at_1 = [], []
    for row, names in zip(rows, found, strict=True):
        scores = source.rows @ source.rows[row]
        scores[row] = -np.inf
        exact = [source.names[place] for place in np.argsort(-scores)[:k]]
        others = [name for name in names if name != source.names[row]][:k]
        at_k.append(len(set(others) & set(exact)) / k)
        at_1.append(others[:1] == exact[:1])
    return float(np.mean(at_k)), float(np.mean(at_1))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("factory", [CODES, "IVF16,Flat", "HNSW8", "PCA8,Flat"])
def test_the_card_states_what_a_plain_comparison_finds(tmp_path: Path, factory: str, shards: int) -> None:
    source = clustered(1500, 32)
    card = build_index(source, tmp_path, factory, shards=shards, recall=0.9)
    assert (card.recall["recall@10"], card.recall["recall@1"]) == pytest.approx(plain_recall(source, tmp_path))
    assert card.recall["queries"] == QUERIES
    assert card.recall["vectors"] == card.count


def test_the_smallest_setting_that_reaches_the_target_is_chosen(tmp_path: Path) -> None:
    source = clustered(1500, 32, noise=2.0)
    low, high = (build_index(source, tmp_path / str(target), "IVF16,Flat", recall=target) for target in (0.3, 0.97))
    assert low.search["nprobe"] < high.search["nprobe"]
    assert high.recall["recall@10"] >= 0.97
    index = DescriptorIndex.open(tmp_path / "0.97")
    smaller, _ = index.search(source.rows, 11, space=SPACE, nprobe=high.search["nprobe"] // 2)
    flat = build_index(source, tmp_path / "flat")
    exact, _ = DescriptorIndex.open(tmp_path / "flat").search(source.rows, 11, space=SPACE)
    share = np.mean([len(set(a) & set(b)) / 11 for a, b in zip(smaller, exact, strict=True)])
    assert share < 0.97
    assert flat.recall == flat.search == {}


def test_a_target_out_of_reach_takes_the_best(tmp_path: Path) -> None:
    card = build_index(clustered(1500, 32), tmp_path, "IVF16,PQ8x4fs", recall=1.0)
    assert card.recall["recall@10"] < 1
    assert card.recall["target"] == 1


def test_a_search_uses_the_settings_of_the_card(tmp_path: Path) -> None:
    source = clustered(1500, 32, noise=2.0)
    card = build_index(source, tmp_path, "IVF16,Flat", recall=0.97)
    assert card.search["nprobe"] > 1
    index = DescriptorIndex.open(tmp_path)
    every = index.search(source.rows[:50], 10, space=SPACE)[0]
    assert index.search(source.rows[:50], 10, space=SPACE, nprobe=card.search["nprobe"])[0] == every
    assert index.search(source.rows[:50], 10, space=SPACE, nprobe=1)[0] != every
    assert index.search(source.rows[:50], 10, space=SPACE)[0] == every  # what one search asked for does not stay


def test_few_results_are_found_as_well_as_many(tmp_path: Path) -> None:
    build_index(clustered(1500, 32, noise=2.0), tmp_path, "IVF16,PQ8x4fs,RFlat", recall=0.2)
    index, queries = DescriptorIndex.open(tmp_path), clustered(200, 32, 9, noise=2.0).rows
    assert index.card.search["k_factor_rf"] == 2
    one, ten = (index.search(queries, k, space=SPACE) for k in (1, 10))
    assert [row[0] for row in one[0]] == [row[0] for row in ten[0]]
    assert np.array_equal(one[1], ten[1][:, :1])


def test_equal_vectors_count_alike(tmp_path: Path) -> None:
    source = clustered(60, 8)
    source.rows[:] = source.rows[0]
    card = build_index(source, tmp_path, "HNSW8")
    assert card.recall["recall@10"] == 1


def test_settings_from_cheap_to_dear() -> None:
    settings = search_settings(faiss, faiss.index_factory(32, CODES, faiss.METRIC_INNER_PRODUCT))
    assert settings[0] == {"nprobe": 1, "k_factor_rf": 2}
    assert settings[-1] == {"nprobe": 16, "k_factor_rf": 16}
    assert search_settings(faiss, faiss.IndexFlatIP(8)) == [{}]


def test_small_stores(tmp_path: Path) -> None:
    cards: list[IndexCard] = [build_index(clustered(n, 8), tmp_path / str(n), "HNSW8") for n in (1, 2, 5)]
    assert cards[0].recall == {}
    assert cards[1].recall["recall@1"] == 1
    assert "recall@4" in cards[2].recall


def test_a_recall_that_cannot_be_is_refused(tmp_path: Path) -> None:
    for recall in (0.0, 1.5):
        with pytest.raises(UsageError, match="recall"):
            build_index(clustered(10, 8), tmp_path, recall=recall)
