"""What is chosen where FAISS has GPUs, and where it has none; on a GPU, the same neighbours."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import pytest

from gloam.errors import DeviceError, UsageError
from gloam.runtime.search.index import DescriptorIndex, build_index
from gloam.runtime.search.index.gpu import searched_on, trained_on
from tests.runtime.search.index.clustered import clustered

SPACE = "a" * 64
INNER_PRODUCT = faiss.METRIC_INNER_PRODUCT


class FakeGpus:
    """FAISS with two GPUs, which are copies on the CPU that are counted."""

    def __init__(self, refuse: bool = False) -> None:
        self.moved: list[Any] = []
        self.refuse = refuse
        self.StandardGpuResources = object
        self.GpuParameterSpace = faiss.ParameterSpace

    def get_num_gpus(self) -> int:
        return 2

    def index_cpu_to_all_gpus(self, index: Any) -> Any:
        if self.refuse:
            raise RuntimeError("Error in clone\nThis index type is not implemented on GPU.")
        self.moved.append(faiss.clone_index(index))
        return self.moved[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(faiss, name)


def test_the_k_means_of_cells_goes_to_every_gpu_and_leaves_nothing_behind() -> None:
    fake, source = FakeGpus(), clustered(800, 16)
    index = faiss.index_factory(16, "PCA8,IVF8,PQ4x4fs,RFlat", INNER_PRODUCT)
    with trained_on(fake, index, "auto") as where:  # type: ignore[arg-type]  # stands for the module
        index.train(source.rows)
    cells = faiss.extract_index_ivf(index)
    assert where == "2 GPU(s)"
    assert [(helper.d, helper.metric_type) for helper in fake.moved] == [(8, INNER_PRODUCT)]
    assert fake.moved[0].ntotal == 8  # the centroids were found there
    assert cells.clustering_index is None


def test_an_index_is_searched_where_it_was_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, fake = clustered(800, 16), FakeGpus()
    card = build_index(source, tmp_path, "IVF8,Flat", shards=2, recall=0.97)
    expected = DescriptorIndex.open(tmp_path).search(source.rows[:30], 5, space=SPACE)[0]
    monkeypatch.setattr("gloam.runtime.search.index.search.require", lambda *_: fake)
    index = DescriptorIndex.open(tmp_path, device="cuda")
    assert index.device == "2 GPU(s)"
    assert index.search(source.rows[:30], 5, space=SPACE)[0] == expected
    assert {faiss.extract_index_ivf(part).nprobe for part in fake.moved} == {card.search["nprobe"]}


def test_an_index_without_a_gpu_form_stays_where_auto_may_choose() -> None:
    fake: Any = FakeGpus(refuse=True)
    index = faiss.IndexHNSWFlat(8, 8, INNER_PRODUCT)
    kept, where = searched_on(fake, index, "auto")
    assert kept is index
    assert "not implemented on GPU" in where
    with pytest.raises(DeviceError, match="not implemented on GPU") as error:
        searched_on(fake, index, "cuda")
    assert "\n" not in str(error.value)
    with pytest.raises(DeviceError, match="k-means"), trained_on(fake, index, "cuda"):
        pass


def test_without_gpus_auto_says_why_and_cuda_is_refused() -> None:
    index = faiss.IndexFlatIP(8)
    no_classes: Any = SimpleNamespace()
    no_gpus: Any = SimpleNamespace(StandardGpuResources=object, get_num_gpus=lambda: 0)
    for module, why in ((no_classes, "no GPU classes"), (no_gpus, "sees no GPU")):
        assert why in searched_on(module, index, "auto")[1]
        with pytest.raises(DeviceError, match=why):
            searched_on(module, index, "cuda")
    assert searched_on(no_classes, index, "cpu") == (index, "CPU: as asked")
    with pytest.raises(UsageError, match="cpu, auto, cuda"):
        searched_on(no_classes, index, "tpu")


@pytest.mark.gpu
def test_on_a_gpu_training_and_search_find_the_same(tmp_path: Path) -> None:
    if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        pytest.skip("this FAISS has no GPU")
    source = clustered(4000, 32)
    build_index(source, tmp_path / "flat", shards=2)
    card = build_index(source, tmp_path / "cells", "IVF32,Flat", device="cuda", recall=0.95)
    assert "GPU" in card.training["device"]
    assert card.recall["recall@10"] >= 0.95
    for name in ("flat", "cells"):
        cpu, gpu = (DescriptorIndex.open(tmp_path / name, device=device) for device in ("cpu", "cuda"))
        found = [index.search(source.rows[:100], 10, space=SPACE) for index in (cpu, gpu)]
        same = [set(a) == set(b) for a, b in zip(found[0][0], found[1][0], strict=True)]
        assert sum(same) >= 99
        assert abs(found[0][1] - found[1][1]).max() < 1e-4
