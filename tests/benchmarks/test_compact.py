"""The benchmark of compact indexes at a toy size: its spectrum, its places, and that it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compact
from gloam.errors import UsageError
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.search.index import DescriptorIndex

DIMENSION = 96


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Descriptors ``[pictures, crops, 64]`` of a power law of 1, a quarter of the variance within a picture."""
    rng = np.random.default_rng(0)
    scale = np.arange(1, 65) ** -0.5
    whole = rng.normal(size=(3000, 1, 64)) * np.sqrt(0.75) + rng.normal(size=(3000, 4, 64)) * np.sqrt(0.25)
    return (3 * np.eye(64)[5] + whole * scale).astype(np.float32)


@pytest.fixture(scope="module")
def truth(rows: np.ndarray) -> compact.Spectrum:
    return compact.carried_on(rows, DIMENSION, 40, (4, 40))


def test_the_spectrum_is_that_of_the_descriptors_and_goes_on_by_its_power_law(truth: compact.Spectrum) -> None:
    expected = 1 / np.arange(1, DIMENSION + 1)
    np.testing.assert_allclose(truth.between + truth.within, expected, rtol=0.15)
    np.testing.assert_allclose(truth.within, expected / 4, rtol=0.2)
    assert truth.mean == pytest.approx(9, rel=0.05)
    assert truth.said["power law of ranks 4 to 40"] == pytest.approx(1, abs=0.05)
    assert truth.said["within a photograph, of the variance of those ranks"] == pytest.approx(0.25, abs=0.02)
    assert compact.exponent(np.arange(1, 50, dtype=float) ** -1.7, 3, 40) == pytest.approx(1.7)


def test_views_of_a_place_are_near_and_queries_are_other_views(truth: compact.Spectrum) -> None:
    names, images, queries = compact.views(truth, 3, 500, 20)
    again = compact.views(truth, 3, 500, 20)
    assert names == again[0]
    assert np.array_equal(images, again[1])
    assert not np.array_equal(images, compact.views(truth, 4, 500, 20)[1])
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([images, queries]), axis=1), 1, atol=1e-5)
    place = np.array([name.partition("/")[0] for name in names])
    nearest = (images @ images.T - 2 * np.eye(500)).argmax(axis=1)
    assert (place[nearest] == place).mean() > 0.5
    scores = queries @ images.T
    assert scores.max() < 0.9999
    sizes = np.unique(place, return_counts=True)[1]
    assert len(names) == len(set(names))
    assert (sizes[:-1] >= compact.VIEWS[0]).all()
    assert (sizes <= compact.VIEWS[1]).all()
    covariance = np.cov(images.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() > 0.05 * np.diag(covariance).max()  # turned


def test_a_toy_run_measures_what_it_says_and_goes_on(
    truth: compact.Spectrum, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOAM_BENCH_RUNS", str(tmp_path))
    monkeypatch.setenv("GLOAM_COMPACT_SIZES", "1500,2500")
    monkeypatch.setattr(compact, "SHARD", 1000)
    monkeypatch.setattr(compact, "spectrum", lambda folder: truth)
    monkeypatch.setattr(compact, "BUDGETS", (10, 60, 80, 100, 200))
    result = compact.run()
    for count in (1500, 2500):
        found = result.detail["sizes"][str(count)]
        chosen = found["chosen"]
        assert 10 not in found["predicted by budget, bytes an image"]
        assert chosen["recall@10"] >= 0.95
        assert chosen["bytes, error of the model"] < 0.05
        assert chosen["bytes an image"] <= chosen["memory, bytes an image"]
        folder = next(tmp_path.glob(f"compact/{count}-*"))
        store = DescriptorStore.open(folder / "store")
        queries = np.concatenate([np.load(path) for path in sorted((folder / "queries").iterdir())])
        exact = np.sort(queries @ store.load().T, axis=1)[:, -10]
        index = DescriptorIndex.open(next(folder.glob(f"memory-{chosen['memory'] // count}-*")) / "index")
        _, scores = index.search(queries, 10, space=store.space)
        assert chosen["recall@10"] == pytest.approx((scores >= exact[:, None] - 1e-6).mean(), abs=0.01)
    assert result.value == max(row["chosen"]["bytes an image"] for row in result.detail["sizes"].values())
    assert result.met is False  # other sizes than those that are judged
    monkeypatch.setattr(compact, "make_index", None)
    monkeypatch.setattr(compact, "views", None)
    again = compact.run()
    assert again.value == result.value
    assert [row["chosen"] for row in again.detail["sizes"].values()] == [
        row["chosen"] for row in result.detail["sizes"].values()
    ]
    json.dumps(result.detail)


def test_sizes_that_are_no_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOAM_COMPACT_SIZES", "many")
    with pytest.raises(UsageError, match="numbers of images and commas"):
        compact.run()
