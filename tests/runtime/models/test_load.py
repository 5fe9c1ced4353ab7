"""One way to load any exported model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from gloam import model_card
from gloam.errors import ModelError, UsageError
from gloam.model_card import METADATA_KEY
from gloam.runtime.backends import selftest
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.session import Session
from gloam.runtime.models.edge_detector import EdgeDetector
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.load import KINDS, load
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


@pytest.mark.parametrize("kind", ["embedder", "translator", "edges"])
def test_a_model_whose_self_test_fails_is_refused_by_every_way_to_load_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.onnx"
    if kind == "embedder":
        write_tiny_embedder(path)
    else:
        write_tiny_translator(path, kind=kind)
    proto = onnx.load(path)
    entry = next(entry for entry in proto.metadata_props if entry.key == METADATA_KEY)
    card = json.loads(entry.value)
    card["selftest"]["output"] = [value + 0.05 for value in card["selftest"]["output"]]
    entry.value = json.dumps(card)
    path.write_bytes(proto.SerializeToString())
    own = {"embedder": Embedder, "translator": Translator, "edges": EdgeDetector}[kind]
    for way in (load, own.load):
        with pytest.raises(ModelError, match=r"m\.onnx: its self-test failed on onnxruntime, .*run `gloam check`"):
            way(path)


def test_a_self_test_that_passed_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    write_tiny_embedder(tmp_path / "e.onnx")
    runs: list[str] = []
    whole = selftest.run_selftest

    def counted(session: Session) -> tuple[float, float]:
        runs.append(session.card.name)
        return whole(session)

    monkeypatch.setattr(selftest, "run_selftest", counted)
    for way in (load, Embedder.load, load):
        way(tmp_path / "e.onnx")
    assert runs == ["tiny"]


def test_what_cannot_be_run_is_named_in_a_line(tmp_path: Path) -> None:
    assert set(KINDS) == set(model_card.KINDS)  # a card is of no other
    with pytest.raises(ModelError, match="weights, where an exported model is needed; run `gloam export"):
        load(tmp_path / "net.safetensors")
    with pytest.raises(UsageError, match="unknown device 'tpu'; choose one of auto, cpu, cuda, tensorrt"):
        Placement("tpu")
