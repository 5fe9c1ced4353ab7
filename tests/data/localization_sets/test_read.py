"""Reading benchmarks: what they hold, what is half, mixed or another's."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gloam.data.kapture_io import read_rig
from gloam.data.localization_sets.dataset import SetName
from gloam.data.localization_sets.look_alike import LookAlike
from gloam.data.localization_sets.read import read_localization_set
from gloam.data.scene import Pose
from gloam.errors import DataError, UsageError

Lists = Callable[[SetName], LookAlike]
Copied = Callable[[SetName], Path]


def test_aachen(lists: Lists) -> None:
    """Day and night merged, each image in its own folder."""
    made = lists("aachen-v1.1")
    found = read_localization_set("auto", made.set)
    assert (found.name, found.layout, found.style, found.scored) == ("aachen-v1.1", "kapture", "aachen", None)
    assert (len(found.mapping.records), {c: len(names) for c, names in found.conditions.items()}) == (
        40,
        {"day": 10, "night": 8},
    )
    assert (found.day, found.night) == (("day",), ("night",))
    assert sorted(name for names in found.conditions.values() for name in names) == found.query.names
    for condition, names in found.conditions.items():
        folder = made.set / f"query_{condition}" / "sensors" / "records_data"
        assert all(found.query.image_path(name) == folder / name for name in names)
    cameras = {found.query.records[name].camera_id for name in found.query.names}
    assert len(cameras) == len(found.query.names)  # sensor0 of the day is not sensor0 of the night


def test_robotcar_v1(lists: Lists) -> None:
    """Nine conditions, the rear camera is scored, locations are not stated."""
    found = read_localization_set("auto", lists("robotcar-v1").set)
    assert (found.name, found.style, found.scored) == ("robotcar-v1", "robotcar", ("rear",))
    assert len(found.conditions) == 9
    assert (found.night, len(found.day)) == (("night", "night-rain"), 7)
    assert len(found.scored_queries) * 3 == len(found.query.records)
    assert (found.locations, found.known, found.known_query) == ({}, {}, None)


def test_robotcar_v2(lists: Lists) -> None:
    """Locations as one scene; training images are no map, and their rear poses are known."""
    made = lists("robotcar-v2")
    found = read_localization_set("auto", made.set)
    assert {name.split("/")[0] for name in found.mapping.records} == {"overcast-reference"}
    assert found.mapping.poses.keys() == found.mapping.records.keys()
    assert found.known_query is not None
    assert {name.split("/")[1] for name in found.known} == {"rear"}
    assert len(found.known) * 3 == len(found.known_query.records) == 12
    assert not found.known_query.poses
    for scene in (found.mapping, found.query, found.known_query):
        for name in scene.names:
            assert made.set / found.locations[name] in scene.image_path(name).parents
    assert set(found.locations.values()) == {"01", "02", "03"}
    assert found.mapping.cameras.keys() == {"left", "rear", "right"}


def test_locations_with_intrinsics_of_their_own(copied: Copied) -> None:
    """Where locations differ in intrinsics, cameras keep apart and the rear ones are scored."""
    root = copied("robotcar-v2")
    for part in ("mapping", "query"):
        sensors = root / "02" / part / "sensors" / "sensors.txt"
        sensors.write_text(sensors.read_text().replace("PINHOLE, 192, 192, 74", "PINHOLE, 192, 192, 75"))
    found = read_localization_set("robotcar-v2", root)
    assert found.scored == ("01/rear", "02/rear")
    assert len(found.scored_queries) == 9


def test_queries_that_are_merged(copied: Copied) -> None:
    """kapture's tools merge day and night into one folder."""
    root = copied("aachen-v1.1")
    shutil.rmtree(root / "query_night")
    shutil.move(root / "query_day", root / "query")
    night = root / "query" / "sensors" / "records_camera.txt"
    night.write_text(night.read_text().replace("query/day/nexus5x", "query/night/nexus5x"))
    assert len(read_localization_set("aachen-v1.1", root).conditions["night"]) == 2


@pytest.mark.parametrize("part", ["mapping", "query_day", "query_night"])
def test_half_an_aachen(copied: Copied, part: str) -> None:
    """The missing part is named, and where it is from."""
    root = copied("aachen-v1.1")
    shutil.rmtree(root / part)
    with pytest.raises(DataError, match=rf"{part} of Aachen .* is not there; install Aachen-Day-Night-v1.1_{part}"):
        read_localization_set("auto", root)


