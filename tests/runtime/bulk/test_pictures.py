"""Bulk runs: every image is a picture or a reason, under its own name, and a kill changes no byte."""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.data.images import decode_image
from gloam.data.sheets import GAP, HEADING, LEFT
from gloam.data.sources import ImageItem, find_images
from gloam.errors import DataError, ImageError, IncompatibleError, StoreError, UsageError
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.contact_sheet import CELL, write_contact_sheet
from gloam.runtime.bulk.picture_folder import output_clashes, output_name, read_pictures
from gloam.runtime.bulk.pictures import PictureOptions, run_images
from gloam.runtime.models.formulas import LabInversion
from gloam.runtime.models.translator import Translator
from tests.tiny_translators import write_tiny_translator


def write_images(folder: Path, count: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        height, width = rng.integers(17, 80, 2)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def inversion(tmp_path: Path) -> Translator:
    write_tiny_translator(tmp_path / "m.onnx")
    return Translator.load(tmp_path / "m.onnx", Placement(threads=1))


def test_pictures_keep_names_folders_and_pixels(tmp_path: Path, inversion: Translator) -> None:
    write_images(tmp_path / "in" / "a" / "b", 3)
    write_images(tmp_path / "in", 2, seed=1)
    items = find_images(tmp_path / "in")
    summary = run_images(items, inversion, tmp_path / "out")
    assert (summary.done, summary.failed, summary.reused, summary.reduced) == (5, 0, 0, 0)
    for item in items:
        picture = decode_image(tmp_path / "out" / "images" / item.name, min_side=1)
        np.testing.assert_array_equal(picture, 255 - decode_image(item.path, min_side=1))
    assert [picture.image for picture in read_pictures(tmp_path / "out")] == [item.name for item in items]


def test_every_input_is_a_documented_conversion_or_a_reason(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_images(folder, 1)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 20, 4), dtype=np.uint8)).save(folder / "rgba.png")
    Image.fromarray(rng.integers(0, 65536, (20, 20), dtype=np.uint16)).save(folder / "deep.png")
    Image.fromarray(rng.integers(0, 256, (20, 20), dtype=np.uint8)).save(folder / "grey.jpg")
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")
    (folder / "cut.jpg").write_bytes((folder / "grey.jpg").read_bytes()[:200])
    (folder / "empty.png").write_bytes(b"")
    (folder / "rgba.txt").write_text("about rgba.png")
    summary = run_images(find_images(folder), LabInversion(), tmp_path / "out")
    assert (summary.done, summary.failed) == (4, 3)  # rgba.txt lies beside images
    for name in ("rgba", "deep", "grey"):
        assert decode_image(tmp_path / "out" / "images" / f"{name}.png", min_side=1).shape == (20, 20, 3)
    with open(tmp_path / "out" / "failures.csv", encoding="utf-8", newline="") as handle:
        reasons = dict(list(csv.reader(handle))[1:])
    assert list(reasons) == ["cut.jpg", "empty.png", "pixel.png"]
    assert "1x1 is too small" in reasons["pixel.png"]


def test_a_picture_is_never_overwritten_by_another_source() -> None:
    items = [ImageItem(name, Path(name)) for name in ("a.jpg", "a.png", "b/a.jpg", "notes.txt", "notes.png")]
    clashes = output_clashes(items, ".png")
    assert [output_name(item.name, ".png") for item in items] == [
        "a.png",
        "a.png",
        "b/a.png",
        "notes.txt.png",
        "notes.png",
    ]
    assert list(clashes) == [1]
    assert "a.jpg" in clashes[1]


def test_a_second_run_makes_only_what_is_new_changed_or_harmed(tmp_path: Path, inversion: Translator) -> None:
    write_images(tmp_path / "in", 4)
    run_images(find_images(tmp_path / "in"), inversion, tmp_path / "out")
    whole = content(tmp_path / "out")
    assert run_images(find_images(tmp_path / "in"), inversion, tmp_path / "out").reused == 4
    assert content(tmp_path / "out") == whole
    (tmp_path / "out" / "images" / "001.png").write_bytes(b"harmed")
    (tmp_path / "out" / "images" / "002.png").unlink()
    (tmp_path / "in" / "003.png").write_bytes((tmp_path / "in" / "000.png").read_bytes())
    write_images(tmp_path / "in" / "more", 1, seed=3)
    with pytest.raises(IncompatibleError, match=r"images were added, removed.* add --grow"):
        run_images(find_images(tmp_path / "in"), inversion, tmp_path / "out")
    summary = run_images(find_images(tmp_path / "in"), inversion, tmp_path / "out", grow=True)
    assert (summary.done, summary.reused) == (5, 1)
    after = content(tmp_path / "out")
    assert after["images/001.png"] == whole["images/001.png"]
    assert after["images/003.png"] == after["images/000.png"]


