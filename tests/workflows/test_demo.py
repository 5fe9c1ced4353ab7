"""The demo's road in small: every stage leaves what it promises, and a second run reuses it and says the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from gloam.data.town import TownConfig
from gloam.workflows import demo

TOWN = TownConfig(width=256, height=192, length=36.0, queries=2)
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


@pytest.fixture
def small() -> demo.DemoConfig:
    return demo.DemoConfig(seed=7, workers=1, top_k=4, town=TOWN, changes=CHANGES)


def test_every_stage_and_a_second_run_that_reuses_it(tmp_path: Path, small: demo.DemoConfig) -> None:
    said: list[str] = []
    first = demo.run_demo(tmp_path, small, said.append)
    assert [line.split()[0] for line in said] == ["town", "train", "export", "describe", "localize", "report"]
    conditions = set(first.data["retrieval"]["trained"]["conditions"])
    assert {"day", "night"} <= conditions
    assert set(first.data["localization"]) == {"2b trained", "2a trained", "top1 trained", "2b untrained"}
    assert json.loads((tmp_path / "demo.json").read_text())["seed"] == 7
    assert first.report.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {path.name for path in (tmp_path / "poses").iterdir()} >= {"2b-trained.txt", "2b-untrained.txt"}

    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix in (".npy", ".onnx", ".jpg")}
    assert made
    again = demo.run_demo(tmp_path, small)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    for key in ("retrieval", "localization", "map"):
        assert again.data[key] == first.data[key]


def test_the_judged_street_is_never_a_training_street(tmp_path: Path, small: demo.DemoConfig) -> None:
    tiny = dataclasses.replace(TOWN, width=64, height=48, conditions=("day",))  # rendered before the refusal
    with pytest.raises(demo.GloamError, match="reserved for testing"):
        demo.run_demo(tmp_path, dataclasses.replace(small, seed=901, town=tiny))
