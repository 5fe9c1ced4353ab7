"""The miniature runs from streets to a table; sizes are tiny here."""

from __future__ import annotations

import json

import pytest

from gloam.data.retrieval_sets.sets import read_retrieval_set
from gloam.workflows.reproduce.localization.request import LOCALIZED
from gloam.workflows.reproduce.published import TABLES
from gloam.workflows.reproduce.town import CONDITIONS, TOWN_TABLES, judged_sets, reproduce_town

STREET = {"kind": "town", "places": 4, "views_per_place": 3, "conditions": ["day"], "size": [64, 48]}
TINY = {
    "network_options": {"width": 8},
    "epochs": 1,
    "tuples": 4,
    "batch": 2,
    "negatives": 2,
    "negative_pool": 12,
    "image_side": 64,
    "data": {"train": {**STREET, "seeds": [101, 102]}, "validation": {**STREET, "seeds": [201]}},
}


@pytest.fixture(scope="module")
def views():
    return read_retrieval_set("town", seeds=[71], places=4, views_per_place=6, conditions=CONDITIONS, size=(64, 48))


def test_controls_are_trained_and_judged_by_condition(views, tmp_path):
    rows = ["untrained weights", "CLAHE", "CLAHE, Lab inversion"]
    found = reproduce_town("dark-side", "1", tmp_path, rows=rows, embedder_changes=TINY, judged=views)
    assert list(found.rows) == rows
    for values in found.rows.values():
        assert set(values) == {"day>day", "night>day"}
        assert all(0 < value <= 100 for value in values.values())
    assert 0 < found.chance["night>day"] < 60
    assert found.lighting["night>day"] < found.chance["night>day"]
    assert found.notes[-1].startswith("In night>day other places' images in the query's light are in the map and wrong")
    assert "chance" in found.to_text()
    json.dumps(found.to_dict(), allow_nan=False)
    again = reproduce_town("dark-side", "1", tmp_path, rows=rows, embedder_changes=TINY, judged=views)
    assert again.rows == found.rows


@pytest.mark.slow
def test_a_made_night_comes_from_a_generator_trained_first(views, tmp_path):
    small = {"steps_per_epoch": 2, "data": {"seeds": [101], "views": 3, "held_out_views": 2, "size": 64}}
    small["options"] = {"epochs": 1, "decay_epochs": 0, "generator_options": {"levels": 6, "width": 4}}
    small["held_out"] = 2
    changes = {"rows": ["CycleGAN"], "embedder_changes": TINY, "generator_changes": small, "judged": views}
    found = reproduce_town("thesis", "5.1", tmp_path, **changes)
    assert found.rows["CycleGAN"]["night>day"] > 0
    costs = reproduce_town("dark-side", "8", tmp_path, rows=["CycleGAN"], generator_changes=small)
    assert costs.rows["CycleGAN"]["steps/s"] > 0
    assert "28.29 M parameters; the paper prints 51.0 M" in costs.to_text()


@pytest.mark.slow
def test_an_ensemble_of_edges_and_a_photograph(views, tmp_path):
    stages = [[4, 1], [4, 1], [4, 1], [4, 1], [4, 1]]
    edge = {key: value for key, value in TINY.items() if key != "network_options"}
    found = reproduce_town("dark-side", "4", tmp_path, rows=["EdgeMAC"], judged=views,
                           embedder_changes=edge | {"network_options": {"stages": stages}})  # fmt: skip
    assert found.rows["EdgeMAC"]["day>day"] > 0


def test_judged_sets_are_conditions_against_each_other(views):
    sets = judged_sets(views)
    assert set(sets) == {f"{one}>{other}" for one in CONDITIONS for other in CONDITIONS}
    for name, truth in sets.items():
        asked, shown = name.split(">")
        assert all(f"/{asked}-" in query for query in truth.query_names)
        assert all(f"/{shown}-" in truth.map_names[index] for row in truth.positives for index in row)
        assert len(truth.query_names) == 8


def test_tables_of_the_town_are_tables_of_the_papers():
    assert set(TOWN_TABLES) <= set(TABLES)
    assert set(TABLES) - set(TOWN_TABLES) == {
        ("dark-side", "2"),
        ("weakly-paired", "2"),
        ("weakly-paired", "figure7"),
        *LOCALIZED,
    }
