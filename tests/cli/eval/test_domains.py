"""``gloam eval domains``: pairs, several methods, the untouched sources beside them, files, and bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.cli.main import main
from tests.eval.translation.test_domains import street
from tests.tiny_models import write_tiny_embedder
from tests.tiny_translators import DOMAINS, write_tiny_domains


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("eval")
    for domain in DOMAINS:
        (root / "images" / domain).mkdir(parents=True)
        for place in range(4):
            Image.fromarray(street(place, domain)).save(root / "images" / domain / f"{place}.png")
    rows = [f"day/{place}.png,day,{other}/{place}.png,{other},test" for place in range(3) for other in DOMAINS[1:]]
    (root / "images" / "pairs.csv").write_text("path_a,domain_a,path_b,domain_b,part\n" + "\n".join(rows) + "\n")
    write_tiny_embedder(root / "e.onnx")
    write_tiny_domains(root / "m.onnx")
    return root


def score(folder: Path, capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    command = ["eval", "domains", *map(str, words), "--features", str(folder / "e.onnx"), "--json"]
    assert main([*command, "--size", "160x128"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_table_has_every_domain_and_the_untouched_sources(folder: Path, capsys, tmp_path: Path) -> None:
    model = f"ours={folder / 'm.onnx'}"
    data = score(folder, capsys, folder / "images" / "pairs.csv", "--method", model, "-o", tmp_path / "out")
    assert set(data["methods"]) == {"untouched", "ours"}
    ours = data["methods"]["ours"]
    assert list(ours["domains"]) == list(DOMAINS)
    fids = [cell["fid"] for cell in ours["domains"].values()]
    assert ours["mean"]["FID"] == pytest.approx(np.mean(fids))
    assert ours["std"]["FID"] == pytest.approx(np.std(fids, ddof=1))
    assert ours["mean"]["MMD"] == pytest.approx(np.mean([cell["mmd"] for cell in ours["domains"].values()]))
    assert data["methods"]["untouched"]["mean"]["MMD"] > 0
    assert data["protocol"]["FID"] == "Fréchet distance in the space of tiny"
    assert data["sources"]["day"] == {"night": 3, "snow": 3}
    assert data["protocol"]["images"].startswith("stretched to 160x128")
    assert data["protocol"]["part"] == "test"
    assert json.loads((tmp_path / "out" / "domains.json").read_text())["methods"] == data["methods"]
    rows = list(csv.DictReader((tmp_path / "out" / "domains.csv").read_text().splitlines()))
    assert [row["domain"] for row in rows if row["method"] == "ours"] == [*DOMAINS, "Mean", "Std"]
    assert float(rows[-2]["MMD"]) == pytest.approx(ours["mean"]["MMD"], rel=1e-5)
    assert float(rows[-2]["FID"]) == pytest.approx(ours["mean"]["FID"], rel=1e-5)


def test_folders_of_domains_noise_and_controls(folder: Path, capsys) -> None:
    methods = ["--method", f"ours={folder / 'm.onnx'}", "--method", "dark=gamma"]
    words = [folder / "images", *methods, "--domains", "night", "--from", "day"]
    data, drawn = (score(folder, capsys, *words, *noise) for noise in ([], ["--noise", "4"]))
    assert data["sources"] == {"night": {"day": 4}}
    cells = {name: method["domains"]["night"]["fid"] for name, method in data["methods"].items()}
    assert len(set(cells.values())) == 3
    assert drawn["methods"]["ours"]["domains"]["night"] != data["methods"]["ours"]["domains"]["night"]
    assert drawn["methods"]["dark"] == data["methods"]["dark"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pairs.csv --method ours", "'ours' is not NAME=VALUE"),
        ("pairs.csv --method untouched=gamma", "two methods are called 'untouched'"),
        ("pairs.csv --domains rain", "unknown domain 'rain'; the images are of day, night, snow"),
        ("pairs.csv --part train", "holds no pairs of part train"),
        ("pairs.csv --method x=gama", "did you mean gamma"),
        ("pairs.csv --size 8x8", "--size 8x8: 32 px a side at least"),
        ("day", "day: holds 0 folders; a folder for each of two domains"),
        ("none.csv", "none.csv"),
    ],
)
def test_bad_input_is_one_line(folder: Path, words: str, said: str, capsys) -> None:
    source, *others = words.split()
    try:
        code = main(["eval", "domains", str(folder / "images" / source), *others, "--features", str(folder / "e.onnx")])
    except SystemExit as left:
        code = int(left.code or 0)
    assert code == 2
    found = capsys.readouterr().err
    assert said in found
    assert "Traceback" not in found


def test_a_model_that_lacks_a_domain_of_the_images_is_refused(folder: Path, tmp_path: Path, capsys) -> None:
    for domain in ("day", "dusk"):
        (tmp_path / domain).mkdir()
        Image.fromarray(street(0, "day")).save(tmp_path / domain / "0.png")
    words = ["eval", "domains", str(tmp_path), "--method", f"ours={folder / 'm.onnx'}"]
    assert main([*words, "--features", str(folder / "e.onnx")]) == 2
    assert "m.onnx: knows no domain 'dusk'; its domains are day, night, snow" in capsys.readouterr().err
