"""What is stated, what the graph shows and what references prove must agree; what nobody says is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gloam.errors import DataError, UsageError
from gloam.export.adopt.feeding import BYTE, CAFFE, IMAGENET, ONE, ZERO, Feeding
from gloam.export.adopt.findings import NotAdoptedError
from gloam.export.adopt.foreign import read_foreign
from gloam.export.adopt.front import Front, find_front
from gloam.export.adopt.probe import Runner, pictures
from gloam.export.adopt.rule import Ruled, Stated, decide, read_reference
from gloam.export.adopt.sizes import Sizes
from gloam.model_card import LITERATURE, NATIVE, InputRule
from tests.foreign_files import Shape, write_foreign

RULE = Feeding("nchw", "rgb", *IMAGENET)
NOTHING = Front()
STATED = Stated("rgb", None, *IMAGENET)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(read_foreign(write_foreign(tmp_path / "a.onnx")))


def reference(runner: Runner, feeding: Feeding, folder: Path, grey: bool = False) -> tuple[Path, Any]:
    image = next(pictures([(90, 120)]))
    image = image // 2 + np.array([120, 30, 0], np.uint8)  # of a strong colour
    if grey:
        image = np.repeat(image[..., :1], 3, 2)
    Image.fromarray(image).save(folder / "photo.png")
    np.save(folder / "photo.npy", runner.describe(feeding.fed(image[None])))
    return read_reference(folder / "photo.png", folder / "photo.npy")


def decided(runner: Runner, stated: Stated, *references: Any, front: Front = NOTHING) -> Ruled:
    return decide(runner, "nchw", Sizes(None), front, stated, references)


def names(refused: Any) -> list[str]:
    return [finding.name for finding in refused.value.findings]


def test_stated_in_full(runner: Runner) -> None:
    ruled = decided(runner, STATED)
    assert (ruled.feeding, ruled.rule, ruled.because, ruled.loss) == (RULE, LITERATURE, "as stated", None)


@pytest.mark.parametrize(
    ("stated", "asked"),
    [
        (Stated(), "its normalisation (--mean, --std, --range) and the order of its channels (--channels)"),
        (Stated(channels="rgb"), "its normalisation (--mean, --std, --range); state"),
        (Stated("rgb", None, ZERO, ONE), "its normalisation"),
        (Stated(None, None, *IMAGENET), "tell the order of its channels (--channels); state"),
    ],
)
def test_what_nobody_says_is_asked_for_by_its_option(runner: Runner, stated: Stated, asked: str) -> None:
    with pytest.raises(UsageError) as refused:
        decided(runner, stated)
    assert asked in str(refused.value)


def test_statements_in_bytes() -> None:
    caffe = Stated("bgr", None, (123.68, 116.779, 103.939), ONE)
    assert caffe.normalisation is not None
    np.testing.assert_allclose(caffe.normalisation, CAFFE)
    assert Stated(range=255).normalisation == (ZERO, BYTE)
    assert Stated(range=1, mean=ZERO, std=ONE).normalisation == (ZERO, ONE)


@pytest.mark.parametrize(
    "values",
    [
        {"mean": ZERO},
        {"mean": ZERO, "std": (0.0, 1.0, 1.0)},
        {"mean": (float("nan"), 0.0, 0.0), "std": ONE},
        {"mean": CAFFE[0], "std": (1.0, float("inf"), 1.0)},
        {"range": 1, "mean": (123.0, 117.0, 104.0), "std": ONE},
        {"max_side": 100, "stretch": (64, 64)},
    ],
)
def test_statements_that_contradict_themselves(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Stated(**values)


def test_sizes_that_a_statement_means() -> None:
    assert Stated().rules(1) == [LITERATURE]
    assert Stated(max_side=0).rules(1) == [NATIVE]
    assert Stated(stretch=(64, 48), filter="bicubic").rules(1) == [InputRule(None, (64, 48), "bicubic", True)]
    assert Stated().rules(14)[0].multiple == 14
    free = Stated(stretch=(64, 48)).rules(1, free=True)
    assert [rule.filter for rule in free] == ["area", "bilinear", "bicubic"]
    assert NATIVE in Stated().rules(1, free=True)


@pytest.mark.parametrize("truth", [RULE, Feeding("nchw", "bgr", *IMAGENET), Feeding("nchw", "bgr", *CAFFE)])
def test_a_reference_finds_the_rule(runner: Runner, tmp_path: Path, truth: Feeding) -> None:
    ruled = decided(runner, Stated(), reference(runner, truth, tmp_path))
    assert ruled.feeding == truth
    assert ruled.because == "by 1 reference"
    assert ruled.loss is not None
    assert ruled.loss < 1e-6


@pytest.mark.parametrize(
    ("truth", "stated", "mistakes"),
    [
        (RULE, Stated("rgb", 1, ZERO, ONE), ["normalisation"]),
        (Feeding("nchw", "bgr", *IMAGENET), STATED, ["channel_order"]),
        (Feeding("nchw", "rgb", *CAFFE), STATED, ["range"]),
        (Feeding("nchw", "bgr", *CAFFE), STATED, ["range", "channel_order"]),
    ],
)
def test_a_reference_names_what_is_stated_wrongly(
    runner: Runner, tmp_path: Path, truth: Feeding, stated: Stated, mistakes: list[str]
) -> None:
    with pytest.raises(NotAdoptedError, match=r"but a reference .* says") as refused:
        decided(runner, stated, reference(runner, truth, tmp_path))
    assert names(refused) == mistakes


def test_a_right_statement_and_a_right_reference(runner: Runner, tmp_path: Path) -> None:
    assert decided(runner, STATED, reference(runner, RULE, tmp_path)).feeding == RULE


def test_a_grey_reference_tells_no_order(runner: Runner, tmp_path: Path) -> None:
    same = Feeding("nchw", "rgb", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    grey = reference(runner, same, tmp_path, grey=True)
    with pytest.raises(UsageError, match=r"do not tell .* of strong colours, or state it"):
        decided(runner, Stated(), grey)
    assert decided(runner, Stated(channels="bgr"), grey).feeding.channels == "bgr"


def test_an_unusual_normalisation_is_not_reproduced_until_it_is_stated(runner: Runner, tmp_path: Path) -> None:
    odd = Feeding("nchw", "rgb", (0.9, 0.1, 0.6), (0.11, 0.7, 0.3))
    vector = reference(runner, odd, tmp_path)
    with pytest.raises(NotAdoptedError, match=r"the cosine is .* at most") as refused:
        decided(runner, Stated(), vector)
    assert names(refused) == ["not_reproduced"]
    assert decided(runner, Stated("rgb", 1, odd.mean, odd.std), vector).feeding == odd


def test_a_reference_of_another_model(runner: Runner, tmp_path: Path) -> None:
    image, _ = reference(runner, RULE, tmp_path)
    with pytest.raises(UsageError, match=r"gives 8 values, the reference of photo.png has 5"):
        decided(runner, STATED, (image, np.ones(5)))


def test_references_that_cannot_be_read(tmp_path: Path) -> None:
    for values in (np.ones((2, 3)), np.zeros(4), np.array([np.nan, 1]), np.array(["a"])):
        np.save(tmp_path / "a.npy", values)
        with pytest.raises(DataError, match=r"a\.npy"):
            read_reference(tmp_path / "a.png", tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.array([{}], object))
    with pytest.raises(DataError, match=r"not a readable .npy of numbers"):
        read_reference(tmp_path / "a.png", tmp_path / "a.npy")
    with pytest.raises(DataError):
        read_reference(tmp_path / "a.png", tmp_path / "absent.npy")


def test_what_the_graph_shows(tmp_path: Path) -> None:
    runner = Runner(read_foreign(write_foreign(tmp_path / "a.onnx", Shape(scaled="bytes"))))
    front = find_front(runner, "nchw", Sizes(None))
    ruled = decided(runner, Stated(), front=front)
    assert ruled.feeding == Feeding("nchw", "rgb", ZERO, BYTE)
    assert ruled.because == "read off the graph"
    with pytest.raises(NotAdoptedError, match="the graph itself says --range 255") as refused:
        decided(runner, STATED, front=front)
    assert names(refused) == ["range"]
    with pytest.raises(NotAdoptedError, match="the means in the graph are those of rgb") as refused:
        decided(runner, Stated(channels="bgr"), front=front)
    assert names(refused) == ["channel_order"]
