"""Matches, pairs and poses of a made-up world: keys know all they depend on, and sizes meet their cameras."""

from __future__ import annotations

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.data.kapture_io import write_scene
from gloam.data.scene import Camera, Pose, Record, Scene, position_error
from gloam.errors import DataError
from gloam.eval.localization.benchmark import run_localization
from gloam.runtime.localization import mapping
from gloam.runtime.localization.features import LocalFeatures
from gloam.runtime.localization.mapping import PairMatcher, build_map, pairs_by_pose
from gloam.runtime.localization.pose import localize_locally, localize_on_map
from tests.damage import named_or_harmless

CAMERA = Camera("PINHOLE", 640, 480, (500.0, 510.0, 320.0, 240.0))
POINTS = np.random.default_rng(2).uniform([-2, -1.5, 5], [2, 1.5, 9], (120, 3))
WORDS = np.random.default_rng(3).normal(size=(120, 32))
WORDS = (WORDS / np.linalg.norm(WORDS, axis=1, keepdims=True)).astype(np.float32)
POSES = {
    f"{name}.png": Pose.from_matrix(
        Pose((1.0, 0.02 * n, -0.03 * n, 0.01), (0, 0, 0)).rotation, (0.6 * n - 1, 0.1 * n, 0)
    )
    for n, name in enumerate("mabcq")
}
MAP = ["m.png", "a.png", "b.png", "c.png"]


class Projected:
    """Each image sees every point where the true geometry puts it, in an order of its own."""

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        order = np.random.default_rng(ord(name[0])).permutation(len(POINTS))
        local = POSES[name].transform(POINTS[order])
        pixels = local[:, :2] / local[:, 2:] * np.array(CAMERA.params[:2]) + np.array(CAMERA.params[2:])
        inside = ((pixels > 0) & (pixels < [640, 480])).all(axis=1)
        return LocalFeatures(pixels[inside].astype(np.float32), WORDS[order[inside]])

    def key(self, scene: Scene, name: str) -> str:
        return f"projected {name}"


def scenes(root: Path, poses: dict[str, Pose] | None = None, camera: Camera = CAMERA) -> tuple[Scene, Scene]:
    records = {name: Record("c", n) for n, name in enumerate(MAP)}
    known = {name: (poses or POSES)[name] for name in MAP}
    return (
        Scene(root / "m", {"c": camera}, records, known),
        Scene(root / "q", {"c": CAMERA}, {"q.png": Record("c", 9)}, {}),
    )


def matcher(root: Path, cache: Path | None = None, **changed: object) -> PairMatcher:
    return PairMatcher(Projected(), *scenes(root, **changed), cache=cache)  # type: ignore[arg-type]  # mixed


def put(scene: Scene, name: str, size: tuple[int, int], orientation: int = 1) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene.image_path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(scene.image_path(name), exif=exif)


def test_an_image_of_another_size_than_its_camera_is_refused_where_intrinsics_are_used(tmp_path: Path) -> None:
    given = matcher(tmp_path)
    put(given.mapping, "a.png", (320, 240))
    message = r"a\.png: the image is 320x240 but its camera in sensors\.txt is 640x480; give the image at that size"
    for use in (
        lambda: given.matches("m.png", "a.png"),
        lambda: build_map(given, [("m.png", "a.png")]),
        lambda: localize_locally(given, "q.png", MAP),
    ):
        with pytest.raises(DataError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)
    put(given.query, "q.png", (480, 640))
    with pytest.raises(DataError, match=r"q\.png: the image is 480x640 but"):
        run_localization(given.mapping, given.query, {"q.png": ["m.png"]}, Projected(), ["2a"])
    put(given.mapping, "a.png", (640, 480), orientation=6)  # upright it is 480x640: intrinsics are of what is stored
    assert given.camera("a.png") == CAMERA


def test_keypoints_beyond_the_camera_are_refused(tmp_path: Path) -> None:
    class Turned(Projected):
        def features(self, scene: Scene, name: str) -> LocalFeatures:
            found = super().features(scene, name)
            return dataclasses.replace(found, keypoints=found.keypoints[:, ::-1] + np.float32([0, 200]))

    given = PairMatcher(Turned(), *scenes(tmp_path))
    with pytest.raises(DataError, match=r"image 'a\.png': a keypoint at .* lies outside its camera's 640x480"):
        given.features("a.png")


