"""The evaluation server's files: exact bytes on worked examples, every planted fault found, no alarm on right files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gloam.data.localization_sets.dataset import LocalizationSet
from gloam.data.scene import Pose
from gloam.errors import DataError, UsageError
from gloam.eval.localization.ltvl import by_image, read_ltvl
from gloam.eval.localization.submission import SubmissionReport, validate_submission, write_submission
from tests.eval.localization.benchmark_sets import aachen, robotcar, standing

SETS: dict[str, Callable[[], tuple[LocalizationSet, dict[str, Pose]]]] = {
    "aachen": aachen,
    "robotcar": robotcar,
    "robotcar-v2": lambda: robotcar(v2=True),
}
HALF = "0.5 -0.5 0.5 -0.5"


def written(folder: Path, benchmark: LocalizationSet, poses: dict[str, Pose]) -> tuple[Path, list[str]]:
    """A right file and its lines."""
    path = folder / "poses.txt"
    write_submission(path, poses, benchmark)
    return path, path.read_text().splitlines()


def kinds(report: SubmissionReport) -> list[tuple[int, str]]:
    return [(item.line, item.kind) for item in report.faults]


def test_aachens_file_is_by_file_names_in_the_order_of_the_images(tmp_path: Path) -> None:
    benchmark, _ = aachen()
    pose = Pose((0.5, -0.5, 0.5, -0.5), (1.5, 1e-7, -3))
    poses = {
        "query/night/nexus5x/IMG_20161227_172601.jpg": pose,
        "query/day/milestone/2010-10-30_17-47-11_73.jpg": pose,
        "query/day/milestone/2010-10-30_17-47-03_73.jpg": Pose((1.0, -1.0, 1.0, -1.0), (12.25, 0.1, 0)),
        "query/night/nexus5x/IMG_20161227_172600.jpg": None,
    }
    found = write_submission(tmp_path / "out" / "a.txt", poses, benchmark, facts={"row": "VGG16 GeM", "k": 20})
    assert (tmp_path / "out" / "a.txt").read_bytes() == (
        f"2010-10-30_17-47-03_73.jpg {HALF} 12.25 0.1 0.0\n"
        f"2010-10-30_17-47-11_73.jpg {HALF} 1.5 1e-07 -3.0\n"
        f"IMG_20161227_172601.jpg {HALF} 1.5 1e-07 -3.0\n"
    ).encode()
    beside = json.loads((tmp_path / "out" / "a.txt.json").read_text())
    assert beside == {**found.to_dict(), "row": "VGG16 GeM", "k": 20}
    assert beside["conditions"] == {"day": {"queries": 12, "absent": 10}, "night": {"queries": 10, "absent": 9}}
    assert (beside["localized"], beside["unlocalized"], beside["filled_with_top1"]) == (3, "absent", 0)


def test_robotcars_file_is_by_camera_and_file_name_of_the_rear_alone(tmp_path: Path) -> None:
    benchmark, _ = robotcar()
    pose = Pose((0.5, -0.5, 0.5, -0.5), (1.5, 0, -3))
    poses = {
        "sun/rear/1418133450003000.jpg": pose,
        "night/rear/1418134450001000.jpg": pose,
        "night/left/1418134450001000.jpg": pose,
    }
    found = write_submission(tmp_path / "a.txt", poses, benchmark)
    assert (tmp_path / "a.txt").read_bytes() == (
        f"rear/1418134450001000.jpg {HALF} 1.5 0.0 -3.0\nrear/1418133450003000.jpg {HALF} 1.5 0.0 -3.0\n"
    ).encode()
    assert (found.queries, found.localized) == (24, 2)
    assert found.by_condition == {"sun": (8, 7), "night": (8, 7), "night-rain": (8, 8)}


def test_a_query_that_was_not_localized_may_get_its_first_images_pose(tmp_path: Path) -> None:
    benchmark, truth = robotcar()
    first = dict.fromkeys(list(truth)[:-24], standing(5650.0))
    own = {name: pose for name, pose in truth.items() if name.startswith("sun/")}
    with pytest.raises(UsageError, match=r"^unlocalized queries as top1 need the poses"):
        write_submission(tmp_path / "a.txt", own, benchmark, unlocalized="top1")
    found = write_submission(tmp_path / "a.txt", own, benchmark, unlocalized="top1", top1=first)
    cameras = {name: record.camera_id for name, record in benchmark.query.records.items()}
    poses = by_image(read_ltvl(tmp_path / "a.txt"), cameras)
    scored = [name for name in first if "/rear/" in name]
    assert poses == {name: truth[name] if name in own else first[name] for name in {*scored, *own} if "/rear/" in name}
    assert found.filled == len(poses) - found.localized > 0
    assert json.loads((tmp_path / "a.txt.json").read_text())["unlocalized"] == "top1"
    with pytest.raises(DataError, match=r"'x\.jpg' is no query of robotcar-v1, but has a pose"):
        write_submission(tmp_path / "a.txt", {"x.jpg": None}, benchmark)


@pytest.mark.parametrize("name", SETS)
def test_right_files_raise_no_alarm(tmp_path: Path, name: str) -> None:
    benchmark, truth = SETS[name]()
    rng = np.random.default_rng(3)
    scored = benchmark.scored_queries
    far = {image: standing(rng.uniform(-500, 500), rng.uniform(-500, 500), rng.uniform(-300, 300)) for image in scored}
    turned = {}
    for image in scored:  # as a RANSAC that failed gives: anywhere, held anyhow
        w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
        tx, ty, tz = rng.uniform(-300, 300, 3)
        turned[image] = Pose((w, x, y, z), (tx, ty, tz))
    some = {image: truth[image] for image in scored[::3]}
    files = {
        "whole": truth,
        "some absent": some,
        "one": dict(list(some.items())[:1]),
        "near": {image: standing(*(truth[image].center + rng.normal(scale=0.5, size=3))) for image in scored},
        "a tenth wrong": truth | dict(list(turned.items())[::10]),
        "half wrong": truth | dict(list(turned.items())[::2]),
        "all wrong": far,
        "all random": turned,
    }
    for number, (kind, poses) in enumerate(files.items()):
        path = tmp_path / f"{number}.txt"
        write_submission(path, poses, benchmark)
        report = validate_submission(path, benchmark)
        assert report.faults == [], (kind, report.to_text())
        assert report.lines == report.scored == len({*poses} & {*scored})
        assert sum(absent for _, absent in report.absent.values()) == len(scored) - report.scored
        assert "ready to submit" in report.to_text()
    rounded = [
        " ".join([line.split()[0], *(f"{float(x):.3f}" for x in line.split()[1:])])
        for line in written(tmp_path, benchmark, truth)[1]
    ]
    (tmp_path / "r.txt").write_text("\n".join(rounded))  # without an end of the last line
    assert not validate_submission(tmp_path / "r.txt", benchmark).faults
    filled = write_submission(tmp_path / "f.txt", some, benchmark, unlocalized="top1", top1=truth)
    assert filled.filled > 0
    assert not validate_submission(tmp_path / "f.txt", benchmark).faults


def test_other_cameras_beside_the_scored_ones_are_a_note(tmp_path: Path) -> None:
    benchmark, truth = robotcar()
    every = dataclasses.replace(benchmark, scored=None)
    path, _ = written(tmp_path, every, truth)
    report = validate_submission(path, benchmark)
    assert (kinds(report), report.lines, report.scored) == ([], 72, 24)
    assert "48 lines are of cameras that the server does not score; they change nothing" in report.to_text()


PLANTED: dict[str, tuple[Callable[[str], str], str, str]] = {
    "no query": (lambda line: line.replace(line.split()[0], "IMG_1.jpg"), "name", "is the name of no query of"),
    "columns": (lambda line: line.rsplit(" ", 1)[0], "columns", "has 7 columns, not 8"),
    "more columns": (lambda line: f"{line} 0.5", "columns", "has 9 columns, not 8"),
    "commas": (lambda line: line.replace(" ", ", "), "commas", "has commas; fields are separated by spaces"),
    "nan": (lambda line: f"{line.rsplit(' ', 1)[0]} nan", "not finite", "not finite"),
    "inf": (lambda line: f"{line.rsplit(' ', 1)[0]} -inf", "not finite", "not finite"),
    "no number": (lambda line: f"{line.rsplit(' ', 1)[0]} 1.2.3", "number", "'1.2.3' is no number"),
    "zero quaternion": (
        lambda line: " ".join([line.split()[0], "0 0 0 0", *line.split()[5:]]),
        "quaternion",
        "the quaternion has length 0, not 1",
    ),
    "longer quaternion": (
        lambda line: " ".join([line.split()[0], *(str(1.02 * float(x)) for x in line.split()[1:5]), *line.split()[5:]]),
        "quaternion",
        "the quaternion has length 1.02, not 1",
    ),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found_with_its_line_and_nothing_else(tmp_path: Path, name: str, fault: str) -> None:
    benchmark, truth = SETS[name]()
    path, lines = written(tmp_path, benchmark, truth)
    change, kind, message = PLANTED[fault]
    lines[4] = change(lines[4])
    path.write_text("\n".join(lines) + "\n")
    report = validate_submission(path, benchmark)
    assert kinds(report) == [(5, kind)]
    assert message in report.faults[0].message
    assert f"  poses.txt:5: {report.faults[0].message}" in report.to_text()


@pytest.mark.parametrize(
    ("name", "wrong", "kind", "message"),
    [
        ("aachen", "query/day/milestone/2010-10-30_17-47-04_73.jpg", "full path", "write 2010-10-30_17-47-04_73.jpg"),
        ("aachen", "milestone/2010-10-30_17-47-04_73.jpg", "full path", "file name alone, 2010-10-30_17-47-04_73.jpg"),
        ("aachen", "db/7.jpg", "map image", "is 'db/7.jpg' of the map"),
        ("aachen", "7.jpg", "map image", "is 'db/7.jpg' of the map"),
        ("aachen", "2010-10-30_17-47-04_73.JPG", "name", "differs in upper and lower case"),
        ("aachen", "2010-10-30_17-47-04_73.bmp", "name", "has another suffix than the query"),
        ("aachen", "rear/1418133450003000.jpg", "name", "no query of aachen-v1.1; RobotCar Seasons names images so"),
        ("robotcar", "1418134450004000.jpg", "camera", "lacks the camera; write "),
        ("robotcar", "top/1418134450004000.jpg", "camera", "no camera 'top' took that query; write "),
        ("robotcar", "night/rear/1418134450004000.jpg", "full path", "write rear/1418134450004000.jpg"),
        ("robotcar", "rear/1417178700002000.jpg", "map image", "is 'overcast-reference/rear/1417178700002000.jpg'"),
        ("robotcar", "IMG_20161227_172601.jpg", "name", "no query of robotcar-v1; Aachen Day-Night names images so"),
        ("robotcar-v2", "rear/1418134450003000.jpg", "other split", "whose pose is public in robotcar-v2"),
    ],
)
def test_a_wrong_name_is_told_by_its_mistake(tmp_path: Path, name: str, wrong: str, kind: str, message: str) -> None:
    benchmark, truth = SETS[name]()
    path, lines = written(tmp_path, benchmark, truth)
    kept = [line for line in lines if Path(line.split()[0]).stem != Path(wrong).stem][:9]
    kept[4] = " ".join([wrong, *kept[4].split()[1:]])
    path.write_text("\n".join(kept) + "\n")
    report = validate_submission(path, benchmark)
    assert kinds(report) == [(5, kind)], report.to_text()
    assert message in report.faults[0].message


def test_a_name_twice_names_the_earlier_line(tmp_path: Path) -> None:
    benchmark, truth = aachen()
    path, lines = written(tmp_path, benchmark, truth)
    path.write_text("\n".join([*lines[:6], lines[2], *lines[6:]]) + "\n")
    report = validate_submission(path, benchmark)
    assert kinds(report) == [(7, "twice")]
    assert "is in line 3 already; keep one of the two" in report.faults[0].message


def inverted(line: str) -> str:
    name, *numbers = line.split()
    w, x, y, z, tx, ty, tz = map(float, numbers)
    center = Pose((w, x, y, z), (tx, ty, tz)).center
    return " ".join([name, *map(repr, [w, -x, -y, -z, *center.tolist()])])


def w_last(line: str) -> str:
    name, w, x, y, z, *t = line.split()
    return " ".join([name, x, y, z, w, *t])


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (inverted, "inverted", "look inverted: they are camera to world"),
        (w_last, "quaternion order", "look like quaternions with w last"),
        (lambda line: w_last(inverted(line)), "quaternion order", "look inverted and with w last"),
    ],
)
def test_poses_by_another_convention_are_told(
    tmp_path: Path, name: str, change: Callable[[str], str], kind: str, words: str
) -> None:
    benchmark, truth = SETS[name]()
    path, lines = written(tmp_path, benchmark, truth)
    path.write_text("\n".join(map(change, lines)) + "\n")
    report = validate_submission(path, benchmark)
    assert [item.kind for item in report.faults] == [kind], report.to_text()
    assert words in report.faults[0].message
    row = next(n for n in range(len(lines)) if n > 3)
    path.write_text("\n".join([*lines[:row], change(lines[row]), *lines[row + 1 :]]) + "\n")
    single = validate_submission(path, benchmark)
    assert all(item.line == row + 1 for item in single.faults)  # one alone is told where it cannot be another thing


def test_translations_in_another_unit_are_noted(tmp_path: Path) -> None:
    benchmark, truth = robotcar()
    path, lines = written(tmp_path, benchmark, truth)
    fields = [line.split() for line in lines]
    path.write_text("".join(f"{' '.join([*f[:5], *(str(1000 * float(x)) for x in f[5:])])}\n" for f in fields))
    report = validate_submission(path, benchmark)
    assert not report.faults
    assert "24 of 24 cameras stand more than 10 m outside the map: are translations metres?" in report.to_text()


def test_what_is_wrong_with_the_whole_file(tmp_path: Path) -> None:
    benchmark, truth = robotcar()
    path, lines = written(tmp_path, benchmark, truth)
    text = path.read_text()
    for content, expected in (
        (text.replace("\n", "\r\n").encode(), (1, "line ends")),
        (b"\xef\xbb\xbf" + text.encode(), (1, "bom")),
        (text.encode("utf-16"), (1, "encoding")),
        (b"", (0, "empty")),
        (b"\n\n", (0, "empty")),
        (text.replace(lines[3], "\n" + lines[3]).encode(), (4, "blank")),
        (text.replace("rear/", "left/").encode(), (1, "cameras")),
        ("".join(f"{line.split()[0]} 1 0 0 0 1 2 3\n" for line in lines).encode(), (1, "identical")),
        (text.encode() + b"rear/\xff.jpg 1 0 0 0 1 2 3\n", (25, "encoding")),
    ):
        path.write_bytes(content)
        assert expected in kinds(validate_submission(path, benchmark))
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert kinds(validate_submission(path, benchmark)) == [(1, "line ends")]
    path.write_text(text.replace("rear/", "left/"))
    report = validate_submission(path, benchmark)
    assert kinds(report) == [(1, "cameras")]
    assert "all 24 poses are of cameras that are not scored; those of rear count alone" in report.to_text()
    with pytest.raises(DataError, match=r"the poses cannot be read \(No such file"):
        validate_submission(tmp_path / "none.txt", benchmark)


def test_many_faults_of_a_kind_are_counted(tmp_path: Path) -> None:
    benchmark, truth = aachen()
    path, lines = written(tmp_path, benchmark, truth)
    path.write_text("".join(line.replace(" ", ", ") + "\n" for line in lines))
    text = validate_submission(path, benchmark).to_text()
    assert text.splitlines()[0].endswith("22 lines for aachen-v1.1, 22 of scored queries: 22 faults")
    assert "and 17 more lines of this kind (commas)" in text


def test_png_for_jpg_is_a_note(tmp_path: Path) -> None:
    benchmark, truth = robotcar()
    path, _ = written(tmp_path, benchmark, truth)
    path.write_text(path.read_text().replace(".jpg", ".png"))
    report = validate_submission(path, benchmark)
    assert (kinds(report), report.scored) == ([], 24)
    assert "takes .png for .jpg" in report.to_text()


def test_whole_locations_that_are_absent_are_noted(tmp_path: Path) -> None:
    benchmark, truth = robotcar()
    places = {name: "001" if int(Path(name).stem) % 8000 < 4000 else "002" for name in truth}
    benchmark = dataclasses.replace(benchmark, locations=places)
    path, _ = written(tmp_path, benchmark, {name: pose for name, pose in truth.items() if places[name] == "001"})
    report = validate_submission(path, benchmark)
    assert not report.faults
    assert "all queries of 1 of 2 locations are absent, first 002" in report.to_text()
