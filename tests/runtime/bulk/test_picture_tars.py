"""Pictures in tar shards: those that a folder would hold, whole or absent, and the same bytes after any kill."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.data.images import decode_image
from gloam.data.sources import find_images
from gloam.errors import IncompatibleError, StoreError, UsageError
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.pictures import PictureOptions, run_images
from gloam.runtime.models.formulas import LabInversion
from gloam.runtime.models.translator import Translator
from tests.runtime.bulk.test_pictures import content, write_images
from tests.tiny_translators import write_tiny_translator


class Batches(LabInversion):
    """Notes the shapes of what it is given."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.batch_size = size
        self.seen: list[list[tuple[int, int]]] = []

    def __call__(self, images):  # type: ignore[no-untyped-def]  # as its base
        self.seen.append([self.shape_for(image) for image in images])
        return super().__call__(images)


def pictures(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("part-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                assert member.name not in found
                found[member.name] = file.read()
    return found


@pytest.mark.parametrize("form", ["png", "jpg"])
def test_tars_hold_what_a_folder_holds(tmp_path: Path, form: str) -> None:
    write_images(tmp_path / "in" / "day", 11)
    (tmp_path / "in" / "bad.jpg").write_bytes(b"no image")
    (tmp_path / "in" / "day" / "003.jpg").write_bytes((tmp_path / "in" / "day" / "004.png").read_bytes())
    items, options = find_images(tmp_path / "in"), PictureOptions(64, form)  # type: ignore[arg-type]  # parametrised
    plain = run_images(items, Batches(4), tmp_path / "folder", options)
    tars = run_images(items, Batches(4), tmp_path / "tars", options, tar_size=5)
    assert pictures(tmp_path / "tars") == content(tmp_path / "folder" / "images")
    assert (tars.done, tars.failed, tars.reduced) == (plain.done, plain.failed, plain.reduced) == (11, 2, plain.reduced)
    assert sorted(path.name for path in (tmp_path / "tars").iterdir()) == [
        "failures.csv", "manifest.json",
        *(f"part-{number:06d}.{kind}" for number in range(3) for kind in ("jsonl", "tar")),
        "sources",
    ]  # fmt: skip
    with open(tmp_path / "tars" / "failures.csv", encoding="utf-8", newline="") as handle:
        reasons = dict(list(csv.reader(handle))[1:])
    assert list(reasons) == ["bad.jpg", "day/003.png"]
    assert "would overwrite the picture of 'day/003.jpg'" in reasons["day/003.png"]
    again = run_images(items, Batches(4), tmp_path / "tars", options, tar_size=5)
    assert (again.done, again.failed, again.reused, again.reduced) == (11, 2, 11, tars.reduced)


def test_tars_are_a_source(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 5)
    write_tiny_translator(tmp_path / "m.onnx")
    inversion = Translator.load(tmp_path / "m.onnx", Placement(threads=1))
    run_images(find_images(tmp_path / "in"), inversion, tmp_path / "night", tar_size=2)
    found = find_images(tmp_path / "night")
    assert [item.name for item in found] == [f"{number:03d}.png" for number in range(5)]
    run_images(found, inversion, tmp_path / "day", tar_size=3)
    twice = pictures(tmp_path / "day")
    assert len(twice) == 5
    for name, picture in twice.items():
        before = decode_image(tmp_path / "in" / name, min_side=1)
        np.testing.assert_array_equal(decode_image(picture, min_side=1), before)


def test_bytes_do_not_depend_on_threads(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 30)
    items = find_images(tmp_path / "in")
    for name, threads in (("one", 1), ("many", 6)):
        run_images(items, Batches(3), tmp_path / name, tar_size=8, threads=threads)
    assert content(tmp_path / "one") == content(tmp_path / "many")


@pytest.mark.parametrize("tar_size", [None, 12])
def test_batches_are_full_and_of_one_shape(tmp_path: Path, tar_size: int | None) -> None:
    (tmp_path / "in").mkdir()
    for number in range(24):
        shape = (20, 30, 3) if number % 3 else (30, 20, 3)
        Image.fromarray(np.full(shape, number, np.uint8)).save(tmp_path / "in" / f"{number:02d}.png")
    operation = Batches(4)
    run_images(find_images(tmp_path / "in"), operation, tmp_path / "out", tar_size=tar_size)
    assert sorted(map(len, operation.seen)) == [4] * 6
    assert all(len(set(batch)) == 1 for batch in operation.seen)


def test_a_harmed_tar_is_made_again_and_another_job_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 9)
    items = find_images(tmp_path / "in")
    run_images(items, LabInversion(), tmp_path / "out", tar_size=3)
    whole = content(tmp_path / "out")
    tar = tmp_path / "out" / "part-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-700])
    (tmp_path / "out" / "part-000002.jsonl").unlink()
    assert run_images(items, LabInversion(), tmp_path / "out", tar_size=3).reused == 3
    assert content(tmp_path / "out") == whole
    with pytest.raises(IncompatibleError, match="tar_size"):
        run_images(items, LabInversion(), tmp_path / "out", tar_size=4)
    with pytest.raises(IncompatibleError, match="images_sha256"):
        run_images(items[:8], LabInversion(), tmp_path / "out", tar_size=3)
    with pytest.raises(StoreError, match="not the manifest of a folder of pictures"):
        run_images(items, LabInversion(), tmp_path / "out")
    with pytest.raises(StoreError, match="not a folder of pictures"):
        run_images(items, LabInversion(), tmp_path / "in", tar_size=3)
    with pytest.raises(UsageError, match="--tar-size"):
        run_images(items, LabInversion(), tmp_path / "other", tar_size=0)


def test_a_tar_of_failures_alone_is_an_empty_tar(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 4)
    for name in ("000.png", "001.png"):
        (tmp_path / "in" / name).write_bytes(b"no")
    summary = run_images(find_images(tmp_path / "in"), LabInversion(), tmp_path / "out", tar_size=2)
    assert (summary.done, summary.failed) == (2, 2)
    with tarfile.open(tmp_path / "out" / "part-000000.tar") as tar:
        assert tar.getnames() == []
    assert run_images(find_images(tmp_path / "in"), LabInversion(), tmp_path / "out", tar_size=2).failed == 2


@pytest.mark.parametrize("where", ["tar", "jsonl"])
def test_a_full_disk_keeps_finished_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    write_images(tmp_path / "in", 9)
    items, replace = find_images(tmp_path / "in"), os.replace

    def full(source: str, target: str) -> None:
        if Path(target).name == f"part-000001.{where}":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(StoreError, match="the disk is full"):
            run_images(items, LabInversion(), tmp_path / "out", tar_size=3)
    assert not json.loads((tmp_path / "out" / "manifest.json").read_text())["complete"]
    assert not list((tmp_path / "out").glob(".tmp-*"))
    assert run_images(items, LabInversion(), tmp_path / "out", tar_size=3).reused == 3
    run_images(items, LabInversion(), tmp_path / "whole", tar_size=3)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_disk_that_fills_while_a_tar_grows_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "in", 6)

    def full(self: tarfile.TarFile, member: tarfile.TarInfo, file: io.BytesIO) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(StoreError, match="the disk is full"):
        run_images(find_images(tmp_path / "in"), LabInversion(), tmp_path / "out", tar_size=3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json"]


def test_killed_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 100)

    def command(out: str) -> list[str]:
        words = ["translate", str(tmp_path / "in"), "-o", str(tmp_path / out), "--model", "lab-inversion"]
        return [sys.executable, "-m", "gloam.cli.main", *words, "--tar", "--tar-size", "4", "--format", "jpg"]

    subprocess.run(command("whole"), check=True, capture_output=True)
    rng = random.Random(5)
    for kill in range(1, 3):
        process = subprocess.Popen(command("out"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list((tmp_path / "out").glob("*.jsonl"))) < 8 * kill:
            assert process.poll() is None, "finished before it was killed"
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = subprocess.run([*command("out"), "--json"], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["reused"] >= 4 * 16
    found = {name: data for name, data in content(tmp_path / "out").items() if not name.startswith(".tmp-")}
    assert found == content(tmp_path / "whole")


def test_the_command_writes_tars_and_refuses_a_contact_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "in", 3)
    words = ["translate", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", "none", "--tar"]
    assert main([*words, "--contact-sheet"]) == 2
    assert "--contact-sheet" in capsys.readouterr().err
    assert main(words) == 0
    assert "the model was idle" in capsys.readouterr().out
    assert len(pictures(tmp_path / "out")) == 3
