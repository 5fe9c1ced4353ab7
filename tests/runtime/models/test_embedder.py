"""A model runs as its card says, and what it is not is refused in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from gloam.errors import ImageError, ModelError, UsageError
from gloam.model_card import METADATA_KEY, Photometric
from gloam.padding import PaddingProfile
from gloam.runtime.backends.ort import OrtSession, available_backends, read_card
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.models.embedder import Embedder
from tests.tiny_models import DIMENSION, write_tiny_embedder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_tiny_embedder(tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


def images(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def test_descriptors_are_unit_and_in_order(model: Path) -> None:
    batch = images((40, 50), (60, 33), (40, 50))
    embedder = Embedder.load(model)
    together = embedder(batch)
    assert together.shape == (3, DIMENSION)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(together, np.concatenate([embedder([image]) for image in batch]), atol=1e-6)


def test_fixed_profile_equals_native(model: Path, tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "fixed.onnx", PaddingProfile.fixed((256,), (256, 512)))
    batch = images((40, 50), (256, 512), (33, 300))
    np.testing.assert_allclose(Embedder.load(tmp_path / "fixed.onnx")(batch), Embedder.load(model)(batch), atol=1e-5)
    with pytest.raises(ImageError, match="larger than the model's largest shape"):
        Embedder.load(tmp_path / "fixed.onnx")(images((300, 300)))


def test_backend_is_stated(model: Path) -> None:
    session = OrtSession(model, threads=1)
    assert session.backend.providers == ("CPUExecutionProvider",)
    assert session.backend.threads == 1
    assert {row["device"] for row in available_backends()} == {"cpu", "cuda", "tensorrt"}


def test_another_device_is_refused_not_replaced(model: Path) -> None:
    if "CUDAExecutionProvider" in __import__("onnxruntime").get_available_providers():
        pytest.skip("a GPU build of ONNX Runtime is installed")
    with pytest.raises(ModelError, match="only CPUExecutionProvider is active"):
        OrtSession(model, device="cuda")
    with pytest.raises(UsageError, match="unknown device"):
        OrtSession(model, device="tpu")


def test_selftest_passes_and_fails(model: Path, tmp_path: Path) -> None:
    difference, tolerance = run_selftest(OrtSession(model))
    assert difference <= tolerance
    proto = onnx.load(model)
    initializer = next(item for item in proto.graph.initializer if item.name == "matrix")
    values = np.array(onnx.numpy_helper.to_array(initializer))
    values[0] *= 1.5
    initializer.CopyFrom(onnx.numpy_helper.from_array(values, "matrix"))
    onnx.save(proto, tmp_path / "tampered.onnx")
    difference, tolerance = run_selftest(OrtSession(tmp_path / "tampered.onnx"))
    assert difference > tolerance


def test_identities(model: Path, tmp_path: Path) -> None:
    embedder = Embedder.load(model)
    other = Embedder.load(model, photometric=Photometric("clahe"))
    assert embedder.space != other.space
    assert embedder.fingerprint != other.fingerprint
    write_tiny_embedder(tmp_path / "again.onnx")
    assert Embedder.load(tmp_path / "again.onnx").fingerprint == embedder.fingerprint
    assert read_card(model).space() == embedder.space


def test_bad_models_are_one_line(model: Path, tmp_path: Path) -> None:
    content = model.read_bytes()
    (tmp_path / "truncated.onnx").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.onnx").write_bytes(b"")
    write_tiny_embedder(tmp_path / "translator.onnx", kind="translator")
    proto = onnx.load(model)
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "bare.onnx")
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, '{"schema": 99}'
    onnx.save(proto, tmp_path / "future.onnx")
    cases = {
        "truncated": "truncated",
        "empty": "not a readable",
        "translator": "kind 'translator', but 'embedder' is needed",
        "bare": "without a gloam model card",
        "future": "schema 99",
        "absent": "no such model file",
    }
    for name, reason in cases.items():
        with pytest.raises(ModelError, match=reason) as caught:
            Embedder.load(tmp_path / f"{name}.onnx")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "image", [np.zeros((40, 40), np.uint8), np.zeros((40, 40, 3), np.float32), np.zeros((31, 400, 3), np.uint8)]
)
def test_bad_arrays_are_refused(model: Path, image: np.ndarray) -> None:
    with pytest.raises(ImageError):
        Embedder.load(model)([image])


def test_runtime_imports_without_optional_packages() -> None:
    code = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        optional = {'torch', 'faiss', 'kapture', 'pycolmap', 'onnx', 'onnxruntime', 'openvino', 'tensorrt', 'pycuda'}
        if name.split('.')[0] in optional:
            raise ImportError(f'{name} is blocked')
sys.meta_path.insert(0, Block())
import pkgutil, importlib, gloam, gloam.data, gloam.runtime, gloam.eval
for package in (gloam.data, gloam.runtime, gloam.eval):
    for item in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
        importlib.import_module(item.name)
from gloam.errors import MissingExtraError
from gloam.runtime.backends.ort import available_backends
try:
    available_backends()
except MissingExtraError as error:
    assert "gloam[cpu]" in str(error)
else:
    raise SystemExit('not refused')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