def test_another_model_or_option_is_refused_and_named(tmp_path: Path, inversion: Translator) -> None:
    write_images(tmp_path / "in", 2)
    items = find_images(tmp_path / "in")
    run_images(items, inversion, tmp_path / "out")
    before = content(tmp_path / "out")
    with pytest.raises(IncompatibleError, match="fingerprint, model"):
        run_images(items, LabInversion(), tmp_path / "out")
    with pytest.raises(IncompatibleError, match="another format, max_side"):
        run_images(items, inversion, tmp_path / "out", PictureOptions(64, "jpg"))
    assert content(tmp_path / "out") == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="choose another output folder"):
        run_images(items, inversion, tmp_path / "full")
    with pytest.raises(UsageError, match="holds the sources"):
        run_images(find_images(tmp_path / "out" / "images"), inversion, tmp_path / "out")


def test_nothing_usable_and_nothing_at_all(tmp_path: Path, inversion: Translator) -> None:
    with pytest.raises(DataError, match="no images"):
        run_images([], inversion, tmp_path / "out")
    with pytest.raises(DataError, match=r"none of 1 images.*failures\.csv"):
        run_images([ImageItem("a.jpg", tmp_path / "a.jpg")], inversion, tmp_path / "out")
    with pytest.raises(UsageError, match="32 pixels"):
        PictureOptions(max_side=10)


def test_an_image_that_fails_in_the_model_is_a_row(tmp_path: Path) -> None:
    class Choosy(LabInversion):
        def __init__(self) -> None:
            super().__init__()
            self.batch_size = 3

        def turn(self, image: np.ndarray) -> np.ndarray:
            if image.shape[0] == 40:
                raise ImageError("forty is too many")
            return super().turn(image)

    write_images(tmp_path / "in", 4)
    Image.new("RGB", (30, 40)).save(tmp_path / "in" / "001.png")
    summary = run_images(find_images(tmp_path / "in"), Choosy(), tmp_path / "out")
    assert (summary.done, summary.failed) == (3, 1)
    assert "forty is too many" in (tmp_path / "out" / "failures.csv").read_text()


def test_reduced_images_are_counted(tmp_path: Path, inversion: Translator) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "large.jpg")
    summary = run_images(find_images(tmp_path / "large.jpg"), inversion, tmp_path / "out", PictureOptions(64, "jpg"))
    assert summary.reduced == 1
    assert decode_image(tmp_path / "out" / "images" / "large.jpg").shape == (32, 64, 3)


def test_the_contact_sheet_shows_sources_and_pictures(tmp_path: Path, inversion: Translator) -> None:
    write_images(tmp_path / "in", 5)
    items = find_images(tmp_path / "in")
    run_images(items, inversion, tmp_path / "out")
    sheet = decode_image(write_contact_sheet(tmp_path / "out", items, pairs=3))
    assert sheet.std() > 10
    block = LEFT + 2 * (CELL[0] + GAP)
    assert sheet.shape == (HEADING + 2 * (CELL[1] + GAP), 2 * block, 3)  # two rows of two pairs
    for left in (LEFT, LEFT + CELL[0] + GAP, block + LEFT):
        assert sheet[:HEADING, left : left + CELL[0]].min() < 128  # a heading over each column
    for left, rows in ((0, 2), (block, 1)):
        beside = sheet[HEADING:, left : left + LEFT].min(axis=(1, 2)).reshape(2, -1).min(axis=1) < 128
        assert beside.tolist() == [True, rows == 2]  # a name beside each pair
    assert "contact_sheet.jpg" not in os.listdir(tmp_path / "out" / "images")


def test_a_full_disk_keeps_finished_pictures(
    tmp_path: Path, inversion: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "in", 9)
    items = find_images(tmp_path / "in")
    replace = os.replace

    def full(source: str, target: str) -> None:
        if Path(target).name == "005.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(StoreError, match="the disk is full"):
            run_images(items, inversion, tmp_path / "out", threads=1)
    assert not json.loads((tmp_path / "out" / "manifest.json").read_text())["complete"]
    assert run_images(items, inversion, tmp_path / "out").reused >= 5
    run_images(items, inversion, tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_killed_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 200)

    def command(out: str) -> list[str]:
        words = ["translate", str(tmp_path / "in"), "-o", str(tmp_path / out), "--model", "lab-inversion"]
        return [sys.executable, "-m", "gloam.cli.main", *words]

    subprocess.run(command("whole"), check=True, capture_output=True)
    rng = random.Random(5)
    for kill in range(1, 4):
        process = subprocess.Popen(command("out"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list((tmp_path / "out" / "images").glob("*.png"))) < 40 * kill:
            assert process.poll() is None, "finished before it was killed"
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = subprocess.run([*command("out"), "--json"], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["reused"] >= 100
    found = {name: data for name, data in content(tmp_path / "out").items() if "/.tmp-" not in f"/{name}"}
    assert found == content(tmp_path / "whole")