def test_matches_come_in_the_order_asked_for_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = matcher(tmp_path, tmp_path / "cache")
    forward, backward = given.matches("a.png", "m.png"), given.matches("m.png", "a.png")
    np.testing.assert_array_equal(forward, backward[:, ::-1])
    a, m = given.features("a.png"), given.features("m.png")
    assert len(forward) > 60
    np.testing.assert_array_equal(a.descriptors[forward[:, 0]], m.descriptors[forward[:, 1]])
    with ThreadPoolExecutor(2) as pool:
        given.match_all([("m.png", "a.png"), ("a.png", "m.png"), ("a.png", "a.png")], pool)
    assert sorted(given._matches) == [("a.png", "m.png")]
    assert len(list((tmp_path / "cache" / "features").rglob("*.npz"))) == 2
    monkeypatch.setattr(Projected, "features", None)
    monkeypatch.setattr(mapping, "match_mutual", None)
    again = matcher(tmp_path, tmp_path / "cache")
    np.testing.assert_array_equal(again.matches("a.png", "m.png"), forward)
    np.testing.assert_array_equal(again.features("a.png").keypoints, a.keypoints)


def test_what_is_kept_and_damaged_or_anothers_is_computed_again(tmp_path: Path) -> None:
    expected = matcher(tmp_path, tmp_path / "cache").matches("a.png", "m.png")
    kept = sorted((tmp_path / "cache").rglob("*.npz"))
    assert len(kept) == 3

    def read() -> object:
        given = matcher(tmp_path, tmp_path / "cache")
        return given.matches("a.png", "m.png").tobytes(), [
            given.features(name).keypoints.tobytes() for name in ("a.png", "m.png")
        ]

    first, second = (path for path in kept if path.parent.parent.name == "features")
    for path in kept:
        assert named_or_harmless(path, read, 6) == 0
    content = first.read_bytes(), second.read_bytes()
    first.write_bytes(content[1])
    second.write_bytes(content[0])
    np.testing.assert_array_equal(np.frombuffer(read()[0], np.uint32).reshape(-1, 2), expected)  # type: ignore[index]  # a tuple
    assert (first.read_bytes(), second.read_bytes()) == content


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"ratio": 0.8},
        {"camera": dataclasses.replace(CAMERA, params=(505.0, 510.0, 320.0, 240.0))},
        {
            "poses": POSES
            | {"a.png": Pose.from_matrix(Pose((1, 0, 0.1, 0), (0, 0, 0)).rotation, POSES["a.png"].translation)}
        },
        {"poses": POSES | {"a.png": dataclasses.replace(POSES["a.png"], translation=(9.0, 0.0, 0.0))}},
    ],
    ids=["seed", "ratio", "intrinsics", "rotation", "translation"],
)
def test_kept_matches_depend_on(tmp_path: Path, change: dict[str, object]) -> None:
    cache = tmp_path / "cache"
    matcher(tmp_path, cache).matches("a.png", "m.png")
    fields = {key: change[key] for key in ("seed", "ratio") if key in change}
    geometry = {key: value for key, value in change.items() if key not in fields}
    other = dataclasses.replace(matcher(tmp_path, cache, **geometry), **fields)  # type: ignore[arg-type]  # mixed
    other.matches("a.png", "m.png")
    assert len(list((cache / "matches").rglob("*.npz"))) == 2


def moved_world() -> dict[str, Pose]:
    """The same camera centres' translations, all rotated by one turn of the world about the origin."""
    turn = Pose((0.95, 0.0, 0.31, 0.0), (0.0, 0.0, 0.0)).rotation
    return {name: Pose.from_matrix(pose.rotation @ turn, pose.translation) for name, pose in POSES.items()}


