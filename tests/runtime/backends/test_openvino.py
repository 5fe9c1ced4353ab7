"""OpenVINO runs the same file in a stated precision, several images at once, and agrees with ONNX Runtime."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import openvino as library
import pytest
from PIL import Image

from gloam.data.sources import find_images
from gloam.errors import DeviceError, IncompatibleError, ModelError, UsageError
from gloam.model_card import METADATA_KEY
from gloam.padding import PaddingProfile
from gloam.runtime.backends import openvino
from gloam.runtime.backends.openvino import OpenVinoSession
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.bulk.pictures import PictureOptions, run_images
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.translator import Translator
from tests.tiny_models import write_tiny_embedder
from tests.tiny_translators import write_tiny_translator


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_tiny_embedder(tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


def images(*sizes: tuple[int, int]) -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def write_images(folder: Path, count: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        height, width = rng.integers(33, 70, 2)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{number:03d}.png")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_convolution(path: Path) -> Path:
    """The tiny embedder behind a convolution that changes nothing, for what is said of convolutions."""
    proto = onnx.load(path)
    nodes, helper = list(proto.graph.node), onnx.helper
    nodes[1].input[0] = "back"
    nodes[1:1] = [
        helper.make_node("Transpose", ["float"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels", "kernel"], ["same"]),
        helper.make_node("Transpose", ["same"], ["back"], perm=[0, 2, 3, 1]),
    ]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    kernel = np.eye(3, dtype=np.float32)[..., None, None]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "kernel"))
    onnx.save(proto, path.with_name("conv.onnx"))
    return path.with_name("conv.onnx")


@pytest.mark.parametrize("profile", [None, PaddingProfile.fixed((256,), (256,))], ids=["dynamic", "fixed"])
def test_agrees_with_onnx_runtime_at_any_size(tmp_path: Path, profile: PaddingProfile | None) -> None:
    write_tiny_embedder(tmp_path / "m.onnx", profile)
    batch = images((40, 50), (60, 33), (40, 50), (33, 33), (201, 64))
    found = Embedder(OpenVinoSession(tmp_path / "m.onnx"))
    plain = Embedder(OrtSession(tmp_path / "m.onnx"))
    np.testing.assert_allclose(found(batch), plain(batch), atol=1e-6)
    assert (found.fingerprint, found.space) == (plain.fingerprint, plain.space)
    assert found.batch_size == plain.batch_size
    assert found.card == plain.card


def test_what_runs_is_read_back(model: Path) -> None:
    session = OpenVinoSession(with_convolution(model), threads=1)
    stated = {
        "backend": "openvino",
        "device": "cpu",
        "providers": ["CPU"],
        "threads": 1,
        "requests": 1,
        "precision": "fp32",
        "inference_precision": "f32",
        "convolutions": {"f32": 1},
    }
    assert {name: session.backend.to_dict()[name] for name in stated} == stated
    difference, tolerance = run_selftest(session)
    assert difference <= tolerance
    both = OpenVinoSession(model, threads=min(2, len(os.sched_getaffinity(0))))
    assert both.backend.requests == both.backend.threads


def test_bf16_is_refused_where_the_processor_has_none(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "capabilities", lambda core: ["FP32", "INT8"])
    with pytest.raises(DeviceError, match="this processor computes FP32, INT8; ask for --cpu-precision f32") as caught:
        OpenVinoSession(model, precision="bf16")
    assert "\n" not in str(caught.value)


def test_a_precision_that_is_not_really_set_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenVINO does on processors without bf16: it takes the hint and runs float32."""
    monkeypatch.setattr(openvino, "capabilities", lambda core: ["FP32", "BF16"])
    monkeypatch.setattr(openvino, "inference_precision", lambda compiled: "f32")
    with pytest.raises(DeviceError, match="bf16 was asked for, but OpenVINO runs f32"):
        OpenVinoSession(model, precision="bf16")
    monkeypatch.setattr(openvino, "inference_precision", lambda compiled: "bf16")
    with pytest.raises(DeviceError, match="f32 was asked for, but OpenVINO runs bf16"):
        OpenVinoSession(model)


