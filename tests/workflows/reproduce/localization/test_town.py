"""The tables on look-alikes: every row has numbers or a reason, and a run that was ended carries on."""

from __future__ import annotations

from pathlib import Path

import pytest

from gloam.data.town.drives.config import DrivesConfig
from gloam.errors import DataError
from gloam.networks.checkpoints import load_checkpoint, save_checkpoint
from gloam.training.translators.config import read_translator_recipe
from gloam.training.translators.trainers.mduit import MduitOptions
from gloam.workflows.reports.localization import reproduce_localization
from gloam.workflows.reproduce.localization import content, town
from gloam.workflows.reproduce.localization.content import ContentRun
from gloam.workflows.reproduce.localization.protocol import Protocol
from gloam.workflows.reproduce.localization.request import TableRequest
from gloam.workflows.reproduce.localization.town import EMBEDDERS, TownSupply
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.rows import CONTENT
from gloam.workflows.reproduce.town.rows import TownRow
from gloam.workflows.reproduce.town.run import TownRun

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

    def content(run: ContentRun, row: str) -> Path:
        path = run.folder / f"{CONTENT[row]}.safetensors"
        if not path.is_file():
            save_checkpoint(path, run.untrained(), {"recipe": CONTENT[row], "data": "d", "licence": "l"})
        return path

    monkeypatch.setattr(ContentRun, "trained", content)
    monkeypatch.setattr(TownRun, "trained", trained)
    monkeypatch.setattr(TownRun, "generator", generator)
    monkeypatch.setattr(town, "PICTURE", 120)
    monkeypatch.setattr(town, "NIGHTS", 1)


def request(folder: Path, paper: str, table: str, rows: tuple[str, ...] = ()) -> TableRequest:
    return TableRequest(paper, table, folder, folder, rows, protocol=Protocol(top_k=3, workers=2))


def test_every_row_has_an_embedder_or_a_reason(tmp_path: Path) -> None:
    run, content = TownRun(tmp_path, 1, 0, {}, {}, None), ContentRun(tmp_path / "content", 1, 0, SAID.append)
    supply = TownSupply("dark-side", "3", run, content)
    assert {supply.name_of(row) for row in published("dark-side", "3").rows} == set(EMBEDDERS) - {"NetVLAD"}
    of_mduit = TownSupply("mduit", "1", run, content, {"Full": tmp_path / "full.onnx"})
    rows = list(published("mduit", "1").rows)
    assert [of_mduit.name_of(row) for row in rows] == ["NetVLAD", None, None, None, None]
    assert set(rows[1:]) == set(CONTENT)
    assert of_mduit.weights("Full").files == [tmp_path / "full.onnx"]
    assert of_mduit.lacking("Full") == []


def test_the_rows_of_mduit_are_its_recipes_at_the_small_one_s_size(tmp_path: Path) -> None:
    content = ContentRun(tmp_path, 2, 3, SAID.append)
    full = read_translator_recipe("mduit", content.changes("mduit", tmp_path / "pairs.json"))
    small = read_translator_recipe("town_mduit", {"data": {"day": str(tmp_path / "pairs.json")}})
    assert (full.seed, full.max_minutes, full.data.day) == (3, 2, str(tmp_path / "pairs.json"))
    assert full.options == small.options
    for row, recipe in CONTENT.items():
        config = read_translator_recipe(recipe, content.changes(recipe, tmp_path / "pairs.json"))
        assert isinstance(config.options, MduitOptions) == ("I2I" not in row)
        assert config.options.contrast == ("distance" if "L_NCE" in row else "nce")
        assert config.options.generator_options == small.options.generator_options
    adain = read_translator_recipe("adain", content.changes("adain", tmp_path / "pairs.json"))
    small = read_translator_recipe("town_adain", {"data": {"day": str(tmp_path / "pairs.json")}})
    assert adain.options == small.options
    small = read_translator_recipe("town_mduit", {"data": {"day": str(tmp_path / "pairs.json")}})
    assert content.untrained().content.dimension == 4 * small.options.generator_options["width"]


def test_drives_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def written(folder: Path, miniature: object, say: object) -> tuple[Path, Path]:
        seen.append(folder)
        return folder / "pairs.json", folder / "test.json"

    monkeypatch.setattr(content, "write_town_pairs", written)
    run = ContentRun(tmp_path, 1, 0, SAID.append)
    assert run.pairs == run.pairs == (tmp_path / "drives" / "pairs.json", tmp_path / "drives" / "test.json")
    assert seen == [tmp_path / "drives"]


@pytest.mark.slow
def test_a_row_of_mduit_is_trained_once(tmp_path: Path) -> None:
    drives = DrivesConfig(
        domains=("overcast", "night"), train=(5,), val=(6,), test=(7,), length=30, spacing=10, width=128, height=96
    )
    content = ContentRun(tmp_path, 0.05, 0, SAID.append, drives)
    weights = content.trained("w/o I2I, L_NCE")
    assert load_checkpoint(weights).model.name == "mduit_content"
    assert weights == tmp_path / "mduit_no_i2i_no_nce-0-0.05" / "embedder.safetensors"  # as the table's reasons say
    losses = weights.parent / "losses.csv"
    before = weights.read_bytes(), losses.read_bytes()
    assert content.trained("w/o I2I, L_NCE") == weights
    assert (weights.read_bytes(), losses.read_bytes()) == before  # not a step was made


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
