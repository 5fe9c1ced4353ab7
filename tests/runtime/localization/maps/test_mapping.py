"""Matches and maps of a made-up world: keys know all they depend on, and points lie where they are."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.data.scene import Pose, Record, Scene
from gloam.errors import DataError, IncompatibleError
from gloam.runtime.localization.maps import mapping
from gloam.runtime.localization.maps.colmap_model import read_colmap_model
from gloam.runtime.localization.maps.map_pairs import pairs_by_pose
from gloam.runtime.localization.maps.mapping import PairMatcher, build_map, own_points
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.models.local_features import LocalFeatures
from gloam.runtime.models.matcher import Matcher
from tests.runtime.localization.bright_points import NearestModel
from tests.runtime.localization.colmap_files import write_text_model
from tests.runtime.localization.exact_world import (
    CAMERA,
    MAP,
    POINTS,
    POSES,
    Projected,
    Words,
    altered,
    matcher,
    scenes,
    seen,
    true_matches,
)


def key_of_matches(given: PairMatcher, first: str = "a.png", second: str = "m.png") -> str:
    """The key that matches are kept by: the name of their file."""
    given.cache = given.mapping.root / "cache" / str(len(list(given.mapping.root.glob("cache/*"))))
    given.matches(first, second)
    (kept,) = (given.cache / "matches").rglob("*.npz")
    assert kept.parent.name == kept.stem[:2]
    return kept.stem


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


def test_points_are_a_models_own_where_every_keypoint_is(tmp_path: Path) -> None:
    model = read_colmap_model(write_text_model(tmp_path / "model"), tmp_path)
    given = PairMatcher(Projected(), model.scene, scenes(tmp_path)[1])
    assert own_points(given, model) is model.points
    for wrong in (model.keypoints["c.png"][::-1], model.keypoints["c.png"][1:]):
        other = dataclasses.replace(model, keypoints=model.keypoints | {"c.png": wrong})
        assert own_points(given, other) is None
    bare = dataclasses.replace(model, points=dataclasses.replace(model.points, points=np.zeros((0, 3))))
    assert own_points(given, bare) is None