def test_half_a_robotcar(copied: Copied) -> None:
    """A part of version 1, and a location's map of version 2."""
    root = copied("robotcar-v1")
    shutil.rmtree(root / "query")
    with pytest.raises(DataError, match="query of RobotCar Seasons v1 is not there; install RobotCar_Seasons-v1_query"):
        read_localization_set("auto", root)
    root = copied("robotcar-v2")
    shutil.rmtree(root / "02" / "mapping")
    with pytest.raises(
        DataError, match="02/mapping of RobotCar Seasons v2 is not there; install RobotCar_Seasons-v2_02"
    ):
        read_localization_set("auto", root)
    for place in ("01", "02", "03"):
        shutil.rmtree(root / place / "query", ignore_errors=True)
    shutil.rmtree(root / "02")
    with pytest.raises(DataError, match="no location of RobotCar Seasons v2 has a query folder"):
        read_localization_set("auto", root)


def test_versions_mixed(copied: Copied, lists: Lists) -> None:
    """Both versions in one folder, one under the other's name, and v1's queries with v2's training images."""
    root = copied("robotcar-v2")
    with pytest.raises(DataError, match="holds robotcar-v2, not robotcar-v1; give its name, or another folder"):
        read_localization_set("robotcar-v1", root)
    taken = [
        line for path in root.glob("*/mapping/sensors/records_camera.txt") for line in path.read_text().splitlines()
    ]
    row = next(line for line in taken if "night" in line and "rear" in line)
    asked = root / "02" / "query" / "sensors" / "records_camera.txt"
    asked.write_text(asked.read_text() + row + "\n")
    with pytest.raises(DataError, match="1 images are queries and in the training images, first 'night"):
        read_localization_set("auto", root)
    shutil.copytree(lists("robotcar-v1").set / "mapping", root / "mapping")
    with pytest.raises(DataError, match=r"holds locations as RobotCar Seasons v2 \(01\) and mapping as v1"):
        read_localization_set("auto", root)


def test_what_is_no_folder(lists: Lists, tmp_path: Path) -> None:
    """Nothing, a file, an archive, an empty folder, the folder above, an unknown name."""
    with pytest.raises(DataError, match="is not there; give the folder of the dataset"):
        read_localization_set("auto", tmp_path / "none")
    (tmp_path / "notes.txt").write_text("aachen")
    with pytest.raises(DataError, match=r"notes\.txt: is a file; give the folder"):
        read_localization_set("auto", tmp_path / "notes.txt")
    with zipfile.ZipFile(tmp_path / "aachen_v1_1.zip", "w") as archive:
        archive.writestr("mapping/sensors/sensors.txt", "")
    with pytest.raises(DataError, match=r"aachen_v1_1\.zip: is an archive; unpack it"):
        read_localization_set("auto", tmp_path / "aachen_v1_1.zip")
    with pytest.raises(DataError, match="no localization benchmark is there"):
        read_localization_set("auto", tmp_path)
    made = lists("aachen-v1.1")
    with pytest.raises(DataError, match=f"give {made.set}$"):
        read_localization_set("auto", made.folder)
    with pytest.raises(UsageError, match=r"choose from auto, aachen-v1\.1, robotcar-v1, robotcar-v2"):
        read_localization_set("aachen", made.set)  # type: ignore[arg-type]


def test_names_that_are_none(copied: Copied) -> None:
    """A query of neither day nor night, an image of another dataset, a query that is a map image."""
    root = copied("aachen-v1.1")
    records = root / "query_day" / "sensors" / "records_camera.txt"
    before = records.read_text()
    records.write_text(before.replace("query/day/nexus4", "query/dusk/nexus4"))
    with pytest.raises(DataError, match="is in neither query/day nor query/night"):
        read_localization_set("auto", root)
    records.write_text(before.replace("query/day/nexus5x/IMG_20161227_163204.jpg", "db/1.jpg"))
    with pytest.raises(DataError, match=r"query 'db/1\.jpg' is in neither"):
        read_localization_set("auto", root)
    root = copied("robotcar-v1")
    records = root / "query" / "sensors" / "records_camera.txt"
    records.write_text(records.read_text().replace("dawn/left", "dawn/front"))
    with pytest.raises(
        DataError, match=r"is none of RobotCar Seasons, whose images are condition/camera/timestamp\.jpg"
    ):
        read_localization_set("auto", root)


