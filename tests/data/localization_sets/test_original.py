"""Benchmarks as their authors give them: the same scenes as in kapture form, and what is wrong with a file."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from gloam.data.kapture_io import read_scene
from gloam.data.localization_sets.dataset import LocalizationSet, SetName
from gloam.data.localization_sets.look_alike import LookAlike, write_look_alike
from gloam.data.localization_sets.read import read_localization_set
from gloam.data.pairs import read_pairs
from gloam.data.query_list import read_query_list
from gloam.data.scene import Scene
from gloam.errors import DataError

Lists = Callable[[SetName], LookAlike]
Originals = Callable[[SetName], Path]
LOCATIONS = Path("3D-models", "individual")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    """The toy look-alike of a name in its authors' form, without images; it must not be changed."""
    made: dict[str, Path] = {}

    def get(name: SetName) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = write_look_alike(folder, name, images=False, layout="original").set
        return made[name]

    return get


@pytest.fixture
def original(kept: Originals, tmp_path: Path) -> Originals:
    """A copy of it, to be spoiled."""

    def get(name: SetName) -> Path:
        return Path(shutil.copytree(kept(name), tmp_path / name))

    return get


def same_images(first: Scene, second: Scene) -> None:
    """Names and intrinsics alike, poses to 1e-9."""
    assert first.names == second.names
    assert all(first.camera(name) == second.camera(name) for name in first.names)
    assert first.poses.keys() == second.poses.keys()
    for name, pose in first.poses.items():
        other = second.poses[name]
        assert np.allclose(pose.rotation, other.rotation, rtol=0, atol=1e-9)
        assert np.allclose(pose.translation, other.translation, rtol=0, atol=1e-9)


def same_sets(first: LocalizationSet, second: LocalizationSet) -> None:
    """All that a set states but its form."""
    same_images(first.mapping, second.mapping)
    same_images(first.query, second.query)
    assert (first.conditions, first.scored, first.style) == (second.conditions, second.scored, second.style)
    assert first.known.keys() == second.known.keys()
    assert all(np.allclose(first.known[n].rotation, second.known[n].rotation, atol=1e-9) for n in first.known)
    assert all(np.allclose(first.known[n].translation, second.known[n].translation, atol=1e-9) for n in first.known)
    assert (first.known_query is None) == (second.known_query is None)
    if first.known_query is not None and second.known_query is not None:
        same_images(first.known_query, second.known_query)
    assert first.rig.keys() == second.rig.keys()
    assert all(np.allclose(first.rig[key].rotation, second.rig[key].rotation, atol=1e-9) for key in first.rig)
    assert all(np.allclose(first.rig[key].translation, second.rig[key].translation, atol=1e-9) for key in first.rig)
    assert first.mapping.origin == second.query.origin == 0.5


@pytest.mark.parametrize("name", get_args(SetName))
def test_both_forms_are_the_same_scene(lists: Lists, kept: Originals, name: SetName) -> None:
    """Poses, intrinsics, conditions, rig and training images."""
    found = read_localization_set("auto", kept(name))
    assert (found.name, found.layout) == (name, "original")
    same_sets(read_localization_set(name, lists(name).set), found)


def test_locations_and_images(kept: Originals) -> None:
    """The models and lists of single locations state where an image is, also of version 1."""
    root = kept("robotcar-v1")
    found = read_localization_set("robotcar-v1", root)
    assert found.locations.keys() == found.mapping.records.keys() | found.query.records.keys()
    assert set(found.locations.values()) == {"01", "02"}
    assert found.query.image_path("sun/rear/1.jpg") == root / "images" / "sun" / "rear" / "1.jpg"
    assert read_localization_set("auto", kept("aachen-v1.1")).mapping.image_folder.name == "images_upright"


