"""Options that would do nothing, numbers out of range, and outputs that are not what a verb writes, are refused before
anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gloam.cli.main import main
from tests.tiny_models import write_tiny_embedder

REFUSED = [
    ("translate {in} --model none --tar-size 3 -o {out}", "--tar-size is of tars; add --tar"),
    ("translate {in} --model none --decode-threads -1 -o {out}", "-1 threads: 1 or more are needed"),
    ("edges {in} --model e.onnx --threads 0 -o {out}", "0 threads: 1 or more are needed"),
    ("asmk search i.npz {in} --model m.onnx --set x -o {out}.json", "--set x is of a ground truth; add --ground-truth"),
    ("bench m.onnx --threads -2", "-2 threads: 1 or more are needed"),
    ("dataset build {in} -o {in}/a.png", "a.png: a set is written as .json"),
    ("export --random-init 0 --network gem_resnet18 --option width=8 -o {in}/a.png", "a.png: a model is written as"),
    ("localize --mapping {in} --query x --pairs p -o {in}/out", "lies inside"),
    ("localize --mapping m --query x --pairs p -o {out} --workers -3", "--workers -3: must be 1 or more"),
    ("localize --mapping m --query x --pairs p -o {out} --report --dry-run", "--report shows poses"),
    ("localize --mapping m --query x --pairs p -o {out} --map-distance 0", "--map-distance must be above 0"),
    ("localize --mapping m --query x --pairs p -o {out} --map-pairs p.txt --map-angle 9", "do nothing to a list"),
    ("localize --mapping m --query x --pairs p -o {out} --verify 3", "--verify 3: the best --top-k 10 are taken of"),
    ("extract {in} --model m.onnx -o {out} --feature-type x", "--feature-type names features of a kapture dataset"),
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pairs --query a --map b -o {0}/manifest.json", "lies inside a store or an index"),
        ("index {0} -o {0}", "holds a store or pictures; choose another output folder"),
        ("pairs --query {0} --map {0} -k 2 --min-score nan -o {1}", "--min-score nan: a cosine is from -1 to 1"),
        ("store verify {2}", "not a descriptor store but a folder of pictures"),
    ],
)
def test_a_store_is_no_place_for_other_outputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    write_tiny_embedder(tmp_path / "m.onnx")
    source, model = str(tmp_path / "a.png"), str(tmp_path / "m.onnx")
    assert main(["extract", source, "--model", model, "-o", str(tmp_path / "store")]) == 0
    assert main(["translate", source, "--model", "none", "-o", str(tmp_path / "night")]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(words.format(tmp_path / "store", tmp_path / "p.txt", tmp_path / "night").split()) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()} == before


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
