"""Poses in a COLMAP map: by its own points where the features are its own, anew else, in whatever unit it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.cli.main import main
from gloam.data.hloc_io import ImageFeatures, write_hloc_features
from gloam.data.kapture_io import write_scene
from gloam.data.scene import Pose, Scene, position_error, rotation_error
from gloam.errors import DataError, UsageError
from gloam.eval.localization.localize import Localization, estimate, localize
from gloam.eval.localization.request import LocalizeRequest
from gloam.runtime.localization.features.sources import SiftFeatures
from gloam.runtime.localization.matches.mutual import MutualMatcher
from tests.eval.localization.test_localize import Spied, spied, write_features
from tests.runtime.localization.colmap_files import write_binary_model, write_database, write_images, write_text_model
from tests.runtime.localization.exact_world import CAMERA, MAP, POSES, Projected, scenes

__all__ = ["spied"]  # a fixture
SCALE = 1000.0
LISTED = f"q.png PINHOLE 640 480 {' '.join(map(str, CAMERA.params))}\n"


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[..., LocalizeRequest]:
    """Requests about the made-up world as a COLMAP workspace and a list of queries."""
    write_text_model(tmp_path / "sparse" / "0", SCALE)
    write_images(tmp_path / "images", [*MAP, "q.png"])
    (tmp_path / "queries.txt").write_text(LISTED)
    (tmp_path / "pairs.txt").write_text("".join(f"q.png {name}\n" for name in MAP))

    def made(**given: Any) -> LocalizeRequest:
        datasets = {"mapping": tmp_path / "sparse" / "0", "query": tmp_path / "queries.txt"}
        return LocalizeRequest(**{"output": tmp_path / "out", "pairs": tmp_path / "pairs.txt"} | datasets | given)

    return made


def expect_true(found: Localization, scale: float = SCALE) -> None:
    pose = found.result.poses["2b"]["q.png"]
    assert pose is not None
    true = dataclasses.replace(POSES["q.png"], translation=tuple(scale * x for x in POSES["q.png"].translation))
    assert position_error(pose, true) < 1e-2 * scale
    assert rotation_error(pose, true) < 0.1


def source(found: Localization) -> str:
    where = found.summary["map"]["from"]
    assert f"px, {where}\n" in found.to_text()
    return str(where)


def test_a_models_own_points_are_used_where_the_features_are_its_own(request_of: Any, tmp_path: Path) -> None:
    database = write_database(tmp_path / "d.db", [*MAP, "q.png"])
    found = localize(request_of(features=str(database)))
    assert source(found) == "the model's own points"
    assert (
        found.summary["map"]["points"] == len((tmp_path / "sparse" / "0" / "points3D.txt").read_text().split("\n")) - 2
    )
    assert found.summary["features"].startswith("sift, 128-D")
    assert found.summary["matcher"] == str(MutualMatcher(0.85).key)
    expect_true(found)
    assert localize(request_of(features=str(write_features(tmp_path / "made")))).summary["map"] == found.summary["map"]
    write_binary_model(tmp_path / "binary", SCALE)
    again = localize(request_of(features=str(database), mapping=tmp_path / "binary", images=tmp_path / "images"))
    assert (source(again), again.result.map_points) == (source(found), found.result.map_points)


def test_the_keypoints_of_hlocs_file_are_a_models_own_half_a_pixel_on(request_of: Any, tmp_path: Path) -> None:
    def images() -> Any:
        for name in [*MAP, "q.png"]:
            each = Projected().features(Scene(tmp_path), name)
            yield name, ImageFeatures(each.keypoints - 0.5, each.descriptors, each.scores, (640, 480))

    write_hloc_features(tmp_path / "feats.h5", "made", "", images())
    found = localize(request_of(features=str(tmp_path / "feats.h5")))
    assert source(found) == "the model's own points"
    expect_true(found)


def test_a_dry_run_counts_no_pairs_of_a_map_that_is_there(request_of: Any, tmp_path: Path) -> None:
    made = str(write_features(tmp_path / "made"))
    assert estimate(request_of(features=made)).pairs == 4  # the query's
    assert estimate(request_of(features=made, map_pairs="exhaustive")).pairs == 4 + 6
    assert estimate(request_of(features=made, methods=("2a",))).pairs == 4 + 6  # of its own map of the four
    assert not (tmp_path / "out").exists()


def test_other_features_are_triangulated_by_who_sees_the_same(request_of: Any, tmp_path: Path) -> None:
    made = write_features(tmp_path / "made")
    for kind, width in (("keypoints", 8), ("descriptors", 128)):  # one feature less in the last image: another set
        path = made / kind / "m.png.kpt" if kind == "keypoints" else made / kind / "m.png.desc"
        path.write_bytes(path.read_bytes()[width:])
    found = localize(request_of(features=str(made)))
    assert source(found) == "triangulated from 6 pairs by covisibility, 20 neighbours"
    expect_true(found)
    found = localize(request_of(features=str(made), map_neighbours=1))
    assert source(found).endswith("by covisibility, 1 neighbours")
    assert source(localize(request_of(features=str(made), map_pairs="pose"))) == (
        "triangulated from 6 pairs by pose, 10 neighbours within 3030.74 units and 60 degrees"
    )


@pytest.mark.parametrize(
    ("given", "how"),
    [
        ({"map_pairs": "exhaustive"}, "6 pairs by exhaustive"),
        ({"map_pairs": "covisibility", "map_neighbours": 9}, "6 pairs by covisibility, 9 neighbours"),
        ({"map_distance": 1e4}, "6 pairs by pose, 10 neighbours within 10000 units and 60 degrees"),
        ({"map_pairs": "FILE"}, "3 pairs by a list"),
    ],
    ids=str,
)
def test_pairs_that_are_asked_for_are_triangulated(
    request_of: Any, tmp_path: Path, given: dict[str, Any], how: str
) -> None:
    (tmp_path / "map.txt").write_text("m.png a.png\nm.png b.png\nm.png c.png\n")
    given = {key: tmp_path / "map.txt" if value == "FILE" else value for key, value in given.items()}
    found = localize(request_of(features=str(write_features(tmp_path / "made")), **given))
    assert source(found) == f"triangulated from {how}"
    expect_true(found)


@pytest.mark.parametrize("scale", [1e-3, 1.0, SCALE])
def test_a_model_without_points_has_neighbours_in_any_unit(request_of: Any, tmp_path: Path, scale: float) -> None:
    folder = write_text_model(tmp_path / "posed", scale)
    lines = (folder / "images.txt").read_text().splitlines()
    (folder / "images.txt").write_text("\n".join(x for row in lines[1::2] for x in (row, "")) + "\n")
    (folder / "points3D.txt").write_text("")
    found = localize(request_of(features=str(write_features(tmp_path / "made")), mapping=folder))
    assert source(found).startswith("triangulated from 6 pairs by pose, 10 neighbours within ")
    expect_true(found, scale)


def test_sift_follows_the_origin_of_colmap(request_of: Any, spied: Spied, tmp_path: Path) -> None:
    localize(request_of())
    assert spied.given["features"] == SiftFeatures(4096, pixel_shift=0.5)
    assert sorted(spied.given["model"].keypoints) == sorted(MAP)
    localize(request_of(pixel_shift=0.5))
    assert spied.given["features"].pixel_shift == 0.5
    write_scene(scenes(tmp_path)[1])  # queries of kapture, whose principal point says 0.5
    localize(request_of(query=tmp_path / "q"))
    assert spied.given["features"].pixel_shift == 0.5
    _, query = scenes(tmp_path)
    moved = dataclasses.replace(CAMERA, params=(500.0, 510.0, 319.5, 239.5))
    write_scene(dataclasses.replace(query, cameras={"c": moved}))
    with pytest.raises(UsageError, match=r"sparse/0 have the first pixel's centre at 0\.5, those of .*/q at 0, by"):
        localize(request_of(query=tmp_path / "q"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pixel_shift": 0.0}, "--pixel-shift 0: the intrinsics of .*/sparse/0 are COLMAP's, with the first pixel's"),
        ({"pixel_shift": 1.0}, "--pixel-shift 1: the intrinsics of"),
        ({"features": "made", "pixel_origin": 0.0}, "--pixel-origin 0: the intrinsics of"),
    ],
)
def test_another_origin_is_refused(request_of: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        localize(request_of(**given))


def test_images_without_a_file_are_named(request_of: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b.png", "c.png"):
        (tmp_path / "images" / name).unlink()
    message = (
        f"{tmp_path}/images: 2 of the 4 images of {tmp_path}/sparse/0 are not there, first 'b.png'; give their folder "
        "by --images"
    )
    with pytest.raises(DataError, match=f"^{message}$"):
        localize(request_of())
    words = ["--mapping", "sparse/0", "--query", "queries.txt", "--pairs", "pairs.txt", "-o", "out"]
    words = [word if word.startswith("-") else str(tmp_path / word) for word in words]
    assert main(["localize", *words]) == 2
    assert capsys.readouterr().err == f"gloam localize: {message}\n"
    assert main(["localize", *words, "--images", str(tmp_path)]) == 2
    assert "4 of the 4 images" in capsys.readouterr().err


def test_an_image_of_another_size_than_the_models_camera_is_refused(request_of: Any, tmp_path: Path) -> None:
    write_images(tmp_path / "small", [*MAP, "q.png"], (320, 240))
    with pytest.raises(
        DataError, match=r"small/a\.png: the image is 320x240 but its camera in cameras\.txt is 640x480; give the image"
    ):
        localize(request_of(images=tmp_path / "small"))
    write_images(tmp_path / "images", ["q.png"], (320, 240))
    with pytest.raises(DataError, match=r"q\.png: the image is 320x240 but its camera in queries\.txt is 640x480"):
        localize(request_of())


def test_options_that_do_nothing_are_refused(request_of: Any, tmp_path: Path) -> None:
    mapping, query = scenes(tmp_path / "kapture")
    for scene in (mapping, query):
        write_scene(scene)
    with pytest.raises(UsageError, match=r"^--images is for COLMAP models and lists of queries; a kapture dataset"):
        localize(request_of(mapping=mapping.root, query=query.root, images=tmp_path / "images"))
    with pytest.raises(UsageError, match=r"^--map-neighbours, --map-distance and --map-angle choose pairs, and do"):
        request_of(map_pairs=tmp_path / "map.txt", map_neighbours=3)
    with pytest.raises(UsageError, match=r"--map-neighbours is for pairs by covisibility or pose"):
        request_of(map_pairs="exhaustive", map_neighbours=3)


def test_a_query_that_is_in_the_map_is_named(request_of: Any, tmp_path: Path) -> None:
    (tmp_path / "queries.txt").write_text(LISTED.replace("q.png", "m.png"))
    (tmp_path / "pairs.txt").write_text("m.png a.png\n")
    with pytest.raises(DataError, match=r"^mapping and query share the image name 'm\.png'; rename one of them$"):
        localize(request_of(features=str(write_features(tmp_path / "made"))))


def test_a_quaternion_of_another_length_is_the_same_pose(request_of: Any, tmp_path: Path) -> None:
    """pycolmap takes a quaternion's length for 1 whatever it is."""
    mapping, query = scenes(tmp_path / "long")
    longer = {
        name: Pose(tuple(3 * value for value in pose.quaternion), pose.translation)
        for name, pose in mapping.poses.items()
    }
    for scene in (dataclasses.replace(mapping, poses=longer), query):
        write_scene(scene)
    given = {"mapping": mapping.root, "query": query.root, "features": str(write_features(tmp_path / "made"))}
    found = localize(request_of(**given))
    expect_true(found, 1.0)
    write_scene(mapping)
    unit = localize(request_of(**given))
    assert found.summary["map"]["points"] == unit.summary["map"]["points"] > 80
    np.testing.assert_allclose(found.result.map_error, unit.result.map_error, atol=1e-6)
