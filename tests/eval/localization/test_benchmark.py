"""The paradigms on an exact world and on a real map: official figures, what is kept, any number of workers."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gallery_localization
from gloam.cli.main import main
from gloam.data.kapture_io import read_local_features, read_scene
from gloam.data.scene import Pose, Record, Scene, position_error, rotation_error
from gloam.errors import DataError, MissingExtraError, UsageError
from gloam.eval.localization import benchmark, fixed_map
from gloam.eval.localization.approximation import METHODS as APPROXIMATIONS
from gloam.eval.localization.approximation import approximate
from gloam.eval.localization.benchmark import Descriptors, LocalizationResult, retrieve, run_localization
from gloam.files import read_sealed, sealed_json, sha256_json
from gloam.runtime.localization.colmap import AbsolutePoseOptions, Triangulation
from gloam.runtime.localization.features.sources import KaptureFeatures
from gloam.runtime.localization.maps.map_pairs import pairs_by_pose
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.localization.matches import mutual
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.localization.pose import Localized
from tests.runtime.localization.exact_world import CAMERA, MAP, POINTS, POSES, Projected, scenes

UNIT = {name: np.float32(row) for name, row in zip([*MAP, "q.png"], np.eye(5, dtype=np.float32) + 0.1, strict=True)}


def test_retrieval_is_by_cosine_without_the_query_itself_and_ties_keep_the_order() -> None:
    known = Descriptors(
        {name: np.float32(row) for name, row in {"a": [1, 0], "b": [0, 1], "c": [1, 0], "q": [0.8, 0.6]}.items()}
    )
    assert retrieve(known, known, ["q", "a"], ["c", "b", "a"], 2) == {"q": ["c", "a"], "a": ["c", "b"]}
    assert retrieve(known, known, ["q"], ["b", "c"], 9) == {"q": ["c", "b"]}
    equal = [f"{number:02}" for number in range(40)]  # more than a sort that is not stable leaves in order
    alike = Descriptors({name: known.of("a") for name in [*equal, "q"]})
    assert retrieve(alike, alike, ["q"], equal, 40) == {"q": equal}
    with pytest.raises(DataError, match=r"^image 'x' has no global descriptor$"):
        retrieve(known, known, ["x"], ["a"], 1)


def exact(tmp_path: Path, methods: Sequence[str], **options: Any) -> LocalizationResult:
    """Localize the query of the made-up world."""
    given = {"retrieved": {"q.png": MAP}, "source": Projected(), "workers": 1, **options}
    given = {"mapping": scenes(tmp_path)[0], "query": scenes(tmp_path)[1], **given}
    return run_localization(methods=methods, **given)


def test_paradigms_find_the_exact_pose(tmp_path: Path) -> None:
    found = exact(tmp_path, ("2b", "top1", "2a"))
    assert list(found.poses) == ["2b", "top1", "2a"]
    for method in ("2a", "2b"):
        pose = found.poses[method]["q.png"]
        assert pose is not None
        assert position_error(pose, POSES["q.png"]) < 1e-2
        assert rotation_error(pose, POSES["q.png"]) < 1e-1
        assert found.inliers[method]["q.png"] > 40
        covariance = found.covariances[method]["q.png"]
        assert covariance is not None
        assert 0 < np.sqrt(np.trace(covariance[3:, 3:])) < 1e-2
    assert found.poses["top1"] == {"q.png": POSES["m.png"]}
    assert set(found.inliers) == set(found.covariances) == {"2a", "2b"}
    assert set(found.seconds) == {"2a", "2b", "top1", "map"}
    assert 0 < found.seconds["map"] <= found.seconds["2b"] < 60
    assert found.map_points > 80
    assert found.map_error < 1e-2
    unmapped = exact(tmp_path, ("2a",))
    assert (unmapped.map_points, np.isnan(unmapped.map_error)) == (0, True)
    again = exact(tmp_path, ("2b", "2a"), workers=3)
    assert (again.poses["2b"], again.poses["2a"]) == (found.poses["2b"], found.poses["2a"])


def test_retrieved_images_are_verified_first_where_it_is_asked(tmp_path: Path) -> None:
    found = exact(tmp_path, ("top1", "2b"), keep_verified=2)
    assert set(found.seconds) == {"verify", "top1", "2b", "map"}
    assert found.seconds["verify"] > 0
    assert found.reranked is not None
    kept = found.reranked["q.png"]
    counts = [count for _, count in kept]
    assert len(kept) == 2
    assert counts == sorted(counts, reverse=True)
    assert found.poses["top1"] == {"q.png": POSES[kept[0][0]]}
    assert exact(tmp_path, ("top1",)).reranked is None


def test_approximations_take_the_poses_and_descriptors_of_what_is_retrieved(tmp_path: Path) -> None:
    retrieved = {"q.png": ["c.png", "a.png"], "none.png": []}
    found = exact(tmp_path, APPROXIMATIONS, retrieved=retrieved, descriptors=Descriptors(UNIT))
    for method in APPROXIMATIONS:
        poses, rows = ([made[name] for name in retrieved["q.png"]] for made in (POSES, UNIT))
        expected = approximate(method, poses, UNIT["q.png"], np.stack(rows))
        assert found.poses[method] == {"q.png": expected, "none.png": None}
    plain = exact(tmp_path, ("ewb",), retrieved=retrieved)
    assert plain.poses["ewb"] == found.poses["ewb"]
    assert found.inliers == {}


def test_what_cannot_be_is_refused_before_anything_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Never:
        def features(self, scene: object, name: str) -> None:
            raise AssertionError("no features are needed")

        key = features

    with pytest.raises(UsageError, match=r"^unknown method '3c'; choose of top1, ewb, bdi, csi, 2a, 2b$"):
        exact(tmp_path, ("2b", "3c"), source=Never())
    for method in ("bdi", "csi"):
        with pytest.raises(UsageError, match="need global descriptors"):
            exact(tmp_path, (method,), source=Never())
    with pytest.raises(DataError, match=r"m: retrieved image 'nowhere\.jpg' has no pose$"):
        exact(tmp_path, ("top1",), source=Never(), retrieved={"q.png": ["z.jpg", "nowhere.jpg", "m.png"]})

    def absent() -> str:
        raise MissingExtraError("no pycolmap")

    monkeypatch.setattr(benchmark, "solver_version", absent)
    for method in ("2a", "2b"):
        with pytest.raises(MissingExtraError):
            exact(tmp_path, (method,), source=Never())
    assert exact(tmp_path, ("top1",), source=Never()).poses["top1"]["q.png"] == POSES["m.png"]


WORLD = Triangulation(POINTS[:3], {"m.png": np.array([0, -1, 2]), "a.png": np.array([1])}, 0.5)
COVARIANCE = np.arange(36.0).reshape(6, 6) / 7
FOUND = Localized(POSES["b.png"], 30, 40, COVARIANCE)


class Solver:
    """In place of the solvers; notes what they are given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.version, self.world, self.found = "solver 1", WORLD, FOUND
        monkeypatch.setattr(benchmark, "solver_version", lambda: self.version)
        monkeypatch.setattr(fixed_map, "build_map", lambda *given: self.asked.append(("map", *given)) or self.world)
        for name in ("localize_on_map", "localize_locally"):
            monkeypatch.setattr(
                benchmark, name, lambda *given, name=name: self.asked.append((name, *given)) or self.found
            )
        monkeypatch.setattr(
            PairMatcher, "match_all", lambda own, pairs, pool, told: self.asked.append(("match", sorted(pairs)))
        )


