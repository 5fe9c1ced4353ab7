"""Checking a benchmark: what is there, missing, packed, of another size, and what people are told."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from gloam.cli.main import main
from gloam.data.localization_sets.check import check_localization_set
from gloam.data.localization_sets.dataset import SetName
from gloam.data.localization_sets.look_alike import LookAlike, write_look_alike
from gloam.data.localization_sets.robotcar import V2_ASKED
from gloam.errors import UsageError

Lists = Callable[[SetName], LookAlike]
Copied = Callable[[SetName], Path]


@pytest.fixture
def spoiled(few: LookAlike, tmp_path: Path) -> Path:
    """A copy of a rendered set, to be spoiled."""
    return Path(shutil.copytree(few.set, tmp_path / "spoiled"))


def test_a_whole_set_passes(few: LookAlike) -> None:
    """Every part is there, and every image of its camera's size."""
    found = check_localization_set("auto", few.set)
    assert (found.passed, found.problems, found.missing) == (True, (), [])
    assert (found.name, found.layout, found.look_alike) == ("aachen-v1.1", "kapture", True)
    assert found.counts == {"map images": 4, "queries": 2}
    assert found.conditions == {"day": 1, "night": 1}
    assert str(found).endswith("nothing is missing or wrong")


def test_images_that_are_wrong(spoiled: Path) -> None:
    """One that is not there, one that is none, one of another size: each is counted, the first named."""
    images = spoiled / "mapping" / "sensors" / "records_data" / "db"
    (images / "1.jpg").unlink()
    (images / "2.jpg").write_bytes(b"not an image")
    cv2.imwrite(str(images / "3.jpg"), np.zeros((12, 34, 3), np.uint8))
    missing, unreadable, other = check_localization_set("auto", spoiled).problems
    assert missing == f"1 of 4 map images are not there, first {images / '1.jpg'}"
    assert unreadable == "1 of 4 map images cannot be read, first 'db/2.jpg': not an image that can be decoded"
    assert other == "1 of 4 map images are of another size, first 'db/3.jpg' is 34x12, its intrinsics are of 64x48"


def test_an_empty_folder_lists_all_that_is_to_get(tmp_path: Path) -> None:
    """With address and licence, whichever benchmark is asked for."""
    found = check_localization_set("aachen-v1.1", tmp_path)
    assert [part.name for part in found.missing] == ["mapping", "query_day", "query_night"]
    assert all(part.source.endswith(f"Aachen-Day-Night-v1.1_{part.name}.tar.gz") for part in found.missing)
    assert "licence  CC BY-NC-SA 4.0" in str(found)
    found = check_localization_set("robotcar-v2", tmp_path)
    assert len(found.missing) == 49 + len(V2_ASKED)
    assert not found.passed
    nothing = check_localization_set("auto", tmp_path)
    assert (nothing.name, len(nothing.problems)) == (None, 1)


def test_half_a_set(spoiled: Path) -> None:
    """The missing part alone is named, not what follows from it; an archive of it is to be unpacked."""
    shutil.rmtree(spoiled / "query_night")
    (spoiled / "Aachen-Day-Night-v1.1_query_night.tar.gz").write_bytes(b"packed")
    found = check_localization_set("auto", spoiled)
    assert ([part.name for part in found.missing], found.problems) == (["query_night"], ())
    assert found.notes == (f"query_night is in {spoiled / 'Aachen-Day-Night-v1.1_query_night.tar.gz'}; unpack it",)


def test_counts_of_the_benchmark(spoiled: Path) -> None:
    """Fewer images than the lists of a look-alike, or of the benchmark, have."""
    records = spoiled / "mapping" / "sensors" / "records_camera.txt"
    records.write_text("\n".join(records.read_text().splitlines()[:-1]) + "\n")
    (problem,) = check_localization_set("auto", spoiled).problems
    assert problem == "3 map images, where the benchmark has 4: it is not whole, or of another version"
    (spoiled / "look_alike.json").unlink()
    problems = check_localization_set("auto", spoiled).problems
    assert [problem.split(":")[0] for problem in problems] == [
        "3 map images, where the benchmark has 6697",
        "2 queries, where the benchmark has 1015",
    ]


