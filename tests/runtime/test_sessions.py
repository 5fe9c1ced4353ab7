"""The device that runs a model is the one asked for, or the best that is really active, and it is said why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.cli.main import main
from gloam.errors import DeviceError, ModelError, UsageError
from gloam.runtime.doctor import Driver, Gpu
from gloam.runtime.embedder import Embedder
from gloam.runtime.ort import OrtSession
from gloam.runtime.sessions import open_session
from tests.tiny_models import write_tiny_embedder

H200 = Driver("13.0", [Gpu("NVIDIA H200", "9.0")])
NO_GPU = Driver(None, [], "no NVIDIA driver")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_tiny_embedder(tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


def machine(monkeypatch: pytest.MonkeyPatch, listed: bool, driver: Driver, active: bool) -> None:
    """A machine whose ONNX Runtime lists a CUDA provider or not, and where it starts or not."""
    rows = [{"device": "cpu", "listed": True}, {"device": "cuda", "listed": listed}]
    monkeypatch.setattr("gloam.runtime.sessions.available_backends", lambda: rows)
    monkeypatch.setattr("gloam.runtime.sessions.find_driver", lambda: driver)

    class Pretender(OrtSession):
        def __init__(self, path: Any, *, device: str = "cpu", threads: int | None = None) -> None:
            if device == "cuda" and not active:
                raise DeviceError("only CPUExecutionProvider is active")
            super().__init__(path, threads=threads)
            self.backend["device"] = device

    monkeypatch.setattr("gloam.runtime.sessions.OrtSession", Pretender)


@pytest.mark.parametrize(
    ("listed", "driver", "active", "device", "why"),
    [
        (True, H200, True, "cuda", "active on NVIDIA H200"),
        (True, H200, False, "cpu", "installed but did not start"),  # listed is not active
        (True, NO_GPU, True, "cpu", "no NVIDIA driver"),
        (False, H200, True, "cpu", "no CUDA provider"),
    ],
)
def test_auto_takes_what_is_active_and_says_why(
    model: Path, monkeypatch: pytest.MonkeyPatch, listed: bool, driver: Driver, active: bool, device: str, why: str
) -> None:
    machine(monkeypatch, listed, driver, active)
    session = open_session(model, "auto", threads=1)
    assert session.backend["device"] == device
    assert why in session.backend["why"]
    assert session.backend["threads"] == 1


def test_another_device_than_asked_for_is_never_taken(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, True, H200, False)
    with pytest.raises(DeviceError, match="only CPUExecutionProvider is active"):
        open_session(model, "cuda")
    assert open_session(model).backend["why"] == "asked for"
    with pytest.raises(UsageError, match="choose one of auto, cpu, cuda"):
        open_session(model, "tpu")


def test_commands_offer_the_same_devices() -> None:
    from gloam.cli.values import DEVICES as OFFERED
    from gloam.runtime.sessions import DEVICES

    assert OFFERED == DEVICES


def test_a_broken_model_is_not_taken_for_a_broken_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="not a readable ONNX model"):
        open_session(tmp_path / "m.onnx", "auto")
    with pytest.raises(ModelError, match="no such engine"):
        open_session(tmp_path / "absent.engine", "cuda")
    with pytest.raises(ModelError, match="no such model file"):
        open_session(tmp_path, "cpu")


def test_auto_on_this_machine_gives_the_same_descriptors(model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    np.testing.assert_allclose(Embedder.load(model, device="auto")([image]), Embedder.load(model)([image]), atol=1e-5)


def test_the_command_says_what_auto_chose(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(tmp_path / "images" / "a.png")
    command = ["extract", str(tmp_path / "images"), "-o", str(tmp_path / "store"), "--model", str(model)]
    assert main([*command, "--device", "auto"]) == 0
    assert "auto: " in capsys.readouterr().out
    assert main(["check", str(model), "--device", "auto", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backend"]["why"].startswith("auto: ")
