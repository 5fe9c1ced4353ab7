"""``gloam adopt``: from a file of another program to descriptors, and each refusal in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.export.adopt.feeding import IMAGENET, Feeding
from gloam.export.adopt.foreign import read_foreign
from gloam.export.adopt.probe import Runner, pictures
from gloam.runtime.descriptors.store import DescriptorStore
from tests.foreign_files import DIMENSION, Shape, write_foreign

STATED = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--channels", "rgb")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    line = capsys.readouterr().err
    assert line.count("\n") == 1, line
    return line


def test_all_of_gloam_runs_an_adopted_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs, ours = write_foreign(tmp_path / "theirs.onnx"), tmp_path / "ours.onnx"
    assert (
        main(["adopt", str(theirs), "-o", str(ours), *STATED, "--max-side", "100", "--licence", "MIT", "--json"]) == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert report["findings"] == []
    assert (report["dimension"], report["input_rule"]["max_side"]) == (DIMENSION, 100)
    assert report["feeding"]["because"] == "as stated"
    assert main(["check", str(ours)]) == 0
    (tmp_path / "images").mkdir()
    for number, image in enumerate(pictures([(120, 160)] * 4)):
        Image.fromarray(image).save(tmp_path / f"images/{number}.png")
    assert main(["extract", str(tmp_path / "images"), "-o", str(tmp_path / "store"), "--model", str(ours)]) == 0
    assert main(["index", str(tmp_path / "store"), "-o", str(tmp_path / "index")]) == 0
    capsys.readouterr()
    words = ["search", str(tmp_path / "index"), "--images", str(tmp_path / "images"), "--model", str(ours), "-k", "1"]
    assert main([*words, "--json"]) == 0
    store = DescriptorStore.open(tmp_path / "store")
    assert store.dimension == DIMENSION


def test_a_reference_finds_what_nobody_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = write_foreign(tmp_path / "theirs.onnx")
    image = next(pictures([(90, 120)])) // 2 + np.array([120, 30, 0], np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    fed = Feeding("nchw", "bgr", *IMAGENET).fed(image[None])
    np.save(tmp_path / "photo.npy", Runner(read_foreign(theirs)).describe(fed))
    words = ["adopt", str(theirs), "-o", str(tmp_path / "ours.onnx")]
    pair = ["--reference", str(tmp_path / "photo.png"), str(tmp_path / "photo.npy")]
    assert main([*words, *pair]) == 0
    out = capsys.readouterr().out
    assert (
        "input       nchw, --range 1 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --channels bgr: by 1 ref" in out
    )
    assert out.splitlines()[-1] == f"next: gloam check {tmp_path / 'ours.onnx'}"
    assert main([*words, *pair, *STATED]) == 2
    assert "not adopted for wrong channel order: stated is" in said(capsys)


@pytest.mark.parametrize(
    ("shape", "words", "line"),
    [
        (
            Shape(),
            [],
            "the graph does not tell its normalisation (--mean, --std, --range) and the order of its channels",
        ),
        (Shape(coupled=True), STATED, "not adopted for batch coupling: "),
        (Shape(size=(112, 112)), STATED, "not adopted for baked size: "),
        (Shape(), [*STATED, "--layout", "nhwc"], "not adopted for wrong layout: --layout nhwc is stated, but"),
        (Shape(outputs=("out", "map")), STATED, "name the one that is the descriptor with --vector"),
    ],
)
def test_a_refusal_is_a_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: Shape, words: list[str], line: str
) -> None:
    theirs = write_foreign(tmp_path / "theirs.onnx", shape)
    assert main(["adopt", str(theirs), "-o", str(tmp_path / "ours.onnx"), *words]) == 2
    assert line in said(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.onnx"]


def test_words_that_are_no_three_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["adopt", "a.onnx", "-o", "b.onnx", "--mean", "1,2"])
    assert "'1,2' is not three numbers separated by commas" in capsys.readouterr().err


def test_a_file_without_a_card_is_told_of_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = write_foreign(tmp_path / "theirs.onnx")
    assert main(["check", str(theirs)]) == 2
    assert f"gloam adopt {theirs}" in said(capsys)
