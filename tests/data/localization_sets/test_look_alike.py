"""Look-alikes: names, counts, lenses and rigs of the benchmarks, the same bytes again, finished where it was killed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from gloam.data.kapture_io import read_scene
from gloam.data.localization_sets.dataset import SetName
from gloam.data.localization_sets.look_alike import SIZES, LookAlike, LookAlikeSize, write_look_alike
from gloam.data.localization_sets.look_alike.aachen import plan_aachen
from gloam.data.localization_sets.look_alike.photographs import photograph
from gloam.data.localization_sets.look_alike.robotcar import plan_robotcar_v1, rig
from gloam.data.localization_sets.look_alike.sizes import V2_TEST, V2_TRAINING, shared_out
from gloam.data.localization_sets.look_alike.views import View
from gloam.data.localization_sets.read import read_localization_set
from gloam.data.localization_sets.robotcar import V2_ASKED
from gloam.data.scene import Camera
from gloam.data.town import open_street
from gloam.data.town.sampling import camera_pose
from gloam.errors import StoreError, UsageError
from tests.data.localization_sets.conftest import FEW

NAMES: tuple[SetName, ...] = ("aachen-v1.1", "robotcar-v1", "robotcar-v2")
Lists = Callable[[SetName], LookAlike]


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_real_sizes_have_the_benchmarks_counts() -> None:
    """Map and queries of each benchmark; RobotCar's shots are of three cameras."""
    aachen, v1, v2 = (SIZES[name]["real"] for name in NAMES)
    assert (aachen.mapping["db"], sum(aachen.mapping.values())) == (4328, 6697)
    assert Counter({"day": 824, "night": 191}) == sum(
        (Counter({folder.split("/")[1]: count}) for folder, count in aachen.queries.items()), Counter()
    )
    assert (3 * sum(v1.mapping.values()), 3 * sum(v1.queries.values())) == (20862, 11934)
    assert v1.queries["night"] + v1.queries["night-rain"] == 878
    assert (sum(v2.queries.values()), sum(v2.training.values())) == (V2_TEST, V2_TRAINING) == (1872, 1906)


