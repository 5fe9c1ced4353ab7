"""The model card survives its journey, and its identities change exactly when they must."""

from __future__ import annotations

import dataclasses
import json

import pytest

from gloam.errors import IncompatibleError, ModelError, UsageError
from gloam.model_card import (
    KEYPOINT_OUTPUTS,
    FeatureRule,
    KeypointRule,
    ModelCard,
    Photometric,
    SelfTest,
    TensorSpec,
    expect_same_space,
    matcher_inputs,
)
from gloam.padding import PaddingProfile


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        kind="embedder",
        name="gem_test",
        inputs=(TensorSpec("images", "uint8", ("batch", "height", "width", 3), "RGB"),),
        outputs=(TensorSpec("descriptors", "float32", ("batch", 4), "unit vectors"),),
        profile=PaddingProfile.fixed((256, 512), (256,)),
        network={"backbone": "test", "padding": "tf"},
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        provenance={"weights_sha256": "ab", "recipe": "none", "data": "none", "licence": "Apache-2.0"},
        pooling={"name": "gem", "p": 3.0},
        dimension=4,
        selftest=SelfTest((1, 2, 3), ((2, 3),), (0.5, 0.5, 0.5, 0.5)),
    )


def test_json_round_trip(card: ModelCard) -> None:
    again = ModelCard.from_json(card.to_json())
    assert again == card
    assert again.space() == card.space()
    assert again.fingerprint("00") == card.fingerprint("00")


@pytest.mark.parametrize(
    "change",
    [
        {"provenance": {"weights_sha256": "cd"}},
        {"photometric": Photometric("clahe")},
        {"scales": (1.0, 0.5)},
        {"pooling": {"name": "gem", "p": 2.0}},
        {"whitening": {"name": "lw", "sha256": "ef"}},
        {"dimension": 8, "outputs": (TensorSpec("descriptors", "float32", ("batch", 8), ""),)},
        {"network": {"backbone": "test", "padding": "symmetric"}},
        {"mean": (0.5, 0.5, 0.5)},
    ],
)
def test_space_changes_with_what_descriptors_depend_on(card: ModelCard, change: dict[str, object]) -> None:
    assert dataclasses.replace(card, **change).space() != card.space()  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize("change", [{"precision": "fp16"}, {"profile": PaddingProfile.dynamic()}])
def test_fingerprint_changes_where_space_does_not(card: ModelCard, change: dict[str, object]) -> None:
    other = dataclasses.replace(card, **change)  # type: ignore[arg-type]  # fields by name
    assert other.space() == card.space()
    assert other.fingerprint("00") != card.fingerprint("00")
    assert card.fingerprint("00") != card.fingerprint("01")


def test_baking_clahe_keeps_the_space(card: ModelCard) -> None:
    outside = dataclasses.replace(card, photometric=Photometric("clahe"))
    inside = dataclasses.replace(card, photometric=Photometric("clahe", baked=True))
    assert inside.space() == outside.space() != card.space()
    with pytest.raises(ModelError, match="inside the graph"):
        inside.with_photometric(Photometric())