def test_version_1_of_a_download_that_has_both(kept: Originals) -> None:
    """Version 1 asks for the training images too; the lists of version 2 say nothing of it."""
    two = read_localization_set("auto", kept("robotcar-v2"))
    one = read_localization_set("robotcar-v1", kept("robotcar-v2"))
    assert two.known_query is not None
    assert one.query.records.keys() == two.query.records.keys() | two.known_query.records.keys()
    assert (one.known, one.known_query) == ({}, None)


def test_the_test_list_chooses_shots(original: Originals) -> None:
    """Shots that neither list names are no queries."""
    root = original("robotcar-v2")
    listed = (root / "robotcar_v2_test.txt").read_text().splitlines()
    (root / "robotcar_v2_test.txt").write_text("\n".join(listed[:4]) + "\n")
    found = read_localization_set("auto", root)
    assert [name.replace(".jpg", ".png") for name in found.scored_queries] == sorted(listed[:4])
    assert len(found.query.records) == 12
    (root / "robotcar_v2_test.txt").unlink()
    assert len(read_localization_set("auto", root).scored_queries) == len(listed)


def test_the_merged_model(original: Originals, lists: Lists) -> None:
    """Without models of locations the NVM file gives the same map, and lists the locations of queries."""
    root = original("robotcar-v1")
    shutil.rmtree(root / LOCATIONS / "colmap_reconstructions")
    for camera in (root / "intrinsics").iterdir():  # an NVM model states no sizes: the benchmark's are taken
        camera.write_text("fx 400\nfy 400\ncx 500\ncy 511\n")
    found, expected = read_localization_set("auto", root), read_localization_set("auto", lists("robotcar-v1").set)
    assert found.mapping.camera(found.mapping.names[0]).width == 1024
    found.mapping.cameras = expected.mapping.cameras
    same_images(expected.mapping, found.mapping)


def test_an_aachen_of_nvm(original: Originals, lists: Lists) -> None:
    """An NVM model takes intrinsics from the lists beside it; an image without any is named with its line."""
    root = original("aachen-v1.1")
    shutil.rmtree(root / "3D-models" / "aachen_v_1_1")
    expected = read_localization_set("auto", lists("aachen-v1.1").set).mapping
    rows = []
    for name in expected.names:
        pose = expected.poses[name]
        rows.append(f"{name} 1 {' '.join(map(repr, (*pose.quaternion, *pose.center.tolist())))} 0 0")
    nvm = root / "3D-models" / "aachen_cvpr2018_db.nvm"
    nvm.write_text("\r\n".join(["NVM_V3 ", "", str(len(rows)), *rows, "", "0"]))
    with pytest.raises(DataError, match=r"an NVM model has no intrinsics; put database_intrinsics\.txt or"):
        read_localization_set("auto", root)
    cameras = {name: expected.camera(name) for name in expected.names}
    lines = {n: f"{n} {c.model} {c.width} {c.height} {' '.join(map(repr, c.params))}" for n, c in cameras.items()}
    (root / "3D-models" / "db_with_intrinsics.txt").write_text("\n".join(v for n, v in lines.items() if n[0] == "d"))
    with pytest.raises(DataError, match=r"aachen_cvpr2018_db\.nvm:36: image 'sequences/.*' has no intrinsics in db_"):
        read_localization_set("auto", root)
    (root / "sequences_with_intrinsics.txt").write_text("\n".join(v for n, v in lines.items() if n[0] == "s"))
    found = read_localization_set("auto", root)
    assert found.mapping.poses.keys() == expected.poses.keys()
    assert all(found.mapping.camera(name) == expected.camera(name) for name in expected.names)
    assert max(np.abs(found.mapping.poses[n].center - expected.poses[n].center).max() for n in expected.names) < 1e-9


def test_windows_line_ends_and_a_byte_order_mark(original: Originals, kept: Originals) -> None:
    """Read as if they were not there, in every text file."""
    for name in get_args(SetName):
        root = original(name)
        for path in root.rglob("*"):
            if path.suffix in (".txt", ".nvm"):
                path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
        same_sets(read_localization_set("auto", root), read_localization_set("auto", kept(name)))