@pytest.fixture
def solver(monkeypatch: pytest.MonkeyPatch) -> Solver:
    return Solver(monkeypatch)


def test_solvers_get_what_they_are_to_solve(solver: Solver, tmp_path: Path) -> None:
    options, own = AbsolutePoseOptions(max_error=2.0), [("c.png", "m.png")]
    given: dict[str, Any] = {"options": options, "rule": MutualMatcher(0.8), "seed": 3, "workspace": tmp_path / "kept"}
    exact(tmp_path, ("2b",), map_pairs=own, retrieved={"q.png": ["a.png", "b.png"]}, **given)
    (_, of_queries), (_, of_map), (_, matcher, pairs), (name, *asked) = solver.asked
    assert (of_queries, of_map, pairs) == ([("a.png", "q.png"), ("b.png", "q.png")], own, own)
    assert (matcher.cache, matcher.rule, matcher.seed) == (tmp_path / "kept", MutualMatcher(0.8), 3)
    assert (matcher.mapping.root, matcher.query.root) == (tmp_path / "m", tmp_path / "q")
    assert (name, asked) == ("localize_on_map", [matcher, "q.png", ["a.png", "b.png"], WORLD, options])
    exact(tmp_path, ("2a",), retrieved={"q.png": ["a.png", "b.png"]})
    name, matcher, *asked = solver.asked[-1]
    assert (name, asked) == ("localize_locally", ["q.png", ["a.png", "b.png"], AbsolutePoseOptions()])
    assert (matcher.cache, matcher.rule, matcher.seed) == (None, MutualMatcher(), 0)
    assert solver.asked[-2] == ("match", [("a.png", "q.png"), ("b.png", "q.png")])
    exact(tmp_path, ("2b",))
    assert solver.asked[-2][2] == pairs_by_pose(scenes(tmp_path)[0])


