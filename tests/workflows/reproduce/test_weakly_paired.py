"""Table 2 of weakly-paired translation again: from a pair file and what weights there are, and on the town."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.data.town.drives.config import DrivesConfig
from gloam.data.weak_pairs.pair_file import Listed, write_pair_file
from gloam.errors import UsageError
from gloam.files import sha256_file
from gloam.workflows.evaluation import domains as evaluation
from gloam.workflows.evaluation.domains import DomainOptions, evaluate_domains
from gloam.workflows.reports.weakly_paired import reproduce_weakly_paired
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.weakly_paired import table as module
from gloam.workflows.reproduce.weakly_paired.miniature import Miniature
from gloam.workflows.reproduce.weakly_paired.request import RECIPES, WeaklyPairedRequest
from tests.eval.translation.test_domains import Colours, street
from tests.tiny_translators import DOMAINS, write_tiny_domains


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pair file of three domains, and Inception's place taken by colours."""
    paths, labels, parts, positions, pairs = [], [], [], [], []
    for label, domain in enumerate(DOMAINS):
        (tmp_path / "images" / domain).mkdir(parents=True)
        for place in range(4):
            paths.append(tmp_path / "images" / domain / f"{place}.png")
            Image.fromarray(street(place, domain)).save(paths[-1])
            labels.append(label)
            parts.append("test" if place else "train")
            positions.append((10.0 * place, float(label), 0.0))
    for place in range(4):
        pairs += [(place, 4 + place, 1.0, 0.0), (place, 8 + place, 2.0, 0.0)]
    root = tmp_path / "data"
    (root / "weakly-paired").mkdir(parents=True)
    listed = Listed({name: {} for name in DOMAINS}, paths, labels, parts, positions, pairs)
    write_pair_file(root / "weakly-paired" / "pairs.json", listed)
    (root / "networks").mkdir()
    (root / module.INCEPTION_WEIGHTS).write_bytes(b"colours")
    monkeypatch.setattr(evaluation, "open_extractor", lambda features, weights, device: Colours())
    write_tiny_domains(tmp_path / "m.onnx")
    return root


