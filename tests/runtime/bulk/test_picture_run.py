"""A picture run as it is asked for: the frame of intrinsics, and folders that pictures may not go to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from gloam.data.kapture_io import beside_intrinsics, write_scene
from gloam.data.scene import Camera, Record, Scene
from gloam.errors import StoreError, UsageError
from gloam.runtime.bulk.extraction import EmbedderLoader, ExtractRequest
from gloam.runtime.bulk.picture_run import PictureRequest, run_pictures
from gloam.runtime.models.formulas import GammaDarkening

IMAGES = Path("sensors") / "records_data"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two images of 1100x60 pixels as stored, that a viewer turns by 90 degrees."""
    root = tmp_path / "kapture"
    camera = Camera("SIMPLE_PINHOLE", 1100, 60, (900.0, 550.0, 30.0))
    write_scene(Scene(root, {"cam": camera}, {name: Record("cam", row) for row, name in enumerate(("a.jpg", "b.jpg"))}))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    (root / IMAGES).mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1100, 3), np.uint8)
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(pixels).save(root / IMAGES / name, exif=exif)
    (tmp_path / "list.txt").write_text("a.jpg\n")
    return root


@pytest.mark.parametrize("by", ["dataset", "folder", "list", "link"])
def test_pictures_beside_intrinsics_have_the_pixels_as_stored(dataset: Path, tmp_path: Path, by: str) -> None:
    source, root = {
        "dataset": (dataset, None),
        "folder": (dataset / IMAGES, None),
        "list": (tmp_path / "list.txt", dataset / IMAGES),
        "link": (tmp_path / "linked", None),
    }[by]
    (tmp_path / "linked").symlink_to(dataset / IMAGES)
    request = PictureRequest(source, tmp_path / "out", root, contact_sheet=True)
    done = run_pictures(request, lambda: GammaDarkening())
    assert done.summary.reduced == 0
    with Image.open(tmp_path / "out" / "images" / "a.png") as picture:
        assert picture.size == (1100, 60)
        assert ExifTags.Base.Orientation not in picture.getexif()


def test_a_later_run_leaves_no_contact_sheet_of_other_pictures(dataset: Path, tmp_path: Path) -> None:
    asked = PictureRequest(dataset, tmp_path / "out", contact_sheet=True)
    run_pictures(asked, lambda: GammaDarkening())
    assert (tmp_path / "out" / "contact_sheet.jpg").is_file()
    run_pictures(replace(asked, contact_sheet=False), lambda: GammaDarkening())
    assert not (tmp_path / "out" / "contact_sheet.jpg").exists()


def test_a_side_beside_intrinsics_is_refused_and_0_is_none(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--max-side 640: .* sensors\.txt are of their pixels as stored"):
        PictureRequest(dataset, tmp_path / "out", max_side=640)
    assert PictureRequest(dataset, tmp_path / "out", max_side=0).options().max_side is None
    loose = tmp_path / "loose"
    loose.mkdir()
    assert PictureRequest(loose, tmp_path / "out").options().max_side == 1024
    assert PictureRequest(loose, tmp_path / "out").options().upright
    assert not beside_intrinsics("https://example.org/records_data/a.jpg")


@pytest.mark.parametrize("within", [".", "out", "a/b"])
def test_an_output_inside_the_sources_is_refused(tmp_path: Path, within: str) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (tmp_path / "link").symlink_to(source)
    for place in (source / within, tmp_path / "link" / within):
        with pytest.raises(UsageError, match="lies inside the folder of the sources"):
            PictureRequest(source, place)
        with pytest.raises(UsageError, match="lies inside the folder of the sources"):
            ExtractRequest(source, place, EmbedderLoader(Path("m.onnx")))
    PictureRequest(source, tmp_path / "in2")


def test_no_picture_is_written_or_removed_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "in" / "night").mkdir(parents=True)
    for name in ("night/a.jpg", "b.jpg"):
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / "in" / name)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.png").write_bytes(b"mine")
    (tmp_path / "out" / "images").mkdir(parents=True)
    request = PictureRequest(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / "images").rmdir()
    run_pictures(request, lambda: GammaDarkening())
    (tmp_path / "out" / "images" / "night" / "a.png").unlink()
    (tmp_path / "out" / "images" / "night").rmdir()
    (tmp_path / "out" / "images" / "night").symlink_to(outside)
    with pytest.raises(StoreError, match=r"night/a\.png: a link leads out of"):
        run_pictures(request, lambda: GammaDarkening())
    assert (outside / "a.png").read_bytes() == b"mine"
