"""Training of SALAD and BoQ on a DINOv2 of which only the last blocks learn."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.data.sources import ImageItem
from gloam.errors import UsageError
from gloam.networks.checkpoints import load_checkpoint, save_checkpoint
from gloam.networks.embedders import EmbedderNetwork, create_embedder
from gloam.training.embedders.config import MetricConfig, read_metric_recipe
from gloam.training.embedders.epochs import make_optimizer
from gloam.training.embedders.train import initial_model, train_metric
from gloam.training.train import train
from tests.training.embedders.synthetic import pattern_places

BACKBONE: dict[str, Any] = {"width": 16, "depth": 3, "heads": 2, "table": 4}
HEADS: dict[str, dict[str, Any]] = {
    "salad_dinov2": {"clusters": 4, "cluster_dimension": 8, "token": 8, "hidden": 16},
    "boq_dinov2": {"head_width": 16, "queries": 6, "rows": 3, "resize": None},
}
RECIPES = {"town_salad": "salad_dinov2", "town_boq": "boq_dinov2"}


def config_of(network: str, **changes: Any) -> MetricConfig:
    options = {**BACKBONE, **HEADS[network], "trained_blocks": 1}
    given: dict[str, Any] = {
        "network": network,
        "network_options": options,
        "negatives_from": "batch",
        "batch_places": 8,
        "images_per_place": 4,
        "negatives": 3,
        "loss": "multi_similarity",
        "margin": 0.1,
        "epochs": 4,
        "tuples": 320,
        "learning_rate": 3e-3,
        "weight_decay": 0.0,
        "photometric": "none",
        "validate_every": 4,
        "select": "mAP",
        "device": "cpu",
        "workers": 0,
        "threads": 1,
    }
    return MetricConfig(**{**given, **changes})


def place_set(seed: int) -> RetrievalSet:
    found = pattern_places(seed, 8, 2, ("day", "night"), 56, 42)
    rows = np.arange(len(found))
    return RetrievalSet(
        tuple(ImageItem(name, Path("/nowhere") / name) for name in found.names),
        found.places,
        rows,
        rows // 4 * 4 + (rows + 1) % 4,
        found.conditions,
        tuple(found.images),
    )


def learns(key: str) -> bool:
    return not key.startswith("features.") or key.startswith(("features.blocks.2.", "features.norm."))


def moved(before: EmbedderNetwork, after: EmbedderNetwork) -> set[str]:
    trained = after.state_dict()
    return {key for key, value in before.state_dict().items() if not torch.equal(value, trained[key])}


@pytest.mark.parametrize("network", HEADS)
def test_the_loss_falls_and_frozen_blocks_stay(network: str, tmp_path: Path) -> None:
    config = config_of(network)
    torch.manual_seed(config.seed)
    before = initial_model(config)
    summary = train_metric(config, place_set(1), place_set(2), tmp_path)
    losses = [record["loss"] for record in summary.history[1:]]
    assert losses[-1] < losses[0] - 0.02  # measured 0.04 and 0.18
    after = load_checkpoint(summary.weights).model
    changed = moved(before, after)
    assert {key for key in changed if not learns(key)} == set()
    # A bias of keys moves no softmax, and that of all cells' values is normalised away: not all of them need move.
    assert any(key.startswith("features.blocks.2.") for key in changed)
    assert any(key.startswith("pool.") for key in changed)
    assert after.features.options["trained_blocks"] == 1  # type: ignore[union-attr]  # a DinoV2


@pytest.mark.parametrize("network", HEADS)
def test_no_gradient_is_kept_of_frozen_blocks(network: str) -> None:
    config = config_of(network)
    model = initial_model(config).train()
    held = {id(parameter) for group in make_optimizer(config, model).param_groups for parameter in group["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in held}
    assert names == {name for name, _ in model.named_parameters() if learns(name)}
    inputs: list[bool] = []
    for block in model.features.blocks:  # type: ignore[union-attr]  # a DinoV2
        block.register_forward_hook(lambda module, given, found: inputs.append(found.requires_grad))
    model(model.normalize(torch.zeros(2, 42, 56, 3, dtype=torch.uint8)))
    assert inputs == [False, False, True]


def test_killed_and_resumed_drops_the_same_as_uninterrupted(tmp_path: Path) -> None:
    """SALAD's dropout is drawn by what is done, whatever ran before in the process."""

    class Killed(Exception):
        pass

    def kill(line: str) -> None:
        if line.startswith("epoch 1/"):
            raise Killed

    config, sets = config_of("salad_dinov2", epochs=2, tuples=64), (place_set(1), place_set(2))
    straight = train_metric(config, *sets, tmp_path / "straight")
    with pytest.raises(Killed):
        train_metric(config, *sets, tmp_path / "parts", say=kill)
    torch.manual_seed(99)
    resumed = train_metric(config, *sets, tmp_path / "parts")
    assert resumed.weights_sha256 == straight.weights_sha256
    other = train_metric(dataclasses.replace(config, seed=1), *sets, tmp_path / "other")
    assert other.weights_sha256 != straight.weights_sha256


@pytest.mark.parametrize("network", HEADS)
def test_a_head_begins_on_an_imported_backbone(network: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    backbone = create_embedder("dinov2_vits14", **BACKBONE)
    file = tmp_path / "dinov2.safetensors"
    save_checkpoint(file, backbone, {})
    config = config_of(network)
    model = initial_model(config, file)
    assert model.name == network
    for key, value in model.state_dict().items():
        if key.startswith("features."):
            assert torch.equal(value, backbone.state_dict()[key])
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        name for name, _ in model.named_parameters() if learns(name)
    }
    other = dataclasses.replace(config, network_options={**config.network_options, "depth": 2})
    with pytest.raises(UsageError, match=r"has depth 3, the recipe's 2; set network_options\.depth to 3"):
        initial_model(other, file)
    with pytest.raises(UsageError, match="holds dinov2_vits14, the recipe trains gem_resnet18"):
        initial_model(MetricConfig(network="gem_resnet18"), file)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_train_the_last_blocks_with_the_published_loss(recipe: str) -> None:
    config = read_metric_recipe(recipe)
    assert (config.network, config.loss, config.margin) == (RECIPES[recipe], "multi_similarity", 0.1)
    model = initial_model(config)
    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[2] for name in fixed if name.startswith("features.blocks.")} == {"0", "1"}
    assert model.features.options["depth"] == 4  # type: ignore[union-attr]  # a DinoV2
    for side in config.data.train["size"]:
        assert side % model.cell == 0


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_beat_the_untrained_network_on_held_out_streets(recipe: str, tmp_path: Path) -> None:
    summary = train("metric", recipe, {"threads": 1}, tmp_path / recipe, views=tmp_path / "views")
    assert summary.validation["mAP"] > 1.5 * summary.untrained["mAP"]
    assert summary.validation["mAP"] > 2 * summary.validation["chance_mAP"]