def test_queries_of_the_images_folder(original: Originals, kept: Originals) -> None:
    """Without lists of locations, the images that are there are the queries, but the map's."""
    root, whole = original("robotcar-v1"), read_localization_set("auto", kept("robotcar-v1"))
    shutil.rmtree(root / ASKED)
    for name in (*whole.query.names, *whole.mapping.names, "sun/rear/notes.jpg"):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "images" / name).touch()
    found = read_localization_set("auto", root)
    assert (found.query.names, found.conditions) == (whole.query.names, whole.conditions)
    assert found.locations.keys() == found.mapping.records.keys()


def test_map_pairs(original: Originals) -> None:
    """The authors' pairs of map images; one that is none is refused."""
    root = original("aachen-v1.1")
    night = read_localization_set("auto", root).conditions["night"][0]
    (root / "image_pairs_to_match_v1_1.txt").write_text(
        f"db/1.jpg db/2.jpg\ndb/1.jpg db/3.jpg\n{night} db/3.jpg\ndb/2.jpg db/1.jpg\n"
    )
    assert read_localization_set("auto", root).map_pairs == [("db/1.jpg", "db/2.jpg"), ("db/1.jpg", "db/3.jpg")]
    (root / "image_pairs_to_match_v1_1.txt").write_text("db/1.jpg db/4479.jpg\n")
    with pytest.raises(
        DataError, match=r"image 'db/4479\.jpg' is neither in the map nor a query; take the list of the same version"
    ):
        read_localization_set("auto", root)


