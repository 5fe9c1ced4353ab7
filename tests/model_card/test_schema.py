"""The card's JSON schema says what gloam reads and writes, and the page's formulas are the self-test's."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from gloam.model_card import (
    KEYPOINT_OUTPUTS,
    Decoding,
    FeatureRule,
    InputRule,
    KeypointRule,
    ModelCard,
    Photometric,
    SelfTest,
    TensorSpec,
    matcher_inputs,
)
from gloam.model_card.selftest import FeatureFormula, Formula, SelfTestFormula
from gloam.padding import PaddingProfile
from gloam.record import _SPARSE
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.selftest_formulas import selftest_inputs

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "model-card.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
RECORDS: tuple[type[Any], ...] = (
    TensorSpec,
    PaddingProfile,
    InputRule,
    Decoding,
    Photometric,
    SelfTest,
    Formula,
    FeatureFormula,
    SelfTestFormula,
    KeypointRule,
    FeatureRule,
)
SHIPPED = sorted((ROOT / "gloam" / "workflows" / "weights").glob("*.onnx"))
PROVENANCE = {"recipe": "none", "data": "none", "weights_sha256": "ab", "licence": "none"}


def described(kind: str, **changed: Any) -> ModelCard:
    """An explained card of a kind, with a self-test at a size that is no square."""
    of_images = TensorSpec("images", "uint8", ("batch", "height", "width", 3), "RGB")
    facts: dict[str, Any] = {
        "kind": kind,
        "name": "tested",
        "inputs": (of_images,),
        "outputs": (TensorSpec("out", "float32", ("batch", 4), ""),),
        "profile": PaddingProfile.dynamic(),
        "network": {},
        "mean": (0.0,),
        "std": (1.0,),
        "provenance": PROVENANCE,
        "dimension": 4 if kind in ("embedder", "fused") else None,
        "selftest": SelfTest((2, 40, 37), ((40, 37), (33, 35)), (1.0,) * 8),
    }
    return ModelCard(**(facts | changed)).explained()


def matcher() -> ModelCard:
    takes = FeatureRule("sift", 8, True, 0.5)
    return described(
        "matcher",
        inputs=matcher_inputs(takes),
        outputs=(TensorSpec("matches", "int32", ("batch", 9), ""), TensorSpec("scores", "float32", ("batch", 9), "")),
        mean=(),
        std=(),
        takes=takes,
        selftest=SelfTest((2, 9, 8), ((9, 7), (5, 8)), (0.0,) * 36),
    )


def translator() -> ModelCard:
    noise = TensorSpec("noise", "float32", ("batch", 5), "", default=(0.0,))
    domain = TensorSpec(
        "domain", "float32", ("batch", 3), "", default=(0.0, 0.0, 1.0), choices={"night": [1.0, 0.0, 0.0]}
    )
    images = TensorSpec("images", "uint8", ("batch", "height", "width", 3), "RGB")
    return described("translator", inputs=(images, domain, noise))


def keypoints() -> ModelCard:
    shapes: list[tuple[int | str, ...]] = [("batch", 9, 2), ("batch", 9), ("batch", 9, 4), ("batch",)]
    outputs = tuple(
        TensorSpec(name, "float32", shape, "") for name, shape in zip(KEYPOINT_OUTPUTS, shapes, strict=True)
    )
    return described("local_features", outputs=outputs, keypoints=KeypointRule(9), dimension=4)


CARDS = {
    "embedder": lambda: described("embedder", input_rule=InputRule.of(stretch=(64, 48))),
    "translator": translator,
    "matcher": matcher,
    "keypoints": keypoints,
    **{file.stem: lambda file=file: read_card(file) for file in SHIPPED},
}


@pytest.mark.parametrize("name", CARDS)
def test_cards_are_of_the_schema_and_come_back(name: str) -> None:
    card = CARDS[name]()
    VALIDATOR.validate(json.loads(card.to_json()))
    assert ModelCard.from_json(card.to_json()) == card


def test_every_card_that_was_written_down_is_of_the_schema_and_is_read() -> None:
    cards = [
        part["card"]
        for entry in json.loads((ROOT / "tests" / "golden" / "exported.json").read_text(encoding="utf-8")).values()
        for part in (entry, entry.get("local"), entry.get("fixed"))
        if part is not None
    ]
    assert len(cards) > 20
    for card in cards:
        card["selftest"]["output"] = [0.5] * card["selftest"]["output"]
        VALIDATOR.validate(card)
        read = ModelCard.from_json(json.dumps(card))
        assert (read.gloam, read.decoding, read.selftest_formula) == (None, None, None)
        explained = read.explained()
        VALIDATOR.validate(json.loads(explained.to_json()))
        assert (explained.space(), explained.fingerprint("00")) == (read.space(), read.fingerprint("00"))


@pytest.mark.parametrize("record", [ModelCard, *RECORDS], ids=lambda record: record.__name__)
def test_the_schema_names_just_the_keys_of_the_records(record: type[Any]) -> None:
    stated = SCHEMA if record is ModelCard else SCHEMA["$defs"][record.__name__]
    fields = dataclasses.fields(record)
    assert set(stated["properties"]) == {field.name for field in fields}
    assert set(stated["required"]) == {field.name for field in fields if _SPARSE not in field.metadata}
    assert {kind.__name__ for kind in RECORDS} == set(SCHEMA["$defs"])


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"kind": "toaster"},
        {"decoding": {"orientation": "sideways", "jpeg": "", "note": ""}},
        {"selftest_formula": {"digest": "rows", "beyond": 256}},
        {"selftest_formula": {"digest": "rows", "beyond": 255, "images": {"terms": {"xx": -3}, "modulo": 9}}},
        {"input_rule": {"max_side": 8, "stretch": None, "filter": "lanczos", "enlarge": False}},
        {"gloam": 1},
    ],
)
def test_what_is_no_card_is_of_neither(change: dict[str, Any]) -> None:
    value = json.loads(CARDS["embedder"]().to_json()) | change
    assert not VALIDATOR.is_valid(value)
    with pytest.raises(Exception, match=r"^m\.onnx: ") as caught:
        ModelCard.from_json(json.dumps(value), "m.onnx")
    assert "\n" not in str(caught.value)


def valued(formula: dict[str, Any], **variables: int) -> float:
    """A formula of a card's JSON by the page's words, with whole numbers alone."""
    total = sum(factor * math.prod(variables[v] for v in letters) for letters, factor in formula["terms"].items())
    return (total // formula["floor"] % formula["modulo"] + formula["add"]) * formula["times"] / formula["over"]


@pytest.mark.parametrize("name", ["embedder", "translator"])
def test_a_stranger_makes_the_same_images_and_conditions(name: str) -> None:
    card = CARDS[name]()
    stated, test = json.loads(card.to_json()), card.selftest
    assert test is not None
    formula = stated["selftest_formula"]
    made = selftest_inputs(card, test)
    batch, height, width = test.shape
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                inside = y < test.sizes[b][0] and x < test.sizes[b][1]
                pixel = [valued(formula["images"], b=b, x=x, y=y, c=c) for c in range(3)]
                assert made["images"][b, y, x].tolist() == (pixel if inside else [formula["beyond"]] * 3)
        for spec in stated["inputs"][1:]:
            default, row = spec["default"], made[spec["name"]][b]
            of_one = [valued(formula["conditions"], b=b, k=k) for k in range(row.size)]
            turned = [default[(k - b) % len(default)] for k in range(row.size)]
            np.testing.assert_allclose(row, turned if len(default) > 1 else of_one, atol=1e-7)


def test_a_stranger_makes_the_same_features() -> None:
    card = matcher()
    stated, test = json.loads(card.to_json()), card.selftest
    assert test is not None
    formula, origin = stated["selftest_formula"]["features"], stated["takes"]["origin"]
    made = selftest_inputs(card, test)
    for image in (0, 1):
        for b, counts in enumerate(test.sizes):
            for i in range(test.shape[1 + image]):
                values = {
                    key: made[f"{key}{image}"][b, i] for key in ("keypoints", "descriptors", "scales", "orientations")
                }
                if i >= counts[image]:
                    assert all((value == formula["beyond"]).all() for value in values.values())
                    continue
                g = int(valued(formula["order"][image], i=i))
                place = [valued(formula[side], g=g, b=b) for side in "xy"]
                np.testing.assert_array_equal(values["keypoints"], np.add(place, formula["shift"][image]) + origin)
                row, after = (
                    np.array([valued(formula["descriptor"], g=at, j=j, b=b) for j in range(8)])
                    for at in (g, (g + 1) % formula["number"])
                )
                seen = row + formula["blend"][image] * after
                np.testing.assert_allclose(values["descriptors"], seen / np.linalg.norm(seen), atol=1e-7)
                assert values["scales"] == valued(formula["scale"], g=g)
                assert values["orientations"] == np.float32(valued(formula["orientation"], g=g))
        assert made[f"sizes{image}"].tolist() == [formula["sizes"][image]] * 2
