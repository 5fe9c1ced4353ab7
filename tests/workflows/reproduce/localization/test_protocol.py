"""Retrieval within parts of a map, one map for all rows, the three methods, and cameras on a rig."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from gloam.data.scene import position_error
from gloam.errors import DataError, UsageError
from gloam.eval.localization.benchmark import Descriptors
from gloam.workflows.reproduce.localization import protocol as module
from gloam.workflows.reproduce.localization.protocol import Protocol, retrieve_within
from tests.eval.localization.benchmark_sets import robotcar
from tests.runtime.localization import exact_world
from tests.workflows.reproduce.localization.exact_set import descriptors, localizer


def test_results_are_named_for_method_and_number_of_images() -> None:
    assert list(Protocol().labels) == ["top-1", "2a top-20", "2b top-20"]
    found = Protocol(top_k=10, more_k=(50, 1, 10)).labels
    assert list(found) == ["top-1", "2a top-10", "2b top-10", "2b top-1", "2a top-50", "2b top-50"]  # 2a needs two
    assert found["2b top-50"] == ("2b", 50)
    for wrong in ({"top_k": 0}, {"more_k": (0,)}):
        with pytest.raises(UsageError, match="needs 1 retrieved image or more"):
            Protocol(**wrong)


def test_retrieval_stays_within_what_is_asked_for() -> None:
    benchmark, truth = robotcar()
    rng = np.random.default_rng(0)
    names = [*benchmark.mapping.names, *truth]
    rows = rng.normal(size=(len(names), 8)).astype(np.float32)
    known = Descriptors(dict(zip(names, rows / np.linalg.norm(rows, axis=1, keepdims=True), strict=True)))
    asked = benchmark.scored_queries[:5]
    every = retrieve_within(benchmark, benchmark.query, asked, known, 20, "map")
    assert {len(images) for images in every.values()} == {20}
    assert {image.split("/")[1] for images in every.values() for image in images} == {"left", "rear", "right"}
    own = retrieve_within(benchmark, benchmark.query, asked, known, 20, "camera")
    assert {image.split("/")[1] for images in own.values() for image in images} == {"rear"}
    for name in asked:  # the order is that of the whole map
        assert own[name][:3] == [image for image in every[name] if "/rear/" in image][:3]
    with pytest.raises(UsageError, match="is not cut into locations; retrieve within the map"):
        retrieve_within(benchmark, benchmark.query, asked, known, 20, "location")
    places = {name: "1" if int(Path(name).stem) % 20000 < 8000 else "2" for name in names}
    placed = dataclasses.replace(benchmark, locations=places | {asked[0]: "9"})
    both = retrieve_within(placed, placed.query, asked, known, 50, "camera-and-location")
    assert both.pop(asked[0]) == []  # its location has no map
    for name, images in both.items():
        assert images
        assert {(places[image], image.split("/")[1]) for image in images} == {(places[name], "rear")}


def test_every_method_finds_the_query_and_one_map_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    build = module.fixed_map
    monkeypatch.setattr(module, "fixed_map", lambda *given: made.append(1) or build(*given))
    whole = localizer(tmp_path)
    assert whole.names == ["lost.png", "q.png"]
    retrieved = {"q.png": ["m.png", "a.png", "b.png", "c.png"], "lost.png": []}
    true = exact_world.POSES["q.png"]
    assert whole.poses("top-1", retrieved) == {"q.png": exact_world.POSES["m.png"], "lost.png": None}
    for label in ("2a top-4", "2b top-4"):
        found = whole.poses(label, retrieved)
        assert found["q.png"] is not None
        assert position_error(found["q.png"], true) < 1e-2
        assert found["lost.png"] is None
    other = whole.poses("2b top-4", {"q.png": ["c.png", "b.png"], "lost.png": ["m.png"][:0]})
    assert other["q.png"] is not None
    assert made == [1]  # for every retrieval
    assert "points from" in whole.world[1]
    again = localizer(tmp_path)
    points, said = again.world
    assert np.array_equal(points.points, whole.world[0].points)
    assert {name: rows.tolist() for name, rows in points.observed.items()} == {
        name: rows.tolist() for name, rows in whole.world[0].observed.items()
    }
    assert said == whole.world[1]
    assert again.poses("2b top-4", retrieved) == whole.poses("2b top-4", retrieved)
    with pytest.raises(DataError, match=r"retrieved image 'x\.png' has no pose"):
        whole.poses("top-1", {"q.png": ["x.png"]})


def test_a_damaged_map_is_made_again(tmp_path: Path) -> None:
    first = localizer(tmp_path).world[0]
    (kept,) = (tmp_path / "workspace/maps").iterdir()
    kept.write_bytes(kept.read_bytes()[:-60])
    again = localizer(tmp_path).world[0]
    assert np.array_equal(again.points, first.points)
    assert kept.stat().st_size > 100


def test_cameras_on_a_rig_are_localized_with_those_that_are_scored(tmp_path: Path) -> None:
    benchmark, truth = robotcar()
    given = localizer(tmp_path)
    given.benchmark, given.query = benchmark, benchmark.query
    assert given.names == benchmark.scored_queries
    first = next(iter(truth.values()))
    rig = dict.fromkeys(("left", "rear", "right"), first)
    given.benchmark = dataclasses.replace(benchmark, rig=rig)
    for way in ("fill", "joint"):
        given.protocol = Protocol(rig=way)  # type: ignore[arg-type]  # one of its values
        assert given.names == benchmark.query.names


def test_descriptors_of_the_exact_set_retrieve_in_their_order(tmp_path: Path) -> None:
    whole = localizer(tmp_path)
    found = retrieve_within(whole.benchmark, whole.query, ["q.png"], descriptors("bacm"), 4, "map")
    assert found == {"q.png": ["b.png", "a.png", "c.png", "m.png"]}
