"""The demo's road in small: every stage leaves what it promises, and a second run reuses it and says the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gloam.data.town import TownConfig
from gloam.errors import UsageError
from gloam.runtime.models.embedder import Embedder
from gloam.workflows import demo
from gloam.workflows.demo_embedder import (
    INPUT_RULES,
    LOOK,
    RECIPE,
    SEED,
    SHIPPED,
    read_demo_recipe,
    train_demo_embedder,
)

TOWN = TownConfig(width=256, height=192, length=36.0, queries=2, texels=16, look=2)
STREET = {"kind": "town", "places": 6, "views_per_place": 4, "conditions": ["day", "dusk", "night", "night-rain"]}
CHANGES = {
    "network_options": {"width": 8},
    "epochs": 1,
    "tuples": 48,
    "batch_places": 6,
    "data": {
        "train": {**STREET, "seeds": [901], "size": [64, 48]},
        "validation": {**STREET, "seeds": [902], "size": [64, 48]},
    },
}


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["shipped", "trained anew"])
def small(request: pytest.FixtureRequest) -> demo.DemoConfig:
    return demo.DemoConfig(seed=7, workers=1, top_k=4, town=TOWN, train=request.param, changes=CHANGES)


def test_every_stage_and_a_second_run_that_reuses_it(tmp_path: Path, small: demo.DemoConfig) -> None:
    said: list[str] = []
    first = demo.run_demo(tmp_path, small, said.append)
    stages = ["town", *(["train", "export"] if small.train else []), "describe", "localize", "report"]
    assert [line.split()[0] for line in said] == stages
    conditions = set(first.data["retrieval"]["trained"]["conditions"])
    assert {"day", "night"} <= conditions
    shown = {"2b trained", "2a trained", "top1 trained", "2b untrained"}
    assert set(first.data["localization"]) == shown | (
        {"2b trained anew", "2b untrained anew"} if small.train else set()
    )
    assert ("trained anew" in first.text) is small.train
    written = json.loads((tmp_path / "demo.json").read_text())
    assert (written["seed"], written["look"]) == (7, 2)
    page, queries = (Path(first.data[name]).read_text(encoding="utf-8") for name in ("report", "queries"))
    assert first.report == tmp_path / "report.html"
    assert all(text.startswith("<!doctype html>") for text in (page, queries))
    assert re.findall(r"</p><span>([^<]+)</span>", page) == ["trained embedder", "untrained weights"]
    assert set(re.findall(r"<h3>([\w-]+) <span>", page)) == conditions
    assert 'class="house"' in page
    assert queries.count("<article") == len(first.data["retrieval"]["trained"]["conditions"]) * TOWN.queries
    assert queries.count('<img class="matches"') == queries.count("<article")
    assert ('href="queries.html"' in page, 'href="report.html"' in queries) == (True, True)
    assert {path.name for path in (tmp_path / "poses").iterdir()} >= {"2b-trained.txt", "2b-untrained.txt"}

    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix in (".npy", ".onnx", ".jpg")}
    assert made
    again = demo.run_demo(tmp_path, small)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    for key in ("retrieval", "localization", "map"):
        assert again.data[key] == first.data[key]


@pytest.mark.parametrize(("seed", "train", "said"), [(101, False, "trained on"), (901, True, "reserved for testing")])
def test_the_judged_street_is_never_a_training_street(tmp_path: Path, seed: int, train: bool, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        demo.run_demo(tmp_path / "out", demo.DemoConfig(seed=seed, town=TOWN, train=train, changes=CHANGES))
    assert not (tmp_path / "out").exists()


def test_the_shipped_files_say_what_made_them() -> None:
    spaces = set()
    for look, files in SHIPPED.items():
        cards = {name: Embedder.load(path).card for name, path in files.items()}
        assert cards["trained"].provenance["recipe"] == "town"
        assert "random" in cards["untrained"].provenance["recipe"]
        for name, card in cards.items():
            assert card.provenance["licence"] == "Apache-2.0"
            assert card.provenance["command"] == "gloam demo --train"
            assert {101, 201} <= set(card.provenance["street_seeds"])
            assert card.provenance["data"].endswith(", look 2") == (look == 2)
            assert card.input_rule == INPUT_RULES[look]
            assert files[name].stat().st_size < 3_000_000
            spaces.add(card.space())
    assert len(spaces) == 4


@pytest.mark.parametrize("look", [1, 2])
def test_the_embedder_is_trained_in_the_look_that_it_is_judged_in(look: int) -> None:
    for changes in ({}, CHANGES):
        training = read_demo_recipe(RECIPE, changes, SEED, look)
        for part in ("train", "validation"):
            assert training.changes["data"][part] == vars(training.config.data)[part]
            assert training.changes["data"][part]["look"] == look
        assert training.config.data.reserved_seeds == (SEED,)


@pytest.mark.slow
def test_training_anew_makes_a_model_of_the_same_worth(tmp_path: Path) -> None:
    """Weights differ from one processor to the next, for training amplifies last bits; what they are worth does not."""
    training = read_demo_recipe(RECIPE, {}, SEED, LOOK)
    made = train_demo_embedder(tmp_path, training, lambda stage, what: None)
    shipped, anew = (Embedder.load(path).card.provenance for path in (SHIPPED[LOOK]["trained"], made["trained"]))
    assert anew["config_sha256"] == shipped["config_sha256"]
    assert abs(anew["validation_mAP"] - shipped["validation_mAP"]) < 0.15
