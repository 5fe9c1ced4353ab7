"""Extraction: every image is a descriptor or a reason, and a kill at any moment changes no byte."""

from __future__ import annotations

import csv
import errno
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
from gloam.data.sources import ImageItem, find_images
from gloam.errors import DataError, IncompatibleError, StoreError, UsageError
from gloam.model_card import Photometric
from gloam.padding import PaddingProfile
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from tests.tiny_models import write_tiny_embedder


def write_images(folder: Path, count: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        height, width = rng.integers(33, 80, 2)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{number:04d}.png")


@pytest.fixture
def embedder(tmp_path: Path) -> Embedder:
    write_tiny_embedder(tmp_path / "tiny.onnx")
    return Embedder.load(tmp_path / "tiny.onnx", Placement(threads=1))


def content(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.mark.parametrize("profile", [None, PaddingProfile.fixed((256,), (256,))], ids=["dynamic", "fixed"])
def test_the_store_equals_the_plain_loop(tmp_path: Path, profile: PaddingProfile | None) -> None:
    write_images(tmp_path / "images", 23)
    write_tiny_embedder(tmp_path / "m.onnx", profile)
    embedder = Embedder.load(tmp_path / "m.onnx")
    items = find_images(tmp_path / "images")
    summary = extract(items, embedder, tmp_path / "out", ExtractOptions(shard_size=7, dtype="float32"))
    store = DescriptorStore.open(tmp_path / "out")
    plain = np.concatenate([embedder([decode_image(item.path)]) for item in items])
    assert store.names == [item.name for item in items]
    np.testing.assert_allclose(store.load(), plain, atol=1e-6)
    assert (store.space, store.fingerprint) == (embedder.space, embedder.fingerprint)
    assert (summary.described, summary.failed) == (23, 0)
    assert sum(len(names) for names, _ in store.blocks(rows=3)) == len(store) == 23
    assert store.verify() == []
    assert (summary.padded_share > 0.5) == (profile is not None)


def test_bytes_do_not_depend_on_threads(tmp_path: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "images", 40)
    items = find_images(tmp_path / "images")
    for name, threads in (("one", 1), ("many", 6)):
        extract(items, embedder, tmp_path / name, ExtractOptions(shard_size=9), decode_threads=threads)
    assert content(tmp_path / "one") == content(tmp_path / "many")


def test_bad_images_are_rows_not_stops(tmp_path: Path, embedder: Embedder) -> None:
    folder = tmp_path / "images"
    write_images(folder, 3)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    (folder / "truncated.png").write_bytes((folder / "0000.png").read_bytes()[:300])
    Image.new("RGB", (1, 1)).save(folder / "tiny.png")
    (folder / "two\nlines.png").write_bytes((folder / "0000.png").read_bytes())
    (tmp_path / "out").mkdir()
    os.makedirs(os.fsencode(folder / "sub"))
    with open(os.fsencode(folder) + b"/sub/\xff.png", "wb") as handle:
        handle.write((folder / "0000.png").read_bytes())
    summary = extract(find_images(folder), embedder, tmp_path / "out", ExtractOptions(shard_size=4))
    assert (summary.described, summary.failed) == (3, 5)  # notes.txt lies beside images
    with open(tmp_path / "out" / "failures.csv", encoding="utf-8", newline="") as handle:
        reasons = dict(list(csv.reader(handle))[1:])
    assert set(reasons) >= {"empty.jpg", "truncated.png", "tiny.png", "two\\nlines.png"}
    assert any("UTF-8" in reason for reason in reasons.values())
    assert DescriptorStore.open(tmp_path / "out").names == ["0000.png", "0001.png", "0002.png"]


def test_names_of_a_list_stay_inside(tmp_path: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "images", 1)
    (tmp_path / "list.txt").write_text("# comment\n0000.png\n../secret.png\n0000.png\n/etc/passwd\n")
    items = find_images(tmp_path / "list.txt", root=tmp_path / "images")
    assert [item.problem is None for item in items] == [True, False, False]
    assert extract(items, embedder, tmp_path / "out").failed == 2


def test_no_images_and_none_usable(tmp_path: Path, embedder: Embedder) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="no images found"):
        find_images(tmp_path / "images")
    with pytest.raises(DataError, match="no such folder"):
        find_images(tmp_path / "absent")
    with pytest.raises(DataError, match=r"none of 1 images.*failures\.csv"):
        extract([ImageItem("a.jpg", tmp_path / "a.jpg")], embedder, tmp_path / "out")


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    scandir = os.scandir

    def refuse(path: object) -> object:
        if str(path).endswith("images"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)  # type: ignore[call-overload]  # a stand-in for the operating system's refusal to root

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"images: the folder cannot be read \(Permission denied\)"):
        find_images(tmp_path / "images")


