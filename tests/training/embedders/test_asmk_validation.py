"""The best epoch of HOW by ASMK: places that local features tell apart are found, other networks are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.data.sources import ImageItem
from gloam.errors import UsageError
from gloam.model_card import Photometric
from gloam.networks.embedders import create_embedder
from gloam.training.embedders.asmk_validation import asmk_mAP
from gloam.training.embedders.config import MetricConfig
from gloam.training.embedders.epochs import _better
from gloam.training.embedders.how_init import whiten_cells
from gloam.training.embedders.tuples.images import TupleImages
from gloam.training.embedders.validation import Validation, validation_truth

PLACES = 4


@pytest.fixture(scope="module")
def views() -> RetrievalSet:
    """Two views of each place, in patterns of its own."""
    random = np.random.default_rng(0)
    pixels, clusters = [], []
    for place in range(PLACES):
        pattern = np.kron(random.integers(0, 256, (3, 4, 3), np.uint8), np.ones((32, 32, 1), np.uint8))
        for _ in range(2):
            noise = random.integers(-3, 4, pattern.shape)
            pixels.append((pattern + noise).clip(0, 255).astype(np.uint8))
            clusters.append(place)
    images = tuple(ImageItem(f"{row}", Path(f"{row}")) for row in range(len(pixels)))
    first = np.arange(0, len(pixels), 2)
    return RetrievalSet(images, np.array(clusters), first, first + 1, pixels=tuple(pixels))


def test_places_are_found_by_local_features_and_other_networks_refused(views: RetrievalSet) -> None:
    config = MetricConfig(select="ASMK", asmk_words=8, asmk_images=6, asmk_features=50)
    torch.manual_seed(0)
    network = create_embedder("how_resnet18", width=8, dimension=16)
    whiten_cells(network, (torch.from_numpy(image)[None] for image in views.pixels or ()), 10_000)
    with TupleImages([views], Photometric(), 128) as images:
        asked = validation_truth(config, views)
        found = asmk_mAP(config, network, torch.device("cpu"), images, images, *asked)
        assert 0.8 < found <= 1.0
        with pytest.raises(UsageError, match="select ASMK is for HOW networks, not for gem_resnet18"):
            asmk_mAP(config, create_embedder("gem_resnet18", width=4), torch.device("cpu"), images, images, *asked)


def test_the_best_epoch_is_that_of_the_highest_figure() -> None:
    low, high = Validation(0.1, 0.9, 0.0, 1, 0.2).to_dict(), Validation(0.2, 0.8, 0.0, 1, 0.3).to_dict()
    assert _better("ASMK", high, low)
    assert not _better("loss", high, low)
    assert not _better("mAP", high, low)
    assert "asmk_mAP" not in Validation(0.1, 0.9, 0.0, 1).to_dict()


def test_runs_by_loss_or_map_are_what_they_were() -> None:
    assert not [name for name in MetricConfig().trajectory() if name.startswith("asmk")]
    assert MetricConfig(select="ASMK").trajectory()["asmk_words"] == 65536
    with pytest.raises(UsageError, match="asmk_images 0: must be at least 1"):
        MetricConfig(asmk_images=0)
