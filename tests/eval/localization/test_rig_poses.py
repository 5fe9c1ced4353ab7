"""Queries on a rig: left alone, filled, or posed together; refused where no rig is stated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gloam.data.kapture_io import write_rig, write_scene
from gloam.data.scene import Pose, Record, Scene, position_error
from gloam.errors import DataError, UsageError
from gloam.eval.localization.request import LocalizeRequest, opened
from gloam.eval.localization.rig_poses import pose_rigs
from gloam.runtime.localization.colmap import AbsolutePoseOptions
from gloam.runtime.localization.maps.mapping import PairMatcher, build_map
from tests.runtime.localization import exact_world

MOUNTS = {"one": Pose((1, 0, 0, 0), (0.3, 0, 0)), "two": Pose((1, 0, 0, 0), (-0.3, 0, 0))}
RETRIEVED = {"q.png": exact_world.MAP, "r.png": exact_world.MAP}


@pytest.fixture
def matcher(tmp_path: Path) -> Iterator[PairMatcher]:
    """Of two cameras on a rig, the second of which stands where the rig says."""
    exact = exact_world.matcher(tmp_path)
    records = {"q.png": Record("one", 3), "r.png": Record("two", 3)}
    rig = exact_world.POSES["q.png"].seen_from(MOUNTS["one"].inverse)
    exact_world.POSES["r.png"] = rig.seen_from(MOUNTS["two"])
    query = Scene(tmp_path / "q", dict.fromkeys(MOUNTS, exact_world.CAMERA), records)
    yield dataclasses.replace(exact, query=query)
    del exact_world.POSES["r.png"]


@pytest.mark.parametrize("way", ["off", "fill", "joint"])
def test_a_rig_is_left_filled_or_posed_together(matcher: PairMatcher, way: str) -> None:
    pairs = [(one, other) for one in exact_world.MAP for other in exact_world.MAP if one < other]
    world = build_map(matcher, pairs)
    alone = {"q.png": exact_world.POSES["q.png"], "r.png": None}
    with ThreadPoolExecutor(1) as pool:
        given = (matcher, MOUNTS, alone, {"q.png": 30}, RETRIEVED, world, AbsolutePoseOptions(), pool)
        found = pose_rigs(way, *given)  # type: ignore[arg-type]  # one of its values
    if way == "off":
        assert found == alone
        return
    other = found["r.png"]
    assert other is not None
    assert position_error(other, exact_world.POSES["r.png"]) < (1e-9 if way == "fill" else 1e-2)
    assert (found["q.png"] is alone["q.png"]) == (way == "fill")


def test_a_camera_for_which_nothing_was_retrieved_has_its_pose_from_the_others(matcher: PairMatcher) -> None:
    world = build_map(matcher, [(one, other) for one in exact_world.MAP for other in exact_world.MAP if one < other])
    alone = {"q.png": exact_world.POSES["q.png"], "r.png": None}
    for retrieved in ({"q.png": exact_world.MAP}, {"q.png": exact_world.MAP, "r.png": []}):
        with ThreadPoolExecutor(1) as pool:
            given = (matcher, MOUNTS, alone, {"q.png": 30}, retrieved, world, AbsolutePoseOptions(), pool)
            found = pose_rigs("joint", *given)  # type: ignore[arg-type]  # mixed
        assert found["r.png"] is not None
        assert position_error(found["r.png"], exact_world.POSES["r.png"]) < 1e-2


def test_a_rig_is_asked_of_queries_that_have_one(tmp_path: Path) -> None:
    mapping, query = exact_world.scenes(tmp_path)
    for scene in (mapping, query):
        write_scene(scene)
        for name in scene.names:
            exact_world.put(scene, name, (640, 480))
    (tmp_path / "pairs.txt").write_text("q.png m.png\n")
    request = LocalizeRequest(
        tmp_path / "m", tmp_path / "q", tmp_path / "out", pairs=tmp_path / "pairs.txt", rig="fill"
    )
    with pytest.raises(DataError, match=r"states no rig, or several, in sensors/rigs\.txt, and --rig fill needs one"):
        opened(request)
    write_rig(tmp_path / "q", "car", MOUNTS)
    assert opened(request).mounts == MOUNTS
    assert opened(dataclasses.replace(request, rig="off")).mounts == {}
    with pytest.raises(UsageError, match="--rig joint is for methods 2a and 2b"):
        dataclasses.replace(request, rig="joint", methods=("top1",))