def test_shared_out_keeps_the_total() -> None:
    """Rounding loses and invents none, and stays within one of the proportion."""
    parts = shared_out(100, {"a": 1, "b": 1, "c": 1, "d": 4})
    assert sum(parts.values()) == 100
    assert all(abs(parts[kind] - 100 * weight / 7) < 1 for kind, weight in {"a": 1, "d": 4}.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_names_the_sets_queries(lists: Lists, name: SetName) -> None:
    """Every query has its pose in the truth, under its own name and intrinsics, and none in the set."""
    made = lists(name)
    found, truth = read_localization_set(name, made.set), read_scene(made.truth, need_poses=True, need_cameras=True)
    assert truth.names == found.query.names
    assert not found.query.poses
    assert all(truth.camera(image) == found.query.camera(image) for image in truth.names)
    assert not any("truth" in path for path in content(made.set))


def test_aachen_names_and_lenses(lists: Lists) -> None:
    """Names as the benchmark's, a camera for each image, of several sizes, upright and not."""
    found = read_localization_set("aachen-v1.1", lists("aachen-v1.1").set)
    pattern = re.compile(
        r"db/\d+\.jpg|sequences/(gopro3_undistorted/gopro3_\d{5}|nexus4_sequences/sequence_1/aachen_nexus4_seq1_\d{4})\.png|"
        r"query/(day|night)/milestone/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d+\.jpg|"
        r"query/(day/nexus4|day/nexus5x|night/nexus5x|night/nexus5x_additional_night)/IMG_\d{8}_\d{6}\.jpg"
    )
    assert all(pattern.fullmatch(name) for name in (*found.mapping.names, *found.query.names))
    cameras = [found.mapping.camera(name) for name in found.mapping.names]
    assert {camera.model for camera in cameras} == {"SIMPLE_RADIAL"}
    assert len({(camera.width, camera.height) for camera in cameras}) >= 6
    assert any(camera.height > camera.width for camera in cameras)


def test_the_car_carries_its_cameras(lists: Lists) -> None:
    """The three images of a shot are of one pose of the car, to 1e-9, and the rear camera looks back."""
    made = lists("robotcar-v1")
    found = read_localization_set("robotcar-v1", made.set)
    assert found.rig == rig()
    shots: dict[int, dict[str, np.ndarray]] = {}
    for name, record in found.mapping.records.items():
        pose, mount = found.mapping.poses[name], found.rig[record.camera_id]
        rotation = mount.rotation.T @ pose.rotation
        centre = mount.rotation.T @ (np.array(pose.translation) - np.array(mount.translation))
        shots.setdefault(record.timestamp, {})[record.camera_id] = np.column_stack([rotation, centre])
    assert all(len(shot) == 3 for shot in shots.values())
    for shot in shots.values():
        assert np.allclose(shot["left"], shot["rear"], atol=1e-9)
        assert np.allclose(shot["right"], shot["rear"], atol=1e-9)
    assert found.rig["rear"].rotation[2] @ np.array([0, 0, 1]) < -0.99
    assert all(name.split("/")[1] == record.camera_id for name, record in found.query.records.items())


@pytest.mark.slow
def test_processes_render_the_same_bytes(few: LookAlike, tmp_path: Path) -> None:
    """Another folder and two processes give the same files."""
    again = write_look_alike(tmp_path / "again", "aachen-v1.1", FEW["aachen-v1.1"], workers=2)
    assert content(again.folder) == content(few.folder)


def test_a_seed_decides_the_poses() -> None:
    """The same seed gives the same plan, another seed another one."""
    assert plan_aachen(FEW["aachen-v1.1"], 7) == plan_aachen(FEW["aachen-v1.1"], 7)
    assert plan_aachen(FEW["aachen-v1.1"], 8).views[0].pose != plan_aachen(FEW["aachen-v1.1"], 7).views[0].pose


def test_a_killed_run_is_finished(few: LookAlike, tmp_path: Path) -> None:
    """What is missing or harmed is rendered again, the rest is kept, and the end is the same."""
    folder = tmp_path / "killed"
    shutil.copytree(few.folder, folder)
    images = sorted((folder / "set" / "mapping" / "sensors" / "records_data").rglob("*.*"))
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:-9])
    kept = images[2].stat().st_mtime_ns
    lines: list[str] = []
    made = write_look_alike(folder, "aachen-v1.1", FEW["aachen-v1.1"], say=lines.append)
    assert (made.rendered, len(made.damaged)) == (2, 1)
    assert images[2].stat().st_mtime_ns == kept
    assert content(folder) == content(few.folder)


def test_another_look_alike_is_refused(few: LookAlike) -> None:
    """A folder holds one; an unknown name and size name the choices."""
    with pytest.raises(StoreError, match="holds another look-alike; choose another folder or delete it"):
        write_look_alike(few.folder, "aachen-v1.1", FEW["aachen-v1.1"], seed=8)
    with pytest.raises(UsageError, match=r"choose from aachen-v1\.1, robotcar-v1, robotcar-v2"):
        write_look_alike(few.folder, "aachen")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="choose from toy, real"):
        write_look_alike(few.folder, "aachen-v1.1", "huge")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="picture 8: must be 32 to 2048 pixels"):
        write_look_alike(few.folder, "aachen-v1.1", picture=8)


@pytest.mark.parametrize(
    "counts", [{"streets": 0}, {"mapping": {"db": -1}}, {"mapping": {}}, {"queries": {"query/day/nexus4": 0}}]
)
def test_sizes_that_are_none(counts: dict[str, object]) -> None:
    """No street, no map, no query, or fewer than none."""
    with pytest.raises(UsageError):
        LookAlikeSize(
            **{"picture": 64, "streets": 1, "mapping": {"db": 1}, "queries": {"query/day/nexus4": 1}, **counts}
        )  # type: ignore[arg-type]


