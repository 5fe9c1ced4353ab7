"""Features and matches are computed once, kept by content and held in stated memory; sizes meet their cameras."""

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
from gloam.data.scene import Scene
from gloam.errors import DataError
from gloam.eval.localization.benchmark import run_localization
from gloam.runtime.localization.features.sources import to_arrays
from gloam.runtime.localization.features.stored import HlocFeatures
from gloam.runtime.localization.maps.mapping import PairMatcher, build_map
from gloam.runtime.localization.matches import pair_stage
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.localization.matches.pair_stage import expect_inside, expect_size, mapped, stored_size_of
from gloam.runtime.localization.pose import localize_locally
from gloam.runtime.models.local_features import LocalFeatures
from gloam.runtime.models.matcher import Matcher
from tests.damage import named_or_harmless
from tests.runtime.localization.bright_points import NearestModel
from tests.runtime.localization.exact_world import (
    CAMERA,
    MAP,
    Projected,
    Words,
    altered,
    matcher,
    put,
    scenes,
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


def test_what_can_be_read_again_is_not_held_while_others_need_the_memory(tmp_path: Path) -> None:
    kept, alone = matcher(tmp_path, tmp_path / "cache"), matcher(tmp_path)
    for given, most in ((kept, 0), (alone, alone.memory)):
        expected = given.matches("a.png", "m.png")
        with given.holding_nothing():
            np.testing.assert_array_equal(given.matches("a.png", "m.png"), expected)
            given.features("b.png")
            assert given.bytes <= most
        assert given.holds("b.png") == (most > 0)
        given.features("a.png")
        assert given.holds("a.png")


def test_a_block_of_pairs_is_done_before_the_next_ones_features_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Noted(Projected):
        def features(self, scene: Scene, name: str) -> LocalFeatures:
            asked.append(name)
            return super().features(scene, name)

    monkeypatch.setattr(pair_stage, "BLOCK", 2)
    done: list[tuple[int, list[str]]] = []
    pairs = [("a.png", "b.png"), ("a.png", "c.png"), ("c.png", "m.png"), ("m.png", "q.png"), ("b.png", "q.png")]
    with ThreadPoolExecutor(1) as pool:
        altered(matcher(tmp_path), source=Noted()).match_all(pairs, pool, lambda count: done.append((count, [*asked])))
    # In order: a-b, a-c; b-q, c-m; m-q.
    assert [len(found) for count, found in done if count] == [3, 3, 5, 5, 5]
    assert sorted(asked) == sorted([*MAP, "q.png"])
    assert sum(count for count, _ in done) == len(pairs)


def test_no_more_than_a_block_is_handed_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_stage, "BLOCK", 4)
    begun: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        for number, found in enumerate(mapped(pool, lambda task: begun.append(task) or -task, range(10))):
            assert found == -number
            assert len(begun) <= number // 4 * 4 + 4
    assert sorted(begun) == list(range(10))


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
