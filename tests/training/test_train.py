"""One call trains any kind; what it writes is what the kind's own function writes."""

import json

import pytest
import torch

from gloam.data.retrieval_sets.sets import read_retrieval_set
from gloam.errors import ModelError, StoreError, UsageError
from gloam.networks.checkpoints import load_checkpoint, save_checkpoint
from gloam.networks.translators import create_generator
from gloam.training.embedders.config import read_metric_recipe
from gloam.training.embedders.train import train_metric
from gloam.training.train import KINDS, train
from tests.training.embedders.synthetic import pattern_views

STREET = {"kind": "town", "places": 4, "views_per_place": 2, "conditions": ["day", "night"], "size": [64, 48]}
DATA = {"train": {**STREET, "seeds": [901, 902]}, "validation": {**STREET, "seeds": [903]}}
BATCH = {"tuples": 6, "batch_places": 3, "images_per_place": 2}
TINY = {"network_options": {"width": 8}, "epochs": 1, "tuples": 8, "negatives": 2, "threads": 1, "data": DATA}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("gloam.data.retrieval_sets.streets.render_training_views", pattern_views)


def test_an_embedder_is_a_recipe_of_metric_learning(tmp_path):
    changes = {**TINY, **BATCH}
    made = train("embedder", "town", changes, tmp_path / "one")
    config = read_metric_recipe("town", changes, kind="embedder")
    sets = (read_retrieval_set(**part) for part in DATA.values())
    assert made.weights_sha256 == train_metric(config, *sets, tmp_path / "other").weights_sha256
    found = load_checkpoint(made.weights).provenance
    assert (found["recipe"], found["data"]) == ("town", "procedural streets 901, 902")
    assert found["licence"] == "Apache-2.0"
    record = json.loads((tmp_path / "one" / "train.json").read_text())
    assert read_metric_recipe("town", record["config"], kind="embedder") == config
    assert train("embedder", "town", {**changes, "seed": 1}, tmp_path / "two").weights_sha256 != made.weights_sha256


def test_root_is_the_data_folder_and_weights_may_be_told(tmp_path):
    first = train("metric", "town_day", TINY, tmp_path / "first")
    first.weights.rename(tmp_path / "w.safetensors")
    changes = {**TINY, "weights": "{root}/w.safetensors"}
    second = train("metric", "town_day", changes, tmp_path / "second", data=tmp_path)
    assert second.untrained == pytest.approx(first.validation, abs=0.2)
    assert "terms of the training images" in load_checkpoint(second.weights).provenance["licence"]


def test_streets_are_rendered_once_for_all_runs(tmp_path, monkeypatch):
    train("metric", "town_day", TINY, tmp_path / "one", views=tmp_path / "views")
    monkeypatch.setattr(
        "gloam.data.retrieval_sets.streets.render_training_views", lambda *_: pytest.fail("rendered again")
    )
    train("metric", "town_clahe", TINY, tmp_path / "two", views=tmp_path / "views")


@pytest.mark.slow
def test_many_domains_make_nights_and_a_resumed_run_gives_the_same_weights(tmp_path):
    torch.manual_seed(0)
    generator = create_generator("weakly_paired", domains=["day", "night", "snow"], width=2, base=[1, 1], latent=3)
    save_checkpoint(tmp_path / "run" / "translator.safetensors", generator, {})
    night = {"mode": "deterministic", "share": 0.5, "roles": ["anchor", "positive", "negative"]}
    changes = {**TINY, "epochs": 2, "maker": str(tmp_path / "run"), "maker_domain": "night", "night": night}
    whole = train("metric", "town_day", changes, tmp_path / "whole")
    train("metric", "town_day", {**changes, "epochs": 1}, tmp_path / "parts")
    parts = train("metric", "town_day", changes, tmp_path / "parts", nights=tmp_path / "elsewhere")
    assert parts.weights_sha256 == whole.weights_sha256
    assert load_checkpoint(whole.weights).provenance["night_maker"] == f"{tmp_path / 'run'} to night"
    for other in ({"maker_domain": "day"}, {"maker_noise": "zeros"}):
        with pytest.raises(StoreError, match="another night"):
            train("metric", "town_day", {**changes, **other}, tmp_path / "parts")
    with pytest.raises(ModelError, match="unknown domain 'rain'; the model knows day, night, snow"):
        train("metric", "town_day", {**changes, "maker_domain": "rain"}, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (("embeder", "town", None), UsageError, f"no training of kind 'embeder'; choose one of {', '.join(KINDS)}"),
        (("embedder", "toun", None), UsageError, "unknown recipe 'toun'; choose one of town, or"),
        (("embedder", "town", {"network": "gem_vgg61"}), ModelError, "did you mean gem_vgg16"),
        (("embedder", "town", {"data": {"reserved_seeds": [101]}}), UsageError, "101 is reserved for testing"),
        (("metric", "town_night25", None), UsageError, "name what makes them with --maker MODEL"),
        (("metric", "vgg16_clahe", None), UsageError, "--data DIR"),
        (("metric", "town_day", {"data": {"train": {}}}), UsageError, "names no data.train; give --train SET.json"),
        (("metric", "town_day", {"real_share": 0.5}), UsageError, "names no data.real"),
        (("translator", "town_cyclegan", {"batch": 0}), UsageError, "batch 0: must be at least 1"),
        (("edges", "town_hed", {"epoch": 3}), UsageError, "recipe town_hed, changed: unknown key 'epoch'"),
    ],
)
def test_mistakes_are_one_line_and_make_nothing(tmp_path, call, error, message):
    with pytest.raises(error) as raised:
        train(*call, tmp_path / "run")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()
