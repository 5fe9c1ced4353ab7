"""On a machine with a CUDA GPU: both device layers, ONNX Runtime's GPU providers, and engines, beside the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gloam.data.sources import find_images
from gloam.errors import DeviceError, MissingExtraError
from gloam.export.embedder import export_embedder
from gloam.export.engine.build import build_engine
from gloam.export.precision.convert import Precision, convert_precision
from gloam.networks.embedders import create_embedder
from gloam.padding import PaddingProfile
from gloam.runtime.backends.cuda.device import Device
from gloam.runtime.backends.cuda.driver import find_driver
from gloam.runtime.backends.cuda.open import LAYERS, open_device
from gloam.runtime.backends.open import open_session
from gloam.runtime.backends.ort import available_backends
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.tensorrt.session import TensorRTSession
from gloam.runtime.bulk.extract import extract
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from tests.fakes.cuda_packages import CudaRuntime
from tests.runtime.backends.cuda.test_device import round_trip
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
    session = open_session(tmp_path / "m.onnx", Placement("cuda"))
    assert "CUDAExecutionProvider" in session.backend.providers
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((200, 130), (64, 256), (33, 77))]
    np.testing.assert_allclose(Embedder(session)(images), Embedder.load(tmp_path / "m.onnx")(images), atol=1e-5)
    automatic = open_session(tmp_path / "m.onnx", Placement("auto"))
    assert automatic.backend.device == "cuda"


def needs_provider(device: str) -> None:
    if find_driver().problem or not any(row["listed"] for row in available_backends() if row["device"] == device):
        pytest.skip(f"no {device} provider in this ONNX Runtime, or no GPU")


def photographs() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((200, 130), (64, 256))]


def write_strong_embedder(path: Path) -> None:
    """Activations of 40 and more, whose cubes are beyond fp16."""
    torch.manual_seed(0)
    model = create_embedder("gem_vgg16", stages=[[8, 1]] * 5).eval()
    with torch.no_grad():
        next(layer for layer in reversed(list(model.features)) if isinstance(layer, nn.Conv2d)).weight.mul_(200)
    export_embedder(model, path, profile=PaddingProfile.fixed((256,), (256,), (1, 2)), provenance={})


def test_half_precision_on_the_gpu_overflows_nowhere(tmp_path: Path) -> None:
    """On the CPU the twin says so; here the GPU itself."""
    needs_provider("cuda")
    write_strong_embedder(tmp_path / "m.onnx")
    convert_precision(tmp_path / "m.onnx", tmp_path / "half.onnx", "fp16", accept=True)
    exact = Embedder.load(tmp_path / "m.onnx")(photographs())
    half = Embedder.load(tmp_path / "half.onnx", Placement(device="cuda"))(photographs())
    assert (half * exact).sum(1).min() > 0.999


def test_a_store_made_on_the_gpu_is_that_of_the_cpu(tmp_path: Path) -> None:
    needs_provider("cuda")
    write_tiny_embedder(tmp_path / "m.onnx", PaddingProfile.fixed((256,), (256,), (1, 8)))
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 256, (100 + number, 120, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number:02d}.png")
    items = find_images(photos)
    stores = {}
    for device in ("cpu", "cuda"):
        summary = extract(items, Embedder.load(tmp_path / "m.onnx", Placement(device=device)), tmp_path / device)
        assert (summary.described, summary.failed) == (20, 0)
        stores[device] = DescriptorStore.open(tmp_path / device).load()
    np.testing.assert_allclose(stores["cuda"], stores["cpu"], atol=2e-3)  # stored in float16


def test_the_tensorrt_provider_agrees_with_the_cpu(tmp_path: Path) -> None:
    needs_provider("tensorrt")
    write_tiny_embedder(tmp_path / "m.onnx", PaddingProfile.fixed((256,), (256,), (1, 4)))
    try:
        session = open_session(tmp_path / "m.onnx", Placement("tensorrt"))
    except (DeviceError, MissingExtraError) as error:
        pytest.skip(str(error))
    expected = Embedder.load(tmp_path / "m.onnx")(photographs())
    np.testing.assert_allclose(Embedder(session)(photographs()), expected, atol=1e-4)
    assert any((tmp_path / "m.trt").iterdir())


@pytest.mark.parametrize("graphs", [False, True])
def test_an_engine_is_built_and_agrees_with_the_cpu(tmp_path: Path, graphs: bool) -> None:
    pytest.importorskip("tensorrt")
    real(LAYERS[-1])
    write_tiny_embedder(tmp_path / "m.onnx", PaddingProfile.fixed((256,), (256, 512), (1, 4)))
    build_engine(tmp_path / "m.onnx", tmp_path / "engine")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (100 + row, 200 + 10 * row, 3), dtype=np.uint8) for row in range(9)]
    expected = Embedder.load(tmp_path / "m.onnx")(images)
    with TensorRTSession(tmp_path / "engine", cuda_graphs=graphs) as session:
        for _ in range(2):  # the second run launches captured graphs
            np.testing.assert_allclose(Embedder(session)(images), expected, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_engine_in_half_precision_agrees_with_float32(tmp_path: Path, precision: Precision) -> None:
    pytest.importorskip("tensorrt")
    real(LAYERS[-1])
    write_strong_embedder(tmp_path / "m.onnx")
    convert_precision(tmp_path / "m.onnx", tmp_path / "half.onnx", precision, accept=True)
    build_engine(tmp_path / "half.onnx", tmp_path / "engine")
    exact = Embedder.load(tmp_path / "m.onnx")(photographs())
    with TensorRTSession(tmp_path / "engine") as session:
        half = Embedder(session)(photographs())
    assert (half * exact).sum(1).min() > 0.999
