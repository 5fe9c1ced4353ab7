"""The tables on look-alikes: every row has numbers or a reason, and a run that was ended carries on."""

from __future__ import annotations

from pathlib import Path

import pytest

from gloam.errors import DataError
from gloam.networks.checkpoints import save_checkpoint
from gloam.workflows.reports.localization import reproduce_localization
from gloam.workflows.reproduce.localization import town
from gloam.workflows.reproduce.localization.protocol import Protocol
from gloam.workflows.reproduce.localization.request import TableRequest
from gloam.workflows.reproduce.localization.town import EMBEDDERS, TownSupply
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.town import TownRow, TownRun

SAID: list[str] = []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights in the place of trained ones, and small pictures."""

    def trained(run: TownRun, row: TownRow) -> Path:
        path = run.folder / f"{row.label}-{row.maker or 'day'}.safetensors"
        if not path.is_file():
            save_checkpoint(path, run.untrained(row), {"recipe": row.recipe, "data": "d", "licence": "l"})
        return path

    def generator(run: TownRun, name: str) -> None:
        raise DataError(f"{name} is not trained in this test")

    monkeypatch.setattr(TownRun, "trained", trained)
    monkeypatch.setattr(TownRun, "generator", generator)
    monkeypatch.setattr(town, "PICTURE", 120)
    monkeypatch.setattr(town, "NIGHTS", 1)


def request(folder: Path, paper: str, table: str, rows: tuple[str, ...] = ()) -> TableRequest:
    return TableRequest(paper, table, folder, folder, rows, protocol=Protocol(top_k=3, workers=2))


def test_every_row_has_an_embedder_or_a_reason(tmp_path: Path) -> None:
    supply = TownSupply("dark-side", "3", TownRun(tmp_path, 1, 0, {}, {}, None))
    assert {supply.name_of(row) for row in published("dark-side", "3").rows} == set(EMBEDDERS) - {"NetVLAD"}
    of_mduit = TownSupply("mduit", "1", TownRun(tmp_path, 1, 0, {}, {}, None), {"Full": tmp_path / "full.onnx"})
    names = [of_mduit.name_of(row) for row in published("mduit", "1").rows]
    assert names == ["NetVLAD", None, None, None, None]
    assert of_mduit.weights("Full").files == [tmp_path / "full.onnx"]
    with pytest.raises(DataError, match="its trainer is not part of gloam yet: give any embedder with --weights"):
        of_mduit.weights("w/o I2I")
    assert of_mduit.lacking("Full") == []


@pytest.mark.slow
@pytest.mark.parametrize(("paper", "table", "count"), [("dark-side", "3", 12), ("mduit", "1", 5)])
def test_a_table_is_whole_and_a_second_run_says_the_same(
    tmp_path: Path, quick: None, paper: str, table: str, count: int
) -> None:
    rows = tuple(published(paper, table).rows)
    part = reproduce_localization(request(tmp_path, paper, table, rows[:1]), town_minutes=1, say=SAID.append)
    assert rows[0] in [row.name for row in part.rows]
    found = reproduce_localization(request(tmp_path, paper, table), town_minutes=1, say=SAID.append)
    papers = [row for row in found.rows if row.name in rows]
    assert len(papers) == count
    for row in papers:
        full = all(cell.ours is not None and cell.submission for cell in row.cells.values())
        assert full != bool(row.reason), (row.name, row.reason)
    controls = [row for row in found.rows if row.name not in rows]
    assert {row.name.removeprefix("Aachen ").removeprefix("RobotCar ").split()[0] for row in controls} == {
        "untrained",
        "by",
    }
    assert part.rows[0].cells == papers[0].cells
    files = {path: path.read_bytes() for path in (tmp_path / "submissions").rglob("*.txt")}
    again = reproduce_localization(request(tmp_path, paper, table), town_minutes=1, say=SAID.append)
    assert again.rows == found.rows
    assert {path: path.read_bytes() for path in (tmp_path / "submissions").rglob("*.txt")} == files
    assert again.page is not None
    assert "From generator to pose" in again.page.read_text()
    assert "look-alikes" in "".join(again.notes).lower()
