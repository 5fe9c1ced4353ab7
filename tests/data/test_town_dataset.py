"""The written town: kapture that kapture reads, exact names, resume, ground truth, one town per folder."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from gloam.cli import town as verb
from gloam.data.images import decode_image
from gloam.data.kapture_io import read_conditions, read_scene
from gloam.data.sheets import GAP, HEADING, LEFT
from gloam.data.town import TownConfig, render_training_views, sample_places, write_town
from gloam.data.town.covisibility import JUNK, POSITIVE, covisible_share, grade
from gloam.data.town.dataset import CHECKSUMS, camera_of, plan_shots
from gloam.data.town.processes import watching
from gloam.data.town.sampling import camera_pose
from gloam.data.town.street import Street, pinhole
from gloam.errors import StoreError, UsageError
from tests.damage import flip

TINY = TownConfig(
    seed=3,
    length=30,
    width=160,
    height=120,
    focal=131.25,
    queries=3,
    conditions=("day", "night"),
    texels=12,
    depth=True,
)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]  # a module's fixture, used below
    return write_town(tmp_path_factory.mktemp("town") / "out", TINY)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_layout_on_disk(town) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    mapping = read_scene(town.folder / "mapping", need_poses=True, need_cameras=True)
    query = read_scene(town.folder / "query", need_poses=True, need_cameras=True)
    assert (len(mapping.names), len(query.names)) == (24, 6)
    assert mapping.names[0] == "mapping/cam0/000000.jpg"
    assert read_conditions(town.folder / "query" / "conditions") == town.conditions
    assert town.conditions["night"][0] == "night/cam0/200000.jpg"
    assert query.camera(query.names[0]).params == pytest.approx((131.25, 131.25, 80, 60))
    for scene in (mapping, query):
        for name in scene.names:
            assert decode_image(scene.image_path(name)).shape == (120, 160, 3)
    assert json.loads((town.folder / "town.json").read_text())["content_hash"] == TINY.content_hash()


def test_pose_depth_and_image_belong_together(town) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    scene = read_scene(town.folder / "query", need_poses=True)
    street = Street(TINY.seed, TINY.length, TINY.texels)
    name = town.conditions["day"][1]
    depth = np.load(town.folder / "query" / "depth" / Path(name).with_suffix(".npy"))
    assert depth.dtype == np.float32
    again = street.render(scene.poses[name], "day", scene.camera(name), noise_seed=scene.records[name].timestamp)
    assert depth == pytest.approx(again.depth, abs=1e-4)
    assert np.abs(decode_image(scene.image_path(name)).astype(int) - again.image).mean() < 8  # JPEG


def test_ground_truth(town) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    truth = json.loads(town.ground_truth.read_text())
    assert truth["imlist"] == town.mapping.names
    assert truth["qimlist"] == [name for names in town.conditions.values() for name in names]
    assert truth["conditions"] == town.conditions
    assert len(truth["gnd"]) == 6
    for row in truth["gnd"]:
        assert 1 <= len(row["ok"]) < 12  # something to find, and not half of the map
        assert not set(row["ok"]) & set(row["junk"])
    assert truth["gnd"][:3] == truth["gnd"][3:]  # the same poses by night


def test_covisibility_is_what_depth_says() -> None:
    street, camera = Street(3, 30, 8), pinhole(128, 96)
    here, there = camera_pose(10, 0, 1.6, 0), camera_pose(10, 0, 1.6, 180)
    depth = [street.depth(pose, camera) for pose in (here, there)]
    assert covisible_share(depth[0], here, depth[0], here, camera) > 0.99
    assert covisible_share(depth[0], here, depth[1], there, camera) == 0.0
    beside = camera_pose(10.5, 0.5, 1.6, 8)
    assert covisible_share(depth[0], here, street.depth(beside, camera), beside, camera) > 0.5
    assert grade([1.0, POSITIVE, JUNK, JUNK - 0.01]) == {"ok": [0, 1], "junk": [2]}


def test_resume_renders_only_what_is_missing(town) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    before = contents(town.folder)
    again = write_town(town.folder, TINY)
    assert (again.rendered, again.reused) == (0, 30)
    assert contents(town.folder) == before
    victim = town.query.image_path(town.conditions["night"][2])
    victim.unlink()
    (victim.parent / ".tmp-killed").write_bytes(b"half an image")
    resumed = write_town(town.folder, TINY)
    (victim.parent / ".tmp-killed").unlink()
    assert (resumed.rendered, resumed.reused) == (1, 29)
    assert contents(town.folder) == before


def test_what_was_harmed_is_named_and_rendered_again(town) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    before = contents(town.folder)
    first, second, third = (town.query.image_path(name) for name in town.conditions["night"])
    flip(first)
    swapped = second.read_bytes()
    second.write_bytes(third.read_bytes())
    third.write_bytes(swapped)
    flip(town.folder / "ground_truth.json")
    again = write_town(town.folder, TINY)
    assert again.damaged == tuple(town.conditions["night"])
    assert contents(town.folder) == before
    (town.folder / CHECKSUMS).unlink()  # as one of before: what is there is kept
    assert write_town(town.folder, TINY).reused == 30
    assert contents(town.folder) == before


def test_two_processes_write_the_same_bytes(town, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    write_town(tmp_path / "two", TINY, workers=2)
    assert contents(tmp_path / "two") == contents(town.folder)


def test_another_town_is_not_mixed_in(town) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    with pytest.raises(StoreError, match="another config"):
        write_town(town.folder, dataclasses.replace(TINY, seed=4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing": 1.5}, "at least 2 metres"),
        ({"conditions": ("day", "fog")}, "'fog' is unknown"),
        ({"conditions": ()}, "at least one"),
        ({"length": 5.0}, "30 to 1000"),
        ({"width": 8}, "32 to 4096"),
        ({"seed": -1}, "0 or larger"),
    ],
)
def test_configs_that_give_no_town(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(TINY, **change)


def test_the_verb_and_its_contact_sheet(town, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # see the fixture
    parser = argparse.ArgumentParser()
    parser.set_defaults(leaf=parser)  # as every verb has it
    verb.add_arguments(parser)
    parser.set_defaults(json=True)  # which every verb has
    sheet = tmp_path / "sheet.png"
    options = "--seed 5 --length 30 --size 64x48 --queries 2 --conditions day,night --workers 1"
    arguments = parser.parse_args([str(tmp_path / "cli"), *options.split(), "--contact-sheet", str(sheet)])
    report = verb.run(arguments)
    assert report.data["mapping_images"] == 24
    assert report.data["query_images"] == {"day": 2, "night": 2}
    assert cv2.imread(str(sheet)).shape == (HEADING + 2 * (288 + GAP), LEFT + 2 * (384 + GAP), 3)
    assert verb.run(arguments).data["rendered"] == 0
    arguments.size = "64"
    with pytest.raises(UsageError, match="WIDTHxHEIGHT"):
        verb.run(arguments)


@pytest.mark.slow
def test_every_query_of_the_default_town_matches_its_map_by_day() -> None:
    config = dataclasses.replace(TownConfig(), conditions=("day",), queries=6)
    street, camera = Street(config.seed, config.length, config.texels), camera_of(config)
    shots = plan_shots(config)
    mapping = [shot for shot in shots if shot.split == "mapping"]
    sift, matcher = cv2.SIFT_create(2000), cv2.BFMatcher()
    counts = []
    for query in [shot for shot in shots if shot.split == "query"][::2]:
        order = sorted(mapping, key=lambda m: np.linalg.norm(m.pose.center - query.pose.center))
        facing = [m for m in order if (m.pose.rotation @ query.pose.rotation.T).trace() > 2.5][:3]
        pictures = [
            street.render(shot.pose, "day", camera, noise_seed=shot.timestamp).image for shot in (query, *facing)
        ]
        features = [sift.detectAndCompute(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), None)[1] for p in pictures]
        good = [
            sum(a.distance < 0.8 * b.distance for a, b in matcher.knnMatch(features[0], f, 2)) for f in features[1:]
        ]
        counts.append(sum(good))
    assert min(counts) > 60
    assert np.median(counts) > 200


def test_training_views_are_pairs_across_conditions() -> None:
    views = render_training_views(11, places=4, views_per_place=3, conditions=("day", "night"), size=(96, 72))
    assert len(views.images) == len(views.poses) == 12
    assert views.images[0].shape == (72, 96, 3)
    assert views.places.tolist() == [p for p in range(4) for _ in range(3)]
    assert views.conditions[:3] == ["day", "night", "day"]
    again = render_training_views(11, places=4, views_per_place=3, conditions=("day", "night"), size=(96, 72))
    assert all(np.array_equal(a, b) for a, b in zip(views.images, again.images, strict=True))
    with pytest.raises(UsageError, match="at least one place"):
        render_training_views(11, places=0, views_per_place=3)


def test_views_of_a_place_overlap_more_than_views_of_two() -> None:
    poses, labels = sample_places(5, places=6, views_per_place=3, length=30)
    street, camera = Street(5, 30, 8), pinhole(96, 72)
    depth = [street.depth(pose, camera) for pose in poses]
    same, different = [], []
    for i in range(len(poses)):
        for j in range(len(poses)):
            if i != j:
                share = covisible_share(depth[i], poses[i], depth[j], poses[j], camera)
                (same if labels[i] == labels[j] else different).append(share)
    assert np.median(same) > 0.4
    assert np.median(different) < 0.15


def test_files_of_other_processes_are_counted_as_they_are_written(tmp_path: Path) -> None:
    counts: list[int] = []
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    os.utime(old, ns=(1, 1))
    look = watching([old, new, tmp_path / "never"], counts.append)
    look()
    new.touch()
    look()
    old.write_text("again")
    look()
    look()
    assert counts == [0, 1, 1, 0]