def test_bf16_is_another_fingerprint_of_the_same_space(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On any processor: what is compiled for bf16 is really compiled for float32."""
    plain, compiled = Embedder(OpenVinoSession(model)), library.Core.compile_model
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    monkeypatch.setattr(
        library.Core, "compile_model", lambda self, file, device, given: compiled(self, file, device, given | exact)
    )
    monkeypatch.setattr(openvino, "capabilities", lambda core: ["FP32", "BF16"])
    monkeypatch.setattr(openvino, "inference_precision", lambda compiled: "bf16")
    reduced = Embedder(OpenVinoSession(model, precision="bf16"))
    assert reduced.session.backend.precision == reduced.card.precision == "bf16"
    assert reduced.space == plain.space
    assert reduced.fingerprint != plain.fingerprint
    assert run_selftest(reduced.session)[1] > run_selftest(plain.session)[1]  # its own tolerance
    write_images(tmp_path / "images", 3)
    items = find_images(tmp_path / "images")
    extract(items, reduced, tmp_path / "store")
    with pytest.raises(IncompatibleError):
        extract(items, plain, tmp_path / "store")
    write_tiny_embedder(tmp_path / "fp16.onnx")
    proto = onnx.load(tmp_path / "fp16.onnx")
    proto.metadata_props[0].value = proto.metadata_props[0].value.replace('"precision": "fp32"', '"precision": "int8"')
    onnx.save(proto, tmp_path / "int8.onnx")
    with pytest.raises(DeviceError, match="the file is int8"):
        OpenVinoSession(tmp_path / "int8.onnx", precision="bf16")


def test_where_the_processor_has_bf16_it_really_runs(model: Path) -> None:
    if "BF16" not in openvino.capabilities():
        with pytest.raises(DeviceError, match="bf16 was asked for"):
            OpenVinoSession(model, precision="bf16")
        return
    session = OpenVinoSession(with_convolution(model), precision="bf16")
    assert session.backend.inference_precision == "bf16"
    assert session.backend.convolutions == {"bf16": 1}


def test_runs_together_give_what_runs_alone_give(model: Path) -> None:
    """Results are copies: a later run does not write into an earlier one's."""
    session = OpenVinoSession(model, threads=2)
    batches = [image[None] for image in images(*[(33 + number % 7, 40) for number in range(40)])]
    with ThreadPoolExecutor(4) as pool:  # more callers than requests
        together = list(pool.map(lambda batch: session.run({"images": batch})["descriptors"], batches))
    alone = [session.run({"images": batch})["descriptors"] for batch in batches]
    for first, second in zip(together, alone, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("inputs", "error", "reason"),
    [
        ({"images": np.zeros((1, 40, 50, 3), np.float32)}, UsageError, "images float32 given, images uint8 needed"),
        ({"pictures": np.zeros((1, 40, 50, 3), np.uint8)}, UsageError, "pictures uint8 given"),
        ({"images": np.zeros((1, 40, 50, 4), np.uint8)}, ModelError, r"failed on images \[1, 40, 50, 4\]"),
    ],
)
def test_wrong_inputs_are_refused_and_the_session_goes_on(
    model: Path, inputs: Mapping[str, Any], error: type[Exception], reason: str
) -> None:
    session = OpenVinoSession(model, threads=1)  # one request, so a lost one would stop the next run for good
    with pytest.raises(error, match=reason) as caught:
        session.run(inputs)
    assert "\n" not in str(caught.value)
    assert session.run({"images": np.ones((1, 40, 50, 3), np.uint8)})["descriptors"].shape == (1, 6)


def test_bad_files_are_one_line_and_nothing_is_printed(model: Path, tmp_path: Path, capfd: Any) -> None:
    whole = model.read_bytes()
    (tmp_path / "truncated.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.onnx").write_text("no model")
    proto = onnx.load(model)
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "bare.onnx")
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, '{"schema": 99}'
    onnx.save(proto, tmp_path / "future.onnx")
    proto = onnx.load(model)
    proto.graph.node[-1].op_type, proto.graph.node[-1].domain = "Mystery", "nowhere"
    onnx.save(proto, tmp_path / "operator.onnx")
    cases = {
        "truncated": "truncated",
        "text": "not a readable",
        "bare": "without a gloam model card",
        "future": "schema 99",
        "operator": "Mystery",
        "absent": "no such model file",
    }
    for name, reason in cases.items():
        with pytest.raises(ModelError, match=reason) as caught:
            OpenVinoSession(tmp_path / f"{name}.onnx")
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(UsageError, match="unknown precision 'fp16'"):
        OpenVinoSession(model, precision="fp16")