def test_rows_with_weights_are_judged_and_the_others_are_named(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    words = ["reproduce", "weakly-paired", "2", "--data", str(data), "-o", str(tmp_path / "out"), "--json"]
    assert main([*words, "--weights", f"FINAL={tmp_path / 'm.onnx'}"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["scores"]) == {"untouched", "FINAL"}
    options = DomainOptions(data / "weakly-paired" / "pairs.json", [("FINAL", str(tmp_path / "m.onnx"))], "inception")
    wanted = evaluate_domains(options).to_dict()["methods"]["FINAL"]
    assert found["scores"]["FINAL"] == wanted
    cell = found["rows"]["FINAL"]
    assert cell["snow"]["FID"] == {"published": None, "ours": wanted["domains"]["snow"]["fid"]}
    assert cell["Mean"]["SIFT"]["published"] == pytest.approx(10.092, abs=5e-4)
    assert cell["Std"]["FID"]["published"] == pytest.approx(12.504, abs=5e-4)
    assert cell["WDSn"]["FID"] == {"published": 77.133, "ours": None}
    model = tmp_path / "m.onnx"
    stated = {"weights": [{"file": str(model), "sha256": sha256_file(model)}], "from": "given with --weights"}
    assert found["made_by"] == {"FINAL": stated}
    page = (tmp_path / "out" / "table2.html").read_text()
    assert sha256_file(model)[:12] in page
    assert found["page"] == str(tmp_path / "out" / "table2.html")
    named = {item["path"]: item["where"] for item in found["missing"]}
    assert len(named) == 6
    spade = str(data / "experiments" / "spade" / "translator.safetensors")
    assert named[spade].startswith("--train trains recipe spade")
    rows = list(csv.DictReader((tmp_path / "out" / "table2.csv").read_text().splitlines()))
    assert {row["method"] for row in rows} == {"untouched", *RECIPES}

    monkeypatch.setattr(module, "evaluate_domains", lambda options: pytest.fail("judged again"))
    assert main([*words[:-1], "--weights", f"FINAL={tmp_path / 'm.onnx'}"]) == 0
    text = capsys.readouterr().out
    assert "FID, paper / ours" in text
    assert [line.split()[0] for line in text.splitlines()[4:9]] == [*DOMAINS, "Mean", "Std"]
    assert "neither which sources feed a domain" in text

    # Another photograph under its old name is judged again.
    with monkeypatch.context() as changed:
        judged: list[str] = []
        changed.setattr(module, "evaluate_domains", lambda options: judged.append("") or evaluate_domains(options))
        Image.fromarray(street(9, DOMAINS[0])).save(tmp_path / "images" / DOMAINS[0] / "1.png")
        assert main([*words, "--weights", f"FINAL={tmp_path / 'm.onnx'}"]) == 0
    assert judged
    again = json.loads(capsys.readouterr().out)
    assert again["scores"]["FINAL"] != wanted


def test_training_needs_its_file_and_a_failed_one_is_a_note(data: Path, tmp_path: Path) -> None:
    found = reproduce_weakly_paired(WeaklyPairedRequest("2", data, tmp_path / "out", rows=["FINAL"], train=True))
    assert [item.path.name for item in found.missing] == ["vgg19-dcbb9e9d.pth"]
    assert not found.ran
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    for given, said in ((bad, "bad.onnx"), (tmp_path / "none", "no such file"), (tmp_path, "a folder without")):
        found = reproduce_weakly_paired(WeaklyPairedRequest("2", data, tmp_path / "out", ["FINAL"], {"FINAL": given}))
        (note,) = [note for note in found.notes if note.startswith("FINAL: ")]
        assert said in note


def test_without_pairs_or_inception_both_are_named(tmp_path: Path, capsys) -> None:
    assert main(["reproduce", "weakly-paired", "2", "--data", str(tmp_path), "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert "pairs.json" in said
    assert "weights-inception-2015-12-05-6726825d.pth" in said
    assert "62.675" in said  # the paper's numbers stand there nevertheless


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("3", "weakly-paired: no table '3' to reproduce; choose one of 2, figure7"),
        ("2 --rows full", "no row 'full'; choose one of no_gen_align"),
        ("2 --device tensorrt", "runs on cpu or cuda"),
        ("2 --weights FINAL", "give ROW=FILE"),
        ("2 --seeds 3", "--seeds and --again are of tables of retrieval"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: str, said: str, capsys) -> None:
    command = ["reproduce", "weakly-paired", *words.split(), "-o", str(tmp_path / "out")]
    assert main(command) == 2
    assert said in capsys.readouterr().err


def test_the_papers_means_are_of_its_columns() -> None:
    table = published("weakly-paired", "2")
    means = {"no_gen_align": (65.857, 10.150), "SPADE_org": (64.395, 10.233), "GANimation": (85.052, 10.887)}
    for row, expected in means.items():
        for figure, mean in zip(("FID", "SIFT"), expected, strict=True):
            assert module._printed(table, row, "Mean", figure) == pytest.approx(mean, abs=6e-4)


SMALL = DrivesConfig(("sun", "snow", "night"), (101, 102), (201,), (71,), 30.0, 5.0, 128, 96)
TINY: dict[str, Any] = {
    "steps_per_epoch": 2,
    "batch": 2,
    "held_out": 1,
    "options": {"epochs": 1, "decay_epochs": 0},
}


@pytest.mark.slow
def test_the_town_trains_and_judges_its_rows_and_reads_it_again(tmp_path: Path) -> None:
    small = Miniature(5.0, SMALL, crop=64, limit=4, workers=1, changes=TINY)
    request = WeaklyPairedRequest("2", tmp_path, tmp_path / "out", rows=["no_mask", "GANimation", "FINAL"])
    lines: list[str] = []
    found = reproduce_weakly_paired(request, small, lines.append)
    assert not [note for note in found.notes if ":" in note.split(" ")[0]]
    assert list(found.ours) == ["untouched", "no_mask", "GANimation", "FINAL"]
    assert tuple(found.domains) == SMALL.domains
    for scores in found.ours.values():
        assert all(scores["domains"][name]["fid"] > 0 for name in SMALL.domains)
    assert sum(found.sources["night"].values()) == 4
    assert set(found.sources["night"]) <= {"sun", "snow"}
    again = reproduce_weakly_paired(request, small, lambda line: None)
    assert again.to_dict() == found.to_dict()
    with pytest.raises(UsageError, match="no row"):
        WeaklyPairedRequest("2", tmp_path, tmp_path, rows=["x"])
