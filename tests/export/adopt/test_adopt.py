"""A foreign file becomes one of gloam's: it checks, describes, and says what was found."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.errors import ModelError, UsageError
from gloam.export.adopt.adopt import AdoptRequest, adopt
from gloam.export.adopt.feeding import BYTE, IMAGENET, Feeding
from gloam.export.adopt.findings import NotAdoptedError
from gloam.export.adopt.foreign import read_foreign
from gloam.export.adopt.probe import Runner, pictures
from gloam.runtime.backends.onnx_file import model_sha256, read_card
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.models.embedder import Embedder
from tests.foreign_files import DIMENSION, PLAIN, Shape, write_foreign

STATED: dict[str, Any] = {"channels": "rgb", "mean": IMAGENET[0], "std": IMAGENET[1]}


def request(tmp_path: Path, shape: Shape = PLAIN, **said: Any) -> AdoptRequest:
    return AdoptRequest(write_foreign(tmp_path / "theirs.onnx", shape), tmp_path / "ours.onnx", **said)


@pytest.mark.parametrize(
    ("shape", "said", "size"),
    [
        (Shape(), STATED, (90, 130)),
        (Shape(size=(112, 112)), STATED | {"stretch": (112, 112)}, (112, 112)),
        (Shape(size=(96, 128)), STATED | {"stretch": (128, 96)}, (96, 128)),
        (Shape(half=True, batch=1), STATED, (90, 130)),
    ],
)
def test_it_runs_as_any_of_gloams(tmp_path: Path, shape: Shape, said: dict[str, Any], size: tuple[int, int]) -> None:
    adopted = adopt(request(tmp_path, shape, **said))
    assert adopted.findings == ()
    found, allowed = run_selftest(OrtSession(adopted.output))
    assert found <= allowed
    assert read_card(adopted.output) == adopted.card
    model_sha256(adopted.output)
    images = list(pictures([(150, 200)] * 2))
    described = Embedder.load(adopted.output)(images)
    assert described.shape == (2, DIMENSION)
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=3e-3)
    sized = next(pictures([size]))
    theirs = Runner(read_foreign(tmp_path / "theirs.onnx"))
    fed = Feeding("nchw", "rgb", *IMAGENET).fed(sized[None], theirs.foreign.images.dtype)
    np.testing.assert_allclose(Embedder.load(adopted.output)([sized]), theirs.describe(fed), atol=3e-3)


def test_the_card_says_what_the_network_sees_and_where_it_is_from(tmp_path: Path) -> None:
    card = adopt(request(tmp_path, Shape(scaled="bytes"), licence="MIT", name="theirs-v2")).card
    np.testing.assert_allclose(card.mean, IMAGENET[0], atol=1e-4)
    np.testing.assert_allclose(card.std, IMAGENET[1], atol=1e-4)
    assert (card.name, card.provenance["licence"], card.provenance["file"]) == ("theirs-v2", "MIT", "theirs.onnx")
    assert card.network["fed"]["std"] == list(BYTE)
    assert card.selftest_larger is not None
    assert card.selftest is not None
    assert card.selftest.shape != card.selftest_larger.shape


def test_spaces_differ_by_what_is_fed_and_by_weights(tmp_path: Path) -> None:
    one = adopt(request(tmp_path, **STATED)).card
    again = adopt(request(tmp_path, **STATED)).card
    blue = adopt(request(tmp_path, **(STATED | {"channels": "bgr"}))).card
    assert one.space() == again.space()
    assert one.space() != blue.space()
    write_foreign(tmp_path / "theirs.onnx", seed=1)
    other = adopt(AdoptRequest(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", **STATED)).card
    assert one.space() != other.space()


def test_the_same_file_is_written_again_byte_by_byte(tmp_path: Path) -> None:
    adopted = adopt(request(tmp_path, **STATED))
    first = adopted.output.read_bytes()
    adopt(request(tmp_path, **STATED))
    assert adopted.output.read_bytes() == first


@pytest.mark.parametrize(
    ("shape", "mistake"),
    [
        (Shape(coupled=True), "batch_coupling"),
        (Shape(dropout=True), "dropout"),
        (Shape(resize=96), "silent_stretch"),
        (Shape(layout="nhwc", scramble=True), "layout"),
        (Shape(half=True, loud=True), "half_overflow"),
        (Shape(size=(112, 112)), "baked_size"),
    ],
)
def test_a_mistake_is_refused_by_name_and_nothing_is_written(tmp_path: Path, shape: Shape, mistake: str) -> None:
    with pytest.raises(NotAdoptedError) as refused:
        adopt(request(tmp_path, shape, **STATED))
    assert [finding.name for finding in refused.value.findings] == [mistake]
    assert not (tmp_path / "ours.onnx").exists()


def test_a_stated_stretch_is_no_silent_one(tmp_path: Path) -> None:
    adopted = adopt(request(tmp_path, Shape(resize=96), **STATED, stretch=(96, 96)))
    assert adopted.card.reads.stretch == (96, 96)
    assert adopted.findings == ()


def test_a_graph_of_one_size_may_stretch_that_inside(tmp_path: Path) -> None:
    adopted = adopt(request(tmp_path, Shape(size=(96, 128), resize=64), **STATED, stretch=(128, 96)))
    assert adopted.findings == ()


def test_a_missing_l2_is_written_behind_and_told(tmp_path: Path) -> None:
    adopted = adopt(request(tmp_path, Shape(l2=0), **STATED))
    assert "repaired    no L2: descriptors have lengths of" in adopted.to_text()
    assert adopted.to_dict()["findings"][0]["name"] == "no_l2"
    described = Embedder.load(adopted.output)(list(pictures([(90, 130)])))
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=1e-5)


def test_an_adopted_file_is_not_adopted_again_nor_written_over_itself(tmp_path: Path) -> None:
    asked = request(tmp_path, **STATED)
    with pytest.raises(UsageError, match="is the file itself"):
        adopt(dataclasses.replace(asked, output=asked.model))
    adopted = adopt(asked)
    with pytest.raises(ModelError, match="has a model card already"):
        adopt(dataclasses.replace(asked, model=adopted.output, output=tmp_path / "third.onnx"))


def test_it_needs_no_torch(tmp_path: Path) -> None:
    asked = request(tmp_path, **STATED)
    code = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path;"
        "from gloam.export.adopt.adopt import AdoptRequest, adopt;"
        f"adopt(AdoptRequest(Path({str(asked.model)!r}), Path({str(asked.output)!r}), channels='rgb',"
        f"mean={IMAGENET[0]}, std={IMAGENET[1]}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert asked.output.is_file()
