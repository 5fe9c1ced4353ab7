"""Random weights of every family tell images apart: a control that a trained network has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.shared.tiny import HEADED, TRANSFORMERS
from gloam.data.images import resize_image
from gloam.data.town import TrainingViews, render_training_views
from gloam.export.random_weights import settle_random_weights
from gloam.networks.embedders import EMBEDDERS, EmbedderNetwork, create_embedder
from tests.golden.record import SMALL

SIZE = (128, 96)
# Of a dozen values, random ones, two descriptors are near each other by chance.
WIDER: dict[str, dict[str, Any]] = {
    "mixvpr": {"width": 16, "side": 96, "channels": 64, "rows": 4},
    "boq_resnet50": {"width": 16, "resize": "96x96", "head_width": 64, "queries": 16, "rows": 8},
}
POOLED = {
    f"{pooling}_{network}": SMALL[f"gem_{network}"]
    for pooling in ("mac", "spoc", "rmac")
    for network in ("vgg16", "resnet101")
}
OPTIONS = SMALL | TRANSFORMERS | HEADED | WIDER | POOLED


@pytest.fixture(scope="module")
def statistics() -> np.ndarray:
    return np.stack(render_training_views(907, places=8, views_per_place=2, size=SIZE).images)


@pytest.fixture(scope="module")
def hours() -> TrainingViews:
    """A street that is not the one of the statistics, by all hours."""
    return render_training_views(911, 8, 4, size=SIZE)


@pytest.fixture(scope="module")
def days() -> TrainingViews:
    return render_training_views(911, 10, 4, ("day",), SIZE)


def settled(name: str, seed: int, statistics: np.ndarray) -> EmbedderNetwork:
    torch.manual_seed(seed)
    model = create_embedder(name, **OPTIONS.get(name, {}))
    settle_random_weights(model, statistics)
    return model


def test_a_network_of_larger_images_settles_on_them() -> None:
    model = create_embedder("megaloc", **{**TRANSFORMERS["megaloc"], "depth": 1, "clusters": 64})
    assert model.smallest_side == 126
    settle_random_weights(model)
    assert not model.training


def cosines(model: EmbedderNetwork, views: TrainingViews) -> np.ndarray:
    images = np.stack([resize_image(image, model.input_rule) for image in views.images])
    with torch.no_grad():
        rows = model.describe_uint8(torch.from_numpy(images)).double().numpy()
    return np.asarray(rows @ rows.T)


def mean_precision(similarity: np.ndarray, places: np.ndarray) -> float:
    """mAP of finding the other images of each image's place."""
    found = []
    for row, values in enumerate(similarity):
        order = [other for other in np.argsort(-values, kind="stable") if other != row]
        right = places[order] == places[row]
        found.append((np.cumsum(right) / np.arange(1, len(order) + 1))[right].mean())
    return float(np.mean(found))


@pytest.mark.parametrize("name", EMBEDDERS)
def test_different_images_have_different_descriptors(
    name: str, statistics: np.ndarray, hours: TrainingViews, days: TrainingViews
) -> None:
    models = [settled(name, seed, statistics) for seed in (0, 1)]
    for model in models:
        between = cosines(model, hours)[~np.eye(len(hours.images), dtype=bool)]
        assert np.isfinite(between).all()
        assert between.mean() < 0.99
    random = np.random.default_rng(0)
    chance = np.mean([mean_precision(random.random((40, 40)), days.places) for _ in range(20)])
    assert np.mean([mean_precision(cosines(model, days), days.places) for model in models]) > chance + 0.01


def test_the_same_seed_gives_the_same_weights(statistics: np.ndarray) -> None:
    first, second = (settled("gem_mobilenet_v2", 3, statistics) for _ in range(2))
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert not first.training


def test_an_image_decides_more_than_torch_s_own_weights_let_it(statistics: np.ndarray, hours: TrainingViews) -> None:
    torch.manual_seed(0)
    raw = cosines(create_embedder("gem_mobilenet_v2").eval(), hours).mean()
    assert cosines(settled("gem_mobilenet_v2", 0, statistics), hours).mean() < raw < 1.001
