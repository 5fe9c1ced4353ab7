"""From datasets on disk to poses on disk: what is asked for reaches the paradigms, what they find reaches the files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.data.kapture_io import read_scene, write_global_features, write_scene
from gloam.data.scene import Pose, Record, Scene, position_error
from gloam.errors import DataError, IncompatibleError, StoreError, UsageError
from gloam.eval.localization import localize as module
from gloam.eval.localization.benchmark import LocalizationResult, retrieve
from gloam.eval.localization.localize import LocalizeRequest, localize
from gloam.runtime.descriptors.store import DescriptorStore, Job, Row, ShardWriter
from gloam.runtime.localization.features import KaptureFeatures, SiftFeatures
from tests.runtime.localization.exact_world import MAP, POSES, Projected, scenes

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

    def __call__(self, mapping: Scene, query: Scene, retrieved: Any, features: Any, methods: Any, **named: Any) -> Any:
        names = ("mapping", "query", "retrieved", "features", "methods")
        self.given = dict(zip(names, (mapping, query, retrieved, features, methods), strict=True)) | named
        unusable = Pose((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
        poses: dict[str, dict[str, Pose | None]] = {
            method: {"q.png": POSES["q.png"] if method != "2a" else None, "r.png": unusable} for method in methods
        }
        return LocalizationResult(poses, {}, {"2b": 1.5}, 12, 0.25)


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
    assert list(found.summary["methods"]) == ["2b", "top1"]
    assert found.summary["map"]["points"] == found.result.map_points > 80
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == found.to_dict()
    assert (tmp_path / "out" / "workspace" / "poses").is_dir()
    assert f"2b    1 of 2 queries localized: {tmp_path / 'out' / '2b'}" in found.to_text()


def test_what_is_asked_for_reaches_the_paradigms(request_of: Any, spied: Spied, tmp_path: Path) -> None:
    localize(request_of())
    given = spied.given
    assert (given["methods"], given["ratio"], given["seed"], given["map_pairs"]) == (("2b",), 0.85, 0, None)
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
    assert spied.given["ratio"] is None


def test_what_is_found_reaches_the_files(request_of: Any, spied: Spied, tmp_path: Path) -> None:
    found = localize(request_of(methods=("2b", "2a"), seed=2, top_k=3, ltvl_style="robotcar"))
    out = tmp_path / "out"
    assert found.output == out
    assert found.to_dict() == {
        "seed": 2,
        "top_k": 3,
        "seconds": {"2b": 1.5},
        "methods": {
            "2b": {"queries": 2, "localized": 1, "folder": str(out / "2b")},
            "2a": {"queries": 2, "localized": 0, "folder": str(out / "2a")},
        },
        "map": {"points": 12, "reprojection_error_px": 0.25},
    }
    assert found.to_text().splitlines() == [
        f"2b    1 of 2 queries localized: {out / '2b'}",
        f"2a    0 of 2 queries localized: {out / '2a'}",
        "map   12 points, mean reprojection error 0.25 px",
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
    localize(request_of(global_features=tmp_path / "zero"))
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
    with pytest.raises(UsageError, match=r"--top-k must be 1|give one of --pairs|instead of --pairs"):
        LocalizeRequest(**plain | wrong)
