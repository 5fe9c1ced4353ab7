"""An extraction as it is asked for: sizes by default, and the same store as the steps one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from gloam.data.sources import find_images
from gloam.errors import ModelError, UsageError
from gloam.model_card import NATIVE, InputRule
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.extract import extract
from gloam.runtime.bulk.extraction import EmbedderLoader, ExtractRequest, finish_store, run_extraction
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from tests.runtime.bulk.test_extract import write_images
from tests.tiny_models import write_tiny_embedder

LOADER = EmbedderLoader(Path("m.onnx"))


def test_the_models_own_input_rule_holds_unless_a_size_is_asked_for() -> None:
    own = InputRule(640)
    plain = ExtractRequest(Path("in"), Path("out"), LOADER)
    assert plain.options().read_by(own) == own
    assert replace(plain, max_side=0).options().read_by(own) == NATIVE
    assert replace(plain, max_side=512).options().read_by(own) == InputRule(512)
    assert replace(plain, stretch=(64, 48)).options().read_by(own) == InputRule(None, (64, 48), "area", True)


def test_what_is_out_of_range_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UsageError, match="image sides must be 32 pixels or more"):
        ExtractRequest(Path("absent"), Path("out"), LOADER, max_side=8)
    with pytest.raises(UsageError, match="--shard-size must be 1 or more"):
        ExtractRequest(Path("absent"), Path("out"), LOADER, shard_size=0)


def test_a_request_makes_the_store_of_its_steps(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 3)
    write_tiny_embedder(tmp_path / "m.onnx")
    loader = EmbedderLoader(tmp_path / "m.onnx", Placement(threads=1))
    done = run_extraction(ExtractRequest(tmp_path / "images", tmp_path / "a", loader))
    extract(find_images(tmp_path / "images"), Embedder.load(tmp_path / "m.onnx"), tmp_path / "b")
    first, second = DescriptorStore.open(tmp_path / "a"), DescriptorStore.open(tmp_path / "b")
    assert (first.names, first.space) == (second.names, second.space)
    assert (first.load() == second.load()).all()
    data = done.to_dict()
    assert (data["described"], data["complete"], data["translate"]) == (3, True, None)
    assert data["backend"]["threads"] == 1
    assert data["space"] == first.space
    assert "3 of 3 images described" in str(done)
    assert finish_store(tmp_path / "a")["described"] == 3


def test_a_model_that_computes_something_else_describes_nothing(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 2)
    card = write_tiny_embedder(tmp_path / "m.onnx")
    assert card.selftest is not None
    wrong = card.selftest.output[::-1]
    proto = onnx.load(tmp_path / "m.onnx")
    entry = proto.metadata_props[0]
    entry.value = replace(card, selftest=replace(card.selftest, output=wrong)).to_json()
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    request = ExtractRequest(tmp_path / "in", tmp_path / "store", EmbedderLoader(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match=r"m\.onnx: its self-test failed on onnxruntime"):
        run_extraction(request)
    assert not (tmp_path / "store").exists()


def test_what_lies_beside_the_images_is_said_and_names_command_no_spreadsheet(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(source / "a.png")
    (source / "=cmd.jpg").write_bytes(b"no picture")
    (source / "notes.txt").write_text("of the day")
    write_tiny_embedder(tmp_path / "tiny.onnx")
    run = run_extraction(ExtractRequest(source, tmp_path / "store", EmbedderLoader(tmp_path / "tiny.onnx")))
    assert "left out: 1 x " in str(run)
    assert "\n'=cmd.jpg," in (tmp_path / "store/failures.csv").read_text()
