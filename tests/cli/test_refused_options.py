"""Options that would do nothing, numbers out of range, and outputs that are not what a verb writes, are refused before
anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gloam.cli.main import build_parser, main
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
    ("search i --store s --threads 2", "--threads is of the model that describes --images"),
    ("search i --store s --backend openvino", "--backend is of the model that describes --images"),
    ("pairs --mapping {in} -k 5 -o {out}.txt", "-k is of the pairs of stores; pairs of a map have --map-neighbours"),
    ("pair {in} -o {out}.json --test-share 0.3", "--test-share is of regions that are drawn; add --blocks METRES"),
    ("index --add s -o {out} --recall 0.9", "an index that grows keeps its kind"),
    ("index --merge a b -o {out} --device cuda", "an index that grows keeps its kind"),
    ("index --merge a b -o {out} --trust", "--trust is of a store; indexes are merged by their files' checksums"),
    ("extract {in} --model m.onnx -o {out} --finish --shard-index 0 --num-shards 2", "--finish is of the whole store"),
    ("extract {in} --model m.onnx -o {out} --finish --metrics-port 80", "--metrics-port is of describing"),
    ("town {out} --pair-distance 3", "--pair-distance is of weak pairs; give --domains"),
    ("town {out} --domains all --queries 3", "--queries is not of weak pairs; leave it out with --domains"),
    ("localize --mapping m --query q --pairs p -o {out} --method top1 --matcher m.onnx", "--matcher is of matches"),
    (
        "localize --mapping m --query q --pairs p -o {out} --method 2a --map-pairs pose",
        "--map-pairs is of the map of 2b",
    ),
    ("localize --mapping m --query q --pairs p -o {out} --trust", "--trust is of --stores; leave it out"),
    ("localize --mapping m --query q --pairs p -o {out} --threads 2", "--threads is of models; sift and mutual"),
    ("match --pairs p --features f.h5 -o {out} --threads 2", "--threads is of a model that matches; leave it out"),
    ("match --pairs p --features {in} -o {out} --pixel-origin 0.5", "--pixel-origin is of hloc's features"),
    ("reproduce thesis 5.1 -o {out} --minutes 3", "--minutes is of the miniature; add --town, or give --budget"),
    ("reproduce weakly-paired figure7 -o {out} --limit 3", "--limit is not of weakly-paired figure7; leave it out"),
]
# What a mode of a verb reads, beside what every verb has.
MODES = {
    "translate {in} --grid --model none -o {out}.png": (
        *("--grid", "--model", "-o", "--to", "--like", "--appearance", "--noise", "--beside", "--compare", "--rows"),
        *("--cell", "--device", "--root"),
    ),
    "pair --template {out}.yaml": ("--template", "-o"),
    "pull --list": ("--list",),
    "train metric --list": ("--list",),
    "train translator --show town_cyclegan": ("--show", "--list"),
    "train edges --list": ("--list",),
    "reproduce dark-side 1 --again r.json": ("--again", "-o"),
    "reproduce dark-side 1 --town -o {out}": (
        *("--town", "-o", "--data", "--rows", "--weights", "--order", "--words", "--features-per-image", "--train"),
        *("--seeds", "--budget", "--again", "--minutes", "--limit", "--seed"),
    ),
    "reproduce mduit figure4 -o {out}": (
        *("-o", "--data", "--rows", "--weights", "--train", "--budget", "--references", "--device", "--seed", "--town"),
        *("--minutes", "--seeds", "--again"),
    ),
    "reproduce weakly-paired 2 -o {out}": (
        *("-o", "--data", "--rows", "--weights", "--train", "--budget", "--limit", "--device", "--seed", "--town"),
        *("--minutes", "--seeds", "--again"),
    ),
}
VALUES = {"--stretch": "9x9", "--on": "ray", "--memory": "1MiB", "--root": "folder"}


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_refuses_by_name_every_option_that_it_does_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    words = mode.format(**{"in": tmp_path / "in", "out": tmp_path / "out"}).split()
    leaf = build_parser().parse_args(words).leaf
    tried = 0
    for action in leaf._actions:
        option = action.option_strings[-1] if action.option_strings else ""
        known = {*MODES[mode], "--help", "--json", "--debug", "--quiet", "--log-file"}
        if not option or known & set(action.option_strings):
            continue
        others = [choice for choice in action.choices or () if choice != action.default]
        value = VALUES.get(option, str(others[0]) if others else "7")
        given = [] if action.nargs == 0 else [value]
        assert main([*words, option, *given]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert f": {option} " in said, said
        tried += 1
    assert tried >= 3
    assert list(tmp_path.iterdir()) == []


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
