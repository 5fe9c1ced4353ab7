"""What a graph does to pixels before its network begins is read off by running it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from gloam.export.adopt.feeding import IMAGENET
from gloam.export.adopt.foreign import read_foreign
from gloam.export.adopt.front import Front, find_front
from gloam.export.adopt.probe import Runner
from gloam.export.adopt.sizes import Sizes
from tests.foreign_files import Shape, write_foreign


def front(tmp_path: Path, shape: Shape) -> Front:
    runner = Runner(read_foreign(write_foreign(tmp_path / "a.onnx", shape)))
    return find_front(runner, "nchw" if shape.layout == "nchw" else "nhwc", Sizes(None))


def test_nothing_in_front(tmp_path: Path) -> None:
    found = front(tmp_path, Shape())
    assert found.scale == pytest.approx((1, 1, 1))
    assert not found.scales
    assert found.takes is None
    assert found.channels is None


@pytest.mark.parametrize(
    ("shape", "takes"),
    [
        (Shape(scaled="imagenet"), 1),
        (Shape(scaled="bytes"), 255),
        (Shape(scaled="bytes", layout="nhwc"), 255),
        (Shape(scaled="bytes", layout="nhwc", dtype=TensorProto.UINT8), 255),
        (Shape(scaled="imagenet", resize=64), 1),
    ],
)
def test_its_range_and_normalisation(tmp_path: Path, shape: Shape, takes: int) -> None:
    found = front(tmp_path, shape)
    assert found.takes == takes
    assert found.normalisation is not None
    np.testing.assert_allclose(found.normalisation, IMAGENET, atol=1e-4)
    assert found.channels == "rgb"
    assert found.fixed_to == (None if shape.resize is None else (64, 64))
    assert not found.scrambled


def test_a_reshape_in_place_of_a_transpose_scrambles(tmp_path: Path) -> None:
    assert front(tmp_path, Shape(layout="nhwc", scramble=True)).scrambled
    assert not front(tmp_path, Shape(layout="nhwc")).scrambled


def test_a_transformer_begins_with_its_patches(tmp_path: Path) -> None:
    runner = Runner(read_foreign(write_foreign(tmp_path / "a.onnx", Shape(tokens="frozen"))))
    assert find_front(runner, "nchw", Sizes((112, 112))).scale == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(
    ("scale", "shift", "takes"),
    [
        ((2.0,) * 3, (-1.0,) * 3, 1),
        ((1 / 127.5,) * 3, (-1.0,) * 3, 255),
        ((1.0,) * 3, (-123.68, -116.8, -103.9), 255),
        ((255.0,) * 3, (-123.68, -116.8, -103.9), 1),
        ((1 / 255,) * 3, (0.0,) * 3, 255),
        ((1.0,) * 3, (0.0,) * 3, None),
        ((30.0,) * 3, (0.0,) * 3, None),
    ],
)
def test_the_range_is_what_leaves_a_usual_span(
    scale: tuple[float, float, float], shift: tuple[float, float, float], takes: int | None
) -> None:
    assert Front(scale, shift).takes == takes


def test_means_that_stand_the_other_way_are_of_blue_first() -> None:
    scale = tuple(1 / std for std in IMAGENET[1][::-1])
    shift = tuple(-mean / std for mean, std in zip(IMAGENET[0][::-1], IMAGENET[1][::-1], strict=True))
    assert Front((scale[0], scale[1], scale[2]), (shift[0], shift[1], shift[2])).channels == "bgr"