def spoil(path: Path, old: str, new: str) -> None:
    """Replace text once, where it is."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


DAY = Path("queries", "day_time_queries_with_intrinsics.txt")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            " SIMPLE_RADIAL 154 115 146.624 77.0 57.5 0.0476376",
            "",
            r"day_.*txt:1: image 'query/day/.*' has no intrinsics",
        ),
        (" 0.0476376", "", r"day_.*txt:1: image .* has malformed intrinsics: 5 numbers where SIMPLE_RADIAL has 6"),
        ("SIMPLE_RADIAL", "BROWN", r"day_.*txt:1: image .* unknown model 'BROWN'"),
        (
            "query/day/milestone",
            "query/night/milestone",
            r"day_.*txt: 'query/night/.*' is no query by day; is it in the",
        ),
        ("query/day/milestone/2010", "../day/milestone/2010", r"day_.*txt:1: image name '\.\./day"),
    ],
)
def test_lists_of_queries_that_are_wrong(original: Originals, old: str, new: str, message: str) -> None:
    """Named by line."""
    root = original("aachen-v1.1")
    spoil(root / DAY, old, new)
    with pytest.raises(DataError, match=message):
        read_localization_set("auto", root)


def test_half_an_aachen(original: Originals) -> None:
    """The model and a list, each named with where it comes from."""
    root = original("aachen-v1.1")
    (root / DAY).unlink()
    with pytest.raises(DataError, match=r"queries/day_time_queries_with_intrinsics\.txt of Aachen .* is not there"):
        read_localization_set("auto", root)
    shutil.rmtree(root / "3D-models")
    with pytest.raises(DataError, match="3D-models/aachen_v_1_1 and queries/day_time"):
        read_localization_set("auto", root)


@pytest.mark.parametrize("lost", ["cameras.bin", "images.bin"])
def test_models_that_are_cut_off(original: Originals, lost: str) -> None:
    """Every length of a binary file is found out, and what follows it."""
    root = original("aachen-v1.1")
    path = root / "3D-models" / "aachen_v_1_1" / lost
    whole = path.read_bytes()
    for size in (0, 7, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=rf"{lost}: is cut off after {size} bytes; copy the model again"):
            read_localization_set("auto", root)
    path.write_bytes(whole + b"\0\0")
    with pytest.raises(DataError, match=rf"{lost}: 2 bytes follow its last record"):
        read_localization_set("auto", root)
    path.unlink()
    with pytest.raises(DataError, match=r"cameras\.bin: is missing|aachen_v_1_1 .*is not there"):
        read_localization_set("auto", root)


MODEL = LOCATIONS / "colmap_reconstructions" / "001_aligned"
ASKED = LOCATIONS / "queries_per_location"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            MODEL / "images.txt",
            (" 2 overcast", " 9 overcast"),
            r"images\.txt:\d+: .* is of camera 9, which cameras\.txt",
        ),
        (MODEL / "images.txt", ("1 ", "1 7.5 "), r"images\.txt:2: is no image of a COLMAP model"),
        (
            MODEL / "images.txt",
            ("1 0", "1 3"),
            r"images\.txt:2: image .* has no usable pose: its quaternion is of length 3",
        ),
        (MODEL / "images.txt", ("overcast-reference/rear", "overcast/rear"), "is none of RobotCar Seasons"),
        (
            MODEL / "images.txt",
            ("overcast-reference/rear", "sun/rear"),
            "map image 'sun/rear/.*' is not of overcast-ref",
        ),
        (MODEL / "cameras.txt", ("1 PINHOLE", "1 HOLE"), r"cameras\.txt:1: camera 1 .* unknown model 'HOLE'"),
        (Path("intrinsics/rear_intrinsics.txt"), ("fx", "f"), r"rear_intrinsics\.txt:1: 'f .*' is not one of fx, fy"),
        (Path("intrinsics/rear_intrinsics.txt"), ("cy", "cx"), r"rear_intrinsics\.txt:4: 'cx .*' is not one of"),
        (Path("intrinsics/rear_intrinsics.txt"), ("fx ", "fx -"), "camera 'rear' has malformed intrinsics: a focal"),
        (Path("extrinsics/left_extrinsics.txt"), (",", ";"), r"left_extrinsics\.txt: is no matrix of 4 x 4 numbers"),
        (Path("extrinsics/left_extrinsics.txt"), ("0.0,0.0,0.0,1.0", ""), "3 rows where a matrix of 4 rows belongs"),
        (
            ASKED / "queries_location_001.txt",
            ("/rear/", "/front/"),
            r"queries_location_001\.txt:\d+: image '.*' is none",
        ),
        (
            Path("robotcar_v2_train.txt"),
            ("dusk", "snow"),
            "is in no list of queries; take the lists of the same dataset",
        ),
        (Path("robotcar_v2_train.txt"), ("rear", "left"), r"v2_train\.txt:1: image .* is not of the camera rear"),
        (
            Path("robotcar_v2_train.txt"),
            (" 0.0 0.0 0.0 1.0", " 0.0 0.0 1.0"),
            r"v2_train\.txt:1: is no matrix of 4 x 4",
        ),
        (
            Path("robotcar_v2_train.txt"),
            (" 0.0 0.0 0.0 1.0", " 0 0 0 2"),
            r"v2_train\.txt:1: the matrix is no rotation",
        ),
        (Path("robotcar_v2_train.txt"), (".png ", ".png 7"), r"v2_train\.txt:1: the matrix is no rotation"),
        (Path("intrinsics/rear_intrinsics.txt"), ("fx ", "fx: "), r"rear_intrinsics\.txt:1: 'fx: "),
        (Path("robotcar_v2_test.txt"), ("/rear/1", "/rear/2"), r"v2_test\.txt:1: image .* is in no list of queries"),
    ],
)
def test_files_of_robotcar_that_are_wrong(
    original: Originals, file: Path, change: tuple[str, str], message: str
) -> None:
    """Each file, named, with the line where there is one."""
    root = original("robotcar-v2")
    spoil(root / file, *change)
    with pytest.raises(DataError, match=message):
        read_localization_set("auto", root)


@pytest.mark.parametrize(
    "file", [Path("robotcar_v2_train.txt"), Path("robotcar_v2_test.txt"), ASKED / "queries_location_001.txt"]
)
def test_lists_without_images(original: Originals, file: Path) -> None:
    """An empty list is named."""
    root = original("robotcar-v2")
    (root / file).write_text("# nothing\n")
    with pytest.raises(DataError, match=rf"{file.name}: lists no images; download it again"):
        read_localization_set("auto", root)


NVM_IMAGE = "./overcast-reference/rear/1.png 1 1 0 0 0 0 0 0 0 0\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"all\.nvm:1: begins with '', not NVM_V3; is it an NVM model\?"),
        ("NVM_V2\n", r"all\.nvm:1: begins with 'NVM_V2', not NVM_V3"),
        ("NVM_V3\n", r"all\.nvm: the number of images is missing; the file is cut off"),
        ("NVM_V3\n-1\n", r"all\.nvm:2: the number of images is missing"),
        ("NVM_V3\n0\n", r"all\.nvm: its first model holds no images"),
        (f"NVM_V3\n2\n{NVM_IMAGE}", r"all\.nvm:4: is no image of an NVM model \(the file ends\)"),
        (f"NVM_V3\n1\n{NVM_IMAGE}", r"all\.nvm: the number of points is missing; the file is cut off"),
        (f"NVM_V3\n2\n{NVM_IMAGE * 2}0\n", r"all\.nvm:4: image '.*' is there already, in line 3"),
        (f"NVM_V3\n1\n{NVM_IMAGE}0\n".replace("1 1 0", "1 2 0"), r"all\.nvm:3: image .* quaternion is of length 2"),
        (f"NVM_V3\n1\n{NVM_IMAGE}0\n".replace("1 1 0", "1 nan 0"), r"all\.nvm:3: is no image .*'nan' is not finite"),
        (f"NVM_V3\n1\n{NVM_IMAGE}0\n".replace(" 1 1 0", " 1 0"), r"all\.nvm:3: is no image .*9 values where 10"),
        (
            f"NVM_V3\n1\n{NVM_IMAGE}0\n".replace("./over", "../over"),
            r"all\.nvm:3: image name '\.\./over.* contains '\.\.'",
        ),
    ],
)
def test_nvm_models_that_are_wrong(original: Originals, content: str, message: str) -> None:
    """Named by line; one that is cut off is found out."""
    root = original("robotcar-v1")
    shutil.rmtree(root / LOCATIONS / "colmap_reconstructions")
    (root / "3D-models" / "all-merged" / "all.nvm").write_text(content)
    with pytest.raises(DataError, match=message):
        read_localization_set("auto", root)


def test_images_that_are_there_twice(original: Originals) -> None:
    """In two locations' lists or models, twice in a training list, and in both lists of version 2."""
    root = original("robotcar-v2")
    first, second = (root / ASKED / f"queries_location_00{number}.txt" for number in (1, 2))
    whole, name = second.read_text(), first.read_text().splitlines()[0]
    second.write_text(f"{whole}{name}\n")
    with pytest.raises(DataError, match=r"queries_location_002\.txt:\d+: image '.*' is in location 01 already"):
        read_localization_set("auto", root)
    second.write_text(whole)
    train = root / "robotcar_v2_train.txt"
    rows = train.read_text()
    train.write_text(rows + rows.splitlines()[0] + "\n")
    with pytest.raises(DataError, match=r"v2_train\.txt:5: image .* is there already, in line 1"):
        read_localization_set("auto", root)
    train.write_text(rows)
    test = root / "robotcar_v2_test.txt"
    test.write_text(rows.split()[0] + "\n" + test.read_text())
    with pytest.raises(DataError, match=r"v2_test\.txt:1: image .* is also in robotcar_v2_train\.txt"):
        read_localization_set("auto", root)
    models = root / LOCATIONS / "colmap_reconstructions"
    shutil.rmtree(models / "002_aligned")
    shutil.copytree(models / "001_aligned", models / "002_aligned")
    with pytest.raises(DataError, match="is in location 01 too; remove one of the two"):
        read_localization_set("auto", root)


