"""One way to load any exported model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gloam.errors import ModelError, UsageError
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.edge_detector import EdgeDetector
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.load import load
from gloam.runtime.models.local_features import LocalExtractor
from gloam.runtime.models.translator import Translator
from tests.tiny_models import write_tiny_embedder
from tests.tiny_translators import write_tiny_translator

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_the_card_decides_what_comes_back(tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "e.onnx")
    write_tiny_translator(tmp_path / "t.onnx")
    embedder, translator = load(tmp_path / "e.onnx", threads=1), load(tmp_path / "t.onnx")
    assert isinstance(embedder, Embedder)
    assert isinstance(translator, Translator)
    np.testing.assert_array_equal(embedder([IMAGE]), Embedder.load(tmp_path / "e.onnx")([IMAGE]))
    np.testing.assert_array_equal(translator([IMAGE])[0], Translator.load(tmp_path / "t.onnx")([IMAGE])[0])
    write_tiny_translator(tmp_path / "d.onnx", kind="edges")
    assert isinstance(load(tmp_path / "d.onnx"), EdgeDetector)
    write_tiny_embedder(tmp_path / "l.onnx", kind="local_features")
    assert isinstance(load(tmp_path / "l.onnx"), LocalExtractor)


def test_what_cannot_be_run_is_named_in_a_line(tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "a.onnx", kind="appearance")
    with pytest.raises(ModelError, match=r"a\.onnx: a model of kind 'appearance', which cannot be run here") as caught:
        load(tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="weights, where an exported model is needed; run `gloam export"):
        load(tmp_path / "net.safetensors")
    with pytest.raises(UsageError, match="unknown device 'tpu'; choose one of auto, cpu, cuda, tensorrt"):
        Placement("tpu")
