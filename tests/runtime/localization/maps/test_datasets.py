"""Whatever states a map or queries is known by what lies there, and images are looked for beside it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gloam.data.kapture_io import write_scene
from gloam.errors import DataError
from gloam.runtime.localization.maps.datasets import expect_images, read_map, read_poses, read_queries
from tests.runtime.localization.colmap_files import write_images, write_text_model
from tests.runtime.localization.exact_world import CAMERA, MAP, scenes


def test_a_map_is_a_kapture_dataset_or_a_model(tmp_path: Path) -> None:
    mapping, query = scenes(tmp_path)
    write_scene(mapping)
    write_text_model(mapping.root)  # a kapture dataset stays one, whatever else lies there
    scene, model = read_map(mapping.root)
    assert (scene, model) == (mapping, None)
    folder = write_text_model(tmp_path / "sparse" / "0")
    scene, model = read_map(folder)
    assert model is not None
    assert scene is model.scene
    assert read_poses(folder).poses == read_queries(folder).poses == scene.poses
    assert read_poses(mapping.root) == mapping
    write_scene(query)
    assert read_queries(query.root) == query
    write_scene(dataclasses.replace(query, cameras={}))
    with pytest.raises(DataError, match=r"/q: 1 of 1 images have no intrinsics in sensors\.txt"):
        read_queries(query.root)
    write_scene(query)
    for read in (read_map, read_poses):
        with pytest.raises(DataError, match=r"/q: 1 of 1 images have no pose in trajectories\.txt"):
            read(query.root)
    with pytest.raises(
        DataError, match=rf"^{tmp_path}: is neither .* nor a COLMAP model, but holds one; give {folder}$"
    ):
        read_map(tmp_path)
    with pytest.raises(DataError, match=rf"; give {folder}$"):
        read_queries(folder.parent)
    with pytest.raises(DataError, match=r"^none/sensors/sensors\.txt is missing; none is not a kapture dataset"):
        read_map(Path("none"))


def test_images_lie_where_it_is_said_or_beside(tmp_path: Path) -> None:
    folder = write_text_model(tmp_path / "project" / "sparse" / "0")
    (tmp_path / "project" / "list.txt").write_text(f"q.png PINHOLE 640 480 {' '.join(map(str, CAMERA.params))}\n")
    assert read_map(folder)[0].images == tmp_path / "project" / "sparse" / "images"
    assert read_map(folder, tmp_path)[0].images == tmp_path
    above = write_images(tmp_path / "project" / "images", ["a.png", "m.png"])
    assert read_map(folder)[0].images == above
    queries = read_queries(tmp_path / "project" / "list.txt")
    assert (queries.images, queries.names) == (above, ["q.png"])
    assert read_queries(tmp_path / "project" / "list.txt", tmp_path).images == tmp_path
    write_images(tmp_path / "project" / "sparse" / "images", [])
    assert read_map(folder)[0].images == tmp_path / "project" / "sparse" / "images"


def test_images_that_are_not_there_are_counted(tmp_path: Path) -> None:
    scene = read_map(write_text_model(tmp_path / "model"), write_images(tmp_path / "images", ["m.png", "c.png"]))[0]
    with pytest.raises(DataError) as caught:
        expect_images(scene)
    assert str(caught.value) == (
        f"{tmp_path}/images: 2 of the 4 images of {tmp_path}/model are not there, first 'a.png'; give their folder by "
        "--images"
    )
    write_images(tmp_path / "images", MAP)
    expect_images(scene)
    expect_images(scenes(tmp_path)[0])  # a kapture dataset says so when it needs one
