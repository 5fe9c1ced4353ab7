"""Settings are searched on a grid: a run each, the best first; what cannot be trained is a reason."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from gloam.errors import UsageError
from gloam.workflows import settings_grid as module
from gloam.workflows.settings_grid import SettingsRequest, search_settings

AXES = ("options.generator_options.norm=batch,instance", "options.learning_rate=1.0e-4,2.0e-4")


def request(output: Path, axes: tuple[str, ...] = AXES, judge: str = "j.onnx") -> SettingsRequest:
    return SettingsRequest("town_cyclegan", {"judge": judge, "seed": 3}, axes, output)


def test_every_combination_is_trained_and_the_best_stands_first(tmp_path: Path, monkeypatch) -> None:
    called = []

    def train(kind, recipe, changes, folder, **more):
        called.append((changes, folder))
        options = changes["options"]
        if options["generator_options"]["norm"] == "batch" and options["learning_rate"] > 1.5e-4:
            raise UsageError("diverges")
        fid = 10 * options["learning_rate"] * 1e4 + len(options["generator_options"]["norm"])
        return SimpleNamespace(held_out={"FID": fid, "F_8 recall": 0.5}, step=2, steps=4, seconds=6.0)

    monkeypatch.setattr(module, "train", train)
    found = search_settings(request(tmp_path))
    assert len({folder for _, folder in called}) == 4
    assert all(changes["held_out"] == module.HELD_OUT and changes["seed"] == 3 for changes, _ in called)
    assert [one.scores.get("FID") for one in found.settings] == pytest.approx([15.0, 18.0, 28.0, None])
    assert found.settings[-1].reason == "diverges"
    rows = list(csv.DictReader((tmp_path / "grid.csv").read_text().splitlines()))
    assert rows[0]["options.generator_options.norm"] == "batch"
    assert rows[3]["reason"] == "diverges"
    assert json.loads((tmp_path / "grid.json").read_text()) == found.to_dict()
    assert "best FID first" in (tmp_path / "grid.html").read_text()
    assert found.to_text().splitlines()[1].split()[:3] == ["batch", "0.0001", "15.000"]


@pytest.mark.parametrize(
    ("axes", "judge", "said"),
    [
        (("options.x",), "j.onnx", "expected NAME=VALUE,VALUE"),
        (("seed=1,2", "seed=3"), "j.onnx", "is given twice"),
        (("seed=1,2",), "", "give --judge"),
        ((f"seed={','.join(map(str, range(300)))}",), "j.onnx", "more than 200"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, axes: tuple[str, ...], judge: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        request(tmp_path, axes, judge)