@pytest.mark.parametrize("method", ["2a", "2b"])
@pytest.mark.parametrize("change", ["rotations", "intrinsics"])
def test_a_used_workspace_gives_the_poses_of_a_fresh_one(tmp_path: Path, method: str, change: str) -> None:
    altered = {
        "rotations": {"poses": moved_world()},
        "intrinsics": {"camera": dataclasses.replace(CAMERA, params=(520.0, 530.0, 320.0, 240.0))},
    }[change]
    answers = []
    for given, workspace in (({}, "used"), (altered, "used"), (altered, "fresh")):
        world, query = scenes(tmp_path, **given)  # type: ignore[arg-type]  # mixed
        found = run_localization(
            world,
            query,
            {"q.png": MAP},
            Projected(),
            [method],
            workspace=tmp_path / workspace,
            workers=1,
            map_pairs=list(itertools.combinations(MAP, 2)),
        )
        answers.append(found.poses[method]["q.png"])
    first, used, fresh = answers
    assert first is not None
    assert position_error(first, POSES["q.png"]) < 1e-2
    assert used == fresh
    assert used != first


def test_a_pose_uses_every_point_once_and_the_first_too(tmp_path: Path) -> None:
    given = matcher(tmp_path)
    world = build_map(given, list(itertools.combinations(MAP[:3], 2)))
    assert (world.observed["m.png"] == 0).any() or (world.observed["a.png"] == 0).any()
    found = localize_on_map(given, "q.png", ["c.png", *MAP[:3]], world)  # c is not of the map: passed over
    assert found.pose is not None
    assert position_error(found.pose, POSES["q.png"]) < 1e-2
    pairs = {
        (int(row), int(point))
        for name in MAP[:3]
        for row, column in given.matches("q.png", name)
        if (point := world.observed[name][column]) >= 0
    }
    assert found.correspondences == len(pairs)
    again = localize_on_map(given, "q.png", MAP[:3] * 2, world)
    assert again == found
    assert localize_on_map(given, "q.png", [], world).pose is None
    assert (localize_on_map(given, "q.png", [], world).inliers, localize_locally(given, "q.png", MAP[:1]).inliers) == (
        0,
        0,
    )


def test_a_mini_map_takes_two_images_or_none(tmp_path: Path) -> None:
    given = matcher(tmp_path)
    assert localize_locally(given, "q.png", ["m.png"]).pose is None
    assert localize_locally(given, "q.png", ["m.png", "m.png"]).pose is None
    found = localize_locally(given, "q.png", ["m.png", "a.png"])
    assert found.pose is not None
    assert position_error(found.pose, POSES["q.png"]) < 1e-2


def line(*places: tuple[float, float]) -> Scene:
    """Images along x, each turned about y by some degrees."""
    made = Scene(Path("nowhere"))
    for row, (x, degrees) in enumerate(places):
        half = np.radians(degrees) / 2
        rotation = Pose((float(np.cos(half)), 0.0, float(np.sin(half)), 0.0), (0.0, 0.0, 0.0)).rotation
        made.records[f"{row}"] = Record("c", row)
        made.poses[f"{row}"] = Pose.from_matrix(rotation, -rotation @ np.array([x, 0, 0]))
    return made


def test_neighbours_are_near_and_look_alike() -> None:
    given = line((0, 0), (1, 0), (2.5, 0), (14, 50), (31, 0))
    assert pairs_by_pose(given) == [("0", "1"), ("0", "2"), ("0", "3"), ("1", "2"), ("1", "3"), ("2", "3")]
    assert pairs_by_pose(given, max_angle=45) == [("0", "1"), ("0", "2"), ("1", "2")]
    assert pairs_by_pose(given, k=1) == [("0", "1"), ("1", "2"), ("2", "3")]
    assert pairs_by_pose(line((0, 0), (16, 0))) == []
    assert pairs_by_pose(line((0, 0), (1, 61))) == []
    del given.poses["1"]
    assert pairs_by_pose(given, max_angle=45) == [("0", "2")]


def test_poses_of_an_earlier_scene_do_not_stay(tmp_path: Path) -> None:
    world = scenes(tmp_path)[0]
    write_scene(world)
    assert (tmp_path / "m" / "sensors" / "trajectories.txt").is_file()
    write_scene(dataclasses.replace(world, poses={}))
    assert not (tmp_path / "m" / "sensors" / "trajectories.txt").exists()
    write_scene(dataclasses.replace(world, poses={"unrecorded.png": POSES["q.png"]}))
    assert not (tmp_path / "m" / "sensors" / "trajectories.txt").exists()