def test_half_a_robotcar(original: Originals) -> None:
    """All that is missing in one line; a location without its model."""
    root = original("robotcar-v2")
    shutil.rmtree(root / LOCATIONS / "colmap_reconstructions" / "002_aligned")
    with pytest.raises(DataError, match=r"002_aligned: is missing; queries_location_002\.txt asks for that location"):
        read_localization_set("auto", root)
    shutil.rmtree(root / "3D-models")
    (root / "intrinsics" / "left_intrinsics.txt").unlink()
    (root / "robotcar_v2_train.txt").unlink()
    with pytest.raises(
        DataError,
        match=r"intrinsics/left_intrinsics\.txt, robotcar_v2_train\.txt, 3D-models/.*001_aligned, .*queries_per_loc.* "
        "of RobotCar Seasons v2 is not there",
    ):
        read_localization_set("auto", root)


def test_two_benchmarks_in_one_folder(original: Originals) -> None:
    """Aachen's lists beside RobotCar's."""
    root = original("robotcar-v1")
    shutil.copytree(original("aachen-v1.1") / "queries", root / "queries")
    with pytest.raises(DataError, match="holds files of Aachen Day-Night and of RobotCar Seasons"):
        read_localization_set("auto", root)


def test_quaternions_that_are_no_rotation(lists: Lists, tmp_path: Path) -> None:
    """A kapture's pose of another length, which would otherwise be scaled in silence."""
    root = Path(shutil.copytree(lists("aachen-v1.1").set, tmp_path / "set"))
    path = root / "mapping" / "sensors" / "trajectories.txt"
    lines = path.read_text().splitlines()
    time, sensor, *numbers = lines[2].split(", ")
    path.write_text(
        "\n".join([*lines[:2], ", ".join([time, sensor, *(repr(2 * float(n)) for n in numbers)]), *lines[3:]])
    )
    with pytest.raises(DataError, match=r"the pose of image 'db/1\.jpg' is none: its quaternion is of length 2, not 1"):
        read_localization_set("auto", root)


