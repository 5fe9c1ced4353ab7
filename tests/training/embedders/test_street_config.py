import dataclasses
import json

import pytest

from gloam.errors import UsageError
from gloam.networks.embedders import EMBEDDERS, create_embedder
from gloam.training.embedders.street_config import TrainConfig, fill_config, read_config, read_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_names_a_network(name):
    config = read_recipe(name)
    assert config.network in EMBEDDERS
    create_embedder(config.network, **config.network_options)


def test_a_config_survives_json():
    config = dataclasses.replace(TrainConfig(), seed=3, street_seeds=(5, 6), threads=2)
    assert fill_config(json.loads(json.dumps(config.to_dict())), "here") == config


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"learning_rat": 1.0}, "unknown key 'learning_rat'; did you mean 'learning_rate'?"),
        ({"epochs": "three"}, "epochs: 'three' is not of type int"),
        ({"epochs": 2.5}, "not of type int"),
        ({"augment": 1}, "not of type bool"),
        ({"street_seeds": 5}, "not of type tuple"),
        ({"street_seeds": ["a"]}, "not of type int"),
        ({"epochs": 0}, "must be at least 1"),
        ({"margin": -1.0}, "must be positive"),
        ({"validation_seed": 101}, "is a training street"),
        ({"reserved_seeds": [102]}, "seed 102 is reserved for testing"),
        ({"query_condition": "dawn"}, "'dawn' is not among the conditions"),
        ({"batch_places": 5}, "5 negatives need more places"),
        ({"places": 2}, "exceeds the places of all streets"),
        ({"images_per_place": 9}, "exceeds views_per_place 8"),
        ({"views_per_place": 4, "conditions": ["day"] * 5}, "5 conditions need as many"),
    ],
)
def test_bad_values_are_named(value, message):
    with pytest.raises(UsageError) as caught:
        fill_config(value, "file.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_fills_the_dataclass(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("epochs: 2\nlearning_rate: 1\nnetwork_options: {width: 8}\nstreet_seeds: [4, 5]\n")
    config = read_config(file)
    assert (config.epochs, config.learning_rate, config.street_seeds) == (2, 1.0, (4, 5))
    assert config.network_options == {"width": 8}
    file.write_text("")
    assert read_config(file) == TrainConfig()
    for content in ("[1]", "a: [", "1"):
        file.write_text(content)
        with pytest.raises(UsageError, match=r"c\.yaml"):
            read_config(file)
    with pytest.raises(UsageError, match="unknown recipe 'towm'; choose one of"):
        read_recipe("towm")
