"""Options that would do nothing, numbers out of range, and outputs that are not what a verb writes, are refused before
anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gloam.cli.main import main

REFUSED = [
    ("translate {in} --model none --tar-size 3 -o {out}", "--tar-size is of tars; add --tar"),
    ("translate {in} --model none --decode-threads -1 -o {out}", "-1 threads: 1 or more are needed"),
    ("edges {in} --model e.onnx --threads 0 -o {out}", "0 threads: 1 or more are needed"),
    ("asmk search i.npz {in} --model m.onnx --set x -o {out}.json", "--set x is of a ground truth; add --ground-truth"),
    ("bench m.onnx --threads -2", "-2 threads: 1 or more are needed"),
    ("dataset build {in} -o {in}/a.png", "a.png: a set is written as .json"),
    ("dataset check {in}/set.json --negatives 0", "--negatives 0: a tuple has 1 or more"),
    ("dataset build {in} -o {out}.json --seed -1", "'-1' is no seed; give a whole number from 0 to 2147483647"),
    ("town {out} --seed 2147483648", "'2147483648' is no seed"),
    ("index {in} -o {out} --seed 1e3", "'1e3' is no seed"),
    ("eval localization --results {in} --ground-truth {in} --threshold nan,2", "metres and degrees are finite"),
    ("eval localization --results {in} --ground-truth {in} --threshold=-1,2", "metres and degrees are finite"),
    ("eval retrieval --query a --map b --ground-truth t --distances 5", "belong to the protocol distance"),
    ("eval retrieval --query a --map b --ground-truth t --query-positions p", "belong to the protocol distance"),
    ("eval retrieval --query a --map b --ground-truth t --images {in}", "are shown in a report; add --report"),
    ("eval retrieval --query a --map b --ground-truth t --distractors ./b", "--distractors names the map, or a store"),
    ("eval retrieval --query a --map b --ground-truth t --distractors c c", "--distractors names the map, or a store"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_is_refused_in_a_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    Image.new("RGB", (40, 40)).save(images / "a.png")
    before = (images / "a.png").read_bytes()
    try:
        code = main(words.format(**{"in": images, "out": out}).split())
    except SystemExit as ended:  # of argparse
        code = ended.code if isinstance(ended.code, int) else -1
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2, said
    assert message in said[-1]
    assert (images / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in images.iterdir()] == ["a.png"]
