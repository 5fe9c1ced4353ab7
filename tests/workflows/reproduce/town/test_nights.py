"""The miniature's generators are judged beside untouched days, on a street of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gloam.training.config_changes import merge
from gloam.training.translators.config import RECIPES
from gloam.training.typed_config import recipe_mapping
from gloam.workflows.reproduce.town import nights
from gloam.workflows.reproduce.town.nights import CONTROL, score_generators
from gloam.workflows.reproduce.town.rows import GENERATORS
from gloam.workflows.reproduce.town.run import TownRun


def test_every_generator_is_judged_on_the_same_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nights, "PLACES", 3)
    monkeypatch.setattr(nights, "SIZE", (64, 48))
    said: list[str] = []
    scores = score_generators({"same": Path("none"), "dark": Path("gamma:0.2")}, tmp_path, 2, said.append)
    assert list(scores) == ["real nights", "same", "dark", CONTROL]  # the nights beside themselves first
    assert said == [f"{name}: nights of 6 views by day" for name in ("same", "dark")]
    assert scores["same"] == scores[CONTROL]  # a generator that does nothing is the control
    assert scores["dark"] != scores[CONTROL]
    sets = {name: sorted(path.name for path in (tmp_path / name).rglob("*.png")) for name in ("day", "same", "dark")}
    assert sets["day"] == sets["same"] == sets["dark"]
    assert len(sets["day"]) == len(list((tmp_path / "night").rglob("*.png"))) == 6

    def light(name: str) -> float:
        return float(np.mean([np.asarray(Image.open(path)) for path in (tmp_path / name).rglob("*.png")]))

    assert light("dark") < light("day")
    assert light("night") < light("day")


@pytest.mark.parametrize(("look", "noise"), [(1, 0.1), (2, 0.0)])
def test_nights_get_noise_where_those_of_the_streets_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: int, noise: float
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("gloam.training.train.train", lambda kind, recipe, changes, *_, **__: asked.update(changes))
    for name in ("CUT", "CyEDA"):
        TownRun(tmp_path, 1.0, 0, {}, {}, None, look=look).generator(name)
        options = merge(recipe_mapping(RECIPES, GENERATORS[name].recipe)["options"], asked.get("options", {}))
        assert options["generator_options"]["noise"] == noise
        assert asked["data"].get("look", 1) == look
