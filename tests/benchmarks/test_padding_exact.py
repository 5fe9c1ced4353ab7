"""What padding_exact judges by: a bound of each family, masks that must be needed, and no row that a row leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import padding_exact
from benchmarks.padding_exact import EXACT, SQUARE, models
from benchmarks.shared.tiny import HEADED, TRANSFORMERS, VARIANTS
from gloam.networks.embedders import EMBEDDERS

GOOD = {"torch": 9e-7, "onnxruntime": 9e-6, "batch": 9e-7, "control_masks_off": 0.02, "control_other": 0.03}


@pytest.mark.parametrize(
    ("changed", "headed", "transformer", "plain"),
    [
        ({}, True, True, True),
        ({"torch": 5e-6}, False, True, False),
        ({"torch": 2e-5}, False, False, False),
        ({"onnxruntime": 2e-5}, False, False, False),
        ({"batch": 2e-6}, False, False, False),
        ({"control_other": 5e-3}, False, False, True),
        ({"control_masks_off": 1e-6}, False, False, False),
    ],
)
def test_each_family_has_its_bound(changed: dict, headed: bool, transformer: bool, plain: bool) -> None:
    row = GOOD | changed
    judged = {name: padding_exact._met(name, row) for name in ("cosplace_resnet18", "dinov2_vits14", "gem_vgg16")}
    assert list(judged.values()) == [headed, transformer, plain]
    assert padding_exact._met("anyloc_vits14, soft", row) is transformer
    tokens = {key: value for key, value in row.items() if key != "onnxruntime"}
    assert padding_exact._met("dinov2_vits14, patch tokens", tokens) is (transformer or "onnxruntime" in changed)


def test_every_published_family_has_a_row() -> None:
    stems = {name.split("_")[0] for name in (*TRANSFORMERS, *HEADED)} - {SQUARE}
    assert {name.split("_")[0] for name in EXACT} >= stems
    assert set(VARIANTS) <= set(models())
    left_out = {name for name in TRANSFORMERS if name not in EXACT}
    assert all(
        TRANSFORMERS[name] == TRANSFORMERS[name.replace("vitb", "vits").replace("vitl", "vits")] for name in left_out
    )
    assert {name for name, _ in VARIANTS.values()} <= set(EMBEDDERS)


def test_the_square_network_is_refused_a_fixed_profile() -> None:
    told = padding_exact._refusal(padding_exact._lively(SQUARE, HEADED[SQUARE]))
    assert told.startswith("mixvpr takes images of 64x64 px alone")


def test_images_that_a_network_does_not_take_are_left_out() -> None:
    model = padding_exact._lively("salad_dinov2", TRANSFORMERS["salad_dinov2"])
    images = [padding_exact.whole_cells(np.zeros((*size, 3), np.uint8), model.cell) for size in padding_exact.SIZES]
    left = [image.shape[:2] for image in images if padding_exact.taken(image, model)]
    assert left == [(252, 252), (266, 350), (504, 476), (252, 252), (350, 266), (476, 504)]
