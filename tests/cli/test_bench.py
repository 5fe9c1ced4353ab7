"""``gloam bench`` on a small real model: rates beside agreement, and a profile that the next run uses."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.files import sha256_file
from gloam.runtime.backends.openvino import OpenVinoSession
from gloam.runtime.bench.compare import Row
from tests.tiny_models import write_tiny_embedder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_tiny_embedder(tmp_path / "tiny.onnx")
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number, size in enumerate(((40, 50, 3), (64, 33, 3))):
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no image")
    return tmp_path / "tiny.onnx"


def only_said(path: Path, precision: str, **options: Any) -> OpenVinoSession:
    """A session that says bf16 where it is asked for, and runs float32, as every processor can."""
    session = OpenVinoSession(path, **options)
    if precision == "bf16":
        session.card = replace(session.card, precision="bf16")
        session.fingerprint = session.card.fingerprint(sha256_file(path))
        session.backend = replace(session.backend, precision="bf16", inference_precision="bf16")
    return session


@pytest.fixture(params=["", "bf16"], ids=["float32", "bf16"])
def reduced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The reduced precision that the processor has, on whatever processor the test runs."""
    monkeypatch.setattr("gloam.runtime.bench.compare.capabilities", lambda: ["FP32", request.param.upper()])
    monkeypatch.setattr("gloam.runtime.backends.open.OpenVinoSession", only_said)
    return str(request.param)


def last(rows: Sequence[Row], allowed: Collection[str]) -> Row:
    """Of those that may be chosen: the rates of a tiny model are noise."""
    return [row for row in rows if row.choice.cpu_precision in ("f32", *allowed)][-1]


def test_rates_then_a_profile_then_its_use(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reduced: str
) -> None:
    command = ["bench", str(model), "--rounds", "2"]
    assert main([*command, "--images", str(tmp_path / "images"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["images"] == [[40, 50], [64, 33]]
    assert {row["choice"]["backend"] for row in data["rows"]} == {"onnxruntime", "openvino"}
    assert {row["choice"]["cpu_precision"] for row in data["rows"]} == {"f32", reduced or "f32"}
    assert all(row["agrees"] and len(row["rates"]) == 2 and row["rate"] > 0 for row in data["rows"])
    assert not (tmp_path / "tiny.onnx.tune.json").exists()
    monkeypatch.setattr("gloam.runtime.bench.compare.best", last)
    tune = [*command, "--backend", "openvino", "--threads", "1", "--tune"]
    assert main(tune) == 0
    said = capsys.readouterr().out
    assert "openvino, 1 thread, 1 at once" in said
    assert ("openvino bf16, 1 thread, 1 at once" in said) == bool(reduced)  # measured, and not chosen unless allowed
    assert "1 - cosine from the first" in said
    extract = ["extract", str(tmp_path / "images"), "--model", str(model), "--json", "-o"]
    assert main([*extract, str(tmp_path / "tuned")]) == 0
    tuned = json.loads(capsys.readouterr().out)
    assert (tuned["backend"]["backend"], tuned["backend"]["precision"]) == ("openvino", "fp32")
    assert "tiny.onnx.tune.json" in tuned["backend"]["why"]
    assert main([*extract, str(tmp_path / "plain"), "--backend", "onnxruntime"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["backend"]["backend"] == "onnxruntime"
    assert plain["fingerprint"] == tuned["fingerprint"]
    assert main([*tune, "--allow", "bf16"]) == (0 if reduced else 2)
    assert ("bf16 cannot be measured here" in capsys.readouterr().err) == (not reduced)
    if reduced:
        assert main([*extract, str(tmp_path / "reduced")]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["backend"]["precision"] == "bf16"
        assert found["fingerprint"] != plain["fingerprint"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--allow", "bf16"], "--allow goes with --tune"),
        (["--images", "images", "--count", "0"], "--count must be 1 or more"),
        (["--rounds", "0"], "an image and a round at least"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    monkeypatch.chdir(model.parent)
    assert main(["bench", str(model), *options]) == 2
    printed = capsys.readouterr().err
    assert reason in printed
    assert printed.count("\n") == 1


def test_models_that_cannot_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tmp_path / "m.engine")]) == 2
    assert main(["bench", str(tmp_path / "absent.onnx")]) == 2
    printed = capsys.readouterr().err
    assert "an engine has one way to run" in printed
    assert "no such model file" in printed
