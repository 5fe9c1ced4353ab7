"""An engine of TensorRT for RTX runs on the GPUs that it names, and keeps what was compiled there beside itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gloam.errors import DeviceError, ModelError, UsageError
from gloam.export.engine.build import build_engine
from gloam.export.engine.options import BuildOptions
from gloam.runtime.backends.cuda.driver import Driver
from gloam.runtime.backends.open import open_session
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.tensorrt.engine_card import read_engine_card
from gloam.runtime.backends.tensorrt.session import TensorRTSession
from tests.fakes.cuda import FakeDevice
from tests.fakes.tensorrt import FakeTensorRT
from tests.runtime.backends.tensorrt.batches import batch, right

ADA = {"name": "NVIDIA Ada", "capability": "8.9"}


@pytest.fixture
def folder(rtx: FakeTensorRT, onnx_file: Path, tmp_path: Path) -> Path:
    build_engine(onnx_file, tmp_path / "e", BuildOptions(target="rtx", architectures=("sm89", "sm80")))
    return tmp_path / "e"


def test_the_builder_is_told_the_architectures_and_nothing_of_this_machine(rtx: FakeTensorRT, folder: Path) -> None:
    (config,) = rtx.configs
    assert config.num_compute_capabilities == 2
    assert config.architectures == {0: "SM80", 1: "SM89"}
    assert config.hardware_compatibility_level is None
    key = read_engine_card(folder / "model.engine").key
    assert (key.gpu, key.compute_capability, key.driver) == ("", "", "")
    assert {path.name for path in folder.iterdir()} == {"model.engine", "model.json", "build.log"}


def test_kernels_are_kept_beside_the_engine_for_the_next_load(rtx: FakeTensorRT, folder: Path) -> None:
    kernels = folder / "model.sm89.kernels"
    rtx.device = FakeDevice(**ADA)
    with TensorRTSession(folder, device=rtx.device) as session:
        assert session.backend.backend == "tensorrt-rtx"
        assert not kernels.exists()
        given = batch(5)
        assert right(session.run(given), given)
        assert kernels.read_bytes() == b"kernels"  # at once: a program that is killed loses nothing
        rtx.compiled = b"more kernels"
    assert kernels.read_bytes() == b"more kernels"
    assert rtx.deserialized == []
    rtx.device = FakeDevice(**ADA)
    with TensorRTSession(folder, device=rtx.device) as session:
        assert rtx.deserialized == [b"more kernels"]
        assert right(session.run(given), given)


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_kernels(
    rtx: FakeTensorRT, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model.sm89.kernels").mkdir()
    rtx.device = FakeDevice(**ADA)
    with TensorRTSession(folder, device=rtx.device) as session:
        given = batch(2)
        assert right(session.run(given), given)


@pytest.mark.parametrize(
    ("capability", "here"), [("9.0", "sm90"), ("8.6", "sm86"), ("12.0", "sm120")], ids=["hopper", "ampere", "blackwell"]
)
def test_another_architecture_is_refused_with_what_to_build(
    rtx: FakeTensorRT, folder: Path, capability: str, here: str
) -> None:
    with pytest.raises(
        DeviceError, match=rf"for sm80, sm89, but .* \({here}\); build it again .* --gpu {here}"
    ) as caught:
        TensorRTSession(folder, device=FakeDevice("NVIDIA Other", capability))
    assert "\n" not in str(caught.value)


def test_a_plan_is_judged_before_the_gpu(rtx: FakeTensorRT, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a machine without one learns of a broken file, and of another version, too."""
    monkeypatch.setattr("gloam.runtime.backends.tensorrt.session.open_device", lambda: pytest.fail("was asked"))
    rtx.__version__ = "1.8.0.1"
    with pytest.raises(DeviceError, match=r"of TensorRT for RTX 1\.7\.0\.1, but 1\.8\.0\.1 is here; build it again"):
        TensorRTSession(folder)
    plan = folder / "model.engine"
    plan.write_bytes(plan.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"truncated, 100 of .* build it again with `gloam engine --for rtx`"):
        TensorRTSession(folder)


def test_the_device_that_is_asked_for_is_the_engines(
    rtx: FakeTensorRT, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = rtx.device = FakeDevice(**ADA)
    monkeypatch.setattr("gloam.runtime.backends.tensorrt.session.open_device", lambda: gpu)
    for device in ("auto", "cuda", "tensorrt-rtx"):
        session = open_session(folder, Placement(device=device))
        assert session.backend.why == "the model is an engine of TensorRT for RTX"
    with pytest.raises(UsageError, match="is an engine of TensorRT for RTX; ask for --device tensorrt-rtx, or auto"):
        open_session(folder, Placement(device="tensorrt"))


def test_a_too_old_or_absent_library_is_named(rtx: FakeTensorRT, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rtx.__version__ = "1.0.0.21"
    with pytest.raises(UsageError, match=r"1\.0\.0\.21 is too old; pip install -U 'gloam\[tensorrt-rtx\]'"):
        TensorRTSession(folder)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(Exception, match=r"pip install 'gloam\[tensorrt-rtx\]'"):
        TensorRTSession(folder)


def test_without_a_driver_it_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gloam.runtime.backends.cuda.open import open_device

    monkeypatch.setattr("gloam.runtime.backends.tensorrt.session.open_device", open_device)
    monkeypatch.setattr("gloam.runtime.backends.cuda.driver.find_driver", lambda: Driver(None, [], "no NVIDIA driver"))
    with pytest.raises(DeviceError, match="no NVIDIA driver") as caught:
        TensorRTSession(folder)
    assert "\n" not in str(caught.value)


def test_an_engine_card_of_before_reads_as_tensorrts(trt: FakeTensorRT, onnx_file: Path, tmp_path: Path) -> None:
    """The new fields are stated only where they say something, so that engines that are there are used again."""
    build_engine(onnx_file, tmp_path / "e")
    stated = json.loads((tmp_path / "e" / "model.json").read_text())["key"]
    assert not {"target", "architectures"} & set(stated)
    assert read_engine_card(tmp_path / "e" / "model.engine").key.target == "tensorrt"
