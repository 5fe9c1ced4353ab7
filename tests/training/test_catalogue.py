"""Every recipe says what it is, and every key of it what it is for; what is shown reads back as the recipe."""

from __future__ import annotations

import json

import pytest
import yaml

from gloam.errors import UsageError
from gloam.training.catalogue import PACKAGES, keys_of, list_recipes, show_recipe
from gloam.training.embedders.config import MetricConfig, fill_metric_config, read_metric_recipe
from gloam.training.translators.config import fill_translator_config, read_translator_recipe
from gloam.training.typed_config import recipes_of


@pytest.mark.parametrize("kind", PACKAGES)
def test_every_recipe_is_a_line_with_paper_table_minutes_and_data(kind: str) -> None:
    found = list_recipes(kind)
    heading, *lines = str(found).splitlines()
    assert heading.split() == ["recipe", "paper", "table", "minutes", "data"]
    assert [line.split()[0] for line in lines] == found.to_dict()["recipes"] == recipes_of(PACKAGES[kind])
    for name, about in found.about.items():
        assert all(vars(about).values()), name
        assert (about.paper == "-") == name.startswith("town"), name
        assert about.minutes[0].isdigit() == name.startswith("town"), name
    json.dumps(found.to_dict())


@pytest.mark.parametrize("kind", PACKAGES)
def test_every_key_of_every_recipe_has_a_reason(kind: str) -> None:
    for name in recipes_of(PACKAGES[kind]):
        shown = show_recipe(kind, name)
        assert [f"{name}: {key.name}" for key in shown.keys if not key.reason] == []
        assert shown.remarks, name
        assert any(key.stated for key in shown.keys)
        json.dumps(shown.to_dict())


@pytest.mark.parametrize("name", ["town_night25", "weakly_paired_netvlad", "vgg16_cyclegan_nd_cd"])
def test_what_is_shown_of_an_embedder_is_the_recipe(name: str) -> None:
    value = yaml.safe_load(str(show_recipe("metric", name)))
    assert fill_metric_config(value, "shown") == read_metric_recipe(name)


@pytest.mark.parametrize("name", ["town_hedngan", "mduit", "weakly_paired"])
def test_what_is_shown_of_a_translator_is_the_recipe(name: str) -> None:
    value = yaml.safe_load(str(show_recipe("translator", name)))
    assert fill_translator_config(value, "shown") == read_translator_recipe(name)


def test_reasons_are_the_attribute_s_and_the_recipe_s_own() -> None:
    keys = {key.name: key for key in show_recipe("embedder", "town").keys}
    assert keys["learning_rate"].value == 3e-3
    assert keys["learning_rate"].stated
    assert "of Adam" in keys["learning_rate"].reason
    assert "from random weights; the papers tune" in keys["learning_rate"].reason
    assert keys["margin"].value == MetricConfig.margin
    assert not keys["margin"].stated
    assert keys["night.share"].reason.startswith("of the images in the chosen roles")


def test_an_unknown_recipe_is_refused_and_has_no_keys() -> None:
    with pytest.raises(UsageError, match="unknown recipe 'toun'; choose one of town"):
        show_recipe("embedder", "toun")
    assert keys_of("embedder", "toun") == []
    assert "options.detector_weights" in keys_of("translator", "town_hedngan")
