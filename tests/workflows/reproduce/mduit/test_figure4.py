"""Figure 4 of mduit again: the nearest map image of each query, framed by whether it is a right one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.data.images import decode_image
from gloam.data.sheets import GAP, HEADING, LEFT, LINE
from gloam.data.town.drives.config import DrivesConfig
from gloam.data.weak_pairs.pair_file import read_pair_file
from gloam.networks.checkpoints import save_checkpoint
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.embedder import Embedder
from gloam.workflows.reports.mduit import reproduce_mduit
from gloam.workflows.reproduce.localization.content import ContentRun
from gloam.workflows.reproduce.mduit.figure4 import FRAME, GREEN, RED, SHOWN, choose_queries, reproduce_figure_4
from gloam.workflows.reproduce.mduit.request import PAIRS
from gloam.workflows.reproduce.rows import CONTENT
from gloam.workflows.reproduce.town.rows import TownRow
from gloam.workflows.reproduce.town.run import TownRun
from tests.eval.translation.test_domains import street
from tests.tiny_models import write_tiny_embedder
from tests.workflows.reproduce.mduit.pairs import data, request

__all__ = ["data"]
DRIVES = DrivesConfig(
    domains=("overcast", "night"), train=(5,), val=(6,), test=(7,), length=30, spacing=10, width=128, height=96
)
SAID: list[str] = []


def test_the_nearest_is_framed_by_its_distance_and_shares_are_of_all_queries(data: Path, tmp_path: Path) -> None:
    for place, other in ((1, 2), (2, 1)):  # two queries that look like another place
        Image.fromarray(street(other, "night")).save(tmp_path / "images" / "night" / f"{place}.png")
    write_tiny_embedder(tmp_path / "e.onnx")
    write_tiny_embedder(tmp_path / "f.onnx", gain=-0.01, weights="other")
    weights = {"NetVLAD": tmp_path / "e.onnx", "Full": tmp_path / "f.onnx"}
    figure = reproduce_figure_4(request("figure4", data, tmp_path, weights=weights))
    assert list(figure.made_by) == ["NetVLAD", "Full"]
    assert [item.path.parent.name for item in figure.missing] == [
        CONTENT[row] for row in ("w/o I2I, L_NCE", "w/o I2I", "w/o L_NCE")
    ]
    images = read_pair_file(data / PAIRS, "test")
    embedder = Embedder.load(tmp_path / "e.onnx", Placement(threads=1))
    there = [one for one in images.images if one.label == 0]
    shown = embedder([decode_image(one.item.path) for one in there])
    right: dict[str, list[bool]] = {}
    for one in images.images:
        if one.label == 0:
            continue
        (vector,) = embedder([decode_image(one.item.path)])
        found = there[int((shown @ vector).argmax())]
        metres = float(np.linalg.norm(np.subtract(one.position, found.position)))
        right.setdefault(images.domains[one.label], []).append(metres <= 10.0)
        for row in figure.queries:
            if row.query == one.item.name:
                assert row.nearest["NetVLAD"] == (found.item.name, pytest.approx(metres))
    scores = figure.scores["NetVLAD"]
    assert scores.recall[1] == (np.mean([fine for found in right.values() for fine in found]),)
    assert {name: one.recall[1][0] for name, one in scores.conditions.items()} == {
        name: np.mean(found) for name, found in right.items()
    }
    sheet = np.asarray(Image.open(tmp_path / "out" / "figure4.png"))
    width, height = 256 + 2 * FRAME, round(256 * 128 / 160) + 2 * FRAME + LINE
    colours = set()
    for at, row in enumerate(figure.queries):
        for column, method in enumerate(("NetVLAD", "Full"), 1):
            corner = sheet[HEADING + at * (height + GAP), LEFT + column * (width + GAP)]
            wanted = GREEN if row.nearest[method][1] <= 10.0 else RED
            assert tuple(corner) == wanted
            colours.add(wanted)
        assert sheet[HEADING + at * (height + GAP), LEFT].min() == 255  # a query has no frame
    assert colours == {GREEN, RED}  # or the test tells nothing


def test_queries_are_some_of_each_other_domain(data: Path) -> None:
    images = read_pair_file(data / PAIRS, "test")
    chosen = choose_queries(images, "night", 0)
    assert [domain for domain, _ in chosen] == ["day"] * SHOWN + ["snow"] * SHOWN
    assert len({one.item.name for _, one in chosen}) == 2 * SHOWN
    assert len({str(choose_queries(images, "night", seed)) for seed in range(6)}) > 1


def test_the_command_its_files_and_a_second_call(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_embedder(tmp_path / "e.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    given = {"Full": "e.onnx", "w/o I2I": "bad.onnx"}
    weights = [word for row, file in given.items() for word in ("--weights", f"{row}={tmp_path / file}")]
    words = ["reproduce", "mduit", "figure4", "--data", str(data), "-o", str(tmp_path / "out"), "--references", "day"]
    assert main([*words, *weights, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["columns"] == ["Full"]
    assert found["right_within_m"] == 10.0
    for row in found["rows"]:
        assert row["nearest"]["Full"]["right"] == (row["nearest"]["Full"]["metres"] <= 10.0)
    assert any("bad.onnx" in note for note in found["notes"])
    assert any("within 10 m" in note for note in found["notes"])
    assert found["scores"]["Full"]["queries"] == 6
    netvlad = next(item for item in found["missing"] if "experiments" not in item["path"])
    assert "gloam pull" in netvlad["where"]
    page = (tmp_path / "out" / "figure4.html").read_text()
    assert "Nearest image of day within 10 m" in page
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "stores").rglob("*.npy")}
    assert len(shards) == 2
    assert main([*words, *weights]) == 0
    text = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "stores").rglob("*.npy")} == shards
    assert "% of queries whose nearest image of day was taken within 10 m" in text
    assert json.loads((tmp_path / "out" / "figure4.json").read_text()) == found


@pytest.mark.slow
def test_the_town_has_every_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(run: TownRun, row: TownRow) -> Path:
        run.folder.mkdir(parents=True, exist_ok=True)
        path = run.folder / "netvlad.safetensors"
        save_checkpoint(path, run.untrained(row), {"recipe": row.recipe, "data": "d", "licence": "l"})
        return path

    def products(run: ContentRun, recipe: str, row: str) -> dict[str, Path]:
        path = run.folder / f"{recipe}.safetensors"
        save_checkpoint(path, run.untrained(), {"recipe": recipe, "data": "d", "licence": "l"})
        return {"embedder": path}

    monkeypatch.setattr(TownRun, "trained", trained)
    monkeypatch.setattr(ContentRun, "products", products)
    figure = reproduce_mduit(request("figure4", tmp_path, tmp_path, references=()), 1.0, SAID.append, DRIVES)
    assert list(figure.made_by) == ["NetVLAD", *CONTENT]
    assert figure.made_by["NetVLAD"]["scales"] == [1.0]
    assert (figure.right, figure.reference) == (5.0, "overcast")
    assert len(figure.queries) == SHOWN
    assert not figure.missing
    assert figure.page is not None
    assert figure.page.is_file()