def test_another_job_is_refused_and_named(tmp_path: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "images", 4)
    items = find_images(tmp_path / "images")
    extract(items, embedder, tmp_path / "out")
    before = content(tmp_path / "out")
    clahe = Embedder(embedder.session, Photometric("clahe"))
    for arguments, what in (
        ((items, embedder, tmp_path / "out", ExtractOptions(max_side=64)), "options"),
        ((items[:3], embedder, tmp_path / "out"), "images"),
        ((items, clahe, tmp_path / "out"), "space"),
    ):
        with pytest.raises(IncompatibleError, match=what):
            extract(*arguments)  # type: ignore[arg-type]  # a tuple of mixed arguments
    assert content(tmp_path / "out") == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="not a descriptor store"):
        extract(items, embedder, tmp_path / "full")


def test_a_damaged_shard_is_made_again(tmp_path: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "images", 9)
    items = find_images(tmp_path / "images")
    options = ExtractOptions(shard_size=3)
    extract(items, embedder, tmp_path / "out", options)
    before = content(tmp_path / "out")
    shard = tmp_path / "out" / "shards" / "part-000001.npy"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(StoreError, match=r"part-000001\.npy: a damaged shard"):
        DescriptorStore.open(tmp_path / "out")
    (tmp_path / "out" / "shards" / "part-000002.parquet").unlink()
    with pytest.raises(StoreError, match="shard 2 is missing"):
        DescriptorStore.open(tmp_path / "out")
    assert extract(items, embedder, tmp_path / "out", options).reused == 3
    assert content(tmp_path / "out") == before


def test_a_full_disk_keeps_finished_shards(tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "images", 9)
    items = find_images(tmp_path / "images")
    options = ExtractOptions(shard_size=3)
    fsync, calls = os.fsync, [0]

    def full(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="the disk is full"):
            extract(items, embedder, tmp_path / "out", options)
    with pytest.raises(StoreError, match="not finished"):
        DescriptorStore.open(tmp_path / "out")
    assert len(DescriptorStore.open(tmp_path / "out", allow_partial=True)) == 3
    extract(items, embedder, tmp_path / "out", options)
    extract(items, embedder, tmp_path / "whole", options)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 99}', "not json"])
def test_a_damaged_manifest_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=r"manifest|schema"):
        DescriptorStore.open(tmp_path)


def test_options_that_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude"):
        ExtractOptions(max_side=100, stretch=(100, 100))
    with pytest.raises(UsageError, match="32 pixels"):
        ExtractOptions(max_side=16)


def test_killed_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 240)
    write_tiny_embedder(tmp_path / "tiny.onnx")

    def command(out: str) -> list[str]:
        verb = ["extract", str(tmp_path / "images"), "-o", str(tmp_path / out), "--model", str(tmp_path / "tiny.onnx")]
        return [sys.executable, "-m", "gloam.cli.main", *verb, "--shard-size", "8", "--threads", "1"]

    subprocess.run(command("whole"), check=True, capture_output=True)
    rng = random.Random(5)
    for kill in range(1, 7):  # 30 shards; each kill waits for a few more, then for a random part of the next
        process = subprocess.Popen(command("out"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list((tmp_path / "out" / "shards").glob("*.parquet"))) < 4 * kill:
            assert process.poll() is None, "finished before it was killed"
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run(command("out"), check=True, capture_output=True)
    assert content(tmp_path / "out") == content(tmp_path / "whole")  # no temporary file of a killed run is left
