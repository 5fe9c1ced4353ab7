"""From datasets on disk to poses on disk: what is asked for reaches the paradigms, what they find reaches the files."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gloam.data.hloc_io import ImageFeatures, write_hloc_features, write_hloc_matches
from gloam.data.kapture_io import read_scene, write_global_features, write_rig, write_scene
from gloam.data.pairs import read_pairs
from gloam.data.scene import Pose, Record, Scene, position_error
from gloam.errors import DataError, IncompatibleError, StoreError, UsageError
from gloam.eval.localization import localize as module
from gloam.eval.localization import request as front
from gloam.eval.localization.benchmark import LocalizationResult, retrieve
from gloam.eval.localization.localize import REPORT_FILE, localize
from gloam.eval.localization.match_pictures import INLIER
from gloam.eval.localization.request import LocalizeRequest
from gloam.model_card import Photometric
from gloam.runtime.backends.placement import Placement
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import DescriptorStore, Job, Row
from gloam.runtime.localization.colmap import AbsolutePoseOptions
from gloam.runtime.localization.features.sources import KaptureFeatures, ModelFeatures, SiftFeatures
from gloam.runtime.localization.maps.colmap_model import read_colmap_model
from gloam.runtime.localization.maps.map_pairs import MapPairs
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.models.local_features import LocalExtractor
from gloam.runtime.models.matcher import Matcher
from tests.runtime.localization.bright_points import COUNT, BrightModel, NearestModel
from tests.runtime.localization.exact_world import MAP, POSES, Projected, scenes, true_matches

QUERIES = ["q.png", "r.png"]
DESCRIPTORS = {
    name: np.float32(row)
    for name, row in {
        "q.png": [3, 0],
        "r.png": [0, 1],
        "m.png": [2, 2],
        "a.png": [0, 5],
        "b.png": [1, 0],
        "c.png": [4, 1],
    }.items()
}


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[..., LocalizeRequest]:
    """Requests about the made-up world on disk, with one query more than can be localized."""
    mapping, query = scenes(tmp_path)
    query = dataclasses.replace(query, records=query.records | {"r.png": Record("c", 3)})
    write_scene(mapping)
    write_scene(query)

    def made(**given: Any) -> LocalizeRequest:
        if not {"pairs", "global_features", "stores"} & given.keys():
            path = tmp_path / "pairs.txt"
            path.write_text("".join(f"q.png {name}\n" for name in MAP))
            given["pairs"] = path
        return LocalizeRequest(mapping.root, query.root, tmp_path / "out", **given)

    return made


class Spied:
    """In place of the paradigms: notes what it is given, finds one pose of a good, a bad and no quaternion."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.found: tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]] = {}, {}
        self.covariances: dict[str, dict[str, Any]] = {}

    def __call__(self, mapping: Scene, query: Scene, retrieved: Any, features: Any, methods: Any, **named: Any) -> Any:
        names = ("mapping", "query", "retrieved", "features", "methods")
        self.given = dict(zip(names, (mapping, query, retrieved, features, methods), strict=True)) | named
        unusable = Pose((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
        poses: dict[str, dict[str, Pose | None]] = {
            method: {"q.png": POSES["q.png"] if method != "2a" else None, "r.png": unusable} for method in methods
        }
        known = self.found[0], {"2b": 1.5}, 12, 0.25, self.found[1]
        return LocalizationResult(poses, *known, self.covariances, "six pairs")


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> Spied:
    spy = Spied()
    monkeypatch.setattr(module, "run_localization", spy)
    return spy


def write_features(root: Path) -> Path:
    """The made-up world's features as kapture stores them."""
    for kind, suffix, size in (("keypoints", "kpt", 2), ("descriptors", "desc", 32)):
        folder = root / kind
        folder.mkdir(parents=True)
        more = ", made, L2" if kind == "descriptors" else ""
        (folder / f"{kind}.txt").write_text(f"# kapture format: 1.1\nmade, float32, {size}{more}\n")
        for name in [*MAP, "q.png"]:
            values = getattr(Projected().features(Scene(root), name), kind)
            (folder / f"{name}.{suffix}").write_bytes(values.tobytes())
        (folder / f"r.png.{suffix}").write_bytes(b"")  # not one feature
    return root


def test_poses_of_stored_features_go_to_a_folder_a_method(request_of: Any, tmp_path: Path) -> None:
    features = str(write_features(tmp_path / "made"))
    found = localize(request_of(features=features, methods=("2b", "top1", "2b"), workers=1))
    for method in ("2b", "top1"):
        scene = read_scene(tmp_path / "out" / method)
        assert (sorted(scene.records), sorted(scene.poses)) == (QUERIES, ["q.png"])
        limit = 1e-2 if method == "2b" else 1e-9
        assert position_error(scene.poses["q.png"], POSES["q.png" if method == "2b" else "m.png"]) < limit
        (line,) = (tmp_path / "out" / method / "ltvl.txt").read_text().splitlines()
        assert line.split()[0] == "q.png"
        assert tuple(map(float, line.split()[1:5])) == scene.poses["q.png"].quaternion
        model = read_colmap_model(tmp_path / "out" / method / "colmap", tmp_path)
        assert position_error(model.scene.poses["q.png"], scene.poses["q.png"]) < 1e-9
        header, row = (tmp_path / "out" / method / "poses.csv").read_text().splitlines()
        assert (header.split(",")[0], row.split(",")[0]) == ("image", "q.png")
        np.testing.assert_allclose(list(map(float, row.split(",")[8:])), scene.poses["q.png"].center, atol=1e-9)
    assert list(found.summary["methods"]) == ["2b", "top1"]
    assert found.summary["map"]["points"] == found.result.map_points > 80
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == found.to_dict()
    assert (tmp_path / "out" / "workspace" / "poses").is_dir()
    row = {query: text.split(",") for query, text in rows_of(tmp_path / "out" / "2b").items()}
    assert row["q.png"][0] == "yes"
    assert int(row["q.png"][1]) == found.result.inliers["2b"]["q.png"] > 40
    assert int(row["q.png"][2]) == found.result.correspondences["2b"]["q.png"] >= int(row["q.png"][1])
    assert 0 < float(row["q.png"][3]) < 1e-2  # metres; stored as float32, keypoints are off by no more
    assert 0 < float(row["q.png"][4]) < 1e-1
    assert row["r.png"] == ["no", "0", "0", "", "", "no map image was retrieved"]
    assert rows_of(tmp_path / "out" / "top1") == {
        "q.png": "yes,,,,,",
        "r.png": "no,,,,,no map image was retrieved",
    }
    assert f"2b    1 of 2 queries localized: {tmp_path / 'out' / '2b'}" in found.to_text()


@pytest.mark.parametrize("method", ["2a", "2b"])
def test_matches_are_drawn_where_it_is_asked_for(request_of: Any, tmp_path: Path, method: str) -> None:
    features = str(write_features(tmp_path / "made"))
    given = request_of(features=features, methods=(method, "top1"), workers=1)
    localize(given)
    assert not list((tmp_path / "out").rglob("*.png"))
    localize(dataclasses.replace(given, match_pictures="all"))
    (drawn,) = (tmp_path / "out").rglob("*.png")
    assert drawn == tmp_path / "out" / method / "matches" / "q.png.png"
    with Image.open(drawn) as picture:
        assert (np.asarray(picture) == INLIER).all(axis=2).sum() > 1000


def test_a_later_run_leaves_nothing_beside_its_poses_that_shows_others(request_of: Any, tmp_path: Path) -> None:
    given = request_of(features=str(write_features(tmp_path / "made")), methods=("2b",), workers=1)
    localize(dataclasses.replace(given, match_pictures="all", top_k=2, verify=3))
    stale = [tmp_path / "out" / name for name in ("2b/matches/q.png.png", "pairs.txt", REPORT_FILE)]
    stale[-1].touch()
    other = tmp_path / "out" / "2a" / "matches" / "q.png.png"  # of poses that this run does not replace
    other.parent.mkdir(parents=True)
    other.touch()
    assert all(path.is_file() for path in stale)
    localize(dataclasses.replace(given, pairs=tmp_path / "out" / "pairs.txt"))  # a list that is read is no left-over
    assert [path.is_file() for path in stale] == [False, True, False]
    localize(given)
    assert not any(path.exists() for path in stale)
    assert other.is_file()


def test_poses_of_hlocs_file_are_those_of_kaptures(request_of: Any, tmp_path: Path) -> None:
    names = [*MAP, *QUERIES]

    def images() -> Any:
        for name in names:
            each = Projected().features(Scene(tmp_path), name if name != "r.png" else "q.png")
            yield name, ImageFeatures(each.keypoints - 0.5, each.descriptors, each.scores, (640, 480))

    write_hloc_features(tmp_path / "feats.h5", "made", "", images())
    localize(request_of(features=str(tmp_path / "feats.h5"), workers=1))  # its principal point is COLMAP's
    scene = read_scene(tmp_path / "out" / "2b")
    assert position_error(scene.poses["q.png"], POSES["q.png"]) < 1e-2
    names.remove("b.png")
    write_hloc_features(tmp_path / "less.h5", "made", "", images())
    with pytest.raises(DataError, match=r"less\.h5: has no features of image 'b\.png', but those of 'a\.png'"):
        localize(request_of(features=str(tmp_path / "less.h5"), workers=1))
    with pytest.raises(UsageError, match="--photometric is for SIFT and models"):
        localize(request_of(features=str(tmp_path / "less.h5"), photometric="clahe"))


def test_poses_by_stored_matches(request_of: Any, tmp_path: Path) -> None:
    features = str(write_features(tmp_path / "made"))

    def pairs() -> Any:
        for first, second in [("q.png", name) for name in MAP] + list(itertools.combinations(MAP, 2)):
            rows = np.array(true_matches(first, second), np.uint32)
            yield first, second, len(Projected().features(Scene(tmp_path), first)), rows, np.ones(len(rows), np.float32)

    write_hloc_matches(tmp_path / "m.h5", pairs())
    found = localize(request_of(features=features, matches=tmp_path / "m.h5", workers=1))
    scene = read_scene(tmp_path / "out" / "2b")
    assert position_error(scene.poses["q.png"], POSES["q.png"]) < 1e-2
    assert found.summary["matcher"].startswith(f"{tmp_path / 'm.h5'}, ")
    write_hloc_matches(tmp_path / "m.h5", itertools.islice(pairs(), 5))
    with pytest.raises(DataError, match=r"m\.h5: has no matches of .*; match with this list of pairs"):
        localize(request_of(features=features, matches=tmp_path / "m.h5", workers=1))
    with pytest.raises(UsageError, match="--matches are of stored features"):
        localize(request_of(matches=tmp_path / "m.h5"))
    with pytest.raises(UsageError, match="--matches are there already; leave --matcher out"):
        request_of(features=features, matches=tmp_path / "m.h5", matcher="m.onnx")


def rows_of(folder: Path) -> dict[str, str]:
    """The rows of ``queries.csv`` by their image."""
    header, *rows = (folder / "queries.csv").read_text().splitlines()
    assert header == "image,localized,inliers,correspondences,position_std_m,rotation_std_deg,reason"
    return dict(row.split(",", 1) for row in rows)


@pytest.mark.parametrize(
    ("correspondences", "reason"),
    [
        ({"r.png": 11}, '0,11,,,"11 correspondences with the map, 12 are needed"'),
        ({"r.png": 12}, "0,12,,,no pose agrees with 12 correspondences"),
        ({}, "0,,,,no usable pose"),
    ],
)
def test_a_query_without_a_pose_has_its_reason(
    request_of: Any, spied: Spied, tmp_path: Path, correspondences: dict[str, int], reason: str
) -> None:
    given = request_of()
    given.pairs.write_text("q.png m.png\nr.png m.png\n")
    spied.found = {"2b": {"r.png": 0}}, {"2b": correspondences}
    spied.covariances = {"2b": dict.fromkeys(QUERIES, np.diag([1.0, 1, 2, 4, 4, 8]) * 1e-6)}
    localize(given)
    assert rows_of(tmp_path / "out" / "2b")["q.png"] == "yes,,,0.004,0.1146,"
    assert rows_of(tmp_path / "out" / "2b")["r.png"] == f"no,{reason}"


def test_a_pose_through_the_rig_has_no_covariance_and_the_others_keep_theirs(request_of: Any, tmp_path: Path) -> None:
    mounts = {"c": Pose((1, 0, 0, 0), (0.3, 0, 0)), "d": Pose((1, 0, 0, 0), (-0.3, 0, 0))}
    given = request_of(features=str(write_features(tmp_path / "made")), rig="fill", workers=1)
    query = read_scene(given.query)
    records = {"q.png": Record("c", 9), "r.png": Record("d", 9)}
    write_scene(dataclasses.replace(query, cameras=dict.fromkeys(mounts, query.cameras["c"]), records=records))
    write_rig(given.query, "car", mounts)
    given.pairs.write_text("".join(f"{name} {image}\n" for name in QUERIES for image in MAP))
    found = localize(given).result
    posed = found.poses["2b"]["r.png"]
    assert posed is not None
    rig = POSES["q.png"].seen_from(mounts["c"].inverse)
    assert position_error(posed, rig.seen_from(mounts["d"])) < 1e-2
    assert found.covariances["2b"]["r.png"] is None
    assert np.trace(found.covariances["2b"]["q.png"]) > 0


def test_what_is_asked_for_reaches_the_paradigms(request_of: Any, spied: Spied, tmp_path: Path) -> None:
    localize(request_of())
    given = spied.given
    assert (given["methods"], given["rule"], given["seed"], given["map_pairs"]) == (
        ("2b",),
        MutualMatcher(0.85),
        0,
        MapPairs(),
    )
    assert (given["features"], given["workers"], given["descriptors"]) == (SiftFeatures(4096), None, None)
    assert given["workspace"] == tmp_path / "out" / "workspace"
    assert (sorted(given["mapping"].records), sorted(given["query"].records)) == (sorted(MAP), QUERIES)
    pairs = tmp_path / "map.txt"
    pairs.write_text("m.png, b.png, 0.5\na.png, c.png, 0.25\n")
    localize(
        request_of(max_keypoints=9, pixel_shift=0.5, seed=4, workers=3, map_pairs=pairs, methods=["2a", "2b", "2a"])
    )
    given = spied.given
    assert (given["features"], given["seed"], given["workers"]) == (SiftFeatures(9, pixel_shift=0.5), 4, 3)
    assert (given["map_pairs"], given["methods"]) == ([("m.png", "b.png"), ("a.png", "c.png")], ("2a", "2b"))
    localize(request_of(features=str(write_features(tmp_path / "made"))))
    assert isinstance(spied.given["features"], KaptureFeatures)
    assert spied.given["rule"] == MutualMatcher()


def test_what_is_found_reaches_the_files(request_of: Any, spied: Spied, tmp_path: Path) -> None:
    found = localize(request_of(methods=("2b", "2a"), seed=2, top_k=3, ltvl_style="robotcar"))
    out = tmp_path / "out"
    assert found.output == out
    assert found.to_dict() == {
        "seed": 2,
        "top_k": 3,
        "verified_of": None,
        "features": "sift, 128-D, with scales and orientations, the first pixel's centre at 0",
        "matcher": "mutual neighbours, ratio 0.85",
        "query_matches": "verified",
        "min_inliers": 12,
        "rig": "off",
        "seconds": {"2b": 1.5},
        "methods": {
            "2b": {"queries": 2, "localized": 1, "folder": str(out / "2b")},
            "2a": {"queries": 2, "localized": 0, "folder": str(out / "2a")},
        },
        "map": {"points": 12, "from": "six pairs", "reprojection_error_px": 0.25},
    }
    assert found.to_text().splitlines() == [
        f"2b    1 of 2 queries localized: {out / '2b'}",
        f"2a    0 of 2 queries localized: {out / '2a'}",
        "map   12 points, mean reprojection error 0.25 px, six pairs",
        f"next: gloam eval localization --results {out} --ground-truth KAPTURE",
    ]
    assert read_scene(out / "2b").poses == {"q.png": POSES["q.png"]}
    assert (out / "2b" / "ltvl.txt").read_text().startswith("c/q.png ")
    assert (out / "2a" / "ltvl.txt").read_text() == ""
    unmapped = localize(request_of(methods=("2a",)))
    assert "map" not in unmapped.to_dict()
    assert "map" not in unmapped.to_text()


def test_pairs_are_taken_by_score_and_else_as_they_stand(request_of: Any, spied: Spied, tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("q.png, m.png, 0.1\nr.png, m.png, 0.2\nq.png, a.png, 0.9\nq.png, b.png, 0.5\nq.png, c.png, 0.5\n")
    localize(request_of(pairs=path, top_k=3))
    assert spied.given["retrieved"] == {"q.png": ["a.png", "b.png", "c.png"], "r.png": ["m.png"]}
    path.write_text("q.png, m.png, 0\nq.png b.png\nq.png, a.png, 0.5\nq.png, c.png, -0.5\n")  # none given counts 0
    localize(request_of(pairs=path))
    assert spied.given["retrieved"]["q.png"] == ["a.png", "m.png", "b.png", "c.png"]
    path.write_text("q.png c.png\nq.png m.png\n")
    localize(request_of(pairs=path))
    assert spied.given["retrieved"] == {"q.png": ["c.png", "m.png"], "r.png": []}
    for line, image, root in (
        ("x.png m.png", "x.png", "q"),
        ("q.png y.png", "y.png", "m"),
        ("q.png r.png", "r.png", "m"),
    ):
        path.write_text(f"q.png m.png\n{line}\n")
        with pytest.raises(DataError, match=rf"^{path}: image '{image}' is not in {tmp_path / root}$"):
            localize(request_of(pairs=path))


def expect_retrieved(given: dict[str, Any], k: int) -> None:
    known = given["descriptors"]
    for name, row in DESCRIPTORS.items():
        np.testing.assert_allclose(known.of(name), row / np.linalg.norm(row), atol=1e-3)
    assert given["retrieved"] == retrieve(known, known, QUERIES, sorted(MAP), k)
    assert given["retrieved"]["q.png"] == ["b.png", "c.png", "m.png", "a.png"][:k]  # by angle, not by length


def test_retrieval_by_global_features_is_by_angle(request_of: Any, spied: Spied, tmp_path: Path) -> None:
    write_global_features(tmp_path / "global", "tiny", DESCRIPTORS.items(), 2)
    localize(request_of(global_features=tmp_path / "global", top_k=2, methods=("csi",)))
    expect_retrieved(spied.given, 2)
    zero = DESCRIPTORS | {"r.png": np.zeros(2, np.float32)}
    write_global_features(tmp_path / "zero", "tiny", zero.items(), 2)
    localize(request_of(global_features=tmp_path / "zero", methods=("csi",)))
    assert spied.given["descriptors"].of("r.png").tolist() == [0, 0]


def write_store(folder: Path, names: list[str], space: str) -> Path:
    writer = ShardWriter.begin(
        folder, Job(space * 64, "b" * 64, 2, "cosine", "c" * 64, len(names), {"max_side": 64}), 1
    )
    rows = [Row(name, f"{number:064x}", 64, 48, "48x64") for number, name in enumerate(names)]
    matrix = np.stack([DESCRIPTORS[name] / np.linalg.norm(DESCRIPTORS[name]) for name in names])
    writer.write(0, rows, matrix.astype(np.float16))
    writer.finish()
    return folder


def test_retrieval_by_stores_is_of_one_space(request_of: Any, spied: Spied, tmp_path: Path) -> None:
    stores = [write_store(tmp_path / "one", QUERIES, "a"), write_store(tmp_path / "two", MAP, "a")]
    localize(request_of(stores=stores, top_k=3, methods=("bdi",)))
    expect_retrieved(spied.given, 3)
    other = [write_store(tmp_path / "other", QUERIES, "d"), stores[1]]
    with pytest.raises(IncompatibleError, match=str(tmp_path / "other")):
        localize(request_of(stores=other))
    (stores[0] / "shards").rename(tmp_path / "gone")
    with pytest.raises(StoreError):
        localize(request_of(stores=stores))


def test_what_a_store_is_trusted_with_is_passed_on(
    request_of: Any, spied: Spied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [write_store(tmp_path / "one", QUERIES, "a"), write_store(tmp_path / "two", MAP, "a")]
    asked, opened = [], DescriptorStore.open
    monkeypatch.setattr(
        DescriptorStore, "open", lambda folder, **named: asked.append((folder, named)) or opened(folder, **named)
    )
    for trust in (False, True):
        localize(request_of(stores=stores, trust=trust))
        assert asked[-2:] == [(folder, {"trust": trust}) for folder in stores]


def test_datasets_without_what_is_needed_are_refused(request_of: Any, spied: Spied, tmp_path: Path) -> None:
    mapping, query = scenes(tmp_path)
    write_scene(dataclasses.replace(mapping, poses={}))
    with pytest.raises(DataError, match="4 of 4 images have no pose"):
        localize(request_of())
    write_scene(dataclasses.replace(mapping, cameras={}))
    with pytest.raises(DataError, match=r"/m: 4 of 4 images have no intrinsics"):
        localize(request_of())
    write_scene(mapping)
    write_scene(dataclasses.replace(query, cameras={}))
    with pytest.raises(DataError, match=r"/q: 1 of 1 images have no intrinsics"):
        localize(request_of())
    assert spied.given == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": 0},
        {"verify": 9},
        {"pairs": None},
        {"global_features": Path("x")},
        {"stores": [Path("x"), Path("y")]},
        {"methods": ("top1", "bdi")},
        {"methods": ("csi",)},
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(wrong: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"mapping": Path("m"), "query": Path("q"), "output": Path("o"), "pairs": Path("p")}
    LocalizeRequest(**plain, top_k=1)
    with pytest.raises(
        UsageError,
        match=r"--top-k must be 1|--verify 9: the best --top-k 10 are|give one of --pairs|instead of --pairs",
    ):
        LocalizeRequest(**plain | wrong)


def dress(request: LocalizeRequest) -> None:
    """Images of the datasets on disk: a few bright pixels on black."""
    for root, names in ((request.mapping, MAP), (request.query, QUERIES)):
        for name in names:
            pixels = np.zeros((480, 640, 3), np.uint8)
            pixels[100:200:10, 50] = np.arange(205, 255, 5, dtype=np.uint8)[:, None]
            path = root / "sensors" / "records_data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Files that are taken for models: bright pixels, and matchers for them and for others."""
    placed: dict[str, Any] = {}
    for name in ("bright.onnx", "matcher.onnx", "other.onnx"):
        (tmp_path / name).write_bytes(b"model")

    def extractor(path: Path, placement: Placement, *, photometric: Photometric | None = None) -> LocalExtractor:
        placed[Path(path).name] = placement
        return LocalExtractor(BrightModel(), photometric=photometric)  # type: ignore[arg-type]  # as much as is needed

    def matcher(path: str, placement: Placement) -> Matcher:
        placed[Path(path).name] = placement
        return Matcher(NearestModel("bright" if Path(path).name == "matcher.onnx" else "other"))  # type: ignore[arg-type]

    monkeypatch.setattr(LocalExtractor, "load", extractor)
    monkeypatch.setattr(front.Matcher, "load", matcher)
    return placed


def test_models_are_used_where_they_are_named(
    request_of: Any, spied: Spied, models: dict[str, Any], tmp_path: Path
) -> None:
    features, where = str(tmp_path / "bright.onnx"), Placement(threads=1)
    found = localize(request_of(features=features, placement=where, min_inliers=20))
    used = spied.given["features"]
    assert isinstance(used, ModelFeatures)
    assert (used.pixel_origin, used.extractor.strongest) == (0.5, COUNT)  # the world's principal point is in the middle
    assert (spied.given["rule"], spied.given["options"]) == (MutualMatcher(), AbsolutePoseOptions(min_inliers=20))
    assert (spied.given["verify_queries"], found.summary["query_matches"]) == (False, "raw")
    localize(request_of(features=features, query_matches="verified"))
    assert spied.given["verify_queries"]
    assert found.summary["features"] == "bright, 8-D, the first pixel's centre at 0.5"
    assert (found.summary["matcher"], found.summary["min_inliers"]) == ("mutual neighbours, ratio None", 20)
    matcher = str(tmp_path / "matcher.onnx")
    found = localize(
        request_of(features=features, matcher=matcher, max_keypoints=7, pixel_origin=0.0, photometric="clahe")
    )
    used = spied.given["features"]
    assert (used.pixel_origin, used.extractor.strongest, used.extractor.card.photometric.name) == (0.0, 7, "clahe")
    assert spied.given["rule"].takes.name == "bright"
    assert found.summary["matcher"] == f"{matcher}, m 0"
    assert (models["bright.onnx"], models["matcher.onnx"]) == (Placement(), Placement())
    localize(request_of(features=features, matcher=matcher, placement=where))
    assert models == {"bright.onnx": where, "matcher.onnx": where}


def test_sift_on_pictures_whose_light_is_normalised(request_of: Any, spied: Spied) -> None:
    localize(request_of(photometric="clahe"))
    assert spied.given["features"] == SiftFeatures(4096, photometric=Photometric("clahe"))
    assert spied.given["verify_queries"]
    assert localize(request_of(query_matches="raw")).summary["query_matches"] == "raw"
    assert not spied.given["verify_queries"]


def test_a_matcher_of_other_features_is_refused_before_an_image_is_read(
    request_of: Any, spied: Spied, models: dict[str, Any], tmp_path: Path
) -> None:
    for features, has in ((str(tmp_path / "bright.onnx"), "bright features of 8"), ("sift", "sift features of 128")):
        with pytest.raises(IncompatibleError) as caught:
            localize(request_of(features=features, matcher=str(tmp_path / "other.onnx")))
        assert str(caught.value) == (
            f"{tmp_path / 'other.onnx'}: is for other features of 8 values, but {features} has {has}; give a matcher "
            "of those, or 'mutual'"
        )
    assert spied.given == {}


def test_images_to_poses_by_models(request_of: Any, models: dict[str, Any], tmp_path: Path) -> None:
    """Nothing can be triangulated from pictures that are all alike: no pose, and no error either."""
    request = request_of(
        features=str(tmp_path / "bright.onnx"), matcher=str(tmp_path / "matcher.onnx"), methods=("2a",)
    )
    dress(request)
    found = localize(request)
    assert found.result.poses["2a"] == {"q.png": None, "r.png": None}
    assert len(list((request.output / "workspace" / "features").rglob("*.npz"))) == 1  # alike, so extracted once


def test_the_type_of_features_that_both_datasets_hold(request_of: Any, tmp_path: Path) -> None:
    request = request_of(features="made", workers=1)
    for root in (request.mapping, request.query):
        for kind in ("keypoints", "descriptors"):
            shutil.copytree(write_features(root / "made") / kind, root / "reconstruction" / kind / "made")
            shutil.rmtree(root / "made")
    found = localize(request)
    pose = found.result.poses["2b"]["q.png"]
    assert pose is not None
    assert position_error(pose, POSES["q.png"]) < 1e-2
    header = request.query / "reconstruction" / "descriptors" / "made" / "descriptors.txt"
    header.write_text(header.read_text().replace("32", "16"))
    with pytest.raises(IncompatibleError, match=r"/q: descriptors 'made' of 16 values, those of the map .*/m have 32;"):
        localize(request)
    with pytest.raises(DataError, match=r"/m: need one type of keypoints, found none"):
        localize(request_of(features="unmade"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"features": "m.onnx", "pixel_shift": 0.5}, "--pixel-shift is SIFT's"),
        ({"features": "made", "pixel_shift": 0.5}, "--pixel-shift is SIFT's"),
        ({"pixel_origin": 0.5}, "--pixel-origin is for models"),
        ({"min_inliers": 3}, "--min-inliers must be 4 or more"),
        ({"max_keypoints": 0}, "--max-keypoints must be 1 or more"),
    ],
)
def test_options_of_other_features_are_refused(wrong: dict[str, Any], message: str) -> None:
    plain: dict[str, Any] = {"mapping": Path("m"), "query": Path("q"), "output": Path("o"), "pairs": Path("p")}
    with pytest.raises(UsageError, match=f"^{message}"):
        LocalizeRequest(**plain | wrong)


def test_stored_features_have_no_light_to_normalise(request_of: Any) -> None:
    with pytest.raises(UsageError, match=r"^--photometric is for SIFT and models; stored features are as they are$"):
        localize(request_of(features="made", photometric="clahe"))


def test_retrieved_images_are_verified_and_the_best_are_kept(request_of: Any, tmp_path: Path) -> None:
    features = write_features(tmp_path / "made")
    for name, kept in (("m.png", 40), ("b.png", 60)):  # as many rows fewer are matches
        for path in (features / "keypoints" / f"{name}.kpt", features / "descriptors" / f"{name}.desc"):
            width = 8 if path.suffix == ".kpt" else 128
            path.write_bytes(path.read_bytes()[: kept * width])
    found = localize(request_of(features=str(features), methods=("top1", "2b"), verify=4, top_k=2, workers=1))
    pairs = read_pairs(tmp_path / "out" / "pairs.txt")
    assert {pair.mapping for pair in pairs} == {"a.png", "c.png"}  # m.png was the first that was retrieved
    assert {pair.query for pair in pairs} == {"q.png"}
    counts = [pair.score for pair in pairs]
    assert counts == sorted(counts, reverse=True)
    assert found.result.poses["top1"]["q.png"] == POSES[pairs[0].mapping]
    pose = found.result.poses["2b"]["q.png"]
    assert pose is not None
    assert position_error(pose, POSES["q.png"]) < 1e-2
    assert (found.summary["top_k"], found.summary["verified_of"]) == (2, 4)
    assert "verify" in found.summary["seconds"]
    assert rows_of(tmp_path / "out" / "2b")["r.png"] == "no,0,0,,,no map image was retrieved"


def test_as_many_are_retrieved_as_are_verified(request_of: Any, spied: Spied, tmp_path: Path) -> None:
    write_global_features(tmp_path / "global", "tiny", DESCRIPTORS.items(), 2)
    localize(request_of(global_features=tmp_path / "global", top_k=1, verify=3, methods=("csi",)))
    expect_retrieved(spied.given, 3)
    assert spied.given["keep_verified"] == 1
    localize(request_of(top_k=2, verify=3))
    assert spied.given["retrieved"]["q.png"] == MAP[:3]
    localize(request_of(top_k=2))
    assert (spied.given["retrieved"]["q.png"], spied.given["keep_verified"]) == (MAP[:2], None)