def test_maps_of_other_datasets(copied: Copied) -> None:
    """RobotCar's map beside Aachen's queries, Aachen's map beside RobotCar's."""
    aachen, robotcar = copied("aachen-v1.1"), copied("robotcar-v1")
    shutil.move(aachen / "mapping", aachen / "kept")
    shutil.move(robotcar / "mapping", aachen / "mapping")
    with pytest.raises(DataError, match=r"map image 'overcast-reference/.*' is in neither db nor sequences"):
        read_localization_set("auto", aachen)
    shutil.move(aachen / "kept", robotcar / "mapping")
    with pytest.raises(DataError, match=r"is in neither query/day nor query/night|is in neither db nor"):
        read_localization_set("auto", robotcar)


def test_training_images_in_a_map_of_version_1(copied: Copied) -> None:
    """They are told as what they are, before their poses are missed."""
    root, two = copied("robotcar-v1"), copied("robotcar-v2")
    shutil.rmtree(root / "mapping")
    shutil.move(two / "03" / "mapping", root / "mapping")
    with pytest.raises(DataError, match=r"images are not of overcast-reference, first .*are RobotCar Seasons v2's"):
        read_localization_set("auto", root)


def test_sensors_that_hide_the_camera(copied: Copied) -> None:
    """Other names of sensors are fine; one sensor for two cameras, or no rear image, is not."""
    root = copied("robotcar-v1")
    files = [root / "query" / "sensors" / name for name in ("sensors.txt", "records_camera.txt")]
    texts = [path.read_text() for path in files]
    for path, text in zip(files, texts, strict=True):
        path.write_text(text.replace("\nrear, rear", "\ncam_00002, rear").replace(", rear, ", ", cam_00002, "))
    assert read_localization_set("auto", root).scored == ("cam_00002",)
    files[1].write_text(
        texts[1].replace("rear, dawn/rear", "rear, dawn/right").replace("right, dawn/right", "right, dawn/rear")
    )
    files[0].write_text(texts[0])
    with pytest.raises(
        DataError, match=r"is of the sensor 'r.*', as images of rear are; sensors are left, rear and right"
    ):
        read_localization_set("auto", root)
    files[1].write_text("\n".join(line for line in texts[1].splitlines() if "/rear/" not in line))
    with pytest.raises(DataError, match="no query is of the camera rear, which alone is scored"):
        read_localization_set("auto", root)


def test_poses_of_the_car(copied: Copied, lists: Lists) -> None:
    """A map that states the car's poses has those of its cameras, through the rig."""
    root = copied("robotcar-v1")
    before = read_localization_set("auto", root).mapping
    rig = read_rig(root / "mapping")
    rows = ["# kapture format: 1.1"]
    for name, record in before.records.items():
        if record.camera_id == "rear":
            mount, pose = rig["rear"], before.poses[name]
            turned = mount.rotation.T @ pose.rotation
            car = Pose.from_matrix(turned, mount.rotation.T @ (np.array(pose.translation) - mount.translation))
            rows.append(", ".join(map(repr, (record.timestamp, "car", *car.quaternion, *car.translation))))
    (root / "mapping" / "sensors" / "trajectories.txt").write_text("\n".join(rows).replace("'", "") + "\n")
    after = read_localization_set("auto", root).mapping
    assert after.poses.keys() == before.poses.keys()
    for name, pose in before.poses.items():
        assert np.allclose(after.poses[name].rotation, pose.rotation, rtol=0, atol=1e-9)
        assert np.allclose(after.poses[name].translation, pose.translation, rtol=0, atol=1e-9)


def test_windows_line_ends_and_a_byte_order_mark(copied: Copied) -> None:
    """Read as if they were not there."""
    root = copied("robotcar-v2")
    before = read_localization_set("auto", root)
    for path in root.rglob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    after = read_localization_set("auto", root)
    assert (after.mapping, after.query, after.known, after.rig) == (
        before.mapping,
        before.query,
        before.known,
        before.rig,
    )
