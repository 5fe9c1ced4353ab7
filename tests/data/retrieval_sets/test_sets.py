"""Retrieval sets: every source gives the same schema, and what is wrong is said in one line."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.data.kapture_io import write_scene
from gloam.data.retrieval_sets.check import check_set
from gloam.data.retrieval_sets.pairing import blocks, choose_pairs, components, pairs_within, regions
from gloam.data.retrieval_sets.posed import covisible, near
from gloam.data.retrieval_sets.sets import RetrievalSet, join_sets, read_retrieval_set
from gloam.data.scene import Camera, Pose, Record, Scene
from gloam.data.sources import ImageItem
from gloam.errors import DataError, GloamError, UsageError

CIDS = [f"{index:030x}{index:02x}" for index in range(1, 7)]


def a_set(clusters: list[int], pairs: list[tuple[int, int]], **more: Any) -> RetrievalSet:
    items = tuple(ImageItem(f"{row}.jpg", Path(f"/none/{row}.jpg")) for row in range(len(clusters)))
    queries, positives = np.array(pairs, np.int64).reshape(-1, 2).T
    return RetrievalSet(items, np.array(clusters), queries, positives, **more)


def one_line(error: pytest.ExceptionInfo[Any]) -> str:
    assert isinstance(error.value, GloamError)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- the set itself


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clusters": [0, 1]}, "2 cluster labels for 3 images"),
        ({"clusters": [0.0, float("nan"), 1.0]}, r"clusters\[1\] is nan, not a whole number"),
        ({"clusters": [0, 1.5, 1]}, r"clusters\[1\] is 1.5"),
        ({"queries": ["a"], "positives": [1]}, "its first is"),
        ({"queries": [0, 1]}, "2 queries and 1 positives"),
        ({"queries": [3]}, r"queries\[0\] is 3, outside 0..2"),
        ({"positives": [-1]}, r"positives\[0\] is -1"),
        ({"conditions": ("day",)}, "1 conditions for 3 images"),
        ({"positives": [[1]]}, "of shape"),
    ],
)
def test_wrong_lists_are_refused(fields: dict[str, Any], message: str) -> None:
    items = tuple(ImageItem(name, Path(name)) for name in "abc")
    with pytest.raises(DataError, match=message) as error:
        RetrievalSet(**({"images": items, "clusters": [0, 0, 1], "queries": [0], "positives": [1]} | fields))
    one_line(error)


def test_parts_keep_whole_pairs() -> None:
    whole = a_set([0, 0, 1, 1], [(0, 1), (1, 0), (2, 3), (0, 3)], conditions=("day", "night", "day", "night"))
    part = whole.part([3, 2, 0])
    assert part.names == ["3.jpg", "2.jpg", "0.jpg"]
    assert [*zip(part.queries.tolist(), part.positives.tolist(), strict=True)] == [(1, 0), (2, 0)]
    assert part.conditions == ("night", "day", "day")


def pair_conditions(whole: RetrievalSet) -> list[tuple[str, str]]:
    """Conditions of query and positive, pair by pair."""
    assert whole.conditions is not None
    pairs = zip(whole.queries, whole.positives, strict=True)
    return [(whole.conditions[query], whole.conditions[positive]) for query, positive in pairs]


def test_identity_follows_content() -> None:
    first = a_set([0, 0, 1, 1], [(0, 1)])
    assert first.identity() == a_set([0, 0, 1, 1], [(0, 1)]).identity()
    others = [
        a_set([0, 0, 0, 1], [(0, 1)]),
        a_set([0, 0, 1, 1], [(1, 0)]),
        a_set([0, 0, 1, 1], [(0, 1)], conditions=tuple("aabb")),
    ]
    assert len({json.dumps(part.identity()) for part in [first, *others]}) == 4


def test_joined_sets_keep_their_clusters_apart() -> None:
    joined = join_sets([a_set([5, 5, 9], [(0, 1)]), a_set([5, 5], [(1, 0)])])
    assert joined.clusters.tolist() == [0, 0, 1, 2, 2]
    assert joined.queries.tolist() == [0, 4]


def test_unknown_kinds_and_arguments() -> None:
    with pytest.raises(UsageError, match="did you mean kapture"):
        read_retrieval_set("kaptur", path="x")
    with pytest.raises(UsageError, match=r"unexpected keyword argument 'sed'; it takes folder, seeds"):
        read_retrieval_set("town", sed=1)


def test_a_missing_image_is_named() -> None:
    with pytest.raises(DataError, match=r"/none/1.jpg: cannot be read: No such file"):
        a_set([0, 0], [(0, 1)]).image(1)


# --- pairs and clusters


@pytest.mark.parametrize("count", [1, 2, 5])
def test_pairs_within_clusters(count: int) -> None:
    clusters = np.array([2, 0, 2, 1, 0, 2, 7], np.int64)
    queries, positives = pairs_within(clusters, count, seed=3)
    assert (clusters[queries] == clusters[positives]).all()
    assert (queries != positives).all()
    pairs = list(zip(queries.tolist(), positives.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    sizes = {0: 2, 1: 1, 2: 3, 7: 1}
    expected = [min(count, sizes[int(label)] - 1) for label in clusters]
    assert np.bincount(queries, minlength=7).tolist() == expected
    again = pairs_within(clusters, count, seed=3)
    assert np.array_equal(again[0], queries)
    assert np.array_equal(again[1], positives)


def test_chosen_pairs_are_among_the_given() -> None:
    queries = np.repeat(np.arange(20), 9)
    positives = np.tile(np.arange(9), 20)
    q, p = choose_pairs(queries, positives, 2, seed=1)
    assert np.bincount(q).tolist() == [2] * 20
    assert len(set(zip(q.tolist(), p.tolist(), strict=True))) == 40


@pytest.mark.parametrize("seed", range(5))
def test_components_equal_a_plain_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = rng.integers(0, 40, (25, 2))
    labels = components(40, edges[:, 0], edges[:, 1])
    group = list(range(40))
    for a, b in edges.tolist():
        group = [group[a] if value == group[b] else value for value in group]
    assert all((labels[i] == labels[j]) == (group[i] == group[j]) for i, j in itertools.combinations(range(40), 2))


@pytest.mark.parametrize("seed", range(3))
def test_clusters_of_positions_are_apart(seed: int) -> None:
    centers = np.random.default_rng(seed).uniform(0, 60, (120, 3)) * (1, 1, 0.05)
    for labels in (regions(centers, 4.0), blocks(centers, 12.0, 4.0)):
        assert len(np.unique(labels[labels >= 0])) > 1
        for i, j in itertools.combinations(np.flatnonzero(labels >= 0), 2):
            if labels[i] != labels[j]:
                assert np.linalg.norm(centers[i] - centers[j]) >= 4.0


# --- Retrieval-SfM and Google Landmarks


def sfm_part(**changed: Any) -> dict[str, Any]:
    part = {"cids": CIDS, "cluster": [0, 0, 1, 1, 2, 2], "qidxs": [0, 2, 4, 4], "pidxs": [1, 3, 5, 4]}
    return {key: value for key, value in (part | changed).items() if value is not None}


def test_sfm_pickle_and_layout(tmp_path: Path) -> None:
    path = tmp_path / "retrieval-SfM.pkl"
    path.write_bytes(pickle.dumps({"train": sfm_part(cluster=np.array([0, 0, 1, 1, 2, 2])), "val": sfm_part()}, 2))
    (tmp_path / "night.txt").write_text(f"a/b/c/{CIDS[1]}\n")
    (tmp_path / "day.txt").write_text(f"{CIDS[0]}\n")
    found = read_retrieval_set(
        "sfm", path=path, images=tmp_path / "ims", day=tmp_path / "day.txt", night=tmp_path / "night.txt"
    )
    assert found.names == CIDS
    cid = CIDS[3]
    assert found.images[3].path == tmp_path / "ims" / cid[30:] / cid[28:30] / cid[26:28] / cid
    assert found.conditions == ("day", "night", *["unknown"] * 4)
    (tmp_path / "other.txt").write_text("another\n")
    with pytest.raises(DataError, match=r"other\.txt: names none of the set's 6 images") as error:
        read_retrieval_set("sfm", path=path, images=tmp_path, day=tmp_path / "other.txt")
    one_line(error)
    (tmp_path / "both.txt").write_text(f"# ids\n{CIDS[1]}\n{CIDS[0]}\n")
    with pytest.raises(DataError, match=rf"both\.txt:3: {CIDS[0]} is in the list of the day, too"):
        read_retrieval_set("sfm", path=path, images=tmp_path, day=tmp_path / "day.txt", night=tmp_path / "both.txt")
    assert len(read_retrieval_set("nd", path=path, images=tmp_path, set_name="val")) == 6
    with pytest.raises(DataError, match="has no part 'test'; its parts are train, val") as error:
        read_retrieval_set("sfm", path=path, images=tmp_path, set_name="test")
    one_line(error)
    findings = {finding.what.split(" (")[0]: finding for finding in check_set(found)}
    assert findings["pairs are of an image with itself"].rows == (f"pair 3 ({CIDS[4]}, {CIDS[4]})",)
    assert not findings["pairs are of an image with itself"].fatal
    assert len(findings["images cannot be read"].rows) == 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (sfm_part(pidxs=None), "has no pidxs"),
        (sfm_part(qidxs=[0, 2, 4, 9]), r"queries\[3\] is 9, outside 0..5"),
        (sfm_part(cids=[1, *CIDS[1:]]), r"cids\[0\] is 1"),
        (sfm_part(cluster=[0.0, 0, 1, 1, 2, float("nan")]), r"cluster\[5\] is nan"),
        ([1], "no dictionary"),
        ({"train": sfm_part(cids=[Path("x")])}, r"refers to pathlib\S*Path"),
    ],
)
def test_wrong_sfm_pickles(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message) as error:
        read_retrieval_set("sfm", path=path, images=tmp_path)
    assert str(path) in one_line(error)


@pytest.mark.parametrize("clean", [False, True])
def test_landmarks(tmp_path: Path, clean: bool) -> None:
    text = (
        "landmark_id,images\n7,aaa0 abc1\n9,bbb2\n" if clean else "id,url,landmark_id\naaa0,u,7\nabc1,u,7\nbbb2,u,9\n"
    )
    (tmp_path / "train.csv").write_text(text)
    found = read_retrieval_set("gld_csv", path=tmp_path / "train.csv", images=tmp_path / "images")
    assert found.names == ["a/a/a/aaa0.jpg", "a/b/c/abc1.jpg", "b/b/b/bbb2.jpg"]
    assert found.clusters.tolist() == [0, 0, 1]
    assert found.queries.tolist() == [0, 1]
    assert found.left_out == {}
    without = read_retrieval_set("gld_csv", path=tmp_path / "train.csv", images=tmp_path, singles="drop")
    assert (len(without), without.left_out) == (2, {"alone in its cluster": 1})
    with pytest.raises(DataError, match=r"1 clusters have one image, so no positive: 9 \(bbb2\)"):
        read_retrieval_set("gld_csv", path=tmp_path / "train.csv", images=tmp_path, singles="refuse")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\na,b\n", "columns are label, name; expected id,url,landmark_id"),
        ("id,url,landmark_id\na,u,\n", "1 bad rows: line 2: id 'a', landmark ''"),
        ("id,url,landmark_id\na,u,1\na,u,2\n", r"line 3: a again \(first in line 2\)"),
    ],
)
def test_wrong_landmark_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_retrieval_set("gld_csv", path=tmp_path / "t.csv", images=tmp_path)
    one_line(error)


# --- poses


def a_scene(root: Path, places: list[tuple[float, float]], headings: list[float] | None = None) -> Scene:
    """Cameras at (x, y) that look along a heading in degrees."""
    scene = Scene(root, cameras={"cam": Camera("PINHOLE", 4, 4, (4.0, 4.0, 2.0, 2.0))})
    for index, (x, y) in enumerate(places):
        angle = np.radians((headings or [0.0] * len(places))[index])
        forward = np.array([np.cos(angle), np.sin(angle), 0])
        right = np.array([np.sin(angle), -np.cos(angle), 0])
        rotation = np.stack([right, np.cross(forward, right), forward])
        name = f"{index:02d}.jpg"
        scene.records[name] = Record("cam", index)
        scene.poses[name] = Pose.from_matrix(rotation, -rotation @ np.array([x, y, 0.0]))
    write_scene(scene)
    return scene


def test_positives_by_distance_and_heading(tmp_path: Path) -> None:
    a_scene(tmp_path, [(0, 0), (5, 0), (5, 1), (100, 0), (104, 0)], [0, 10, 180, 0, 359])
    found = read_retrieval_set("kapture", path=tmp_path)
    pairs = set(zip(found.queries.tolist(), found.positives.tolist(), strict=True))
    assert pairs == {(0, 1), (1, 0), (3, 4), (4, 3)}
    assert found.clusters.tolist() == [0, 0, 0, 1, 1]
    assert found.images[0].path == tmp_path / "sensors" / "records_data" / "00.jpg"
    with pytest.raises(DataError, match="all images are one cluster, which has no negatives; give side METRES"):
        read_retrieval_set("kapture", path=tmp_path, apart=200.0)


def test_images_between_blocks_are_counted(tmp_path: Path) -> None:
    a_scene(tmp_path, [(x, 0) for x in range(0, 60, 2)])
    found = read_retrieval_set("kapture", path=tmp_path, side=20.0, apart=8.0)
    assert found.left_out == {"in a gap between blocks": 30 - len(found)}
    assert 0 < len(found) < 30


def test_near_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    centers = rng.uniform(0, 20, (60, 3))
    directions = rng.normal(size=(60, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    found = set(zip(*(part.tolist() for part in near(centers, directions, 8.0, 60.0)), strict=True))
    angle = np.degrees(np.arccos(np.clip(directions @ directions.T, -1, 1)))
    expected = {
        (i, j)
        for i, j in itertools.permutations(range(60), 2)
        if np.linalg.norm(centers[i] - centers[j]) <= 8.0 and angle[i, j] <= 60.0
    }
    assert found == expected


@pytest.mark.parametrize("kind", [", sift", ""])
def test_positives_by_covisibility(tmp_path: Path, kind: str) -> None:
    scene = a_scene(tmp_path, [(0, 0), (1, 0), (2, 0), (90, 0), (91, 0)])
    lines = [f"{point}{kind}, 00.jpg, 1, 01.jpg, 2, 01.jpg, 3" for point in range(3)]
    lines += [f"{point}{kind}, 03.jpg, 1, 04.jpg, 2" for point in range(3, 6)] + [f"9{kind}, 01.jpg, 1, 02.jpg, 3"]
    (tmp_path / "reconstruction").mkdir()
    (tmp_path / "reconstruction" / "observations.txt").write_text("# kapture\n" + "\n".join(lines) + "\n")
    first, second = covisible([scene], 3)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == {(0, 1), (1, 0), (3, 4), (4, 3)}
    found = read_retrieval_set("kapture", path=tmp_path, positives="covisibility", shared_points=3)
    assert found.clusters.tolist() == [0, 0, 0, 1, 1]
    assert sorted(found.queries.tolist()) == [0, 1, 3, 4]
    (tmp_path / "reconstruction" / "observations.txt").write_text(f"1{kind}, 77.jpg, 1\n")
    with pytest.raises(DataError, match=r"observations.txt:1: image '77.jpg' is not in records_camera.txt") as error:
        covisible([scene], 1)
    one_line(error)


def test_wrong_poses(tmp_path: Path) -> None:
    scene = a_scene(tmp_path, [(0, 0), (5, 0)])
    path = tmp_path / "sensors" / "trajectories.txt"
    text = path.read_text().splitlines()
    path.write_text("\n".join([*text[:-1], text[-1].rpartition(",")[0] + ", nan"]))
    with pytest.raises(DataError, match=r"trajectories.txt:4: the pose is malformed") as error:
        read_retrieval_set("kapture", path=tmp_path)
    one_line(error)
    path.write_text("\n".join(text[:-1]))
    with pytest.raises(DataError, match="1 of 2 images have no pose"):
        read_retrieval_set("kapture", path=tmp_path)
    with pytest.raises(DataError, match="covisibility needs it"):
        covisible([scene], 1)
    with pytest.raises(UsageError, match="distance nan: must be a number above 0"):
        read_retrieval_set("kapture", path=tmp_path, distance=float("nan"))


def test_streets_in_memory() -> None:
    found = read_retrieval_set(
        "town", seeds=(901,), places=2, views_per_place=2, conditions=("day", "night"), size=(48, 40)
    )
    assert found.image(0).shape == (40, 48, 3)
    assert found.conditions == ("day", "night", "day", "night")
    assert found.clusters.tolist() == [0, 0, 1, 1]
    assert pair_conditions(found).count(("night", "day")) == 2
    assert found.identity()["sha256"]


def test_a_town_on_disk(tmp_path: Path) -> None:
    scene = a_scene(tmp_path / "mapping", [(x, 0) for x in range(0, 60, 3)])
    a_scene(tmp_path / "query", [(x + 1, 1) for x in range(0, 60, 6)])
    (tmp_path / "query" / "conditions").mkdir()
    (tmp_path / "query" / "conditions" / "night.txt").write_text("".join(f"{row:02d}.jpg\n" for row in range(10)))
    found = read_retrieval_set("town", folder=tmp_path)
    assert set(found.conditions or ()) == {"day", "night"}
    assert found.cluster_count == 4
    assert len(found) < len(scene.records) + 10  # those in the gaps are left out
    night = [row for row, pair in zip(found.queries, pair_conditions(found), strict=True) if pair == ("night", "day")]
    assert night
    assert all(found.names[row].startswith("query/") for row in night)
    with pytest.raises(DataError, match="holds no town"):
        read_retrieval_set("town", folder=tmp_path / "query")
    with pytest.raises(UsageError, match="give a folder, or the seeds"):
        read_retrieval_set("town")
