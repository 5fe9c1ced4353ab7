"""Matches, pairs and poses of a made-up world: keys know all they depend on, and sizes meet their cameras."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from gloam.data.hloc_io import HlocFeatureFile, ImageFeatures, write_hloc_features
from gloam.data.npz import read_npz, write_npz
from gloam.data.scene import Pose, Record, Scene
from gloam.errors import DataError, IncompatibleError
from gloam.eval.localization.benchmark import run_localization
from gloam.runtime.localization.features.sources import to_arrays
from gloam.runtime.localization.features.stored import HlocFeatures
from gloam.runtime.localization.maps import mapping
from gloam.runtime.localization.maps.colmap_model import read_colmap_model
from gloam.runtime.localization.maps.map_pairs import pairs_by_pose
from gloam.runtime.localization.maps.mapping import PairMatcher, build_map, own_points
from gloam.runtime.localization.matches import pair_stage
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.localization.matches.pair_stage import expect_inside, expect_size, stored_size_of
from gloam.runtime.localization.pose import localize_locally
from gloam.runtime.models.local_features import LocalFeatures
from gloam.runtime.models.matcher import Matcher
from tests.damage import named_or_harmless
from tests.runtime.localization.bright_points import DIMENSION, NearestModel
from tests.runtime.localization.colmap_files import write_text_model
from tests.runtime.localization.exact_world import (
    CAMERA,
    MAP,
    POINTS,
    POSES,
    Projected,
    matcher,
    put,
    scenes,
    seen,
    true_matches,
)


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
    assert len(list((tmp_path / "cache" / "matches").rglob("*.npz"))) == 1
    assert len(list((tmp_path / "cache" / "features").rglob("*.npz"))) == 2
    monkeypatch.setattr(Projected, "features", None)
    monkeypatch.setattr(MutualMatcher, "match_pairs", None)
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


def key_of_matches(given: PairMatcher, first: str = "a.png", second: str = "m.png") -> str:
    """The key that matches are kept by: the name of their file."""
    given.cache = given.mapping.root / "cache" / str(len(list(given.mapping.root.glob("cache/*"))))
    given.matches(first, second)
    (kept,) = (given.cache / "matches").rglob("*.npz")
    assert kept.parent.name == kept.stem[:2]
    return kept.stem


def altered(given: PairMatcher, **changed: object) -> PairMatcher:
    """The matcher with other fields, and nothing kept in memory."""
    return dataclasses.replace(given, **changed)  # type: ignore[arg-type]  # mixed


def other_camera(scene: Scene, name: str, **changed: object) -> Scene:
    """The scene with a camera of its own for one image."""
    cameras = scene.cameras | {"own": dataclasses.replace(CAMERA, **changed)}  # type: ignore[arg-type]  # mixed
    return dataclasses.replace(scene, cameras=cameras, records=scene.records | {name: Record("own", 77)})


def other_pose(scene: Scene, name: str, pose: Pose) -> Scene:
    return dataclasses.replace(scene, poses=scene.poses | {name: pose})


class Renamed(Projected):
    """The same features under another key for one image."""

    def __init__(self, name: str) -> None:
        self.name = name

    def key(self, scene: Scene, name: str) -> str:
        return super().key(scene, name) + (", other" if name == self.name else "")


A, M = POSES["a.png"], POSES["m.png"]
MAP_CHANGES = {
    "seed": lambda given: altered(given, seed=1),
    "ratio": lambda given: altered(given, rule=MutualMatcher(0.8)),
    "features of the first": lambda given: altered(given, source=Renamed("a.png")),
    "features of the second": lambda given: altered(given, source=Renamed("m.png")),
    **{
        f"{field} of {name}": lambda given, name=name, field=field, value=value: altered(
            given, mapping=other_camera(given.mapping, name, **{field: value})
        )
        for name in ("a.png", "m.png")
        for field, value in (("width", 641), ("height", 481), ("params", (505.0, 510.0, 320.0, 240.0)))
    },
    "camera model": lambda given: altered(
        given, mapping=other_camera(given.mapping, "a.png", model="SIMPLE_RADIAL", params=(500.0, 320.0, 240.0, 0.0))
    ),
    **{
        f"{field} of {name}": lambda given, name=name, field=field, value=value: altered(
            given,
            mapping=other_pose(given.mapping, name, dataclasses.replace(given.mapping.poses[name], **{field: value})),
        )
        for name in ("a.png", "m.png")
        for field, value in (("quaternion", (1.0, 0.0, 0.1, 0.0)), ("translation", (9.0, 0.0, 0.0)))
    },
    "no pose": lambda given: altered(given, mapping=dataclasses.replace(given.mapping, poses={"m.png": M})),
}
MAP_KEY = "b4379df25eb6928a950609fbbfbce7b86b9447a1e46728d25f282a4cdabf2071"
QUERY_KEY = "947c32e1c99bbb7c11372cdb7d83080771fde06ec5d4b5933efbeff064a67906"


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PairMatcher:
    """A matcher under a solver of a fixed name."""
    monkeypatch.setattr(mapping, "solver_version", lambda: "solver 1")
    return matcher(tmp_path)


def test_every_part_of_the_key_of_matches_changes_it(given: PairMatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {what: key_of_matches(change(given)) for what, change in MAP_CHANGES.items()}
    keys["nothing"] = key_of_matches(altered(given))
    monkeypatch.setattr(mapping, "solver_version", lambda: "solver 2")
    keys["solver"] = key_of_matches(altered(given))
    shared = {key: [what for what in keys if keys[what] == key] for key in keys.values()}
    assert [names for names in shared.values() if len(names) > 1] == []


def test_matches_are_found_again_under_the_key_of_given_content(given: PairMatcher) -> None:
    """What an earlier run kept stays of use, and nothing that does not belong to a pair is in its key."""
    assert key_of_matches(given) == MAP_KEY
    assert key_of_matches(altered(given), "m.png", "a.png") == MAP_KEY
    assert key_of_matches(altered(given), "q.png", "m.png") == QUERY_KEY
    more = dataclasses.replace(given.mapping, records=given.mapping.records | {"z.png": Record("c", 50)})
    elsewhere = other_pose(other_camera(more, "b.png", width=999), "c.png", M)
    assert (
        key_of_matches(altered(given, mapping=elsewhere, query=dataclasses.replace(given.query, records={}))) == MAP_KEY
    )
    assert key_of_matches(altered(given, mapping=other_pose(given.mapping, "m.png", A)), "q.png", "m.png") == QUERY_KEY


@pytest.mark.parametrize("pair", list(itertools.permutations(("m.png", "b.png", "q.png"), 2)))
def test_verified_matches_are_the_true_ones_both_ways(tmp_path: Path, pair: tuple[str, str]) -> None:
    found = matcher(tmp_path).matches(*pair)
    assert sorted(found.tolist()) == true_matches(*pair)
    assert len(found) > 40
    assert found.dtype == np.uint32


def test_an_image_has_no_matches_with_itself(tmp_path: Path) -> None:
    assert matcher(tmp_path).matches("a.png", "a.png").shape == (0, 2)  # no baseline, so nothing to verify by


class Confused(Projected):
    """Some points of one image look like others."""

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        found = super().features(scene, name)
        if name != "b.png":
            return found
        return dataclasses.replace(found, descriptors=np.roll(found.descriptors, 1, axis=0))


def test_a_querys_matches_may_stay_raw_and_are_kept_apart(tmp_path: Path) -> None:
    given = altered(matcher(tmp_path), source=Confused())
    raw = altered(given, verify_queries=False)
    assert len(raw.matches("b.png", "q.png")) > 40 > len(given.matches("b.png", "q.png"))
    np.testing.assert_array_equal(raw.matches("b.png", "m.png"), given.matches("b.png", "m.png"))  # known poses
    assert key_of_matches(altered(raw), "q.png", "m.png") != key_of_matches(altered(given), "q.png", "m.png")
    assert key_of_matches(altered(raw)) == key_of_matches(altered(given))


@pytest.mark.parametrize("other", ["m.png", "q.png"])
def test_wrong_matches_are_not_verified(tmp_path: Path, other: str) -> None:
    given = altered(matcher(tmp_path), source=Confused())
    assert len(given.matches("b.png", other)) < len(true_matches("b.png", other)) / 3


def test_matching_and_verification_get_what_belongs_to_the_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = np.array([[0, 1]], np.uint32)
    asked: list[tuple[object, ...]] = []

    class Noted(MutualMatcher):
        def match_pairs(self, pairs: Any) -> Any:
            asked.extend(("matched", *pair) for pair in pairs)
            return [(raw, np.ones(1, np.float32))] * len(pairs)

    given = altered(matcher(tmp_path), rule=Noted(), seed=5)
    given.mapping = other_camera(given.mapping, "a.png", params=(501.0, 510.0, 320.0, 240.0))
    a, m, q = (given.features(name) for name in ("a.png", "m.png", "q.png"))

    def note(name: str) -> Callable[..., np.ndarray]:
        def noted(*arguments: object, **named: object) -> np.ndarray:
            asked.append((name, *arguments, *named.items()))
            return raw

        return noted

    for name in ("verify_by_pose", "verify_matches"):
        monkeypatch.setattr(mapping, name, note(name))
    given.matches("m.png", "a.png")
    given.matches("q.png", "a.png")
    own = dataclasses.replace(CAMERA, params=(501.0, 510.0, 320.0, 240.0))
    expected = [
        ("matched", a, m),
        ("verify_by_pose", own, A, a.keypoints, CAMERA, M, m.keypoints, raw),
        ("matched", a, q),
        ("verify_matches", own, a.keypoints, CAMERA, q.keypoints, raw, 5),
    ]
    assert len(asked) == len(expected)
    for was, wanted in zip(asked, expected, strict=True):
        assert len(was) == len(wanted)
        assert all(one is other or one == other for one, other in zip(was, wanted, strict=True))


class Words(Projected):
    """With descriptors of the length that the matcher of the tests takes."""

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        found = super().features(scene, name)
        short = found.descriptors[:, :DIMENSION]
        short = short / np.linalg.norm(short, axis=1, keepdims=True)
        return dataclasses.replace(found, descriptors=short, name="bright")


def test_a_model_matches_in_batches_one_at_a_time(tmp_path: Path) -> None:
    class Busy(NearestModel):
        now, most = 0, 0

        def run(self, inputs: Any) -> Any:
            Busy.now += 1
            Busy.most = max(Busy.most, Busy.now)
            time.sleep(0.01)
            Busy.now -= 1
            return super().run(inputs)

    session, pairs = Busy(), [*itertools.combinations(MAP, 2), ("q.png", "m.png")]
    learned, plain = (
        altered(matcher(tmp_path), source=Words(), rule=rule)
        for rule in (Matcher(session, batch_size=3), MutualMatcher())  # type: ignore[arg-type]  # as much as is needed
    )
    with ThreadPoolExecutor(4) as pool:
        learned.match_all(pairs, pool)
    assert (sorted(session.batches), Busy.most) == ([1, 3, 3], 1)
    for pair in pairs:
        np.testing.assert_array_equal(learned.matches(*pair), plain.matches(*pair))
        assert len(plain.matches(*pair)) > 30
    assert sum(session.batches) == 7  # nothing twice


def test_matches_are_kept_by_the_matcher(tmp_path: Path) -> None:
    class Another(NearestModel):
        def __init__(self) -> None:
            super().__init__()
            self.fingerprint = "n"

    rules = [
        MutualMatcher(),
        MutualMatcher(0.9),
        *(Matcher(session, min_score=least) for session in (NearestModel(), Another()) for least in (0, 0.1)),  # type: ignore[arg-type]  # as above
    ]
    keys = {key_of_matches(altered(matcher(tmp_path), source=Words(), rule=rule)) for rule in rules}
    assert len(keys) == len(rules)


def test_a_matcher_of_other_features_is_refused(tmp_path: Path) -> None:
    rule = Matcher(NearestModel("other"))  # type: ignore[arg-type]  # as above
    given = altered(matcher(tmp_path), source=Words(), rule=rule)
    with pytest.raises(IncompatibleError, match=r"^other: is for other features of 8 values, but these are bright"):
        given.matches("a.png", "m.png")


def test_features_of_two_lengths_are_refused(tmp_path: Path) -> None:
    class Short(Words):
        def features(self, scene: Scene, name: str) -> LocalFeatures:
            return (super() if name == "q.png" else super(Words, self)).features(scene, name)

    given = altered(matcher(tmp_path), source=Short())
    with pytest.raises(
        IncompatibleError, match=r"^descriptors of 32 values cannot be matched with those of 8; extract"
    ):
        given.matches("q.png", "m.png")


def test_an_image_belongs_to_one_dataset(tmp_path: Path) -> None:
    world, query = scenes(tmp_path)
    both = dataclasses.replace(query, records=query.records | {name: Record("c", 1) for name in ("m.png", "b.png")})
    with pytest.raises(DataError, match=r"^mapping and query share the image name 'b\.png'; rename one of them$"):
        PairMatcher(Projected(), world, both)
    PairMatcher(Projected(), dataclasses.replace(world, root=both.root), both)  # one dataset in two roles
    given = PairMatcher(Projected(), world, query)
    assert (given.scene_of("q.png"), given.scene_of("m.png")) == (query, world)
    with pytest.raises(DataError, match=r"^image 'x\.png' of the pair list is in neither dataset$"):
        given.scene_of("x.png")


def test_everything_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(Projected):
        asked: ClassVar[list[str]] = []

        def features(self, scene: Scene, name: str) -> LocalFeatures:
            self.asked.append(name)
            time.sleep(0.03)  # another thread would ask for it meanwhile
            return super().features(scene, name)

        def key(self, scene: Scene, name: str) -> str:
            self.asked.append(f"key of {name}")
            return super().key(scene, name)

    given = altered(matcher(tmp_path), source=Counted())
    for name in MAP:
        put(given.mapping, name, (640, 480))
    read, size = [], pair_stage.stored_size
    monkeypatch.setattr(pair_stage, "stored_size", lambda path: read.append(path.name) or size(path))
    pairs = [*itertools.permutations(MAP, 2), ("q.png", "m.png")]
    with ThreadPoolExecutor(4) as pool:
        given.match_all(pairs, pool)
        assert all((min(pair), max(pair)) in given._held for pair in pairs)
        assert len(given._held) == 5 + 7
        given.match_all(pairs, pool)
    for name in [*MAP, "q.png"]:
        given.camera(name)
        assert given.features(name) is given.features(name)
    assert sorted(Counted.asked) == sorted([*MAP, "q.png", *(f"key of {name}" for name in [*MAP, "q.png"])])
    assert sorted(read) == sorted(MAP)


def test_memory_is_what_is_stated_and_the_rest_is_read_again(tmp_path: Path) -> None:
    class Counted(Projected):
        asked: ClassVar[list[str]] = []

        def features(self, scene: Scene, name: str) -> LocalFeatures:
            self.asked.append(name)
            return super().features(scene, name)

    pairs = [*itertools.combinations(MAP, 2), *(("q.png", name) for name in MAP)]
    plain = matcher(tmp_path)
    size = pair_stage.nbytes(to_arrays(plain.features("a.png")))
    small = altered(plain, source=Counted(), cache=tmp_path / "cache", memory=2 * size)
    peak = []
    with ThreadPoolExecutor(4) as pool:
        plain.match_all(pairs, pool)
        small.match_all(pairs, pool, lambda count: peak.append((count, small._held.bytes)))
    assert [count for count, _ in peak] == [0] * 5 + [1] * len(pairs)
    assert max(held for _, held in peak) <= 2 * size < plain._held.bytes
    for pair in pairs:
        np.testing.assert_array_equal(small.matches(*pair), plain.matches(*pair))
    assert sorted(Counted.asked) == sorted([*MAP, "q.png"])  # what was dropped comes from the disk
    big, less = build_map(plain, pairs[:6]), build_map(small, pairs[:6])
    np.testing.assert_array_equal(big.points, less.points)


def test_stored_features_are_not_kept_again(tmp_path: Path) -> None:
    def images() -> Any:
        for name in (*MAP, "q.png"):
            each = Projected().features(Scene(tmp_path), name)
            yield name, ImageFeatures(each.keypoints, each.descriptors, each.scores, (640, 480))

    write_hloc_features(tmp_path / "f.h5", "made", "", images())
    source = HlocFeatures(HlocFeatureFile(tmp_path / "f.h5"))
    given = altered(matcher(tmp_path), source=source, cache=tmp_path / "cache")
    with ThreadPoolExecutor(2) as pool:
        given.match_all([("a.png", "m.png"), ("q.png", "m.png")], pool)
    assert sorted(given.matches("a.png", "m.png").tolist()) == true_matches("a.png", "m.png")
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["matches"]


def test_work_is_handed_out_by_name_features_first(tmp_path: Path) -> None:
    class Pool:
        handed: ClassVar[list[list[object]]] = []

        def map(self, function: Callable[[Any], object], items: Iterable[object]) -> Iterable[object]:
            self.handed.append(list(items))
            return map(function, self.handed[-1])

    pairs = [("q.png", "m.png"), ("m.png", "b.png"), ("c.png", "c.png"), ("a.png", "m.png"), ("m.png", "a.png")]
    matcher(tmp_path).match_all(pairs, Pool())  # type: ignore[arg-type]  # as much as is needed of one
    names, wanted = Pool.handed
    assert names == ["a.png", "b.png", "m.png", "q.png"]
    assert wanted == [[("a.png", "m.png")], [("b.png", "m.png")], [("m.png", "q.png")]]


def test_sizes_that_do_not_meet_are_named(tmp_path: Path) -> None:
    for size in ((641, 480), (640, 479)):
        with pytest.raises(DataError, match=rf"x\.png: the image is {size[0]}x{size[1]} but its camera .* is 640x480;"):
            expect_size(CAMERA, size, Path("x.png"))
    expect_size(CAMERA, (640, 480), Path("x.png"))
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"x\.png: not an image .*; restore the image, or take it out of the dataset$"):
        stored_size_of(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("x", "y", "refused"),
    [
        (-1.0, -1.0, False),
        (641.0, 481.0, False),
        (-1.01, 5.0, True),
        (641.01, 5.0, True),
        (5.0, -1.01, True),
        (5.0, 481.01, True),
        (5.0, np.nan, True),
        (np.nan, 5.0, True),
        (np.inf, 5.0, True),
    ],
)
def test_keypoints_may_lie_a_pixel_beyond_the_frame(x: float, y: float, refused: bool) -> None:
    points = np.array([[0.0, 0.0], [x, y], [640.5, 479.0]], np.float32)
    if refused:
        with pytest.raises(
            DataError, match=rf"^here: a keypoint at \({x:g}, {y:g}\) lies outside its camera's 640x480"
        ):
            expect_inside(points, CAMERA, "here")
    else:
        expect_inside(points, CAMERA, "here")
    expect_inside(points[:0], CAMERA, "here")


def test_a_map_has_the_images_of_its_pairs_or_those_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = altered(matcher(tmp_path), seed=9)
    asked = []
    monkeypatch.setattr(mapping, "triangulate", lambda *arguments: asked.append(arguments))
    build_map(given, [("m.png", "a.png"), ("a.png", "m.png"), ("b.png", "b.png"), ("b.png", "m.png")])
    build_map(given, [("m.png", "a.png")], ["c.png", "m.png", "c.png", "a.png"])
    (views, pairs, seed), (more, _, _) = asked
    assert (list(views), list(more), seed) == (["a.png", "b.png", "m.png"], ["a.png", "c.png", "m.png"], 9)
    assert list(pairs) == [("a.png", "m.png"), ("b.png", "m.png")]
    assert pairs["a.png", "m.png"] is given.matches("a.png", "m.png")
    assert (views["b.png"].camera, views["b.png"].pose) == (CAMERA, POSES["b.png"])
    np.testing.assert_array_equal(views["b.png"].keypoints, Projected().features(given.mapping, "b.png").keypoints)
    with pytest.raises(DataError, match=r"q: map image 'q\.png' has no pose in trajectories\.txt$"):
        build_map(given, [("m.png", "q.png")])


def test_a_map_of_exact_matches_has_the_true_points(tmp_path: Path) -> None:
    given = matcher(tmp_path)
    world = build_map(given, pairs_by_pose(given.mapping))
    assert world.mean_error < 1e-2
    for name in MAP:
        rows = world.observed[name]
        np.testing.assert_allclose(world.points[rows[rows >= 0]], POINTS[seen(name)[rows >= 0]], atol=2e-3)
        assert (rows >= 0).sum() > 40


def test_what_is_kept_without_all_its_parts_is_computed_again(tmp_path: Path) -> None:
    expected = matcher(tmp_path, tmp_path / "cache").matches("a.png", "m.png")
    (path,) = (tmp_path / "cache" / "matches").rglob("*.npz")
    whole = read_npz(path)
    assert set(whole) == {"matches", "key"}
    wrong = np.zeros_like(expected)
    for damaged in (
        {"matches": wrong},
        {"matches": wrong, "key": np.array("another")},
        {"matches": wrong, "key": whole["key"], "more": wrong},
        {"other": wrong, "key": whole["key"]},
    ):
        write_npz(path, damaged)
        np.testing.assert_array_equal(matcher(tmp_path, tmp_path / "cache").matches("a.png", "m.png"), expected)
        assert read_npz(path).keys() == whole.keys()


def test_points_are_a_models_own_where_every_keypoint_is(tmp_path: Path) -> None:
    model = read_colmap_model(write_text_model(tmp_path / "model"), tmp_path)
    given = PairMatcher(Projected(), model.scene, scenes(tmp_path)[1])
    assert own_points(given, model) is model.points
    for wrong in (model.keypoints["c.png"][::-1], model.keypoints["c.png"][1:]):
        other = dataclasses.replace(model, keypoints=model.keypoints | {"c.png": wrong})
        assert own_points(given, other) is None
    bare = dataclasses.replace(model, points=dataclasses.replace(model.points, points=np.zeros((0, 3))))
    assert own_points(given, bare) is None
