"""A store is what was written, or says which file is not; what an earlier look found never counts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.cli.main import main
from gloam.errors import DataError, StoreError
from gloam.files import sealed_json
from gloam.runtime.descriptors import store as module
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import DescriptorStore, Job, Row, shard_paths
from gloam.runtime.descriptors.verify import verify_store
from tests.damage import flip, named_or_harmless
from tests.runtime.sources import random_source

JOB = Job("a" * 64, "b" * 64, 8, "cosine", "c" * 64, 12, {"max_side": 64})
SOURCE = random_source(12, 8)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_shard(writer: ShardWriter, shard: int) -> None:
    span = slice(4 * shard, 4 * shard + 4)
    rows = [Row(name, f"{shard:064x}", 64, 48, "48x64") for name in SOURCE.names[span]]
    rows[1] = Row(rows[1].image, status="cannot be read")
    writer.write(shard, rows, np.delete(SOURCE.rows[span], 1, axis=0).astype(np.float16))


def write_store(folder: Path, shards: int = 3) -> ShardWriter:
    """A store of three shards; unfinished where fewer are written."""
    writer = ShardWriter.begin(folder, JOB, 3)
    for shard in range(shards):
        write_shard(writer, shard)
    if shards == 3:
        writer.finish()
    return writer


def read(folder: Path, **options: Any) -> Any:
    store = DescriptorStore.open(folder, **options)
    return store.names, store.load().tobytes(), store.failures, store.space, store.dimension, len(store.manifest)


@pytest.mark.parametrize("name", ["manifest.json", "shards/part-000001.npy", "shards/part-000001.parquet"])
@pytest.mark.parametrize("shards", [3, 2], ids=["complete", "unfinished"])
def test_a_flipped_bit_is_named_when_a_store_is_read(tmp_path: Path, name: str, shards: int) -> None:
    write_store(tmp_path, shards)
    named = named_or_harmless(tmp_path / name, lambda: read(tmp_path, allow_partial=True), 80)
    assert named >= 79  # a blank may become another


@pytest.mark.parametrize("name", ["part-000001.npy", "part-000001.parquet"])
@pytest.mark.parametrize("shards", [3, 2], ids=["complete", "unfinished"])
def test_a_flipped_bit_is_never_blessed_and_made_again(tmp_path: Path, name: str, shards: int) -> None:
    write_store(tmp_path, shards)
    before = content(tmp_path)
    for bit in range(0, 8 * len(before[f"shards/{name}"]), 997):
        flip(tmp_path / "shards" / name, bit)
        writer = ShardWriter.begin(tmp_path, JOB, 3)
        assert writer.done(0)
        assert not writer.done(1)
        assert writer.damaged == [name]
        if shards == 3:
            with pytest.raises(StoreError, match=r"part-000001\.parquet: a damaged shard; run the same"):
                writer.finish()
        write_shard(writer, 1)
        if shards == 3:
            writer.finish()
        assert content(tmp_path) == before


def test_swapped_files_are_named(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    for suffix in (".npy", ".parquet"):
        shutil.copytree(tmp_path / "store", tmp_path / suffix)
        first, second = (tmp_path / suffix / "shards" / f"part-00000{shard}{suffix}" for shard in (0, 1))
        first.rename(tmp_path / "aside")
        second.rename(first)
        (tmp_path / "aside").rename(second)
        with pytest.raises(StoreError, match=rf"part-000000\{suffix}: damaged, its checksum differs; run the same"):
            read(tmp_path / suffix)
        assert [name for name, _ in verify_store(tmp_path / suffix).damaged] == [first.name, second.name]


def test_bytes_are_compared_once_per_opened_store_and_not_with_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(tmp_path)
    seen: list[str] = []
    monkeypatch.setattr(module, "sha256_file", lambda path: seen.append(path.name) or "")
    trusting = DescriptorStore.open(tmp_path, trust=True)
    assert len(trusting.load()) == 9
    assert seen == []
    monkeypatch.undo()
    sha256_file = module.sha256_file
    monkeypatch.setattr(module, "sha256_file", lambda path: seen.append(path.name) or sha256_file(path))
    store = DescriptorStore.open(tmp_path)
    assert seen == []
    for _ in range(3):
        np.testing.assert_array_equal(store.load(), trusting.load())
    assert seen == [f"part-00000{shard}.npy" for shard in range(3)]


def test_a_complete_store_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    writer = ShardWriter.begin(tmp_path, JOB, 3)
    assert [writer.failed(shard) for shard in range(3)] == [1, 1, 1]
    assert writer.finish() == 3


def test_stores_of_before_are_read(tmp_path: Path) -> None:
    write_store(tmp_path)
    expected = read(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()), indent=2) + "\n")  # no checksum of its own
    assert read(tmp_path) == expected
    assert verify_store(tmp_path).damaged == []
    manifest.write_text(
        '{"schema": 1, "complete": false, "sha256": {}, "shards": 3, "job": ' + json.dumps(vars(JOB)) + "}"
    )
    assert read(tmp_path, allow_partial=True)[:3] == expected[:3]
    assert not ShardWriter.begin(tmp_path, JOB, 3).done(0)  # what it was is not known


@pytest.mark.parametrize(
    "change",
    [{"shards": "3"}, {"shards": 2}, {"complete": 1}, {"sha256": []}, {"sha256": {"a": "b"}}, {"job": {"space": "x"}}],
    ids=str,
)
def test_a_manifest_that_does_not_fit_is_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    write_store(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_bytes(sealed_json(json.loads(path.read_text()) | change))
    for call in (DescriptorStore.open, ShardWriter.reopen, verify_store):
        with pytest.raises(StoreError, match=r"manifest\.json: the manifest is damaged"):
            call(tmp_path)


@pytest.mark.parametrize("header", [b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"\x80\x04.", b""])
def test_a_header_that_is_none_is_one_line(tmp_path: Path, header: bytes) -> None:
    write_store(tmp_path)
    shard_paths(tmp_path, 1)[0].write_bytes(header)
    with pytest.raises(StoreError, match=r"part-000001\.npy: a damaged shard"):
        DescriptorStore.open(tmp_path, trust=True)


def test_the_verb_names_every_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    write_store(store)
    assert main(["store", "verify", str(store)]) == 0
    assert capsys.readouterr().out == f"{store}: 3 of 3 shards are as they were written; the store is complete\n"
    flip(store / "failures.csv")
    assert main(["store", "verify", str(store)]) == 1
    assert "failures.csv: is not what the tables say" in capsys.readouterr().out
    flip(store / "shards" / "part-000000.npy")
    flip(store / "shards" / "part-000001.parquet")
    (store / "shards" / "part-000002.npy").unlink()
    assert main(["store", "verify", str(store), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["passed"]
    assert [(item["file"], item["fault"]) for item in found["damaged"]] == [
        ("part-000000.npy", "its checksum differs"),
        ("part-000001.parquet", "its checksum differs"),
        ("part-000002.npy", "is missing"),
    ]
    write_store(tmp_path / "part", 2)
    assert main(["store", "verify", str(tmp_path / "part")]) == 0
    assert "2 of 3 shards are as they were written; the store is not finished" in capsys.readouterr().out
    assert main(["store", "verify", str(tmp_path)]) == 2
    assert "not a descriptor store" in capsys.readouterr().err


def test_what_reads_a_store_names_the_damage_or_is_told_to_trust(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    write_store(store)
    assert main(["index", str(store), "-o", str(tmp_path / "index")]) == 0
    flip(store / "shards" / "part-000001.npy", 8 * 128 + 1)  # a value's lowest bits
    out = str(tmp_path / "out")
    for words in (
        ["index", str(store), "-o", out],
        ["pairs", "--query", str(store), "--map", str(store), "-o", f"{out}.txt"],
        ["search", str(tmp_path / "index"), "--store", str(store)],
        ["train", "whitening", str(store), "-o", f"{out}.npz", "--kind", "pca"],
        ["eval", "retrieval", "--query", str(store), "--map", str(store), "--protocol", "clusters"],
    ):
        capsys.readouterr()
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert "part-000001.npy: damaged, its checksum differs; run the same `gloam extract` again" in error, words
        assert error.count("\n") == 1
        assert main([*words, "--trust"]) == 0, words


def test_a_descriptor_that_is_no_number_is_named_by_its_image(tmp_path: Path) -> None:
    writer = ShardWriter.begin(tmp_path, JOB, 3)
    for shard in range(3):
        write_shard(writer, shard)
    rows = [Row(name, "0" * 64, 64, 48, "48x64") for name in SOURCE.names[4:8]]
    writer.write(1, rows, np.where(np.arange(8) == 3, np.inf, SOURCE.rows[4:8]).astype(np.float16))
    writer.finish()
    with pytest.raises(DataError, match=f"the descriptor of '{SOURCE.names[4]}' is not finite"):
        DescriptorStore.open(tmp_path).load()


def test_tables_are_read_by_the_thread_that_asks(tmp_path: Path) -> None:
    """Threads of pyarrow's dataset reader outlive the interpreter with bytes of Python's, which aborts it."""
    write_store(tmp_path / "store")
    program = (
        "import sys; from gloam.runtime.descriptors.store import DescriptorStore\n"
        f"print(len(DescriptorStore.open({str(tmp_path / 'store')!r}).names), 'pyarrow._dataset' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, reads_ahead = done.stdout.split()
    assert int(count) > 0
    assert reads_ahead == "False"
