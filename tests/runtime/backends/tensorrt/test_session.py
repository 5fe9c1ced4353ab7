"""An engine runs as its card says on a device that refuses misuse, and what it is not is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.errors import DeviceError, ImageError, ModelError, UsageError
from gloam.export.engine.build import build_engine
from gloam.export.engine.options import BuildOptions
from gloam.files import sha256_bytes
from gloam.model_card import SelfTest
from gloam.padding import PaddingProfile
from gloam.runtime.backends.cuda.device import DeviceMemoryError
from gloam.runtime.backends.cuda.driver import Driver
from gloam.runtime.backends.open import open_session
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.tensorrt.engine_card import EngineCard, read_engine_card, read_plan
from gloam.runtime.backends.tensorrt.session import TensorRTSession
from gloam.runtime.models.embedder import Embedder
from tests.damage import named_or_harmless
from tests.fakes.cuda import FakeDevice, expected_sums
from tests.fakes.tensorrt import ONNX_TYPES, FakeTensorRT
from tests.runtime.backends.tensorrt.batches import Batch, batch, right
from tests.tiny_models import DIMENSION


@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
@pytest.mark.parametrize("contexts", [1, 2, 3])
def test_every_row_is_right_whatever_the_batch_shape_and_order(engine: Path, contexts: int, graphs: bool) -> None:
    with TensorRTSession(engine, contexts=contexts, cuda_graphs=graphs, batch=4) as session:
        for seed, (rows, height, width) in enumerate([(1, 256, 256), (11, 256, 512), (4, 512, 256), (11, 256, 512)]):
            given = batch(rows, height, width, seed)
            assert right(session.run(given), given)


@pytest.mark.parametrize("activations", ["none", "profile"])
def test_activation_memory_is_asked_of_the_shapes_then_of_the_profile(
    engine: Path, trt: FakeTensorRT, activations: str
) -> None:
    trt.activations = activations
    with TensorRTSession(engine) as session:
        given = batch(5)
        assert right(session.run(given), given)


@pytest.mark.parametrize("contexts", [1, 2])
def test_several_contexts_are_at_work_at_one_time(engine: Path, gpu: FakeDevice, contexts: int) -> None:
    with TensorRTSession(engine, contexts=contexts, batch=2) as session:
        given = batch(12)
        assert right(session.run(given), given)
    assert gpu.most_busy == contexts


def test_a_graph_is_captured_once_per_shape_and_batch_and_launched_afterwards(
    engine: Path, trt: FakeTensorRT, gpu: FakeDevice
) -> None:
    with TensorRTSession(engine, contexts=1, cuda_graphs=True) as session:
        for seed in range(3):
            given = batch(4, seed=seed)
            assert right(session.run(given), given)
        assert gpu.launched_graphs == 2  # the first run captures
        assert trt.contexts == 1
        for seed in range(2):  # another batch: a context and a graph of its own
            given = batch(8, seed=seed)
            assert right(session.run(given), given)
        given = batch(4, seed=9)  # memory has grown meanwhile, so the old graph must be gone
        assert right(session.run(given), given)
        assert session.backend.cuda_graphs is True


def test_a_model_that_cannot_be_captured_runs_without_graphs_and_says_so(
    engine: Path, gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(stream: Any) -> None:
        raise DeviceError("a host function cannot be captured")

    monkeypatch.setattr(gpu, "begin_capture", refuse)
    with TensorRTSession(engine, cuda_graphs=True) as session:
        for seed in range(2):
            given = batch(3, seed=seed)
            assert right(session.run(given), given)
        assert "host function" in session.backend.cuda_graphs


def test_buffers_are_kept_from_run_to_run_and_given_back_at_the_end(engine: Path, gpu: FakeDevice) -> None:
    with TensorRTSession(engine) as session:
        session.run(batch(8))
        held = gpu.used
        session.run(batch(8, seed=1))
        session.run(batch(3, seed=2))
        assert gpu.used == held > 0
    assert gpu.used == 0
    with pytest.raises(UsageError, match="closed"):
        session.run(batch(1))


def test_a_batch_smaller_than_the_engine_takes_is_filled_up(engine: Path, onnx_file: Path, tmp_path: Path) -> None:
    build_engine(onnx_file, tmp_path / "four", BuildOptions(batch=(4, 4, 8)))
    with TensorRTSession(tmp_path / "four") as session:
        for rows in (1, 4, 9):
            given = batch(rows, seed=rows)
            assert right(session.run(given), given)


def test_out_of_memory_halves_the_batch_and_loses_nothing(engine: Path, trt: FakeTensorRT, gpu: FakeDevice) -> None:
    with TensorRTSession(engine, contexts=2) as session:
        given = batch(20)
        assert right(session.run(given), given)
        trt.out_of_memory_above = 3  # something else takes the memory in the middle of the work
        assert right(session.run(given), given)
        assert session.backend.reduced == {"512x256": 2}
        other = batch(5, 256, 256)
        assert right(session.run(other), other)
    trt.out_of_memory_above = 1 << 30
    one = 256 * 512 * 3
    small = FakeDevice(memory=5 * one)  # two images, their activations, and little else
    with TensorRTSession(engine, device=small, contexts=1) as session:
        trt.device = small
        assert right(session.run(given), given)
        assert session.backend.reduced == {"512x256": 2}
    half = FakeDevice(memory=6 * one)  # the second context finds no room while the first one is at work
    with TensorRTSession(engine, device=half, contexts=2, batch=2) as session:
        trt.device = half
        assert right(session.run(given), given)
        assert session.backend.reduced == {"512x256": 1}
    none = FakeDevice(memory=one)
    trt.device = none
    session = TensorRTSession(engine, device=none)
    with pytest.raises(DeviceMemoryError, match="no room for a batch of 1 at 512x256") as caught:
        session.run(given)
    assert "\n" not in str(caught.value)
    assert session.backend.contexts == 1  # that was tried, too


def test_memory_errors_of_one_picture_do_not_end_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from gloam.runtime.models.conditions import Conditions
    from gloam.runtime.models.image_model import ImageModel

    class Full:
        def run(self, inputs: Batch) -> Batch:
            raise DeviceMemoryError("no room")

    model = object.__new__(ImageModel)
    model.session = Full()  # type: ignore[assignment]
    spec = type("Spec", (), {"name": "images"})
    facts = {"inputs": [spec], "name": "m", "profile": PaddingProfile.dynamic()}
    model.card = type("Card", (), facts)  # type: ignore[assignment]
    model.conditions = Conditions()
    with pytest.raises(ImageError, match="does not fit into memory"):
        model._run(np.zeros((1, 8, 8, 3), np.uint8), [np.zeros((8, 8, 3), np.uint8)])


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    assert len(str(error)) < 600
    return str(error)


def test_bad_engines_are_refused_in_one_line(engine: Path, onnx_file: Path) -> None:
    plan, card = engine / "model.engine", engine / "model.json"
    content, text = plan.read_bytes(), card.read_text()

    def refused(reason: str, kind: type[Exception] = ModelError, **options: Any) -> None:
        with pytest.raises(kind, match=reason) as caught:
            TensorRTSession(plan, **options)
        one_line(caught.value)

    plan.write_bytes(content[: len(content) // 2])
    refused("truncated")
    plan.write_bytes(content[:-1] + b"x")
    refused("not the engine that its card describes")
    value = json.loads(text)
    value |= {"plan_sha256": sha256_bytes(content[:-1] + b"x")}
    card.write_text(json.dumps(value))
    refused("TensorRT cannot read the engine.*magic tag", DeviceError)
    plan.write_bytes(content)
    card.write_text(text[: len(text) // 2])
    refused("card is not readable")
    card.write_text(text.replace('"NVIDIA Fake"', '"NVIDIA Other"'))
    refused("damaged or changed after it was written")
    card.write_text(json.dumps(json.loads(text)).replace('"NVIDIA Fake"', '"NVIDIA Other"'))
    refused("changed after the build")
    card.write_text(json.dumps(json.loads(text) | {"schema": 9}))
    refused("schema 9")
    card.unlink()
    refused("card, is not beside it")
    card.write_text(text)
    refused("of the model .* but 000000000000 is asked for", fingerprint="0" * 64)
    assert TensorRTSession(plan).fingerprint == OrtSession(onnx_file).fingerprint
    refused("batch of 1 or more", UsageError, contexts=0)
    plan.unlink()
    refused("no such engine")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("BF16", "'descriptors' is of type .*BF16, which has no numpy type"), ("HALF", "float16 in the engine, float32")],
)
def test_an_engine_of_other_types_than_the_cards_is_refused(
    trt: FakeTensorRT, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, reason: str
) -> None:
    monkeypatch.setitem(ONNX_TYPES, 1, kind)
    build_engine(onnx_file, tmp_path / "e")
    with pytest.raises(ModelError, match=reason) as caught:
        TensorRTSession(tmp_path / "e")
    one_line(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda plan: plan["tensors"][-1].update(tail=[7]), r"'descriptors' is \[-1, 7\] in the engine, \[batch, "),
        (lambda plan: plan["tensors"][-1].update(tail=[2, 3]), r"'descriptors' is \[-1, 2, 3\] in the engine"),
        (lambda plan: plan["tensors"][-1].update(name="logits"), "'logits' is an output of the engine, absent in the "),
        (lambda plan: plan["tensors"][0].update(tail=[0, 0, 1]), r"'images' is \[-1, -1, -1, 1\] in the engine"),
        (lambda plan: plan["tensors"][0].update(type="INT8"), "'images' is int8 in the engine, uint8 in the card"),
        (lambda plan: plan["tensors"][1].update(input=False), "'sizes' is an output of the engine, an input in"),
        (lambda plan: plan["tensors"].pop(1), "'sizes' is absent in the engine, int32 in the card"),
        (lambda plan: plan["profiles"].pop(), r"takes 256x256, 512x256, 256x512, its card states .*, 512x512"),
        (lambda plan: plan["profiles"][0]["images"][2].__setitem__(0, 9), r"'images' goes from \[1, .* to \[9, 256"),
        (lambda plan: plan["profiles"][0]["sizes"][2].__setitem__(0, 9), r"'sizes' goes from .* to \[9, 2\] in the "),
    ],
)
def test_an_engine_of_other_tensors_than_the_cards_is_refused(
    engine: Path, change: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    plan, card = engine / "model.engine", engine / "model.json"
    value = json.loads(plan.read_bytes()[:-4])
    change(value)
    content = json.dumps(value).encode()
    content += zlib.crc32(content).to_bytes(4, "big")
    plan.write_bytes(content)
    stated = {"plan_sha256": sha256_bytes(content), "plan_bytes": len(content)}
    card.write_text(json.dumps(json.loads(card.read_text()) | stated))
    with pytest.raises(ModelError, match=reason) as caught:
        TensorRTSession(engine)
    assert str(plan) in one_line(caught.value)


def test_a_flipped_bit_of_an_engines_files_is_named(engine: Path) -> None:
    def read() -> EngineCard:
        card = read_engine_card(engine / "model.engine")
        read_plan(engine / "model.engine", card)
        return card

    assert named_or_harmless(engine / "model.json", read, 40) >= 39  # the last byte may be another blank
    assert named_or_harmless(engine / "model.engine", read, 10) == 10


def test_engines_of_another_machine_are_refused_unless_built_to_be_compatible(
    engine: Path, onnx_file: Path, trt: FakeTensorRT, tmp_path: Path
) -> None:
    def opened(folder: Path, name: str, capability: str) -> str | None:
        device = FakeDevice(name, capability)
        trt.device = device
        try:
            with TensorRTSession(folder, device=device) as session:
                given = batch(2)
                assert right(session.run(given), given)
        except DeviceError as error:
            return one_line(error)
        return None

    assert opened(engine, "NVIDIA Fake", "9.0") is None
    assert "this machine has NVIDIA Other (9.0)" in str(opened(engine, "NVIDIA Other", "9.0"))
    assert "this machine has NVIDIA Fake (8.6)" in str(opened(engine, "NVIDIA Fake", "8.6"))
    build_engine(onnx_file, tmp_path / "same", BuildOptions(hardware="compute-capability"))
    build_engine(onnx_file, tmp_path / "ampere", BuildOptions(hardware="ampere-plus"))
    assert opened(tmp_path / "same", "NVIDIA Other", "9.0") is None
    assert opened(tmp_path / "same", "NVIDIA Other", "8.6") is not None
    assert opened(tmp_path / "ampere", "NVIDIA Other", "8.6") is None
    assert opened(tmp_path / "ampere", "NVIDIA Old", "7.5") is not None


def test_engines_of_another_tensorrt_are_refused_unless_built_to_be_compatible(
    engine: Path, onnx_file: Path, trt: FakeTensorRT, tmp_path: Path
) -> None:
    build_engine(onnx_file, tmp_path / "lasting", BuildOptions(version_compatible=True))
    major, minor, *_ = trt.__version__.split(".")
    trt.__version__ = f"{major}.{int(minor) + 1}.0"
    with pytest.raises(DeviceError, match=f"but {major}.{int(minor) + 1}.0 is here") as caught:
        TensorRTSession(engine)
    one_line(caught.value)
    given = batch(2)
    assert right(TensorRTSession(tmp_path / "lasting").run(given), given)  # the reader allowed its host code
    for version in (f"{major}.{int(minor) - 1}.0", f"{int(major) + 1}.0.0"):
        trt.__version__ = version
        with pytest.raises(DeviceError, match="is here"):
            TensorRTSession(tmp_path / "lasting")


def test_shapes_and_types_that_the_engine_lacks_are_refused(engine: Path) -> None:
    session = TensorRTSession(engine)
    with pytest.raises(ModelError, match="768x256 is outside the engine's shapes"):
        session.run(batch(1, 256, 768))
    with pytest.raises(UsageError, match="must be uint8, not float32"):
        session.run(batch(1) | {"images": np.zeros((1, 256, 256, 3), np.float32)})
    with pytest.raises(ModelError, match=r"'sizes' must be \[1, 2\]"):
        session.run(batch(1) | {"sizes": np.ones((2, 2), np.int32)})
    with pytest.raises(UsageError, match="inputs images given, images, sizes needed"):
        session.run({"images": batch(1)["images"]})
    with pytest.raises(UsageError, match="without images"):
        session.run(batch(0))


def test_without_a_driver_tensorrt_is_not_touched(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Untouchable:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError("its runtime would end the process")

    monkeypatch.setitem(sys.modules, "tensorrt", Untouchable())
    monkeypatch.setattr("gloam.runtime.backends.cuda.driver.find_driver", lambda: Driver(None, [], "no NVIDIA driver"))
    with pytest.raises(DeviceError, match="no NVIDIA driver") as caught:
        TensorRTSession(engine)
    one_line(caught.value)


def test_a_runtime_that_does_not_start_is_one_line(engine: Path, trt: FakeTensorRT) -> None:
    trt.starts = False
    with pytest.raises(DeviceError, match=r"could not start its runtime .CUDA initialization failure") as caught:
        TensorRTSession(engine)
    one_line(caught.value)


def test_tensorrt_that_is_absent_or_too_old_is_named(
    engine: Path, trt: FakeTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt.__version__ = "8.6.1"
    with pytest.raises(UsageError, match=r"8\.6\.1 is too old"):
        TensorRTSession(engine)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(Exception, match=r"gloam\[tensorrt\]"):
        TensorRTSession(engine)


def test_embedders_load_an_engine_by_folder_or_file(engine: Path, onnx_file: Path) -> None:
    for path in (engine, engine / "model.engine"):
        embedder = Embedder.load(path, Placement(device="auto"))
        assert embedder.session.backend.backend == "tensorrt"
        assert embedder.session.backend.why == "the model is a TensorRT engine"
        assert embedder.space == Embedder.load(onnx_file).space
        assert embedder.fingerprint == Embedder.load(onnx_file).fingerprint
        image = batch(1)["images"][0, :200, :300]
        given = {"images": np.zeros((1, 256, 512, 3), np.uint8), "sizes": np.array([[200, 300]], np.int32)}
        given["images"][0, :200, :300] = image
        assert np.array_equal(embedder([image]), expected_sums(given["images"], given["sizes"], DIMENSION))
    with pytest.raises(DeviceError, match="runs on a GPU alone"):
        open_session(engine)


def test_an_engine_of_fewer_shapes_narrows_the_card(engine: Path, onnx_file: Path, tmp_path: Path) -> None:
    build_engine(onnx_file, tmp_path / "one", BuildOptions(heights=(512,), batch=(1, 2, 4)))
    embedder = Embedder(TensorRTSession(tmp_path / "one"))
    assert embedder.batch_size == 4
    assert embedder.shape_for(np.zeros((100, 100, 3), np.uint8)) == (512, 256)
    card = read_engine_card(tmp_path / "one" / "model.engine")
    assert dataclasses.replace(card.session_card(), profile=card.model.profile).space() == card.model.space()
    built, of_another_shape, of_more_images = (
        SelfTest(shape, (shape[1:],) * shape[0], (0.5,)) for shape in ((2, 512, 256), (2, 256, 256), (5, 512, 256))
    )
    for other in (of_another_shape, of_more_images):
        tested = dataclasses.replace(card.model, selftest=other, selftest_larger=built)
        assert dataclasses.replace(card, model=tested).session_card().selftests == (built,)