def test_queries_are_solved_by_name_and_in_as_many_threads_as_asked_for(
    solver: Solver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = scenes(tmp_path)[1]
    query = dataclasses.replace(query, records={name: Record("c", row) for row, name in enumerate("zyx")})
    found = exact(tmp_path, ("2a",), query=query, retrieved={"z": MAP, "x": MAP, "y": MAP})
    assert list(found.poses["2a"]) == list(found.inliers["2a"]) == ["x", "y", "z"]
    assert found.inliers["2a"] == dict.fromkeys("xyz", 30)
    threads, pool = [], benchmark.ThreadPoolExecutor
    monkeypatch.setattr(
        benchmark, "ThreadPoolExecutor", lambda count, **named: threads.append(count) or pool(count, **named)
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(5 if process == 0 else 9))
    for workers in (None, 2):
        exact(tmp_path, ("top1",), workers=workers)
    assert threads == [5, 2]


def key_of_pose(tmp_path: Path, method: str = "2b", **options: Any) -> str:
    """The key that a pose is kept by: the name of its file."""
    workspace = tmp_path / f"kept {len(list(tmp_path.glob('kept *')))}"
    exact(tmp_path, (method,), workspace=workspace, **{"retrieved": {"q.png": ["m.png", "a.png"]}, **options})
    (kept,) = (workspace / "poses").rglob("*.json")
    assert kept.parent.name == kept.stem[:2]
    return kept.stem


class Renamed(Projected):
    """The same features under another key for one image."""

    def __init__(self, name: str) -> None:
        self.name = name

    def key(self, scene: Scene, name: str) -> str:
        return super().key(scene, name) + (", other" if name == self.name else "")


class Alias(Projected):
    """The query's features under another name of the image."""

    def __init__(self, name: str) -> None:
        self.name = name

    def key(self, scene: Scene, name: str) -> str:
        return super().key(scene, "q.png" if name == self.name else name)


def changed_scene(scene: Scene, name: str, pose: Pose | None = None, **camera: Any) -> Scene:
    """The scene with another pose, or a camera of its own, for one image."""
    cameras = scene.cameras | {"own": dataclasses.replace(CAMERA, **camera)}
    records = scene.records | ({name: Record("own", 77)} if camera else {})
    return dataclasses.replace(
        scene, cameras=cameras, records=records, poses=scene.poses | ({name: pose} if pose else {})
    )


POSE_KEY = "2b519e3e3b983a5ff3db83e8c6c0e18d7e74d1b06757a895b8d1f3f48c17e5d9"
LOCAL_KEY = "65afa2f70c5a2e3adc113daea093605cbac1938d8bdf11f96c7284bb28f45602"


def test_every_part_of_the_key_of_a_pose_changes_it(solver: Solver, tmp_path: Path) -> None:
    mapping, query = scenes(tmp_path)
    turned = dataclasses.replace(POSES["a.png"], quaternion=POSES["m.png"].quaternion)
    moved = dataclasses.replace(POSES["a.png"], translation=(9.0, 0.0, 0.0))
    cameras: list[dict[str, Any]] = [{"width": 641}, {"height": 481}, {"params": (505.0, 510.0, 320.0, 240.0)}]
    cameras.append({"model": "SIMPLE_RADIAL", "params": (500.0, 320.0, 240.0, 0.0)})
    options = [
        {field.name: getattr(AbsolutePoseOptions(), field.name) * 0.5}
        for field in dataclasses.fields(AbsolutePoseOptions)
    ]
    changes: list[dict[str, Any]] = [
        {},
        {"method": "2a"},
        {"seed": 1},
        {"rule": MutualMatcher(0.8)},
        {"verify_queries": False},
        {"retrieved": {"q.png": ["a.png", "m.png"]}},
        *(
            {
                "query": dataclasses.replace(query, records={name: query.records["q.png"]}),
                "retrieved": {name: ["m.png", "a.png"]},
                "source": Alias(name),
            }
            for name in ("d.png", "A.png")  # the same image, matched before one of them, and before both
        ),
        {"retrieved": {"q.png": ["m.png", "a.png", "b.png"]}},
        *({"source": Renamed(name)} for name in ("q.png", "m.png", "a.png")),
        *({"query": changed_scene(query, "q.png", **camera)} for camera in cameras),
        *({"mapping": changed_scene(mapping, "a.png", **camera)} for camera in cameras),
        *({"mapping": changed_scene(mapping, "a.png", pose)} for pose in (turned, moved)),
        *({"options": AbsolutePoseOptions(**item)} for item in options),
    ]
    keys = [key_of_pose(tmp_path, **change) for change in changes]
    solver.version = "solver 2"
    keys.append(key_of_pose(tmp_path))
    solver.version = "solver 1"
    for world in (
        dataclasses.replace(WORLD, points=WORLD.points + 1),
        dataclasses.replace(WORLD, observed=WORLD.observed | {"m.png": np.array([0, 1, 2])}),
        dataclasses.replace(WORLD, observed={"m.png": WORLD.observed["m.png"]}),
    ):
        solver.world = world
        keys.append(key_of_pose(tmp_path))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("points", [0, 1, benchmark.ROWS, benchmark.ROWS + 1])
def test_the_key_of_a_map_is_the_hash_of_one_text_that_is_never_written(points: int) -> None:
    rng = np.random.default_rng(0)
    observed = {name: rng.integers(-1, max(points, 1), count) for name, count in (("b", 3), ("a \u00e9", 0), ("c", 5))}
    for seen in (observed, {}):
        world = Triangulation(rng.normal(0, 1e3, (points, 3)), seen, 0.5)
        whole = [world.points.tolist(), [[name, seen[name].tolist()] for name in sorted(seen)]]
        assert benchmark.key_of_map(world) == sha256_json(whole)


def test_poses_are_found_again_under_the_key_of_given_content(solver: Solver, tmp_path: Path) -> None:
    """What an earlier run kept stays of use, and nothing that does not belong to a query is in its key."""
    mapping, query = scenes(tmp_path)
    assert key_of_pose(tmp_path) == POSE_KEY
    solver.world = dataclasses.replace(WORLD, mean_error=9.0, observed=dict(reversed(WORLD.observed.items())))
    assert key_of_pose(tmp_path, options=AbsolutePoseOptions(), workers=2) == POSE_KEY
    elsewhere = changed_scene(changed_scene(mapping, "b.png", width=999), "c.png", POSES["m.png"])
    posed = dataclasses.replace(query, poses={"q.png": POSES["q.png"]})
    assert key_of_pose(tmp_path, mapping=elsewhere, query=posed, source=Renamed("c.png")) == POSE_KEY
    assert key_of_pose(tmp_path, "2a") == LOCAL_KEY


@pytest.mark.parametrize("found", [FOUND, Localized(None, 0, 7)], ids=["found", "not found"])
def test_a_kept_pose_is_read_and_a_damaged_or_anothers_is_found_anew(
    solver: Solver, tmp_path: Path, found: Localized
) -> None:
    solver.found = found
    workspace = tmp_path / "kept"
    first = exact(tmp_path, ("2a",), workspace=workspace)
    assert (first.poses["2a"]["q.png"], first.inliers["2a"]["q.png"]) == (found.pose, found.inliers)
    (path,) = (workspace / "poses").rglob("*.json")
    kept = path.read_bytes()
    value = read_sealed(path)
    covariance = None if found.covariance is None else COVARIANCE.tolist()
    assert value == {**dataclasses.asdict(found), "covariance": covariance, "key": path.stem} | (
        {"pose": {"quaternion": list(found.pose.quaternion), "translation": list(found.pose.translation)}}
        if found.pose
        else {}
    )

    def solved() -> int:
        del solver.asked[:]
        again = exact(tmp_path, ("2a",), workspace=workspace)
        assert again.poses == first.poses
        np.testing.assert_array_equal(again.covariances["2a"]["q.png"], found.covariance)
        return sum(item[0] == "localize_locally" for item in solver.asked)

    assert solved() == 0
    wrong = sealed_json({**value, "key": "another"})
    less = [
        sealed_json({key: item for key, item in value.items() if key != gone}) for gone in ("inliers", "covariance")
    ]
    short = sealed_json({**value, "covariance": [[1.0] * 6]})
    for damaged in (kept[:40], b"", b"[]", b'{"pose": 3}', wrong, *less, short):
        path.write_bytes(damaged)
        assert solved() == 1
        assert path.read_bytes() == kept


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


@pytest.fixture
def gallery(data_pack: Callable[[str], Path]) -> Path:
    return data_pack("virtual_gallery_tutorial")


def arguments(gallery: Path) -> dict[str, object]:
    mapped = read_scene(gallery / "mapping")
    query = read_scene(gallery / "query")
    features = KaptureFeatures(read_local_features(gallery / "local_features" / "r2d2_500"))
    return {
        "mapping": mapped,
        "query": query,
        "retrieved": dict.fromkeys(query.names[:2], mapped.names[:5]),
        "source": features,
        "methods": ("2b", "2a"),
    }


def test_official_figures(gallery: Path) -> None:
    result = gallery_localization.run()
    detail = {key: value for key, value in result.detail.items() if key in ("ewb", "bdi", "csi")}
    assert all(item["equals_official"] for item in detail.values())
    assert result.met or result.value >= gallery_localization.SECONDS  # accuracy is the test's, time the benchmark's


def test_workers_change_nothing(gallery: Path) -> None:
    given = arguments(gallery)
    one = run_localization(**given, workers=1)  # type: ignore[arg-type]  # mixed values by name
    four = run_localization(**given, workers=4)  # type: ignore[arg-type]  # mixed values by name
    assert one.poses == four.poses
    assert one.inliers == four.inliers


def test_a_second_run_reuses_and_damage_is_mended(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = arguments(gallery)
    first = run_localization(**given, workspace=tmp_path)  # type: ignore[arg-type]  # mixed values by name
    for path in sorted((tmp_path / "matches").rglob("*.npz"))[:2]:
        path.write_bytes(path.read_bytes()[:100])
    next((tmp_path / "poses").rglob("*.json")).write_text("{")
    calls = []
    plain = mutual.match_mutual
    monkeypatch.setattr(mutual, "match_mutual", lambda *a, **k: calls.append(1) or plain(*a, **k))
    second = run_localization(**given, workspace=tmp_path)  # type: ignore[arg-type]  # mixed values by name
    assert second.poses == first.poses
    assert len(calls) == 2


def test_refusals(gallery: Path) -> None:
    given = arguments(gallery)
    with pytest.raises(UsageError, match="unknown method"):
        run_localization(**given | {"methods": ("3c",)})  # type: ignore[arg-type]  # mixed values by name
    with pytest.raises(UsageError, match="need global descriptors"):
        run_localization(**given | {"methods": ("bdi",)})  # type: ignore[arg-type]  # mixed values by name
    with pytest.raises(DataError, match="has no pose"):
        run_localization(**given | {"retrieved": {"q": ["nowhere.jpg"]}})  # type: ignore[arg-type]  # as above


def test_commands_localize_and_evaluate(gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--mapping", str(gallery / "mapping"), "--query", str(gallery / "query"), "-o", str(tmp_path / "out")]
    features = ["--features", str(gallery / "local_features" / "r2d2_500")]
    source = ["--global-features", str(gallery / "global_features" / "AP-GeM-LM18"), "--top-k", "5"]
    methods = ["--method", "2b", "--method", "csi"]
    assert main(["localize", *base, *features, *source, *methods]) == 0
    assert "4 of 4 queries localized" in capsys.readouterr().out
    assert len((tmp_path / "out" / "2b" / "ltvl.txt").read_text().splitlines()) == 4
    scored = ["eval", "localization", "--results", str(tmp_path / "out"), "--ground-truth", str(gallery / "query")]
    assert main([*scored, "--json"]) == 0
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert data["methods"]["2b"]["all"]["recalls"] == [1.0, 1.0, 1.0]
    assert data["methods"]["csi"]["all"]["recalls"] == [0.0, 0.25, 0.5]
    assert main(["localize", *base, "--pairs", "absent.txt", "--method", "bdi"]) == 2
    assert "instead of --pairs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("records_camera.txt", "records_camera.txt is missing"),
        ("trajectories.txt", "have no pose"),
        ("sensors.txt", "sensors.txt is missing"),
    ],
)
def test_incomplete_kapture_is_one_line(
    gallery: Path, tmp_path: Path, missing: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(gallery / "mapping" / "sensors", tmp_path / "m" / "sensors")
    (tmp_path / "m" / "sensors" / missing).unlink()
    source = ["--global-features", str(gallery / "global_features" / "AP-GeM-LM18")]
    command = ["localize", "--mapping", str(tmp_path / "m"), "--query", str(gallery / "query"), *source]
    assert main([*command, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
