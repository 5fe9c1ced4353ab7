"""Bulk extraction: several tasks make one store, memory is bounded by counts, and what fails on the way is a row."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gloam.cli.main import main
from gloam.data.images import decode_image
from gloam.data.sources import ImageItem, find_images
from gloam.errors import DataError, IncompatibleError, StoreError, UsageError
from gloam.padding import PaddingProfile
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk import extract as pipeline
from gloam.runtime.bulk.extract import ExtractOptions, Part, extract
from gloam.runtime.bulk.stages import WAITING
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from tests.runtime.bulk.test_extract import content, write_images
from tests.tiny_models import write_tiny_embedder

OPTIONS = ExtractOptions(shard_size=4)


@pytest.fixture
def embedder(tmp_path: Path) -> Embedder:
    write_tiny_embedder(tmp_path / "tiny.onnx")
    return Embedder.load(tmp_path / "tiny.onnx", Placement(threads=1))


def pack(folder: Path, tar: Path, size: int = 10**9) -> None:
    """Files of a folder into tars, a header's name being the file's."""
    tar.mkdir()
    files = sorted(folder.iterdir())
    for start in range(0, len(files), size):
        with tarfile.open(tar / f"{start:06d}.tar", "w") as out:
            for file in files[start : start + size]:
                member = tarfile.TarInfo(file.name)
                member.size = file.stat().st_size
                out.addfile(member, io.BytesIO(file.read_bytes()))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_tasks_in_any_order_make_the_store_of_one_run(
    tmp_path: Path, embedder: Embedder, order: tuple[int, ...]
) -> None:
    write_images(tmp_path / "images", 22)
    (tmp_path / "images" / "0009.png").write_bytes(b"no image")
    items = find_images(tmp_path / "images")
    extract(items, embedder, tmp_path / "whole", OPTIONS)
    for number, task in enumerate(order):
        summary = extract(items, embedder, tmp_path / "out", OPTIONS, part=Part(task, 3))
        assert summary.images == summary.described + summary.failed == (8, 8, 6)[task]
        assert summary.failed == (task == 2)
        assert summary.complete == (number == 2)
        if number < 2:
            with pytest.raises(StoreError, match="not finished"):
                DescriptorStore.open(tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_tasks_at_the_same_time_make_the_store_of_one_run(tmp_path: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "images", 60)
    items = find_images(tmp_path / "images")
    extract(items, embedder, tmp_path / "whole", OPTIONS)
    failures: list[BaseException] = []

    def task(index: int) -> None:
        try:
            extract(items, embedder, tmp_path / "out", OPTIONS, part=Part(index, 4))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=task, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_killed_task_is_run_again_and_finish_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "images", 120)
    write_tiny_embedder(tmp_path / "tiny.onnx")

    def words(out: str, *more: str) -> list[str]:
        verb = ["extract", str(tmp_path / "images"), "-o", str(tmp_path / out), "--model", str(tmp_path / "tiny.onnx")]
        return [*verb, "--shard-size", "2", "--threads", "1", "--json", *more]

    def task(index: int) -> list[str]:
        return words("out", "--shard-index", str(index), "--num-shards", "3")

    assert main(words("whole")) == 0
    assert main(task(2)) == 0
    process = subprocess.Popen([sys.executable, "-m", "gloam.cli.main", *task(0)], stdout=subprocess.DEVNULL)
    while len(list((tmp_path / "out" / "shards").glob("*.parquet"))) < 25:
        assert process.poll() is None, "finished before it was killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert main(task(1)) == 0
    capsys.readouterr()
    assert main(words("out", "--finish")) == 2
    assert "shards are missing" in capsys.readouterr().err
    assert main(task(0)) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["complete"]
    assert report["reused"] > 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")  # no temporary file of the killed task is left
    # A task that starts late leaves the store as it is.
    ShardWriter.reopen(tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert main([*words("out", "--finish"), "--hloc", str(tmp_path / "out.h5")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["described"] == 120
    assert (tmp_path / "out" / "manifest.json").read_bytes() == (tmp_path / "whole" / "manifest.json").read_bytes()
    assert (tmp_path / "out.h5").is_file()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_shard_is_one_tasks(count: int) -> None:
    for shard in range(20):
        assert [Part(index, count).has(shard) for index in range(count)].count(True) == 1


@pytest.mark.parametrize(("index", "count"), [(3, 3), (-1, 3), (0, 0)])
def test_parts_that_are_none(index: int, count: int) -> None:
    with pytest.raises(UsageError, match="--shard-index"):
        Part(index, count)


def test_options_of_tasks_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "extract",
        str(tmp_path / "in"),
        "-o",
        str(tmp_path / "out"),
        "--model",
        "absent.onnx",
        "--shard-index",
        "0",
    ]
    assert main(words) == 2
    assert "go together" in capsys.readouterr().err
    assert main([*words, "--num-shards", "2", "--hloc", "x.h5"]) == 2
    assert "--finish" in capsys.readouterr().err
    assert main([*words, "--num-shards", "2", "--finish"]) == 2
    assert "--finish is of the whole store" in capsys.readouterr().err


def test_finish_refuses_a_damaged_shard(tmp_path: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "images", 9)
    extract(find_images(tmp_path / "images"), embedder, tmp_path / "out", OPTIONS)
    shard = tmp_path / "out" / "shards" / "part-000001.npy"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(StoreError, match=r"part-000001\.parquet: a damaged shard"):
        ShardWriter.reopen(tmp_path / "out").finish()
    (tmp_path / "out" / "manifest.json").write_text('{"schema": 1, "job": {"space": "x"}, "shards": 3}')
    with pytest.raises(StoreError, match="the manifest is damaged"):
        ShardWriter.reopen(tmp_path / "out")


def test_tars_and_folders_give_the_same_descriptors(tmp_path: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "images", 23)
    pack(tmp_path / "images", tmp_path / "tars", 6)
    extract(find_images(tmp_path / "images"), embedder, tmp_path / "a", OPTIONS)
    extract(find_images(tmp_path / "tars"), embedder, tmp_path / "b", OPTIONS)
    for store in ("a", "b"):
        shutil.rmtree(tmp_path / store / "sources")  # where the images were found is no part of what they gave
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_damaged_member_is_a_row_with_its_tars_name(tmp_path: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "images", 6)
    (tmp_path / "images" / "0002.png").write_bytes((tmp_path / "images" / "0003.png").read_bytes()[:200])
    pack(tmp_path / "images", tmp_path / "tars")
    summary = extract(find_images(tmp_path / "tars"), embedder, tmp_path / "out", OPTIONS)
    assert (summary.described, summary.failed) == (5, 1)
    assert "0002.png,000000.tar: corrupt or truncated" in (tmp_path / "out" / "failures.csv").read_text()


@pytest.mark.parametrize("source", ["images", "tars"])
def test_a_source_that_vanishes_leaves_rows(tmp_path: Path, embedder: Embedder, source: str) -> None:
    write_images(tmp_path / "images", 40)
    pack(tmp_path / "images", tmp_path / "tars", 10)
    items = find_images(tmp_path / source)
    run_batch = embedder.run_batch

    def vanish(images):  # type: ignore[no-untyped-def]  # as the method it stands for
        if (tmp_path / source).exists():
            shutil.rmtree(tmp_path / source)
        return run_batch(images)

    embedder.run_batch = vanish  # type: ignore[method-assign]  # the source goes while the model runs
    summary = extract(items, embedder, tmp_path / "out", OPTIONS, decode_threads=1)
    assert summary.described + summary.failed == 40
    assert 0 < summary.described < 40
    assert "cannot be read: No such file" in (tmp_path / "out" / "failures.csv").read_text()
    with pytest.raises(DataError, match="none of 40 images could be described"):
        extract(items, embedder, tmp_path / "none", OPTIONS)


class Counted(Embedder):
    """Counts the images between decoder and model."""

    between, most, lock = 0, 0, threading.Lock()

    def run_batch(self, images):  # type: ignore[no-untyped-def]  # as its base
        time.sleep(0.002)  # slower than the decoder: images pile up as far as they may
        with self.lock:
            self.between -= len(images)
        return super().run_batch(images)


@pytest.mark.parametrize("threads", [1, 4])
def test_decoded_images_in_flight_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    write_images(tmp_path / "images", 300)
    write_tiny_embedder(tmp_path / "m.onnx", PaddingProfile.fixed((256, 512), (256, 512)))
    embedder = Counted(Embedder.load(tmp_path / "m.onnx", Placement(threads=1)).session)
    embedder.batch_size = 8

    def counted(source: bytes, **options: object) -> np.ndarray:
        with embedder.lock:
            embedder.between += 1
            embedder.most = max(embedder.most, embedder.between)
        return decode_image(source, **options)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(pipeline, "decode_image", counted)
    items = find_images(tmp_path / "images")
    extract(items, embedder, tmp_path / "out", ExtractOptions(shard_size=100), decode_threads=threads)
    assert embedder.most <= 2 * threads + 8 + max(WAITING, 8) + 1
    assert embedder.between == 0


def test_batches_stay_inside_a_shard_and_are_full_there(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 50)
    write_tiny_embedder(tmp_path / "m.onnx", PaddingProfile.fixed((256,), (256,)))
    embedder = Embedder.load(tmp_path / "m.onnx", Placement(threads=1))
    embedder.batch_size = 4
    sizes, run_batch = [], embedder.run_batch

    def noted(images):  # type: ignore[no-untyped-def]  # as the method it stands for
        sizes.append(len(images))
        return run_batch(images)

    embedder.run_batch = noted  # type: ignore[method-assign]  # notes and passes on
    extract(find_images(tmp_path / "images"), embedder, tmp_path / "out", ExtractOptions(shard_size=10))
    assert sizes == [4, 4, 2] * 5


def test_decoding_goes_on_while_a_shard_is_written(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "images", 24)
    write, run_batch = ShardWriter.write, embedder.run_batch
    overlapped: list[bool] = []
    described = 0

    def slow(self, shard, rows, descriptors):  # type: ignore[no-untyped-def]  # as the method it stands for
        deadline = time.monotonic() + (5 if shard < 5 else 0.1)
        while (beyond := described > 4 * (shard + 1)) is False and time.monotonic() < deadline:
            time.sleep(0.001)
        overlapped.append(beyond)
        write(self, shard, rows, descriptors)

    def noted(images):  # type: ignore[no-untyped-def]  # as the method it stands for
        nonlocal described
        described += len(images)
        return run_batch(images)

    monkeypatch.setattr(ShardWriter, "write", slow)
    embedder.run_batch = noted  # type: ignore[method-assign]  # notes and passes on
    extract(find_images(tmp_path / "images"), embedder, tmp_path / "out", OPTIONS)
    assert overlapped == [True] * 5 + [False]  # beyond the last there is nothing


def test_fast_decode_is_noted_and_makes_another_store(tmp_path: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "images", 3)
    items = find_images(tmp_path / "images")
    extract(items, embedder, tmp_path / "plain")
    extract(items, embedder, tmp_path / "fast", ExtractOptions(fast_decode=True))
    assert "fast_decode" not in DescriptorStore.open(tmp_path / "plain").manifest["job"]["options"]
    assert DescriptorStore.open(tmp_path / "fast").manifest["job"]["options"]["fast_decode"] is True
    with pytest.raises(IncompatibleError, match="options"):
        extract(items, embedder, tmp_path / "plain", ExtractOptions(fast_decode=True))


def test_the_summary_adds_up(tmp_path: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "images", 12)
    summary = extract(find_images(tmp_path / "images"), embedder, tmp_path / "out", OPTIONS)
    seconds = summary.seconds
    assert 0 < seconds["infer"] <= seconds["total"]
    assert sum(seconds[stage] for stage in ("read", "infer", "write")) <= seconds["total"] * 1.001
    assert summary.idle_share == pytest.approx(1 - seconds["infer"] / seconds["total"])


def test_the_tables_hold_rows_in_the_order_of_the_source(tmp_path: Path, embedder: Embedder) -> None:
    write_images(tmp_path / "images", 11)
    items: list[ImageItem] = list(find_images(tmp_path / "images"))[::-1]
    extract(items, embedder, tmp_path / "out", OPTIONS)
    names = [
        name
        for path in sorted((tmp_path / "out" / "shards").glob("*.parquet"))
        for name in pq.read_table(path)["image"].to_pylist()
    ]
    assert names == [item.name for item in items]


@pytest.mark.slow
def test_a_hundred_thousand_images_take_the_memory_of_ten_thousand(tmp_path: Path) -> None:
    from benchmarks.bulk_million import kill_and_resume, scaling

    detail = scaling(tmp_path, (10_000, 100_000))
    assert detail["memory_ratio"] <= 1.1
    assert detail["time_ratio"] <= 11
    resumed = kill_and_resume(tmp_path, 10_000, 4)
    assert resumed["identical"]
    assert resumed["kills"] == 4