class Slow:
    """A session that takes its time, another one each time, and counts how many callers it has."""

    def __init__(self, inner: OrtSession, seed: int, requests: int) -> None:
        self.card, self.fingerprint = inner.card, inner.fingerprint
        self.backend = replace(inner.backend, requests=requests)
        self._inner, self._random = inner, random.Random(seed)
        self._lock = threading.Lock()
        self.calls = self.callers = self.most = 0

    def run(self, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        with self._lock:
            self.calls += 1
            self.callers += 1
            self.most = max(self.most, self.callers)
            pause = self._random.uniform(0, 0.004)
        time.sleep(pause)
        found = self._inner.run(inputs)
        with self._lock:
            self.callers -= 1
        return found


@pytest.mark.parametrize("requests", [2, 3])
def test_stores_do_not_depend_on_the_runs_at_once(model: Path, tmp_path: Path, requests: int) -> None:
    write_images(tmp_path / "images", 23)
    (tmp_path / "images" / "007.png").write_bytes(b"no image")
    items, options = find_images(tmp_path / "images"), ExtractOptions(shard_size=5)
    inner = OrtSession(model, threads=1)
    extract(items, Embedder(inner), tmp_path / "one", options)
    for seed in range(3):
        session = Slow(inner, seed, requests)
        summary = extract(items, Embedder(session), tmp_path / f"many-{seed}", options)
        assert content(tmp_path / f"many-{seed}") == content(tmp_path / "one")
        assert session.most == requests
        assert summary.described == 22
    # A session that stops half way, and the same command again
    session = Slow(inner, 9, requests)
    broken = session.run

    def stops(inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        if session.calls > 12:
            raise DeviceError("the lamp is out")
        return broken(inputs)

    session.run = stops  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match="lamp"):
        extract(items, Embedder(session), tmp_path / "stopped", options)
    assert extract(items, Embedder(Slow(inner, 1, requests)), tmp_path / "stopped", options).reused > 0
    assert content(tmp_path / "stopped") == content(tmp_path / "one")


def test_pictures_do_not_depend_on_the_runs_at_once(tmp_path: Path) -> None:
    write_tiny_translator(tmp_path / "m.onnx")
    write_images(tmp_path / "images", 12)
    items, inner = find_images(tmp_path / "images"), OrtSession(tmp_path / "m.onnx", threads=1)
    run_images(items, Translator(inner), tmp_path / "one", PictureOptions(), tar_size=5)
    session = Slow(inner, 0, 2)
    summary = run_images(items, Translator(session), tmp_path / "two", PictureOptions(), tar_size=5)
    assert content(tmp_path / "two") == content(tmp_path / "one")
    assert (summary.done, session.most) == (12, 2)


def test_openvino_stores_are_the_same_twice(model: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 20)
    items = find_images(tmp_path / "images")
    for name, threads in (("first", 1), ("second", 4)):
        embedder = Embedder(OpenVinoSession(model, threads=2))
        extract(items, embedder, tmp_path / name, ExtractOptions(shard_size=6), decode_threads=threads)
    assert content(tmp_path / "first") == content(tmp_path / "second")


def test_needs_no_other_runtime(model: Path) -> None:
    code = (
        "import sys; sys.modules.update({name: None for name in ('onnx', 'onnxruntime', 'torch')})\n"
        "from gloam.runtime.backends.openvino import OpenVinoSession\n"
        f"print(OpenVinoSession({str(model)!r}, threads=1).card.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("tiny\n", 0), done.stderr


FIRST_RUNS = """
import sys, threading
import openvino
from gloam.runtime.backends.openvino import OpenVinoSession
session = OpenVinoSession(sys.argv[1])
sys.setswitchinterval(1e-6)
start, found = threading.Barrier(8), []
def run():
    start.wait()
    found.append(openvino.Type.f32.to_dtype())  # the beginning of every run
threads = [threading.Thread(target=run, daemon=True) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(found) == 8
"""


def test_the_first_runs_of_a_process_may_be_at_once(model: Path) -> None:
    # OpenVINO loads its view of numpy in the first of them; two at once waited for each other for ever.
    subprocess.run([sys.executable, "-c", FIRST_RUNS, str(model)], check=True, timeout=60)