def test_queries_are_no_map_views() -> None:
    """No query stands where, and looks as, a view of the lanes does."""
    plan = plan_aachen(SIZES["aachen-v1.1"]["toy"], 7)
    poses = [plan.world_pose(view) for view in plan.views]
    assert len(set(poses)) == len(poses)
    assert len({float(pose.center[0] + 100) // 400 for pose in poses}) == 2  # both streets are photographed
    car = plan_robotcar_v1(SIZES["robotcar-v1"]["toy"], 7)
    assert len({view.timestamp for view in car.views}) * 3 == len(car.views)


def test_a_bent_lens_is_that_of_its_model() -> None:
    """A pixel of the bent image is the straight image's at the ray that SIMPLE_RADIAL maps there."""
    street = open_street(7, 30.0, 8, 2)
    view = View("mapping", "db/1.jpg", "cam", 0, 0, camera_pose(3, 0, 1.6, 10), "day", "map")
    focal, distortion = 60.0, -0.1
    bent = photograph(street, view, Camera("SIMPLE_RADIAL", 96, 64, (focal, 48, 32, distortion)))
    straight = photograph(street, view, Camera("PINHOLE", 128, 96, (focal, focal, 64, 48)))
    assert bent.shape == (64, 96, 3)
    x, y = (np.indices((96, 128))[::-1] + 0.5 - np.array([64, 48])[:, None, None]) / focal
    factor = 1 + distortion * (x**2 + y**2)
    columns, rows = focal * x * factor + 48 - 0.5, focal * y * factor + 32 - 0.5
    undone = cv2.remap(bent, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR)
    inside = (columns > 1) & (columns < 94) & (rows > 1) & (rows < 62)
    error = np.abs(undone.astype(float) - straight)[inside].mean()
    shift = np.abs(np.roll(straight, 2, 1).astype(float) - straight)[inside].mean()
    assert error < 0.5 * shift


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "counts"),
    [("aachen-v1.1", (6697, 1015, 0)), ("robotcar-v1", (20862, 11934, 0)), ("robotcar-v2", (20862, 5616, 5718))],
)
def test_real_size_is_written_and_read(tmp_path: Path, name: SetName, counts: tuple[int, int, int]) -> None:
    """The lists of a whole benchmark: every image once, thousands of places, read in little memory."""
    made = write_look_alike(tmp_path, name, "real", images=False)
    tracemalloc.start()
    found = read_localization_set("auto", made.set)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    known = len(found.known_query.records) if found.known_query else 0
    assert (len(found.mapping.records), len(found.query.records), known) == counts
    assert made.images == sum(counts)
    assert peak < 150e6
    places = {tuple(np.round(pose.center[:2])) for pose in found.mapping.poses.values()}
    assert len(places) > 4000
    if name == "robotcar-v2":
        assert len(set(found.locations.values())) == 49
        asked = {found.locations[image] for image in found.query.records}
        assert asked == {f"{location:02d}" for location in V2_ASKED}
        assert not asked & {found.locations[image] for image in found.known}


@pytest.mark.slow
def test_a_run_that_is_killed_hard_is_finished(tmp_path: Path) -> None:
    """SIGKILL while images are rendered, then the same call: each image is whole, and none of the first is lost."""
    code = (
        "from gloam.data.localization_sets.look_alike import write_look_alike\n"
        f"write_look_alike({str(tmp_path)!r}, 'aachen-v1.1', 'real', say=lambda line: print(line, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.kill()
    assert "planning 7712 shots of 80 streets" in lines[0]
    assert "7712 images to render, 0 are there" in lines[1]
    assert re.search(r"rendering: \d+ of 7712 images, [\d.]+ images/s, .* left", lines[2])
    there = sorted(path for path in (tmp_path / "set").rglob("*") if path.suffix in (".jpg", ".png"))
    assert there
    assert all(cv2.imread(str(path)) is not None for path in there)
    before = {path: path.stat().st_mtime_ns for path in there}
    again: list[str] = []

    def say(line: str) -> None:
        again.append(line)
        if len(again) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_look_alike(tmp_path, "aachen-v1.1", "real", say=say)
    assert f"{len(there)} are there" in again[1]
    assert {path: path.stat().st_mtime_ns for path in there} == before
