"""Formulas as data: the numbers that files in the world were tested with, and what is no formula."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from gloam.errors import GloamError, ModelError, UsageError
from gloam.model_card import ModelCard
from gloam.model_card.selftest import FEATURES, IMAGES, Formula, SelfTestFormula
from gloam.record import fill_dataclass, to_json
from gloam.runtime.backends.selftest_formulas import selftest_features, selftest_images, selftest_inputs
from tests.model_card.test_schema import described, matcher


def test_images_are_those_that_files_were_tested_with() -> None:
    b, y, x, c = np.ogrid[:2, :50, :70, :3]
    expected = ((x * x * 3 + y * y * 5 + x * y * 7 + 37 * b + 59 * c) // 97 % 256).astype(np.uint8)
    expected[1, 40:] = expected[1, :, 60:] = 255
    np.testing.assert_array_equal(selftest_images((2, 50, 70), ((50, 70), (40, 60))), expected)


def test_a_cards_own_formula_holds() -> None:
    card = described("embedder")
    other = dataclasses.replace(card, selftest_formula=SelfTestFormula("rows", Formula({"x": 1}, modulo=9), beyond=7))
    assert card.selftest is not None
    images = selftest_inputs(other, card.selftest)["images"]
    assert (images[0] == (np.arange(37) % 9)[None, :, None]).all()
    assert (images[1, 33:] == 7).all()
    assert (other.space(), other.fingerprint("x")) == (card.space(), card.fingerprint("x"))
    unstated = dataclasses.replace(card, selftest_formula=None)
    assert unstated.formula == card.formula == SelfTestFormula("rows", IMAGES)
    again = json.loads(card.to_json())
    assert again["selftest_formula"]["images"]["terms"] == {"xx": 3, "yy": 5, "xy": 7, "b": 37, "c": 59}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"terms": {}}, "whole ones"),
        ({"terms": {"x": -1}}, "whole ones"),
        ({"terms": {"x": 1.5}}, "whole ones"),
        ({"terms": {"x": True}}, "whole ones"),
        ({"terms": {"x": 1 << 30}}, "whole ones"),
        ({"terms": {"xxxxx": 1}}, "at most 4 variables"),
        ({"floor": 0}, "divides by no 0"),
        ({"modulo": 0}, "divides by no 0"),
        ({"over": 0.0}, "positive"),
        ({"times": float("inf")}, "positive"),
    ],
)
def test_what_is_no_formula_is_refused_in_a_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fill_dataclass(Formula, to_json(IMAGES) | change, "card")


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("", {"images": None}, "of images, or of features"),
        ("", {"digest": "matched_scores"}, "of images, or of features"),
        ("", {"digest": "block_means"}, "keeps block_means of a model of kind 'embedder', which gives rows"),
        ("", {"digest": "toast"}, "is none of"),
        ("", {"beyond": 300}, "pixels of 300"),
        ("images", {"terms": {"xq": 3}}, "of 'q'; this one is of b, x, y, c"),
        ("images", {"terms": [3]}, "not of type"),
    ],
)
def test_a_card_whose_formula_is_none_is_refused_in_a_line(part: str, change: dict[str, Any], message: str) -> None:
    value = json.loads(described("embedder").to_json())
    stated = value["selftest_formula"]
    (stated[part] if part else stated).update(change)
    with pytest.raises(ModelError, match=message) as caught:
        ModelCard.from_json(json.dumps(value), "m.onnx")
    assert str(caught.value).startswith("m.onnx: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"number": 0}, {"number": 60}, {"order": (IMAGES, IMAGES)}, {"scale": Formula({"j": 1}, modulo=3)}]
)
def test_features_that_a_formula_does_not_have_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(GloamError):
        dataclasses.replace(FEATURES, **change)


def test_more_keypoints_than_features_are_refused() -> None:
    takes = matcher().takes
    assert takes is not None
    with pytest.raises(ModelError, match="68 keypoints of 67 features"):
        selftest_features(takes, (1, 68, 9), ((68, 9),))


@pytest.mark.parametrize("version", ["", "0.1\n", "1" * 101])
def test_a_version_is_a_line_of_text(version: str) -> None:
    with pytest.raises(ModelError, match="no line of text"):
        dataclasses.replace(described("embedder"), gloam=version)
