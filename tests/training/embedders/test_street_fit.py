import dataclasses

import numpy as np
import pytest
import torch

from gloam.errors import DivergenceError, StoreError
from gloam.networks.embedders import create_embedder
from gloam.training.embedders.augmentation import augment_places
from gloam.training.embedders.street_config import TrainConfig
from gloam.training.embedders.street_fit import STATE_FILE, describe, fit, make_optimizer
from tests.training.embedders.synthetic import pattern_places

TINY = TrainConfig(
    network_options={"width": 8},
    epochs=3,
    batches_per_epoch=4,
    batch_places=6,
    images_per_place=4,
    negatives=3,
    conditions=("day", "night"),
    width=64,
    height=64,
    threads=1,
)


@pytest.fixture(scope="module")
def places():
    return pattern_places(1), pattern_places(2)


@pytest.fixture(scope="module")
def straight(places, tmp_path_factory):
    return fit(TINY, *places, tmp_path_factory.mktemp("straight"))


def test_training_lowers_the_loss_and_beats_the_untrained_network(tmp_path):
    config = dataclasses.replace(TINY, epochs=8, batches_per_epoch=10, augment=False)
    fitted = fit(config, pattern_places(1, places=16), pattern_places(2), tmp_path)
    losses = [record["loss"] for record in fitted.history[1:]]
    assert losses[-1] < losses[0] / 2
    scores = [record["validation_mAP"] for record in fitted.history]
    assert scores[fitted.best_epoch] == max(scores[1:])
    assert scores[fitted.best_epoch] > scores[0] + 0.2  # measured 0.69 against 0.20
    assert scores[fitted.best_epoch] > fitted.chance_mAP + 0.2
    assert fitted.queries == 16


def test_killed_and_resumed_equals_uninterrupted(places, straight, tmp_path):
    class Killed(Exception):
        pass

    def kill(line):
        if line.startswith("epoch 1/"):
            raise Killed

    with pytest.raises(Killed):
        fit(TINY, *places, tmp_path, say=kill)
    lines = []
    resumed = fit(TINY, *places, tmp_path, say=lines.append)
    assert lines[0] == "carrying on after epoch 1 of 3"
    assert len(lines) == 3
    for key, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
    for one, other in zip(straight.history, resumed.history, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    again = fit(TINY, *places, tmp_path)  # finished: nothing is trained
    assert again.best_epoch == straight.best_epoch
    assert torch.equal(again.model.pool.p, straight.model.pool.p)


def test_the_state_of_another_run_is_refused(places, tmp_path):
    config = dataclasses.replace(TINY, epochs=1)
    fit(config, *places, tmp_path)
    with pytest.raises(StoreError, match="another configuration"):
        fit(dataclasses.replace(config, margin=0.8), *places, tmp_path)
    (tmp_path / STATE_FILE).write_bytes(b"half a file")
    with pytest.raises(StoreError, match="not readable"):
        fit(config, *places, tmp_path)


def test_divergence_names_step_and_images(places, tmp_path):
    with pytest.raises(
        DivergenceError, match=r"epoch 1, step \d+ of 4 \(first images of its places: 1/|descriptor of \d/"
    ):
        fit(dataclasses.replace(TINY, learning_rate=1e30), *places, tmp_path)
    assert not (tmp_path / STATE_FILE).exists()


def test_p_learns_faster_and_is_not_decayed():
    groups = make_optimizer(TINY, create_embedder("gem_resnet18", width=8)).param_groups
    assert [group["factor"] for group in groups] == [1.0, 10.0]
    assert [group["weight_decay"] for group in groups] == [5e-4, 0.0]
    assert len(groups[1]["params"]) == 1


def test_training_descriptors_are_those_of_the_exported_entry(places):
    torch.manual_seed(0)
    model = create_embedder("gem_resnet18", width=8).eval()
    train = places[0]
    x = torch.from_numpy(train.images).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(model.mean).view(3, 1, 1)) / torch.tensor(model.std).view(3, 1, 1)
    with torch.no_grad():
        assert np.abs(model(x).numpy() - describe(model, train)).max() < 1e-5


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
