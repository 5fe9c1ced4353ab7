"""The miniature runs from streets to a table; sizes are tiny here."""

from __future__ import annotations

import dataclasses
import json

import pytest

from gloam.errors import UsageError
from gloam.training.typed_config import recipe_mapping
from gloam.workflows.reports.retrieval_table import reproduce_retrieval
from gloam.workflows.reproduce.localization.request import LOCALIZED
from gloam.workflows.reproduce.published import TABLES
from gloam.workflows.reproduce.records import recorded_row
from gloam.workflows.reproduce.request import RetrievalRequest
from gloam.workflows.reproduce.town.rows import GENERATORS, TOWN_TABLES
from gloam.workflows.reproduce.town.run import judged_views
from gloam.workflows.reproduce.town.table import judged_sets, reproduce_town

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
STAGES = [[4, 1], [4, 1], [4, 1], [4, 1], [4, 1]]
SMALL = {
    "steps_per_epoch": 2,
    "data": {"seeds": [101], "views": 3, "held_out_views": 2, "size": 64},
    "options": {"epochs": 1, "decay_epochs": 0, "generator_options": {"levels": 6, "width": 4}},
    "held_out": 2,
}
JUDGED = {"seeds": [71], "places": 4, "size": [64, 48]}


def asked(table, output, rows, paper="dark-side", **more):
    given = {"embedder_changes": TINY, "generator_changes": SMALL, "judged": JUDGED} | more
    return RetrievalRequest(paper, table, output / "no data", output, tuple(rows), town=True, **given)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A control and a row of two seeds, trained once."""
    place = tmp_path_factory.mktemp("town")
    request = asked("1", place, ["untrained weights", "R101 GeM", "VGG16 CIConv"], seeds=2)
    return request, reproduce_retrieval(request)


def test_rows_are_trained_and_judged_by_condition(trained):
    request, found = trained
    assert list(found.ours) == ["untrained weights", "R101 GeM"]
    for values in found.ours.values():
        assert set(values) == {"day>day", "night>day"}
        assert all(0 < value <= 100 for value in values.values())
    assert 0 < found.controls["chance"]["night>day"] < 60
    assert found.controls["lighting alone"]["night>day"] < found.controls["chance"]["night>day"]
    assert found.notes[-1].startswith("In night>day other places' images in the query's light are in the map and wrong")
    shown = found.to_dict()
    assert shown["rows"]["R101 GeM"]["Tokyo"]["published"] == 85.0  # beside what has no Tokyo
    assert shown["rows"]["R101 GeM"]["day>day"]["spread"] >= 0
    assert "CIConv" in shown["reasons"]["VGG16 CIConv"]
    (member,) = shown["made_by"]["R101 GeM"]["members"]
    assert member["weights"][0]["file"].endswith("embedder.safetensors")
    assert member["from"] == "trained here by recipe town_day, seed 0"
    records = shown["made_by"]["R101 GeM"]["trained"]
    assert len(records) == 2
    place = request.output / "rows" / "R101_GeM"
    assert all(json.loads((place / record).read_text())["recipe"] == "town_day" for record in records.values())
    text = found.to_text()
    assert "chance" in text
    assert "sd" in text.splitlines()[3]
    json.dumps(shown, allow_nan=False)


def test_what_is_recorded_is_not_run_again(trained, monkeypatch):
    request, found = trained
    monkeypatch.setattr(
        "gloam.workflows.reproduce.town.run.TownRun.trained", lambda *given: pytest.fail("trained again")
    )
    assert reproduce_retrieval(request).to_dict() == found.to_dict()


def test_a_row_trained_twice_from_its_record_has_the_same_digits(trained, tmp_path):
    request, found = trained
    again = recorded_row(request.output / "rows" / "R101_GeM" / "row.json", tmp_path)
    assert again == dataclasses.replace(request, output=tmp_path, rows=("R101 GeM",))
    (row,) = reproduce_town(dataclasses.replace(again, seeds=1)).rows
    (first,) = (one for one in found.rows if one.name == "R101 GeM")
    assert row.scores == {"0": first.scores["0"]}
    assert row.facts["seeds"]["0"][0]["sha256"] == first.facts["seeds"]["0"][0]["sha256"]


def test_a_row_of_a_changed_recipe_is_run_again(trained, monkeypatch):
    request, _ = trained
    seen = []
    monkeypatch.setattr("gloam.workflows.reproduce.town.run.TownRun.trained", lambda run, row: seen.append(row.recipe))
    one = dataclasses.replace(request, rows=("R101 GeM",))
    kept = (request.output / "rows" / "R101_GeM" / "row.json").read_bytes()
    reproduce_town(one)
    assert seen == []
    changed = "gloam.workflows.reproduce.town.table.recipe_mapping"
    monkeypatch.setattr(changed, lambda *recipe: recipe_mapping(*recipe) | {"margin": 0.123})
    with pytest.raises(TypeError):  # there are no weights
        reproduce_town(one)
    assert seen == ["town_day"]
    (request.output / "rows" / "R101_GeM" / "row.json").write_bytes(kept)


def test_a_killed_table_carries_on_with_the_rows_and_seeds_that_it_has(trained, tmp_path, monkeypatch):
    request, _ = trained

    def killed(*given):
        raise KeyboardInterrupt

    again = dataclasses.replace(request, output=tmp_path, rows=("untrained weights", "R101 GeM"), seeds=1)
    with monkeypatch.context() as patched:
        patched.setattr("gloam.workflows.reproduce.town.run.TownRun.trained", killed)
        with pytest.raises(KeyboardInterrupt):
            reproduce_town(again)
    kept = tmp_path / "rows" / "untrained_weights" / "row.json"
    before = json.loads(kept.read_text())["scores"]
    assert list(before) == ["0"]
    monkeypatch.setattr("gloam.workflows.reproduce.town.run.TownRun.untrained", lambda *given: pytest.fail("run again"))
    run = reproduce_town(dataclasses.replace(again, rows=("untrained weights",)))
    assert run.rows[0].scores == before


def test_refusals_are_one_line(tmp_path):
    for table, rows, message in (
        ("2", [], "networks of others"),
        ("1", ["x"], "has no row 'x'"),
    ):
        with pytest.raises(UsageError, match=message):
            reproduce_town(asked(table, tmp_path, rows))
    with pytest.raises(UsageError, match="trained at least once"):
        asked("1", tmp_path, [], seeds=0)
    with pytest.raises(UsageError, match="minutes above 0"):
        asked("1", tmp_path, [], budget=0.0)


@pytest.mark.slow
def test_a_made_night_comes_from_a_generator_trained_first(tmp_path):
    rows = ["baseline", "CycleGAN SfM", "pix2pix Transattr"]
    changes = TINY | {"network_options": {"stages": STAGES}}
    found = reproduce_retrieval(asked("5.1", tmp_path, rows, "thesis", embedder_changes=changes, budget=30.0))
    assert {row.name: row.reason for row in found.rows} == dict.fromkeys(rows, "")
    assert found.ours["CycleGAN SfM"]["night>day"] > 0
    assert found.ours["CycleGAN SfM"]["FID"] > 0
    assert "FID" not in found.ours["baseline"]
    assert found.cell(found.rows[1], "FID")["published"] == 81.63
    assert (tmp_path / "generators.png").is_file()
    figure = reproduce_retrieval(
        asked("figure5.1", tmp_path / "f", ["CycleGAN SfM"], "thesis", runs=tmp_path, budget=9.0)
    )
    assert figure.ours["CycleGAN SfM"]["FID"] > 0
    costs = reproduce_retrieval(asked("8", tmp_path / "8", ["CycleGAN", "CyEDA", "DRIT"]))
    assert costs.ours["CycleGAN"]["steps/s"] > 0
    assert costs.ours["CyEDA"]["steps/s"] > 0
    assert "does not train it" in costs.rows[2].reason
    assert "28.29 M parameters; the paper prints 51.0 M" in costs.to_text()


@pytest.mark.slow
def test_edges_alone_and_beside_a_photograph(tmp_path):
    edge = TINY | {"network_options": {"stages": STAGES}}
    detector = {"epochs": 1, "steps_per_epoch": 1, "batch": 2, "street_seeds": [101], "views": 2, "validation_views": 2}
    detector |= {"crop": 64, "width": 96, "height": 72, "network_options": {"width": 4}}
    request = asked(
        "4", tmp_path, ["EdgeMAC", "HEDMAC", "HEDMAC + GeM"], embedder_changes=edge, detector_changes=detector
    )
    found = reproduce_retrieval(request)
    assert {row.name: row.reason for row in found.rows} == dict.fromkeys(request.rows, "")
    assert found.ours["HEDMAC"]["day>day"] > 0
    assert len(found.rows[2].facts["members"]) == 2
    assert found.rows[1].facts["members"][0]["network"] == "hedmac_vgg16"


@pytest.mark.slow
def test_local_features_real_nights_and_queries_by_day(tmp_path):
    real = {**TINY["data"], "real": {**STREET, "seeds": [105], "views_per_place": 2, "conditions": ["night", "day"]}}
    how = TINY | {"network_options": {"width": 8, "dimension": 4}, "data": real, "whiten_images": 24}
    found = reproduce_town(asked("1", tmp_path, ["R18 HOW", "R18 HOW N/D"], embedder_changes=how))
    assert {row.name: row.reason for row in found.rows} == {"R18 HOW": "", "R18 HOW N/D": ""}
    assert 0 < found.ours["R18 HOW"]["day>day"] <= 100
    changes = TINY | {"network_options": {"stages": STAGES}}
    row = "night to day, CycleGAN"
    by_day = reproduce_town(asked("7", tmp_path, [row], embedder_changes=changes))
    assert by_day.rows[0].reason == ""
    assert len(by_day.rows[0].facts["members"]) == 2


def test_judged_sets_are_conditions_against_each_other():
    views = judged_views(JUDGED)
    sets = judged_sets(views)
    conditions = ("day", "dusk", "night")
    assert set(sets) == {f"{one}>{other}" for one in conditions for other in conditions}
    for name, truth in sets.items():
        asked_by, shown = name.split(">")
        assert all(f"/{asked_by}-" in query for query in truth.query_names)
        assert all(f"/{shown}-" in truth.map_names[index] for row in truth.positives for index in row)
        assert len(truth.query_names) == 8


def test_tables_and_rows_of_the_town_are_those_of_the_papers():
    assert set(TABLES) - set(TOWN_TABLES) == {
        ("dark-side", "2"),
        ("weakly-paired", "2"),
        ("weakly-paired", "figure7"),
        ("mduit", "figure3"),
        ("mduit", "figure4"),
        ("cyclegan-study", "1"),
        *LOCALIZED,
    }
    for key, (_, rows) in TOWN_TABLES.items():
        assert set(TABLES[key].rows) <= set(rows), key
        for row in rows.values():
            assert {row.maker, row.to_day} <= {"", *GENERATORS}
            assert not row.beside or row.beside in rows