def test_lists_that_are_wrong(copied: Copied) -> None:
    """What the reader refuses is a problem, in its own words."""
    root = copied("robotcar-v1")
    records = root / "query" / "sensors" / "records_camera.txt"
    records.write_text(records.read_text().replace("dawn/left", "dawn/front"))
    (problem,) = check_localization_set("auto", root).problems
    assert "is none of RobotCar Seasons" in problem


def test_what_is_wrong_beside_what_is_missing(tmp_path: Path) -> None:
    """A list that is malformed is told although the images are not there; a rig that is not stated is a note."""
    root = write_look_alike(tmp_path, "aachen-v1.1", images=False, layout="original").set
    night = root / "queries" / "night_time_queries_with_intrinsics.txt"
    night.write_text(night.read_text().replace("SIMPLE_RADIAL", "SIMPLE", 1))
    found = check_localization_set("auto", root)
    assert found.missing
    assert [problem.split(": ")[1].split(" has")[0] for problem in found.problems] == [
        "image 'query/night/milestone/2010-11-02_21-03-10_73.jpg'"
    ]
    root = write_look_alike(tmp_path / "car", "robotcar-v1", images=False).set
    (root / "mapping" / "sensors" / "rigs.txt").unlink()
    assert check_localization_set("auto", root).notes[-1].startswith("no rig is stated, or several are")


def test_robotcar_says_what_its_archives_lack(lists: Lists, tmp_path: Path) -> None:
    """Version 1 comes without images; INS positions are no part of the benchmark, and named where they are."""
    root = lists("robotcar-v1").set
    found = check_localization_set("auto", root)
    assert found.problems[0].endswith("link sensors/records_data to those of RobotCar_Seasons-v2")
    assert found.notes[0].startswith("INS positions: none; they are of the original RobotCar dataset")
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    (copy / "gps").mkdir()
    (copy / "gps" / "ins.csv").write_text("timestamp\n")
    assert check_localization_set("auto", copy).notes == ("INS positions: gps/ins.csv",)


@pytest.mark.parametrize("name", ["aachen-v1.1", "robotcar-v1", "robotcar-v2"])
def test_the_authors_form(tmp_path: Path, name: SetName) -> None:
    """All parts but the images are there in lists alone; one that is taken away is named with its address."""
    root = write_look_alike(tmp_path, name, images=False, layout="original").set
    found = check_localization_set("auto", root)
    assert found.layout == "original"
    assert {part.name.split("/")[0] for part in found.missing} == {"images" if "robot" in name else "images_upright"}
    assert len(found.problems) == (3 if name == "robotcar-v2" else 2)  # images of the map, queries, training
    lost = root / (
        "queries/night_time_queries_with_intrinsics.txt" if "aachen" in name else "intrinsics/rear_intrinsics.txt"
    )
    lost.unlink()
    again = check_localization_set(name, root)
    assert lost.relative_to(root).as_posix() in [part.name for part in again.missing]
    assert again.counts is None


def test_the_verb(few: LookAlike, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit codes, JSON, an archive, and a look-alike made and checked."""
    assert main(["data", "check", "aachen-v1.1", str(few.set)]) == 0
    assert main(["data", "check", "robotcar-v1", str(few.set)]) == 1
    with zipfile.ZipFile(tmp_path / "aachen.zip", "w") as archive:
        archive.writestr("mapping/sensors/sensors.txt", "")
    assert main(["data", "check", "auto", str(tmp_path / "aachen.zip")]) == 1
    assert "aachen.zip: is an archive; unpack it" in capsys.readouterr().out
    made = ["data", "look-alike", "robotcar-v1", "-o", str(tmp_path / "made"), "--no-images", "--json"]
    assert main(made) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["set"] == str(tmp_path / "made" / "set")
    assert main(["data", "check", "auto", str(tmp_path / "made" / "set"), "--json"]) == 1
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["name"], report["counts"], len(report["problems"])) == (
        "robotcar-v1",
        {"map images": 48, "queries": 33},
        2,
    )


def test_an_unknown_name(tmp_path: Path) -> None:
    """The choices are named."""
    with pytest.raises(UsageError, match=r"choose from auto, aachen-v1\.1, robotcar-v1, robotcar-v2"):
        check_localization_set("oxford", tmp_path)  # type: ignore[arg-type]
