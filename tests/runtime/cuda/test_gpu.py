"""On a machine with a CUDA GPU: both device layers, and ONNX Runtime's CUDA provider beside its CPU one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gloam.errors import DeviceError, MissingExtraError
from gloam.padding import PaddingProfile
from gloam.runtime.cuda.device import LAYERS, Device, open_device
from gloam.runtime.doctor import find_driver
from gloam.runtime.embedder import Embedder
from gloam.runtime.ort import available_backends
from gloam.runtime.sessions import open_session
from tests.fakes.cuda_packages import CudaRuntime
from tests.runtime.cuda.test_device import round_trip
from tests.tiny_models import write_tiny_embedder

pytestmark = pytest.mark.gpu


def real(layer: str) -> Device:
    try:
        return open_device(layer=layer)
    except (MissingExtraError, DeviceError) as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_round_trip_on_the_gpu(layer: str) -> None:
    device = real(layer)
    assert device.info.memory > 1 << 28
    assert device.info.name == find_driver().gpus[0].name
    round_trip(device)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_captured_copy_runs_again_with_new_content(layer: str) -> None:
    device = real(layer)
    with device.current():
        stream, memory = device.stream(), device.allocate(64)
        source, target = device.pinned(64), device.pinned(64)
        device.begin_capture(stream)
        device.copy_to_device(memory, source.array, stream)
        device.copy_to_host(target.array, memory, stream)
        graph = device.end_capture(stream)
        for value in (1, 2):
            source.array[...] = value
            device.launch(graph, stream)
            device.synchronize(stream)
            assert (target.array == value).all()
        for resource in (graph, memory, source, target, stream):
            device.release(resource)


@pytest.mark.parametrize("layer", LAYERS)
def test_too_much_memory_is_an_error_of_ours_and_the_gpu_goes_on(layer: str) -> None:
    device = real(layer)
    with device.current(), pytest.raises(MemoryError):
        device.allocate(1 << 50)
    round_trip(device)


def test_the_functions_of_the_fake_are_cuda_pythons() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    fake = CudaRuntime()
    names = [name for name in {*vars(fake), *vars(CudaRuntime)} if name.startswith("cuda")]
    assert [name for name in names if not hasattr(runtime, name)] == []
    for name in ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode"):
        for member in getattr(fake, name):
            assert int(getattr(getattr(runtime, name), member.name)) == int(member)


@pytest.mark.parametrize("profile", ["dynamic", "fixed"])
def test_cuda_and_cpu_agree_in_fp32(tmp_path: Path, profile: str) -> None:
    if find_driver().problem or not any(row["listed"] for row in available_backends() if row["device"] == "cuda"):
        pytest.skip("no CUDA provider in this ONNX Runtime, or no GPU")
    chosen = PaddingProfile.fixed((256,), (256,)) if profile == "fixed" else None
    write_tiny_embedder(tmp_path / "m.onnx", chosen)
    session = open_session(tmp_path / "m.onnx", "cuda")
    assert "CUDAExecutionProvider" in session.backend["providers"]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((200, 130), (64, 256), (33, 77))]
    np.testing.assert_allclose(Embedder(session)(images), Embedder.load(tmp_path / "m.onnx")(images), atol=1e-5)
    automatic = open_session(tmp_path / "m.onnx", "auto")
    assert automatic.backend["device"] == "cuda"
