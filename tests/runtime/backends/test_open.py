"""The device that runs a model is the one asked for, or the best that is really active, and it is said why."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.cli.main import main
from gloam.cli.shared import backend_options
from gloam.errors import DeviceError, MissingExtraError, ModelError, UsageError
from gloam.runtime.backends.cuda.driver import Driver, Gpu
from gloam.runtime.backends.open import open_session
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.embedder import Embedder
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
    monkeypatch.setattr("gloam.runtime.backends.open.available_backends", lambda: rows)
    monkeypatch.setattr("gloam.runtime.backends.open.find_driver", lambda: driver)

    class Pretender(OrtSession):
        def __init__(self, path: Any, *, device: str = "cpu", **options: Any) -> None:
            if device == "cuda" and not active:
                raise DeviceError("only CPUExecutionProvider is active")
            super().__init__(path, **options)
            self.backend = replace(self.backend, device=device)

    monkeypatch.setattr("gloam.runtime.backends.open.OrtSession", Pretender)


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
    session = open_session(model, Placement("auto", threads=1))
    assert session.backend.device == device
    assert why in session.backend.why
    assert session.backend.threads == 1


def test_another_device_than_asked_for_is_never_taken(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, True, H200, False)
    with pytest.raises(DeviceError, match="only CPUExecutionProvider is active"):
        open_session(model, Placement("cuda"))
    assert open_session(model).backend.why == "asked for"
    with pytest.raises(UsageError, match="choose one of auto, cpu, cuda"):
        open_session(model, Placement("tpu"))


def test_a_placement_is_what_the_options_say() -> None:
    parser = argparse.ArgumentParser()
    backend_options.add_backend(parser)
    assert backend_options.placement(parser.parse_args([])) == Placement()
    given = parser.parse_args(["--device", "auto", "--threads", "2", "--backend", "openvino", "--cpu-precision", "f32"])
    assert backend_options.placement(given) == Placement("auto", 2, "openvino", "f32")
    assert backend_options.placement(given).chosen
    assert not Placement("auto", requests=1).chosen


def test_the_backend_that_was_asked_for_runs(model: Path) -> None:
    asked = open_session(model, Placement(threads=2, backend="openvino", requests=1))
    assert (asked.backend.backend, asked.backend.why) == ("openvino", "asked for")
    assert open_session(model, Placement("auto", backend="openvino")).backend.backend == "openvino"
    assert open_session(model, Placement(backend="onnxruntime", cpu_precision="f32")).backend.backend == "onnxruntime"


@pytest.mark.parametrize(
    ("device", "options", "reason"),
    [
        ("cpu", {"backend": "tvm"}, "unknown backend 'tvm'; choose one of onnxruntime, openvino"),
        (
            "cpu",
            {"backend": "openvino", "cpu_precision": "fp16"},
            "unknown CPU precision 'fp16'; choose one of f32, bf16",
        ),
        ("cpu", {"cpu_precision": "bf16"}, "not in bf16; ask for --backend openvino"),
        ("cpu", {"threads": 1, "requests": 2}, "2 runs at once need as many threads at least, not 1"),
        ("cpu", {"backend": "openvino", "threads": 1, "requests": 2}, "2 runs at once need as many threads"),
        ("cuda", {"backend": "openvino"}, "ask for --device cpu"),
        ("cuda", {"cpu_precision": "bf16"}, "ask for --device cpu"),
    ],
)
def test_what_does_not_go_together_is_refused(model: Path, device: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        open_session(model, Placement(device, **options))
    assert "\n" not in str(caught.value)


def test_an_engine_has_its_own_backend(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave out --backend"):
        open_session(tmp_path / "m.engine", Placement("cuda", backend="onnxruntime"))


def test_a_missing_openvino_names_its_extra(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"gloam\[openvino\]"):
        open_session(model, Placement(backend="openvino"))


def test_a_broken_model_is_not_taken_for_a_broken_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="not a readable ONNX model"):
        open_session(tmp_path / "m.onnx", Placement("auto"))
    with pytest.raises(ModelError, match="no such engine"):
        open_session(tmp_path / "absent.engine", Placement("cuda"))
    with pytest.raises(ModelError, match="no such model file"):
        open_session(tmp_path, Placement("cpu"))


def test_auto_on_this_machine_gives_the_same_descriptors(model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    np.testing.assert_allclose(
        Embedder.load(model, Placement(device="auto"))([image]), Embedder.load(model)([image]), atol=1e-5
    )


def test_the_command_says_what_auto_chose(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(tmp_path / "images" / "a.png")
    command = ["extract", str(tmp_path / "images"), "-o", str(tmp_path / "store"), "--model", str(model)]
    assert main([*command, "--device", "auto"]) == 0
    assert "auto: " in capsys.readouterr().out
    assert main(["check", str(model), "--device", "auto", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backend"]["why"].startswith("auto: ")
