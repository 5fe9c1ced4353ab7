"""A training of more minutes goes on from one of fewer, and one of fewer never reports one of more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gloam.workflows.reproduce.begun import begun
from gloam.workflows.reproduce.town.rows import TownRow
from gloam.workflows.reproduce.town.run import TownRun
from tests.workflows.reproduce.town.test_table import SMALL, TINY


def run(folder: Path, text: str = "") -> None:
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "newest.json").write_text(text)


def test_the_longest_shorter_training_of_the_name_is_carried_on(tmp_path: Path) -> None:
    for name in ("town-0-1", "town-0-2.5", "town-0-9", "town-1-3", "town-0-x-4", "a-town-0-4"):
        run(tmp_path / name, name)
    (tmp_path / "town-0-4").mkdir()  # not begun
    place = begun(tmp_path / "town-0", 5)
    assert place == tmp_path / "town-0-5"
    assert (place / "state" / "newest.json").read_text() == "town-0-2.5"
    assert (tmp_path / "town-0-2.5" / "state" / "newest.json").is_file()
    (place / "state" / "newest.json").write_text("its own")
    run(tmp_path / "town-0-4.5", "later")
    assert (begun(tmp_path / "town-0", 5) / "state" / "newest.json").read_text() == "its own"
    assert not begun(tmp_path / "town-0", 0.5).exists()
    assert not begun(tmp_path / "elsewhere" / "town-0", 5).parent.exists()
    assert begun(tmp_path / "town-0", None) == tmp_path / "town-0"


def epochs(weights: Path) -> int:
    return len(json.loads((weights.parent / "train.json").read_text())["history"])


def test_an_embedder_has_the_minutes_of_its_own_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    plain = shutil.copytree

    def copy(old: Path, new: Path) -> None:
        copied.append(old.name)
        with monkeypatch.context() as within:
            within.setattr(shutil, "copytree", plain)
            plain(old, new)

    monkeypatch.setattr(shutil, "copytree", copy)

    def trained(minutes: float) -> Path:
        run = TownRun(tmp_path, 1.0, 0, TINY | {"epochs": 2}, SMALL, None, embedder_minutes=minutes)
        return run.trained(TownRow("town_day"))

    short, long = trained(1e-7), trained(60.0)
    assert (epochs(short), epochs(long)) == (1, 3)  # the initial weights count
    assert copied == [short.parent.name]
    assert trained(1e-7) == short
    assert epochs(short) == 1
