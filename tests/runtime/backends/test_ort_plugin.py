"""``--device tensorrt-rtx``: ONNX Runtime's plugin is registered and lists a GPU, or it is refused; never the CPU."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from gloam.errors import DeviceError, MissingExtraError, ModelError
from gloam.padding import PaddingProfile
from gloam.runtime.backends import ort as ort_module
from gloam.runtime.backends import ort_plugin
from gloam.runtime.backends.cuda.driver import Driver, Gpu
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.open import open_session
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.placement import Placement
from tests.tiny_models import write_tiny_embedder

GPU = Driver("13.0", [Gpu("NVIDIA Ada", "8.9")])


class Runtime:
    """What of ONNX Runtime a plugin needs; devices are listed once it is registered."""

    __version__ = "1.32.0"

    def __init__(self, devices: int, problem: str | None = None) -> None:
        self.devices, self.problem = devices, problem
        self.registered: list[tuple[str, str]] = []

    def register_execution_provider_library(self, name: str, path: str) -> None:
        if self.problem is not None:
            raise RuntimeError(self.problem)
        self.registered.append((name, path))

    def get_ep_devices(self) -> list[Any]:
        own = [
            types.SimpleNamespace(ep_name=ort_plugin.PROVIDER) for _ in range(self.devices if self.registered else 0)
        ]
        return [types.SimpleNamespace(ep_name="CPUExecutionProvider"), *own]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The plugin's package on a machine with a GPU; what of it is loaded, in order."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "libcudart.so.12.9.79").write_text("")
    module = types.ModuleType(ort_plugin.PACKAGE)
    module.__file__ = str(folder / "__init__.py")
    loaded: list[str] = []
    module.get_library_path = lambda: loaded.append("plugin") or str(folder / "plugin.so")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, ort_plugin.PACKAGE, module)
    monkeypatch.setattr("gloam.runtime.backends.cuda.driver.find_driver", lambda: GPU)
    monkeypatch.setattr(ort_plugin.ctypes, "CDLL", lambda path, mode: loaded.append(Path(path).name))
    return loaded


@pytest.fixture
def padded(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    write_tiny_embedder(path, PaddingProfile.fixed((256,), (256, 512), batch=(1, 4)))
    return path


def one_line(error: BaseException) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 600


def test_without_a_driver_it_is_refused_before_anything_is_loaded(
    padded: Path, package: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gloam.runtime.backends.cuda.driver.find_driver", lambda: Driver(None, [], "no NVIDIA driver"))
    with pytest.raises(DeviceError, match="no NVIDIA driver") as caught:
        open_session(padded, Placement(device="tensorrt-rtx"))
    one_line(caught.value)
    assert package == []


def test_its_cuda_runtime_is_loaded_first_and_it_is_registered_once(package: list[str]) -> None:
    runtime = Runtime(2)
    for _ in range(2):
        assert len(ort_plugin.plugin_devices(runtime)) == 2
    assert package == ["libcudart.so.12.9.79", "plugin"]
    assert [name for name, _ in runtime.registered] == [ort_plugin.PROVIDER]


def test_a_plugin_without_a_gpu_is_refused(package: list[str]) -> None:
    with pytest.raises(DeviceError, match="lists no GPU; it needs one of Ampere or later") as caught:
        ort_plugin.plugin_devices(Runtime(0))
    one_line(caught.value)


def test_a_plugin_that_does_not_load_says_why(package: list[str]) -> None:
    problem = "Failed to load library x.so with error:\n libcuda.so.1: cannot open shared object file"
    with pytest.raises(DeviceError, match=r"does not load \(Failed .* libcuda\.so\.1: cannot open") as caught:
        ort_plugin.plugin_devices(Runtime(1, problem))
    one_line(caught.value)


def test_an_onnx_runtime_without_plugins_is_named(package: list[str]) -> None:
    with pytest.raises(DeviceError, match=r"1\.22\.0 takes no plugins; pip install 'onnxruntime>=1\.24'"):
        ort_plugin.plugin_devices(types.SimpleNamespace(__version__="1.22.0"))


def test_an_absent_package_is_named(package: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, ort_plugin.PACKAGE, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gloam\[tensorrt-rtx-plugin\]'"):
        ort_plugin.plugin_devices(Runtime(1))


def test_the_plugin_is_told_every_shape(padded: Path) -> None:
    options = ort_module._rtx_options(read_card(padded), padded)
    assert options["nv_profile_min_shapes"] == "images:1x256x256x3,sizes:1x2,images:1x256x512x3,sizes:1x2"
    assert options["nv_profile_max_shapes"] == "images:4x256x256x3,sizes:4x2,images:4x256x512x3,sizes:4x2"
    assert options["nv_multi_profile_enable"] == "1"
    assert options["nv_runtime_cache_path"] == str(padded.with_name("m.rtx"))


def test_a_session_that_fell_back_to_the_cpu_is_refused(
    padded: Path, package: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin that lists a device and then takes nothing of the model is no better than none."""
    given: list[dict[str, str]] = []
    monkeypatch.setattr(ort_module, "add_plugin", lambda ort, session, options: given.append(options))
    with pytest.raises(
        DeviceError, match="'tensorrt-rtx' was asked for, but only CPUExecutionProvider is active"
    ) as caught:
        OrtSession(padded, device="tensorrt-rtx")
    one_line(caught.value)
    assert len(given) == 1


def test_native_sizes_are_refused(tmp_path: Path, package: list[str]) -> None:
    write_tiny_embedder(tmp_path / "n.onnx")
    with pytest.raises(ModelError, match="export it with --profile fixed"):
        OrtSession(tmp_path / "n.onnx", device="tensorrt-rtx")


def test_the_names_that_are_used_are_onnx_runtimes_own() -> None:
    for name in ("register_execution_provider_library", "get_ep_devices"):
        assert callable(getattr(onnxruntime, name))
    assert callable(onnxruntime.SessionOptions().add_provider_for_devices)
    assert all(hasattr(device, "ep_name") for device in onnxruntime.get_ep_devices())
