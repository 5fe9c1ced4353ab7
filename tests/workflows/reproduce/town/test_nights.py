"""The miniature's generators are judged beside untouched days, on a street of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.workflows.reproduce.town import nights
from gloam.workflows.reproduce.town.nights import CONTROL, score_generators


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
