"""Matches, pairs and poses of a made-up world: keys know all they depend on, and sizes meet their cameras."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gloam.data.scene import Pose, Record, Scene
from gloam.errors import DataError
from gloam.eval.localization.benchmark import run_localization
from gloam.runtime.localization import mapping
from gloam.runtime.localization.features import LocalFeatures
from gloam.runtime.localization.mapping import PairMatcher, build_map, pairs_by_pose
from gloam.runtime.localization.pose import localize_locally
from tests.damage import named_or_harmless
from tests.runtime.localization.exact_world import CAMERA, MAP, POSES, Projected, matcher, put, scenes


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