def test_real_lists_of_aachen(data_pack: Callable[[str], Path], tmp_path: Path) -> None:
    """Every line of the benchmark's own lists, and the conditions of its queries."""
    pack = data_pack("gt_formats")
    counts = {
        "aachen/day_time_queries_with_intrinsics.txt": 824,
        "aachen/night_time_queries_with_intrinsics.txt": 98,
        "aachen/db_with_intrinsics.txt": 4479,
        "aachen_v1.1/night_time_queries_with_intrinsics.txt": 191,
        "aachen_v1.1/db_with_intrinsics.txt": 4328,
        "aachen_v1.1/sequences_with_intrinsics.txt": 2369,
    }
    scenes = {name: read_query_list(pack / name, tmp_path) for name in counts}
    assert {name: len(scene.records) for name, scene in scenes.items()} == counts
    assert all(len(scene.cameras) == len(scene.records) for scene in scenes.values())


def test_real_retrieved_pairs_of_aachen(data_pack: Callable[[str], Path], tmp_path: Path) -> None:
    """50 retrieved images of each image below ``query``, of which 25 are in no list of queries."""
    pack = data_pack("gt_formats")
    path = tmp_path / "pairs.txt"
    path.write_bytes(gzip.decompress((pack / "aachen_v1.1" / "pairs-query-netvlad50.txt.gz").read_bytes()))
    pairs = read_pairs(path)
    assert len(pairs) == 52000  # the last line has no end
    lists = ("aachen/day_time_queries_with_intrinsics.txt", "aachen_v1.1/night_time_queries_with_intrinsics.txt")
    asked = {name for part in lists for name in read_query_list(pack / part, tmp_path).records}
    assert asked <= {pair.query for pair in pairs}
    assert len({pair.query for pair in pairs} - asked) == 25


