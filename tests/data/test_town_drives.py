"""Drives through streets: weak pairs within their limits, parts by street, the same bytes from the same config."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from gloam.cli.main import main
from gloam.data.sheets import GAP, HEADING, LEFT
from gloam.data.town.config import WEATHER
from gloam.data.town.drives.config import DrivesConfig
from gloam.data.town.drives.poses import plan_drives
from gloam.data.town.drives.write import Drives, DrivesRequest, write_drives
from gloam.data.town.look2.street import NightStreet
from gloam.data.town.street import pinhole
from gloam.data.weak_pairs.build import PairRequest, pair_domains
from gloam.data.weak_pairs.pair_file import read_pair_file
from gloam.errors import StoreError, UsageError

TINY = DrivesConfig(
    domains=("snow", "night"), train=(5,), val=(6,), test=(7,), length=30, spacing=5, width=40, height=32
)


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Drives:
    folder = tmp_path_factory.mktemp("drives")
    return write_drives(DrivesRequest(folder / "d", TINY, 1, folder / "sheet.png"))


def table(drives: Drives) -> dict[str, dict[str, str]]:
    with drives.positions.open(newline="") as lines:
        return {row["image"]: row for row in csv.DictReader(lines)}


def test_pairs_obey_their_limits_and_parts_are_of_streets(drives: Drives) -> None:
    rows = table(drives)
    assert drives.rendered == len(rows) == 3 * 2 * 2 * 6
    assert {(row["part"], row["street"]) for row in rows.values()} == {("train", "5"), ("val", "6"), ("test", "7")}
    for name, parts in (("pairs.json", {"train": "train", "test": "val"}), ("test.json", {"test": "test"})):
        found = read_pair_file(drives.folder / name)
        assert found.domains == TINY.domains
        assert {image.part for image in found.images} == set(parts)
        assert found.pairs
        for pair in found.pairs:
            first, second = (
                rows[image.item.path.relative_to(drives.folder).as_posix()] for image in (pair.first, pair.second)
            )
            assert first["domain"] != second["domain"]
            assert first["part"] == second["part"] == parts[pair.first.part]
            apart = np.hypot(*(float(first[axis]) - float(second[axis]) for axis in "xy"))
            turn = abs((float(first["yaw"]) - float(second["yaw"]) + 180) % 360 - 180)
            assert pair.distance == pytest.approx(apart, abs=2e-3)
            assert pair.angle == pytest.approx(turn, abs=2e-3)
            assert 0 < apart <= TINY.distance
            assert turn <= TINY.heading


def test_gloam_pair_finds_the_same_pairs(drives: Drives, tmp_path: Path) -> None:
    request = PairRequest(
        drives.positions, tmp_path / "p.json", ("snow", "night"), TINY.distance, TINY.heading, spacing=0
    )
    pair_domains(request)
    again = read_pair_file(tmp_path / "p.json")
    own = [pair for name in ("pairs.json", "test.json") for pair in read_pair_file(drives.folder / name).pairs]
    key = [{frozenset(i.item.path.resolve() for i in p[:2]) for p in pairs} for pairs in (again.pairs, own)]
    assert key[0] == key[1]


def test_what_is_there_is_kept_and_what_was_harmed_rendered_again(drives: Drives) -> None:
    victim = drives.folder / "val" / "night" / "6" / "back-0002.jpg"
    before = victim.read_bytes()
    victim.write_bytes(before[:-40])
    (drives.folder / "test" / "snow" / "7" / "there-0000.jpg").unlink()
    again = write_drives(DrivesRequest(drives.folder, TINY, 1))
    assert (again.rendered, again.damaged) == (2, ("val/night/6/back-0002.jpg",))
    assert victim.read_bytes() == before
    with pytest.raises(StoreError, match="another config"):
        write_drives(DrivesRequest(drives.folder, DrivesConfig(domains=("snow", "rain")), 1))


def test_no_camera_stands_in_a_car() -> None:
    config = DrivesConfig(domains=("sun", "rain"), train=(101,), val=(), test=(), length=40)
    street = NightStreet(101, 40, 8)
    for shot in plan_drives(config):
        visit = (shot.domain, f"drive {shot.way}")
        if visit not in street._visits:
            street.open_visit(*visit, traffic=1 if shot.way == "there" else -1)
        depth = street.depth(shot.pose, pinhole(32, 24), *visit)
        assert depth[depth > 0].min() > 0.25, shot.name


def test_drives_differ_from_each_other_and_not_from_themselves() -> None:
    shots = plan_drives(TINY)
    assert shots == plan_drives(TINY)
    assert len({shot.pose for shot in shots}) == len(shots)
    assert max(abs(shot.pose.center[1]) for shot in shots) <= 1.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domains": ("snow", "hail")}, r"domain 'hail' is unknown; choose from day, dusk, night, night-rain, sun"),
        ({"domains": ("snow",)}, "at least two, each once"),
        ({"domains": ("snow", "snow")}, "at least two, each once"),
        ({"train": (5, 7)}, "street 7 is named twice; a street is of one part"),
        ({"train": (), "val": (), "test": ()}, "at least one"),
        ({"spacing": 0.1}, "0.5 to 10 metres apart"),
        ({"distance": 0.0}, "distance 0: must be a number above 0"),
        ({"noise": -1.0}, "noise -1.0"),
    ],
)
def test_configs_that_give_no_drives(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DrivesConfig(**{**TINY.as_json(), "domains": TINY.domains, **change})  # type: ignore[arg-type]  # bad input


def test_the_sheet_shows_places_down_and_domains_across(drives: Drives) -> None:
    picture = cv2.imread(str(drives.folder.parent / "sheet.png"))
    assert picture.shape == (HEADING + 5 * (round(384 * 32 / 40) + GAP), LEFT + 2 * (384 + GAP), 3)
    snow, night = (picture[HEADING:, left : left + 384] for left in (LEFT, LEFT + 384 + GAP))
    assert snow.mean() > 2 * night.mean()
    assert all(picture[:HEADING, left : left + 384].min() < 128 for left in (LEFT, LEFT + 384 + GAP))  # their names


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "d"
    words = ["town", str(out), "--domains", "snow,night", "--train", "5", "--val", "none", "--test", "none", "--json"]
    words += ["--size", "32x32", "--length", "30", "--spacing", "10", "--workers", "1"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["pair_files"]) == ({"train": 12}, [str(out / "pairs.json")])
    for extra, message in (
        (["--domains", "snow,fog"], f"choose from day, dusk, night, night-rain, {WEATHER[0]}"),
        (["--depth", "--domains", "all"], "--depth is not of weak pairs; leave it out with --domains"),
        (["--look", "1", "--domains", "all"], "--look 1: --domains renders look 2"),
        (["--pair-distance", "2"], "--pair-distance is of weak pairs; give --domains"),
        (["--domains", "all", "--test", "x"], "--test: 'x' is no seed"),
    ):
        assert main(["town", str(tmp_path / "e"), *extra]) == 2
        assert message in capsys.readouterr().err
