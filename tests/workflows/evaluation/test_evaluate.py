"""One call scores descriptors, poses or pictures by what the options are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.data.kapture_io import write_scene
from gloam.data.scene import Camera, Pose, Record, Scene
from gloam.errors import DataError, UsageError
from gloam.workflows.evaluation import evaluate
from gloam.workflows.evaluation.localization import LocalizationOptions
from gloam.workflows.evaluation.translation import TranslationOptions


def scene(folder: Path, shift: float, missing: str = "") -> Path:
    """Three images of a camera that moves along x, all shifted; one of them may have no pose."""
    names = ["a.jpg", "b.jpg", "c.jpg"]
    records = {name: Record("cam", row) for row, name in enumerate(names)}
    poses = {
        name: Pose((1.0, 0.0, 0.0, 0.0), (-float(row) - shift, 0.0, 0.0))
        for row, name in enumerate(names)
        if name != missing
    }
    write_scene(Scene(folder, {"cam": Camera("PINHOLE", 64, 48, (50.0, 50.0, 32.0, 24.0))}, records, poses))
    return folder


def test_poses_are_scored_per_method_and_a_missing_one_is_infinitely_wrong(tmp_path: Path) -> None:
    truth = scene(tmp_path / "truth", 0)
    scene(tmp_path / "results/exact", 0)
    scene(tmp_path / "results/off", 0.3, missing="b.jpg")
    found = evaluate(LocalizationOptions(tmp_path / "results", truth, thresholds=((0.25, 2.0), (0.5, 5.0))))
    data: dict[str, Any] = found.to_dict()
    assert list(data["methods"]) == ["exact", "off"]
    assert data["methods"]["exact"]["all"]["recalls"] == (1.0, 1.0)
    assert np.allclose(data["methods"]["off"]["all"]["recalls"], (0.0, 2 / 3))
    assert data["methods"]["off"]["all"]["localized"] == 2
    json.dumps(data, allow_nan=False)
    assert len(found.to_text().splitlines()) == 3


def test_a_folder_without_poses_is_named(tmp_path: Path) -> None:
    truth = scene(tmp_path / "truth", 0)
    with pytest.raises(DataError, match="nothing: no kapture poses found"):
        evaluate(LocalizationOptions(tmp_path / "nothing", truth))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": Path("w.pth")}, "--weights belongs to --features inception"),
        ({"day_cycle": Path("cycled")}, "--day-cycle needs --day"),
        ({"max_side": -1}, "--max-side must be 0 or more, not -1"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_read(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        TranslationOptions(Path("missing"), Path("missing"), "model.onnx", **wrong)


def test_what_is_no_options_is_refused() -> None:
    with pytest.raises(UsageError, match="RetrievalOptions, LocalizationOptions or TranslationOptions"):
        evaluate({"query": "a"})  # type: ignore[arg-type]


def test_methods_of_an_earlier_run_are_left_aside(tmp_path: Path) -> None:
    truth = scene(tmp_path / "truth", 0)
    for method in ("2b", "top1"):
        scene(tmp_path / "results" / method, 0)
    (tmp_path / "results" / "summary.json").write_text('{"methods": {"2b": {}}}')
    found = evaluate(LocalizationOptions(tmp_path / "results", truth))
    assert list(found.to_dict()["methods"]) == ["2b"]
    assert found.to_dict()["left_aside"] == ["top1"]
    assert found.to_text().endswith("left aside, of an earlier run: top1")
    (tmp_path / "results" / "summary.json").write_text("{")
    with pytest.raises(DataError, match=r"summary\.json: cannot be read"):
        evaluate(LocalizationOptions(tmp_path / "results", truth))
