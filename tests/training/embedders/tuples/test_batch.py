import dataclasses

import numpy as np
import pytest
import torch

from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.data.sources import ImageItem
from gloam.errors import DataError, DivergenceError
from gloam.model_card import Photometric
from gloam.networks.checkpoints import load_checkpoint
from gloam.networks.embedders import create_embedder
from gloam.training.embedders.augmentation import augment_places
from gloam.training.embedders.config import MetricConfig
from gloam.training.embedders.epochs import make_optimizer
from gloam.training.embedders.train import train_metric
from gloam.training.embedders.tuples.batch import batch_losses, draw_batch
from gloam.training.embedders.tuples.images import TupleImages
from tests.training.embedders.synthetic import pattern_places

TINY = MetricConfig(
    network="gem_resnet18",
    network_options={"width": 8},
    negatives_from="batch",
    batch_places=6,
    images_per_place=4,
    augment=True,
    negatives=3,
    epochs=3,
    tuples=96,
    learning_rate=3e-3,
    learning_rate_decay=0.9,
    freeze_batch_norm=False,
    photometric="none",
    validate_every=1,
    select="mAP",
    query_condition="night",
    map_condition="day",
    device="cpu",
    workers=0,
    threads=1,
)


def place_set(seed, places=8):
    found = pattern_places(seed, places)
    rows = np.arange(len(found))
    return RetrievalSet(
        tuple(ImageItem(name, f"/nowhere/{name}") for name in found.names),
        found.places,
        rows,
        rows // 4 * 4 + (rows + 1) % 4,
        found.conditions,
        tuple(found.images),
    )


def test_training_lowers_the_loss_and_beats_the_untrained_network(tmp_path):
    config = dataclasses.replace(TINY, epochs=8, tuples=240, augment=False)
    summary = train_metric(config, place_set(1, 16), place_set(2), tmp_path)
    losses = [record["loss"] for record in summary.history[1:]]
    assert losses[-1] < losses[0] / 2
    assert summary.history[1]["tuples"] == 240
    assert summary.history[-1]["updates"] == 80
    scores = [record["validation"]["mAP"] for record in summary.history]
    assert scores[summary.best_epoch] == max(scores[1:])
    assert scores[summary.best_epoch] > scores[0] + 0.2  # measured 0.69 against 0.20
    assert scores[summary.best_epoch] > summary.validation["chance_mAP"] + 0.2
    assert summary.validation["queries"] == 16


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    class Killed(Exception):
        pass

    def kill(line):
        if line.startswith("epoch 1/"):
            raise Killed

    sets = place_set(1), place_set(2)
    straight = train_metric(TINY, *sets, tmp_path / "straight")
    with pytest.raises(Killed):
        train_metric(TINY, *sets, tmp_path / "parts", say=kill)
    lines = []
    resumed = train_metric(TINY, *sets, tmp_path / "parts", say=lines.append)
    assert lines[0] == "carrying on after epoch 1 of 3"
    assert len(lines) == 3
    assert resumed.weights_sha256 == straight.weights_sha256
    for one, other in zip(straight.history, resumed.history, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


def test_the_kept_weights_are_settled_on_all_training_images(tmp_path):
    train = place_set(1)
    summary = train_metric(TINY, train, place_set(2), tmp_path)
    model = load_checkpoint(summary.weights).model
    first = next(part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d))
    seen = []
    hook = first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.inference_mode():
        model.describe_uint8(torch.from_numpy(np.stack(train.pixels)))
    hook.remove()
    torch.testing.assert_close(first.running_mean, seen[0].mean(dim=(0, 2, 3)), atol=1e-5, rtol=1e-4)


def test_divergence_names_epoch_and_images(tmp_path):
    config = dataclasses.replace(TINY, learning_rate=1e30)
    with pytest.raises(DivergenceError, match=r"at epoch 1, step \d+ \(anchors 1/|descriptor of \d/") as raised:
        train_metric(config, place_set(1), place_set(2), tmp_path)
    assert "\n" not in str(raised.value)


def test_p_learns_faster_and_is_not_decayed():
    groups = make_optimizer(TINY, create_embedder("gem_resnet18", width=8)).param_groups
    assert [group["factor"] for group in groups] == [1.0, 10.0]
    assert [group["weight_decay"] for group in groups] == [5e-4, 0.0]
    assert [group["lr"] for group in groups] == [TINY.learning_rate, 10 * TINY.learning_rate]
    assert len(groups[1]["params"]) == 1


def test_the_images_of_a_batch_are_of_one_size():
    whole = place_set(1)
    cut = dataclasses.replace(whole, pixels=(*whole.pixels[:-1], whole.pixels[-1][:40]))
    config = dataclasses.replace(TINY, batch_places=8)
    model = create_embedder("gem_resnet18", width=8)
    with TupleImages([cut], Photometric(), 64) as images, pytest.raises(DataError, match=r"needs images of one size"):
        list(batch_losses(config, model, torch.device("cpu"), cut, images, 1))


def test_augmentation_mirrors_whole_places_and_keeps_range():
    ramp = torch.linspace(0.2, 0.8, 32).expand(20, 4, 3, 24, 32).contiguous()
    found = augment_places(ramp, torch.Generator().manual_seed(0))
    assert found.shape == ramp.shape
    assert 0 <= found.min() <= found.max() <= 1
    rises = (found[..., -1] > found[..., 0]).flatten(1).all(1)
    falls = (found[..., -1] < found[..., 0]).flatten(1).all(1)
    assert (rises | falls).all()  # every image of a place agrees
    assert 4 < rises.sum() < 16
    assert torch.equal(found, augment_places(ramp, torch.Generator().manual_seed(0)))


def test_a_batch_has_different_images_of_different_places():
    places = np.array([0, 0, 0, 1, 1, 2, 5, 5])  # place 2 is seen once
    random = np.random.default_rng(0)
    for _ in range(20):
        rows = draw_batch(places, 3, 2, random)
        assert (places[rows] == places[rows][:, :1]).all()
        assert sorted(places[rows][:, 0]) == [0, 1, 5]
        assert len(set(rows.ravel())) == 6


def test_the_same_seed_draws_the_same_batch():
    places = np.repeat(np.arange(9), 3)
    first = draw_batch(places, 4, 2, np.random.default_rng(4))
    assert np.array_equal(first, draw_batch(places, 4, 2, np.random.default_rng(4)))
    assert not np.array_equal(first, draw_batch(places, 4, 2, np.random.default_rng(5)))


def test_too_few_places_are_refused():
    with pytest.raises(DataError, match="needs 3 places of 2 images each, but only 1 of 4"):
        draw_batch(np.array([0, 1, 2, 3, 3]), 3, 2, np.random.default_rng(0))
