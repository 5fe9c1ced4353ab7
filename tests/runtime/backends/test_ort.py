"""Arrays that stay on the device give what the plain run gives; a GPU whose memory runs out gets smaller batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from gloam.errors import DeviceError, ModelError
from gloam.padding import PaddingProfile
from gloam.runtime.backends import ort as ort_module
from gloam.runtime.backends.cuda.device import DeviceMemoryError
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.ort_binding import BoundRunner
from gloam.runtime.models.embedder import Embedder
from tests.tiny_models import write_tiny_embedder


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("native") / "m.onnx"
    write_tiny_embedder(path)
    return path


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("padded") / "m.onnx"
    write_tiny_embedder(path, PaddingProfile.fixed((256, 512), (256,), (1, 4)))
    return path


def images(rows: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, height, width, 3), dtype=np.uint8)


def plain(path: Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_bound_arrays_give_what_the_plain_run_gives(native: Path) -> None:
    session = plain(native)
    name = session.get_outputs()[0].name
    runner = BoundRunner(onnxruntime, session, "cpu", kept=2)
    kept = []
    for seed, shape in enumerate([(1, 64, 48), (2, 40, 40), (1, 64, 48), (3, 33, 70), (2, 40, 40)]):
        inputs = {"images": images(*shape, seed)}
        (found,) = runner.run([name], inputs)
        (expected,) = session.run([name], inputs)
        np.testing.assert_array_equal(found, expected)
        kept.append((found, expected))
        assert len(runner._bound) <= 2
    for found, expected in kept:  # a later run of the same shape leaves earlier results alone
        np.testing.assert_array_equal(found, expected)


def test_a_view_of_an_image_is_read_in_its_own_order(native: Path) -> None:
    session = plain(native)
    name = session.get_outputs()[0].name
    inputs = {"images": images(1, 48, 64)[:, ::-1, ::2]}
    (found,) = BoundRunner(onnxruntime, session, "cpu").run([name], inputs)
    (expected,) = session.run([name], {"images": np.ascontiguousarray(inputs["images"])})
    np.testing.assert_array_equal(found, expected)


class SmallGpu(BoundRunner):
    """Room for a few images at a time."""

    room = 2

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ran: list[int] = []

    def run(self, names: Any, inputs: Any) -> list[Any]:
        rows = len(next(iter(inputs.values())))
        self.ran.append(rows)
        if rows > self.room:
            raise RuntimeError("[ONNXRuntimeError] : 6 : BFCArena::AllocateRawInternal Failed to allocate memory")
        return super().run(names, inputs)


def on_small_gpu(path: Path, room: int) -> OrtSession:
    session = OrtSession(path)
    session._bound = SmallGpu(onnxruntime, session._session, "cpu")
    session._bound.room = room
    return session


def test_a_gpu_without_room_gets_smaller_batches_and_nothing_is_lost(padded: Path) -> None:
    rows = [images(1, 100 + row, 90, row)[0] for row in range(4)]
    session = on_small_gpu(padded, room=2)
    np.testing.assert_array_equal(Embedder(session)(rows), Embedder(OrtSession(padded))(rows))
    assert session._bound.ran == [4, 2, 2]
    assert session.backend.reduced == {"256x256": 2}
    Embedder(session)(rows)
    assert session._bound.ran[3:] == [2, 2]  # not tried again


def test_not_even_one_image_is_one_line(padded: Path) -> None:
    with pytest.raises(DeviceMemoryError, match="no room for one image of 256x256"):
        Embedder(on_small_gpu(padded, room=0))([images(1, 100, 90)[0]])


def test_a_host_without_room_says_so_too(padded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = OrtSession(padded)

    class Full:
        def run(self, *_: Any) -> Any:
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc")

    monkeypatch.setattr(session, "_session", Full())
    with pytest.raises(DeviceMemoryError, match="memory has no room for one image of 256x256; use a smaller"):
        Embedder(session)([images(1, 100, 90)[0]])


def test_other_failures_are_not_taken_for_a_lack_of_memory(padded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = on_small_gpu(padded, room=4)
    monkeypatch.setattr(session._bound, "run", lambda names, inputs: (_ for _ in ()).throw(RuntimeError("bad node")))
    with pytest.raises(ModelError, match=r"tiny: the model failed on 256x256 \(bad node\)"):
        Embedder(session)([images(1, 100, 90)[0]])


def test_the_providers_of_a_gpu_are_exact_and_know_the_shapes(padded: Path, native: Path) -> None:
    (first, exact), (second, _) = ort_module._providers("cuda", native, read_card(native))
    assert (first, second) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert exact["use_tf32"] == "0"
    (name, options), *rest = ort_module._providers("tensorrt", padded, read_card(padded))
    assert name == "TensorrtExecutionProvider"
    assert [provider for provider, _ in rest] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert options["trt_profile_min_shapes"] == "images:1x256x256x3,sizes:1x2,images:1x512x256x3,sizes:1x2"
    assert options["trt_profile_max_shapes"] == "images:4x256x256x3,sizes:4x2,images:4x512x256x3,sizes:4x2"
    assert options["trt_engine_cache_path"] == str(padded.with_name("m.trt"))
    with pytest.raises(ModelError, match="export it with --profile fixed"):
        OrtSession(native, device="tensorrt")


def test_a_device_that_is_not_active_is_refused(padded: Path) -> None:
    if "TensorrtExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime may have the provider")
    with pytest.raises(DeviceError, match="only CPUExecutionProvider is active"):
        OrtSession(padded, device="tensorrt")