def test_real_aachen_with_a_model_of_poses(data_pack: Callable[[str], Path], tmp_path: Path) -> None:
    """The real lists with an NVM model of invented poses: 6,697 map images, 824 queries by day and 191 by night."""
    pack = data_pack("gt_formats")
    (tmp_path / "queries").mkdir()
    (tmp_path / "3D-models" / "aachen_v_1_1").mkdir(parents=True)
    shutil.copy(pack / "aachen" / "day_time_queries_with_intrinsics.txt", tmp_path / "queries")
    shutil.copy(pack / "aachen_v1.1" / "night_time_queries_with_intrinsics.txt", tmp_path / "queries")
    names = []
    for part in ("db", "sequences"):
        path = Path(shutil.copy(pack / "aachen_v1.1" / f"{part}_with_intrinsics.txt", tmp_path / "queries"))
        names += [line.split()[0] for line in path.read_text().splitlines()]
    rows = [f"{name} 1 1 0 0 0 {number} 0 0 0 0" for number, name in enumerate(names)]
    (tmp_path / "3D-models" / "aachen_v_1_1" / "aachen.nvm").write_text(
        "\n".join(["NVM_V3", str(len(rows)), *rows, "0"])
    )
    packed = (pack / "aachen_v1.1" / "image_pairs_to_match_v1_1.txt.gz").read_bytes()
    (tmp_path / "image_pairs_to_match_v1_1.txt").write_bytes(gzip.decompress(packed))
    assert len(read_pairs(tmp_path / "image_pairs_to_match_v1_1.txt")) == 60424
    found = read_localization_set("auto", tmp_path)
    assert (found.name, len(found.mapping.records)) == ("aachen-v1.1", 6697)
    assert found.map_pairs is not None
    assert len(found.map_pairs) == (60424 - 191 * 20) // 2  # both orders of each, and 20 images of each night query
    assert len({frozenset(pair) for pair in found.map_pairs}) == len(found.map_pairs)
    assert {condition: len(queries) for condition, queries in found.conditions.items()} == {"day": 824, "night": 191}


def test_real_samples_of_kapture(data_pack: Callable[[str], Path]) -> None:
    """Every dataset among kapture's own samples, with its rigs."""
    pack = data_pack("gt_formats")
    counts = {}
    for path in pack.rglob("sensors.txt"):
        scene = read_scene(path.parent.parent)
        counts[path.parent.parent.relative_to(pack).as_posix()] = (len(scene.records), len(scene.poses))
    assert counts == {
        "kapture_aachen_sample/kapture/training": (3, 3),
        "kapture_aachen_sample/kapture/query": (4, 0),
        "kapture_7scenes/kapture/stairs/both": (12, 12),
        "kapture_7scenes/kapture/stairs/mapping": (6, 6),
        "kapture_7scenes/kapture/stairs/query": (6, 6),
        "kapture_7scenes/kapture/stairs/seq-01": (3, 3),
    }


def test_real_sample_of_kapture(data_pack: Callable[[str], Path]) -> None:
    """kapture's own sample of Aachen has another folder name, and queries by day alone: its scenes are read."""
    pack = data_pack("gt_formats") / "kapture_aachen_sample" / "kapture"
    mapping = read_scene(pack / "training", need_poses=True, need_cameras=True)
    query = read_scene(pack / "query", need_cameras=True)
    assert (mapping.names, len(query.names)) == (["db/1045.jpg", "db/1135.jpg", "db/4446.jpg"], 4)
    assert mapping.camera("db/1045.jpg").params == (1084.59, 800, 533.5, -0.0810989)
    with pytest.raises(DataError, match=r"mapping of Aachen Day-Night v1\.1 is not there"):
        read_localization_set("auto", pack)
