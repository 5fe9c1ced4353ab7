"""Queries with intrinsics in a list: every line an image and its camera, or named."""

from __future__ import annotations

from pathlib import Path

import pytest

from gloam.data.query_list import read_query_list
from gloam.data.scene import Camera, Record
from gloam.errors import DataError


def test_a_list_is_images_with_cameras_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "queries.txt"
    path.write_text('# queries\nnight/b.jpg PINHOLE 64 48 50 51 32 24\n\n"a b.jpg" SIMPLE_RADIAL 8 6 5.5 4 3 -0.01\n')
    scene = read_query_list(path, "pictures")
    assert scene.cameras == {
        "night/b.jpg": Camera("PINHOLE", 64, 48, (50.0, 51.0, 32.0, 24.0)),
        "a b.jpg": Camera("SIMPLE_RADIAL", 8, 6, (5.5, 4.0, 3.0, -0.01)),
    }
    assert scene.records == {"night/b.jpg": Record("night/b.jpg", 0), "a b.jpg": Record("a b.jpg", 1)}
    assert (scene.root, scene.poses, scene.origin) == (path, {}, 0.5)
    assert scene.image_path("night/b.jpg") == Path("pictures/night/b.jpg")
    assert scene.files.cameras == "queries.txt"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg", "image 'a.jpg' has no intrinsics; expected 'name MODEL width height parameters'"),
        (
            "a.jpg PINBALL 64 48 1 2",
            "image 'a.jpg' has malformed intrinsics: unknown model 'PINBALL'; choose one of SIM",
        ),
        ("a.jpg PINHOLE 64 48 50 51 32", "image 'a.jpg' has malformed intrinsics: 5 numbers where PINHOLE has 6"),
        ("a.jpg PINHOLE 64 48 0 51 32 24", "a focal length of 0 or 51 pixels; must be above 0"),
        ("a.jpg PINHOLE 64 48 nan 51 32 24", "'nan' is not a finite number"),
        ("b.jpg PINHOLE 64 48 50 51 32 24", "image 'b.jpg' is listed twice; remove one of the two"),
        ("../a.jpg PINHOLE 64 48 50 51 32 24", "image name '../a.jpg' contains '..'"),
        ('"a.jpg PINHOLE 64 48 50 51 32 24', "image name '' is empty"),
    ],
)
def test_a_line_that_is_no_query_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "queries.txt"
    path.write_text(f"b.jpg PINHOLE 64 48 50 51 32 24\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_query_list(path, "pictures")
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)
    assert "UNKNOWN" not in str(caught.value)


def test_a_list_of_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "queries.txt"
    with pytest.raises(DataError, match="the list of queries cannot be read"):
        read_query_list(path, "pictures")
    path.write_text("# none\n")
    with pytest.raises(DataError, match=rf"^{path}: lists no images$"):
        read_query_list(path, "pictures")


def test_the_published_lists_are_read(data_pack) -> None:  # type: ignore[no-untyped-def]  # a fixture
    folder = data_pack("gt_formats")
    scene = read_query_list(folder / "aachen_v1.1" / "night_time_queries_with_intrinsics.txt", "pictures")
    camera = scene.camera("query/night/nexus5x/IMG_20161227_172439.jpg")
    assert camera == Camera("SIMPLE_RADIAL", 1600, 1200, (1199.91, 800.0, 600.0, -0.0324314))
    assert len(scene.records) == 191
