import dataclasses
import json

import numpy as np
import pytest
import torch

from gloam.errors import StoreError
from gloam.networks.checkpoints import load_checkpoint
from gloam.training.embedders.street_config import fill_config
from gloam.training.embedders.street_train import TrainConfig, cached_places, render_places, train_embedder
from tests.training.embedders.synthetic import pattern_views

TINY = TrainConfig(
    network_options={"width": 8},
    epochs=1,
    batches_per_epoch=2,
    batch_places=3,
    images_per_place=2,
    negatives=2,
    street_seeds=(901, 902),
    validation_seed=903,
    places=2,
    views_per_place=2,
    conditions=("day", "night"),
    width=64,
    height=48,
    threads=1,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gloam.data.town.training_views.render_training_views", pattern_views)
        return folder, train_embedder(TINY, folder)


def test_writes_weights_and_a_record_of_what_they_came_from(trained):
    folder, summary = trained
    record = json.loads((folder / "train.json").read_text())
    assert fill_config(record["config"], "train.json") == TINY
    assert record["weights_sha256"] == summary.weights_sha256
    assert [item["epoch"] for item in record["history"]] == [0, 1]
    assert {"gloam", "python", "torch", "numpy"} <= set(record["versions"])
    loaded = load_checkpoint(folder / "embedder.safetensors")
    assert loaded.model.name == "gem_resnet18"
    assert loaded.provenance["recipe"] == "town"
    assert loaded.provenance["weights_sha256"] == summary.weights_sha256


def test_a_finished_run_is_read_and_gives_the_same_weights(trained, monkeypatch):
    folder, summary = trained
    before = (folder / "embedder.safetensors").read_bytes()
    (folder / "embedder.safetensors").unlink()
    monkeypatch.setattr("gloam.training.embedders.street_train.render_places", lambda *_: pytest.fail("rendered again"))
    assert train_embedder(TINY, folder).weights_sha256 == summary.weights_sha256
    assert (folder / "embedder.safetensors").read_bytes() == before


def test_labels_of_different_streets_differ(trained):
    places = cached_places(TINY.street_seeds, TINY, trained[0])
    assert places.images.shape == (8, 48, 64, 3)
    assert places.places.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert set(places.conditions) == {"day", "night"}
    assert len(set(places.names)) == 8


def test_a_broken_cache_is_named(trained, tmp_path):
    for file in trained[0].glob("views-*.npz"):
        (tmp_path / file.name).write_bytes(file.read_bytes()[:500])
    with pytest.raises(StoreError, match=r"views-\w+\.npz: not readable"):
        train_embedder(TINY, tmp_path)


def test_the_seed_decides_the_weights(trained, tmp_path):
    for file in trained[0].glob("views-*.npz"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    other = train_embedder(dataclasses.replace(TINY, seed=1), tmp_path)
    assert other.weights_sha256 != trained[1].weights_sha256
    assert np.isfinite(other.validation_mAP)
    assert all(torch.isfinite(value).all() for value in load_checkpoint(other.weights).model.state_dict().values())


def test_a_real_street_is_rendered_under_its_conditions():
    found = render_places((901,), dataclasses.replace(TINY, places=3))
    assert found.images.shape == (6, 48, 64, 3)
    assert found.conditions == ("day", "night") * 3
    brightness = found.images.reshape(3, 2, -1).mean(axis=2)
    assert (brightness[:, 0] > 1.2 * brightness[:, 1]).all()
