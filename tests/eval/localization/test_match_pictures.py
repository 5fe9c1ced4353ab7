"""Pictures of matches: the map image that agrees best, lines that end where the keypoints are, and their colours."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.data.images import decode_image
from gloam.data.scene import Camera, Pose, Scene
from gloam.errors import UsageError
from gloam.eval.localization import match_pictures as module
from gloam.eval.localization.match_pictures import (
    GAP,
    INLIER,
    LINE,
    LINES,
    OUTLIER,
    SIDE,
    UNUSED,
    MatchedPair,
    best_pair,
    draw_pair,
    write_match_pictures,
)
from gloam.eval.localization.request import LocalizeRequest
from gloam.runtime.localization.colmap import Triangulation
from gloam.runtime.localization.maps.mapping import PairMatcher, build_map
from gloam.runtime.models.local_features import LocalFeatures
from tests.runtime.localization.exact_world import CAMERA, MAP, POSES, matcher, put, scenes


def world_of(given: PairMatcher, *names: str) -> Triangulation:
    return build_map(given, list(itertools.combinations(names, 2)))


def test_the_best_image_is_that_of_most_inliers(tmp_path: Path) -> None:
    given = matcher(tmp_path)
    world, pose = world_of(given, *MAP[:3]), POSES["q.png"]
    counts = {}
    for name in MAP:
        pair = best_pair(given, "q.png", [name], world, pose, 1.0)
        assert pair is not None
        points = world.observed[name][pair.matches[:, 1]] if name in world.observed else np.full(len(pair.matches), -1)
        assert pair.seen.tolist() == (points >= 0).tolist()
        assert pair.agree.tolist() == pair.seen.tolist()  # the world is exact
        counts[name] = int(pair.agree.sum())
    assert counts["c.png"] == 0  # no part of this map
    best = best_pair(given, "q.png", MAP, world, pose, 1.0)
    assert best is not None
    assert counts[best.other] == max(counts.values())
    assert best_pair(given, "q.png", [], world, pose, 1.0) is None
    for unposed in (best_pair(given, "q.png", MAP, world, None, 1.0), best_pair(given, "q.png", MAP, None, pose, 1.0)):
        assert unposed is not None
        assert not unposed.agree.any()
        assert len(unposed.matches) == max(len(given.matches("q.png", name)) for name in MAP)


def test_what_the_pose_puts_elsewhere_is_no_inlier(tmp_path: Path) -> None:
    given = matcher(tmp_path)
    world = world_of(given, *MAP)
    x, y, z = POSES["q.png"].translation
    moved = Pose(POSES["q.png"].quaternion, (x, y, z + 1.0))  # points near the middle stay where they are
    pair = best_pair(given, "q.png", ["m.png"], world, moved, 8.0)
    assert pair is not None
    assert 0 < pair.agree.sum() < pair.seen.sum()
    keypoints = given.features("q.png").keypoints[pair.matches[:, 0]]
    off = np.linalg.norm(keypoints - [320, 240], axis=1)
    assert off[pair.agree].max() < off[pair.seen].max()
    behind = Pose(POSES["q.png"].quaternion, (x, y, z - 99))
    nothing = best_pair(given, "q.png", ["m.png"], world, behind, 8.0)
    assert nothing is not None
    assert not nothing.agree.any()


class Placed:
    """Keypoints at given places, counted from an origin."""

    def __init__(self, places: dict[str, list[tuple[float, float]]], origin: float = 0.5) -> None:
        self.places, self.origin = places, origin

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        points = np.float32(self.places[name]).reshape(-1, 2)
        return LocalFeatures(
            points,
            np.ones(len(points), np.float32),
            np.eye(len(points), 8, dtype=np.float32),
            (1, 1),
            origin=self.origin,
        )

    def key(self, scene: Scene, name: str) -> str:
        return name


def pair_of(count: int, seen: list[bool], agree: list[bool]) -> MatchedPair:
    matches = np.stack([np.arange(count)] * 2, 1).astype(np.uint32)
    return MatchedPair("q.png", "m.png", matches, np.array(seen, bool), np.array(agree, bool))


@pytest.mark.parametrize("origin", [0.0, 0.5])
def test_lines_end_at_the_keypoints_in_the_colour_of_their_kind(tmp_path: Path, origin: float) -> None:
    left = np.float32([(40, 50), (60, 150), (80, 300)])
    right = np.float32([(500, 60), (400, 200), (300, 400)])
    source = Placed({"q.png": (left + origin).tolist(), "m.png": (right + origin).tolist()}, origin)
    given = PairMatcher(source, *scenes(tmp_path))
    for scene, name in ((given.query, "q.png"), (given.mapping, "m.png")):
        put(scene, name, (640, 480), orientation=6)  # which would turn the picture
    picture = draw_pair(given, pair_of(3, [True, True, False], [True, False, False]), "a remark")
    assert (picture.shape, picture.dtype) == ((480 + 3 * LINE, 640 + GAP + 640, 3), np.uint8)
    assert (picture[:480, 640 : 640 + GAP, 1] == 255).mean() > 0.9
    for row, (colour, faint) in enumerate(((INLIER, 1.0), (OUTLIER, 0.4), (UNUSED, 0.4))):
        a, b = left[row], right[row] + [640 + GAP, 0]
        for share in (0.0, 0.3, 0.7, 1.0):
            x, y = np.round(a + share * (b - a)).astype(int)
            near = picture[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).astype(int)
            assert np.abs(near - np.multiply(colour, faint)).max(axis=1).min() < 50, (row, share)
    x, y = left[0].astype(int)
    np.testing.assert_array_equal(picture[y, x], INLIER)
    assert picture[int(left[1][1]) - 12, int(left[1][0])].max() == 0  # beside the lines the image is as it was
    caption = picture[480:]
    assert all((caption[LINE * row : LINE * (row + 1)] < 128).any() for row in range(3))
    plain = draw_pair(given, pair_of(3, [True, True, False], [True, False, False]))
    assert (plain[480 + 2 * LINE :] == 255).all()


def test_names_stand_under_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = PairMatcher(Placed({"q.png": [(9.0, 9.0)], "m.png": [(9.0, 9.0)]}), *scenes(tmp_path))
    said = {}
    monkeypatch.setattr(module, "_caption", lambda canvas, text, at, width: said.update({text: (at, width)}))
    draw_pair(given, pair_of(1, [True], [True]), "remark")
    assert said["q.png"] == ((0, 480), 640)
    assert said["m.png"] == ((640 + GAP, 480), 640)
    assert said["remark"] == ((0, 480 + 2 * LINE), 640 + GAP + 640)


def test_large_images_are_reduced_and_keypoints_with_them(tmp_path: Path) -> None:
    camera = Camera("PINHOLE", 2000, 1000, (1500.0, 1500.0, 1000.0, 500.0))
    places = [(1000.0, 500.0)]
    given = PairMatcher(Placed({"q.png": [(320.0, 240.0)], "m.png": places}), *scenes(tmp_path, camera=camera))
    put(given.query, "q.png", (640, 480))
    put(given.mapping, "m.png", (2000, 1000))
    picture = draw_pair(given, pair_of(1, [True], [True]))
    assert picture.shape == (480 + 3 * LINE, 640 + GAP + SIDE, 3)
    np.testing.assert_array_equal(picture[200, 640 + GAP + 400], INLIER)  # the middle of 800x400
    np.testing.assert_array_equal(picture[240, 320], INLIER)


def test_many_lines_are_thinned_and_an_absent_image_is_grey(tmp_path: Path) -> None:
    count = 4 * LINES
    places = [(20 + number % 600, 20 + 440 * number / count) for number in range(count)]
    given = PairMatcher(Placed({"q.png": places, "m.png": places}), *scenes(tmp_path))
    every = pair_of(count, [True] * count, [True] * count)
    picture = draw_pair(given, every)
    column = picture[:480, 640 + GAP // 2]  # between the images, where lines alone are
    assert 0.1 < (column[:, 0] < 200).mean() < 0.7
    nothing = draw_pair(given, pair_of(0, [], []))
    assert (nothing[:480, :640] == 128).all()


def test_pictures_of_queries_are_evenly_chosen_and_earlier_ones_go(tmp_path: Path) -> None:
    given = matcher(tmp_path)
    (tmp_path / "out" / "old").mkdir(parents=True)
    (tmp_path / "out" / "old" / "x.png").write_bytes(b"of an earlier run")
    world = world_of(given, *MAP)
    names = [f"{number}/{letter}.jpg" for number, letter in enumerate("vwxyz")]
    for name in names:
        given.query.records[name] = given.query.records["q.png"]
    given.source = type(
        "Alias",
        (),
        {  # type: ignore[assignment]  # as much as is needed
            "features": lambda own, scene, name: matcher(tmp_path).source.features(
                scene, "q.png" if name in names else name
            ),
            "key": lambda own, scene, name: name,
        },
    )()
    asked: dict[str, Any] = {
        "retrieved": {**dict.fromkeys(reversed(names), MAP), "none.jpg": []},
        "poses": {names[0]: POSES["q.png"]},
        "world_of": lambda name: world,
        "max_error": 2.0,
        "remarks": {names[0]: "this one"},
    }
    for count, expected in ((2, [0, 4]), (3, [0, 2, 4]), (9, [0, 1, 2, 3, 4]), (None, [0, 1, 2, 3, 4]), (1, [0])):
        written = write_match_pictures(tmp_path / "out", given, **asked, count=count, workers=2)
        assert written == [tmp_path / "out" / f"{names[row]}.png" for row in expected]
        assert sorted((tmp_path / "out").rglob("*.png")) == written
    picture = decode_image(written[0])
    assert picture.shape[1] == 2 * CAMERA.width + GAP
    assert (picture == INLIER).all(axis=2).any()
    drawn = {}
    for remarks in (None, {}, {names[0]: "this one"}, {names[4]: "that one"}):
        write_match_pictures(tmp_path / "out", given, **{**asked, "remarks": remarks}, count=1)
        drawn[str(remarks)] = written[0].read_bytes()
    assert len(set(drawn.values())) == 2  # with the remark of this query, and without
    write_match_pictures(tmp_path / "out", given, **{**asked, "poses": {}}, count=1)
    assert not (decode_image(written[0]) == INLIER).all(axis=2).any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": ("top1",)}, "--match-pictures draws the matches of methods 2a and 2b"),
        ({"match_pictures": -1}, "--match-pictures must be 0 or more, or 'all'"),
    ],
)
def test_pictures_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    plain: dict[str, Any] = {"mapping": Path("m"), "query": Path("q"), "output": Path("o"), "pairs": Path("p")}
    LocalizeRequest(**plain, match_pictures="all")
    with pytest.raises(UsageError, match=message):
        LocalizeRequest(**{**plain, "match_pictures": 3, **given})
