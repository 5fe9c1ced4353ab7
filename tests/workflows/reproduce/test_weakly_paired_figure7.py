"""Figure 7 of weakly-paired translation again: curves of what there is, and on the town."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from gloam.cli.main import main
from gloam.data.images import decode_image
from gloam.data.weak_pairs.pair_file import read_pair_file
from gloam.errors import UsageError
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.translator import load_translator
from gloam.workflows.evaluation.domains import SIZE
from gloam.workflows.reproduce.weakly_paired.figure7 import DISTANCES, UNTRANSLATED, reproduce_figure_7
from gloam.workflows.reproduce.weakly_paired.miniature import Miniature
from gloam.workflows.reproduce.weakly_paired.networks import DEMO, OF_THE_PAIRS, PITTSBURGH
from gloam.workflows.reproduce.weakly_paired.request import WeaklyPairedRequest
from tests.tiny_models import write_tiny_embedder
from tests.tiny_translators import DOMAINS
from tests.workflows.reproduce.test_weakly_paired import SMALL, TINY, data

__all__ = ["data"]
ALONE = Placement(threads=1)


def request(data: Path, tmp_path: Path, **more) -> WeaklyPairedRequest:
    write_tiny_embedder(tmp_path / "e.onnx")
    weights = {"FINAL": tmp_path / "m.onnx", OF_THE_PAIRS: tmp_path / "e.onnx"}
    given = {"references": DOMAINS, "weights": weights, **more}
    return WeaklyPairedRequest("figure7", data, tmp_path / "out", **given)


def test_curves_are_of_the_nearest_neighbour_by_position(data: Path, tmp_path: Path) -> None:
    figure = reproduce_figure_7(request(data, tmp_path))
    assert [(one.network, one.reference, one.method) for one in figure.curves] == [
        (OF_THE_PAIRS, reference, method) for reference in DOMAINS for method in (UNTRANSLATED, "FINAL")
    ]
    assert sorted(item.path.name for item in figure.missing) == [
        "Pitts30K_struct.mat",
        "translator.safetensors",
        "translator.safetensors",
    ]
    images = read_pair_file(data / "weakly-paired" / "pairs.json", "test").images
    embedder, towards = Embedder.load(tmp_path / "e.onnx", ALONE), load_translator(tmp_path / "m.onnx", ALONE, "night")

    def described(label_is_night: bool, translated: bool) -> tuple[np.ndarray, np.ndarray]:
        chosen = [one for one in images if (one.label == 1) == label_is_night]
        pixels = [decode_image(one.item.path, stretch=SIZE) for one in chosen]
        found = embedder(towards(pixels) if translated else pixels).astype(np.float16).astype(np.float32)  # as stored
        return found, np.array([one.position for one in chosen])

    shown, there = described(True, False)
    for curve in figure.curves[2:4]:
        asked, here = described(False, curve.method == "FINAL")
        metres = np.linalg.norm(there[(asked @ shown.T).argmax(1)] - here, axis=1)
        assert curve.reference == "night"
        assert curve.scores.queries == 6
        assert curve.scores.recall[1] == tuple(float((metres <= limit).mean()) for limit in DISTANCES)
        assert set(curve.scores.conditions) == {"day", "snow"}
    rows = list(csv.DictReader((tmp_path / "out" / "figure7.csv").read_text().splitlines()))
    assert len(rows) == 6 * 3 * len(DISTANCES)
    assert "24 590 test images" in figure.to_text()


def test_stores_are_read_again(data: Path, tmp_path: Path) -> None:
    first = reproduce_figure_7(request(data, tmp_path, references=DOMAINS[:2]))
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "stores").rglob("*.npy")}
    again = reproduce_figure_7(request(data, tmp_path, references=DOMAINS[:2]))
    assert again.to_dict() == first.to_dict()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "stores").rglob("*.npy")} == shards
    assert len(shards) == 2 + 2  # the map of one reference is the untranslated queries of the other


def test_the_command_and_its_files(data: Path, tmp_path: Path, capsys) -> None:
    write_tiny_embedder(tmp_path / "e.onnx")
    words = ["reproduce", "weakly-paired", "figure7", "--data", str(data), "-o", str(tmp_path / "out")]
    weights = ["--weights", f"{PITTSBURGH}={tmp_path / 'e.onnx'}", "--weights", f"FINAL={tmp_path / 'm.onnx'}"]
    assert main([*words, *weights, "--references", "day", "snow", "--rows", "FINAL", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["network"] for one in found["curves"]} == {PITTSBURGH}
    page = (tmp_path / "out" / "figure7.html").read_text()
    assert f"{PITTSBURGH}, map snow" in page
    assert UNTRANSLATED in page
    assert [item["path"].rpartition("/")[2] for item in found["missing"]] == ["embedder.safetensors"]
    for said, more in {
        "no reference 'WDO-1' among the pairs; give --references of day, night, snow": [],
        "references day: two or more are needed": ["--references", "day"],
        "no row 'NetVLAD'; choose one of": ["--weights", "NetVLAD=x"],
    }.items():
        assert main([*words, *more]) == 2
        assert said in capsys.readouterr().err
    assert main([*words[:4], str(tmp_path), "-o", str(tmp_path / "none")]) == 1


def test_an_embedder_is_no_row_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no row 'NetVLAD Pittsburgh'"):
        WeaklyPairedRequest("figure7", tmp_path, tmp_path, rows=[PITTSBURGH])


@pytest.mark.slow
def test_the_town_draws_every_curve(tmp_path: Path) -> None:
    blocks = {name: {"side": 8.0, "apart": 2.0, "every": every} for name, every in (("train", -2), ("validation", 2))}
    network = {"epochs": 1, "tuples": 4, "batch": 2, "negatives": 1, "forward_images": 10, "data": blocks}
    network["network_options"] = {"clusters": 2}
    small = Miniature(5.0, SMALL, crop=64, workers=1, changes=TINY, network_changes=network)
    asked = WeaklyPairedRequest(
        "figure7", tmp_path, tmp_path / "out", rows=["GANimation"], references=("sun", "snow", "night")
    )
    figure = reproduce_figure_7(asked, small)
    assert not figure.missing
    assert {one.network for one in figure.curves} == {DEMO, OF_THE_PAIRS}
    assert {one.method for one in figure.curves} == {UNTRANSLATED, "GANimation"}
    assert len(figure.curves) == 2 * 3 * 2