def test_identities_are_not_stored(card: ModelCard) -> None:
    assert card.space() not in card.to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "not readable"),
        ("[]", "not readable"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 1}', "malformed"),
    ],
)
def test_bad_cards_are_one_line(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        ModelCard.from_json(text, "model.onnx")
    assert str(caught.value).startswith("model.onnx: ")
    assert "\n" not in str(caught.value)


def test_unknown_kind_and_another_kind_are_refused(card: ModelCard) -> None:
    value = json.loads(card.to_json()) | {"kind": "toaster"}
    with pytest.raises(ModelError, match="toaster"):
        ModelCard.from_json(json.dumps(value))
    with pytest.raises(ModelError, match=r"m\.onnx: .*'embedder'.*'translator'"):
        card.expect_kind("translator", "m.onnx")


def test_descriptors_of_another_space_are_refused() -> None:
    expect_same_space("a", "a", "store")
    with pytest.raises(IncompatibleError, match="extract them again"):
        expect_same_space("a", "b", "store")


def test_a_translation_is_another_space_and_none_keeps_the_old_one(card: ModelCard) -> None:
    translated = card.with_translate("aa")
    assert len({card.space(), translated.space(), card.with_translate("bb").space()}) == 3
    assert translated.fingerprint("00") != card.fingerprint("00")
    assert translated.with_translate(None).space() == card.space()
    assert "translate" not in json.loads(card.to_json())
    assert ModelCard.from_json(translated.to_json()) == translated


def test_the_space_of_an_earlier_card_stays(card: ModelCard) -> None:
    # Computed before cards knew of translation; stores in the world hold such hashes.
    assert card.space() == "c03401f209e396b68d9f8d24562bc5bf11733686a2a33624f67fc50ee6b774e4"
    assert card.fingerprint("00") == "29e69c221108f0e5078af8fac1801b39f6529e34c79064b153fdd235bcea79ea"


def test_a_card_without_the_second_selftest_is_read_and_written_as_before(card: ModelCard) -> None:
    old = card
    text = old.to_json()
    assert "selftest_larger" not in text
    assert ModelCard.from_json(text) == old
    assert old.selftests == (old.selftest,)
    second = SelfTest((3, 5, 7), ((5, 7),) * 3, (0.25,) * 12)
    new = dataclasses.replace(old, selftest_larger=second)
    assert ModelCard.from_json(new.to_json()) == new
    assert new.selftests == (old.selftest, second)
    assert new.space() == old.space()
    assert new.fingerprint("x") == old.fingerprint("x")


def changed(card: ModelCard, change: dict[str, object]) -> str:
    value = json.loads(card.to_json())
    for name, item in change.items():
        part = value
        *above, last = name.split(".")
        for key in above:
            part = part[key]
        part[last] = item
    return json.dumps(value)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "a\x1b[2J"},
        {"kind": "oracle"},
        {"precision": "fp999"},
        {"dimension": None},
        {"dimension": 0},
        {"dimension": 8},
        {"dimension": 1 << 40},
        {"inputs": []},
        {"outputs": []},
        {"mean": [0.5]},
        {"mean": [1e300, 0.5, 0.5]},
        {"std": [0.0, 1.0, 1.0]},
        {"std": [-1.0, 1.0, 1.0]},
        {"scales": []},
        {"scales": [0.0]},
        {"scales": [1e9]},
        {"resize": 0},
        {"photometric": {"name": "clahe", "clip": 1.0, "grid": 0, "baked": False}},
        {"photometric": {"name": "clahe", "clip": 1.0, "grid": 1 << 30, "baked": False}},
        {"photometric": {"name": "clahe", "clip": -1.0, "grid": 8, "baked": False}},
        {"profile.multiple": 0},
        {"profile.multiple": -256},
        {"profile.minimum": 1 << 40},
        {"profile.heights": [256, 1 << 30]},
        {"profile.batch": [1, 1 << 40]},
        {"selftest.shape": [1, 1 << 20, 1 << 20]},
        {"selftest.shape": [0, 2, 3]},
        {"selftest.sizes": []},
        {"selftest.sizes": [[5, 3]]},
        {"selftest.output": []},
        {"selftest.output": [0.0, 0.0, 0.0, 0.0]},
        {"selftest.tolerance": {"fp32": 1e9}},
        {"selftest.tolerance": {"fp16": -1}},
        {"selftest.tolerance": {"fp32": "wide"}},
        {"selftest.tolerance": {"fp32": True}},
    ],
)
def test_a_card_that_no_model_can_have_is_refused_in_a_line(card: ModelCard, change: dict[str, object]) -> None:
    text = changed(dataclasses.replace(card, photometric=Photometric()), change)
    with pytest.raises(ModelError, match=r"^m\.onnx: ") as error:
        ModelCard.from_json(text, "m.onnx")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("text", ['{"schema": 1, "schema": 1}', '{"schema": NaN}', "[]", "{" * 9999, '"\\ud800"', "1"])
def test_what_is_no_card_is_one_line(text: str) -> None:
    with pytest.raises(ModelError, match=r"m\.onnx: the model card is not readable"):
        ModelCard.from_json(text, "m.onnx")


def test_the_shape_of_a_run_is_an_images_or_a_matchers_numbers_of_keypoints(card: ModelCard) -> None:
    takes = FeatureRule("xfeat", 64)
    matcher = dataclasses.replace(
        card,
        kind="matcher",
        inputs=matcher_inputs(takes),
        outputs=(TensorSpec("matches", "int32", ("batch", "keypoints0"), ""), TensorSpec("scores", "float32", (), "")),
        dimension=None,
        selftest=None,
        takes=takes,
    )
    assert matcher.padded({"keypoints0": (2, 256, 2), "keypoints1": (2, 512, 2)}) == (256, 512)
    assert [spec.sized(3, 256, 512, "") for spec in matcher.inputs] == [
        (3, 256, 2),
        (3, 512, 2),
        (3, 256, 64),
        (3, 512, 64),
        (3, 2),
        (3, 2),
        (3, 2),
    ]
    assert card.padded({"images": (2, 480, 640, 3)}) == (480, 640)
    assert card.padded({"images": (2, 480, 640)}) == (0, 0)
    assert str(takes) == "xfeat, 64-D, the first pixel's centre at 0"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"count": 0}, "1 to 65536"), ({"threshold": -1.0}, "0 or more"), ({"origin": 2.0}, "unknown to this gloam")],
)
def test_keypoints_that_no_file_has_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(KeypointRule(100), **change)


def test_a_card_of_keypoints_names_its_four_outputs(card: ModelCard) -> None:
    outputs = tuple(TensorSpec(name, "float32", ("batch", 9, 4), "") for name in KEYPOINT_OUTPUTS)
    made = dataclasses.replace(card, kind="local_features", outputs=outputs, keypoints=KeypointRule(9, 0.2))
    assert ModelCard.from_json(made.to_json()) == made
    assert json.loads(made.to_json())["keypoints"] == {"count": 9, "threshold": 0.2, "frame": "stored", "origin": 0.0}
    assert "keypoints" not in json.loads(card.to_json())
    with pytest.raises(ModelError, match="whose outputs are not keypoints, scores, descriptors, count"):
        dataclasses.replace(made, outputs=outputs[:3])
    with pytest.raises(ModelError, match="a dimension of 8 beside an output of 4"):
        dataclasses.replace(made, dimension=8)
    with pytest.raises(ModelError, match=r"without a keypoint of score 0.2; lower the --threshold"):
        dataclasses.replace(made, selftest=SelfTest((1, 2, 3), ((2, 3),), (0.0,) * 22))
