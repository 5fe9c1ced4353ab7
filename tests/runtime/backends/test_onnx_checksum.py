"""A model file is as it was exported, to the last bit of its weights, or refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from gloam.errors import ModelError
from gloam.export.written import write_model
from gloam.runtime.backends.onnx_file import CHECKSUM_BYTES, CHECKSUM_KEY, model_sha256, read_card, with_checksum
from gloam.runtime.models.embedder import Embedder
from tests.damage import flip, named_or_harmless
from tests.tiny_models import write_tiny_embedder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    write_tiny_embedder(path)
    path.write_bytes(with_checksum(path.read_bytes()))
    return path


def test_the_checksum_is_an_entry_of_a_valid_model(model: Path) -> None:
    proto = onnx.load(model)
    onnx.checker.check_model(proto)
    assert [entry.key for entry in proto.metadata_props][-1] == CHECKSUM_KEY
    assert model_sha256(model) == hashlib.sha256(model.read_bytes()).hexdigest()
    assert Embedder.load(model).card == read_card(model)


def test_the_lowest_bit_of_a_weight_is_named(model: Path) -> None:
    values = numpy_helper.to_array(onnx.load(model).graph.initializer[1]).tobytes()
    flip(model, 8 * model.read_bytes().index(values))
    with pytest.raises(ModelError, match=r"m\.onnx: damaged, or changed since it was exported"):
        Embedder.load(model)


def test_any_flipped_bit_is_named(model: Path) -> None:
    def read() -> object:
        read_card(model)
        model_sha256(model)

    size = len(model.read_bytes())
    assert named_or_harmless(model, read, 300) > 280
    assert named_or_harmless(model, read, 60, first=size - 64) == 60


def test_whoever_writes_a_model_again_puts_its_own_checksum(model: Path, tmp_path: Path) -> None:
    proto = onnx.load(model)
    again = tmp_path / "again.onnx"
    card = read_card(model)
    del proto.metadata_props[0]  # the card
    write_model(proto, card, again)
    assert [entry.key for entry in onnx.load(again).metadata_props].count(CHECKSUM_KEY) == 1
    assert Embedder.load(again).card == card


def test_the_entry_may_stand_anywhere(model: Path) -> None:
    content = model.read_bytes()
    entry, rest = content[-CHECKSUM_BYTES:], content[:-CHECKSUM_BYTES]
    model.write_bytes(entry + rest)
    assert model_sha256(model) == hashlib.sha256(entry + rest).hexdigest()
    flip(model)
    with pytest.raises(ModelError, match=r"m\.onnx: "):
        model_sha256(model)


def test_a_file_from_before_there_were_checksums_is_read(tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "old.onnx")
    assert model_sha256(tmp_path / "old.onnx") == hashlib.sha256((tmp_path / "old.onnx").read_bytes()).hexdigest()
