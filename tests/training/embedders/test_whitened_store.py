"""A whitened store is the store's descriptors through the whitening, and is never taken for the store."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.cli.main import main
from gloam.errors import DataError, GloamError, IncompatibleError, ModelError, StoreError, UsageError
from gloam.runtime.descriptors import whiten_store as module
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import DescriptorStore, Job, Row, shard_paths
from gloam.runtime.descriptors.verify import verify_store
from gloam.runtime.descriptors.whitening import Whitening
from gloam.runtime.search.index import add_to_index, build_index
from gloam.runtime.search.queries import read_queries
from gloam.training.embedders.whitened_store import WhitenRequest, whiten
from gloam.training.embedders.whitening import learn_pca
from tests.damage import flip
from tests.runtime.sources import random_source

DIMENSION = 8


def write(folder: Path, seed: int = 0, count: int = 24, space: str = "a" * 64, dtype: str = "float32") -> Path:
    """A store of shards of eight images, one of which failed."""
    source = random_source(count, DIMENSION, seed, f"set{seed}")
    options = {"max_side": 64, "dtype": dtype}
    job = Job(space, "b" * 64, DIMENSION, "cosine", f"{seed:064x}", count, options, "e" * 64)
    writer = ShardWriter.begin(folder, job, -(-count // 8))
    for shard in range(writer.shards):
        span = slice(8 * shard, 8 * shard + 8)
        rows = [Row(name, f"{shard:064x}", 64, 48, "48x64") for name in source.names[span]]
        rows[1] = Row(rows[1].image, status="cannot be read")
        writer.write(shard, rows, np.delete(source.rows[span], 1, axis=0).astype(dtype))
    writer.finish()
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_whitened_store_holds_what_the_whitening_gives(tmp_path: Path, dtype: str) -> None:
    store = DescriptorStore.open(write(tmp_path / "map", dtype=dtype))
    made = whiten(WhitenRequest(store.folder, tmp_path / "white", dimension=5))
    assert made.whitening is not None
    found = DescriptorStore.open(made.folder)
    whitening = learn_pca(store.load(), 5)
    np.testing.assert_allclose(found.load(), whitening.apply(store.load()), atol=2e-6 if dtype == "float32" else 1e-3)
    np.testing.assert_allclose(np.linalg.norm(found.load(), axis=1), 1, atol=1e-3)
    assert (found.names, found.failures, found.dimension) == (store.names, store.failures, 5)
    assert [row for row, _ in map(found.shard, range(3))] == [row for row, _ in map(store.shard, range(3))]
    assert found.shard(0)[1].dtype == dtype
    assert not verify_store(made.folder).damaged


def test_queries_are_whitened_by_the_file_that_the_map_left_and_unwhitened_ones_are_refused(tmp_path: Path) -> None:
    mapped, asked = write(tmp_path / "map"), write(tmp_path / "query", 1)
    made = whiten(WhitenRequest(mapped, tmp_path / "white", dimension=4))
    queries = whiten(WhitenRequest(asked, tmp_path / "asked", whitening=made.whitening))
    other = whiten(WhitenRequest(asked, tmp_path / "other", learn_from=mapped, dimension=4, seed=0, samples=9))
    fewer = whiten(WhitenRequest(asked, tmp_path / "fewer", whitening=made.whitening, dimension=3))
    twice = whiten(WhitenRequest(made.folder, tmp_path / "twice", exponent=0))
    stores = [
        DescriptorStore.open(folder) for folder in (mapped, made.folder, other.folder, fewer.folder, twice.folder)
    ]
    for identity in ("space", "fingerprint", "untranslated_space"):
        assert len({getattr(store, identity) for store in stores}) == len(stores)
    assert queries.space == made.space
    card = build_index(stores[1], tmp_path / "index")
    assert len(read_queries(queries.folder, card).names) == len(stores[1])
    for folder in (asked, other.folder, fewer.folder):
        with pytest.raises(IncompatibleError, match="cannot be compared"):
            read_queries(folder, card)
    with pytest.raises(IncompatibleError, match="cannot be compared"):
        add_to_index(DescriptorStore.open(asked), tmp_path / "index")


def test_a_killed_run_is_carried_on_and_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = write(tmp_path / "map")
    whole = files(whiten(WhitenRequest(mapped, tmp_path / "whole", dimension=4)).folder)
    request = WhitenRequest(mapped, tmp_path / "white", dimension=4)
    written = ShardWriter.write
    done: list[int] = []

    def killed(self: ShardWriter, shard: int, *others: Any) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(shard)
        written(self, shard, *others)

    monkeypatch.setattr(module.ShardWriter, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        whiten(request)
    with pytest.raises(StoreError, match="not finished"):
        DescriptorStore.open(request.output)
    monkeypatch.setattr(module.ShardWriter, "write", written)
    monkeypatch.setattr("gloam.training.embedders.whitened_store.learn_pca", None)  # it was learned
    whiten(request)
    assert files(request.output) == whole
    before = {path: path.stat().st_mtime_ns for path in request.output.rglob("*")}
    whiten(request)
    assert before == {path: path.stat().st_mtime_ns for path in request.output.rglob("*")}
    with pytest.raises(IncompatibleError, match="another space, fingerprint, dimension"):
        whiten(WhitenRequest(mapped, tmp_path / "white", whitening=tmp_path / "whole/whitening.npz", dimension=3))


def test_memory_is_a_shard_and_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither learning nor writing asks the store for all of its descriptors."""
    mapped = write(tmp_path / "map", count=80)
    monkeypatch.setattr(DescriptorStore, "load", None)
    taken: list[int] = []
    take, apply = DescriptorStore.take, Whitening.apply
    monkeypatch.setattr(DescriptorStore, "take", lambda self, rows: taken.append(len(rows)) or take(self, rows))
    monkeypatch.setattr(Whitening, "apply", lambda self, rows: taken.append(len(rows)) or apply(self, rows))
    whiten(WhitenRequest(mapped, tmp_path / "white", dimension=4, samples=12))
    assert taken == [12, *[7] * 10]


def test_a_damaged_shard_is_named_and_nothing_is_made_of_it(tmp_path: Path) -> None:
    mapped = write(tmp_path / "map")
    path = shard_paths(mapped, 1)[0]
    flip(path, -3)
    with pytest.raises(StoreError, match=r"part-000001\.npy: damaged"):
        whiten(WhitenRequest(mapped, tmp_path / "white", dimension=4))


BAD: list[tuple[dict[str, Any], type[GloamError], str]] = [
    ({"dimension": 0}, UsageError, "dimension 0 is not among 1 to 8"),
    ({"dimension": 9}, UsageError, "dimension 9"),
    ({"samples": 1}, UsageError, "--samples 1 must be at least 2"),
    ({"samples": 4}, DataError, "4 descriptors vary in 3 directions only, 8"),
    ({"exponent": -1.0}, UsageError, "must not be negative"),
    ({"exponent": float("nan")}, UsageError, "must not be negative"),
    ({"whitening": Path("w.npz"), "samples": 5}, UsageError, "leave out --learn-from"),
    ({"whitening": Path("w.npz")}, ModelError, "no such whitening file"),
    ({"learn_from": Path("other")}, IncompatibleError, "cannot be compared"),
    ({"output": Path("map/white")}, UsageError, "inside the folder"),
    ({"output": Path("other")}, IncompatibleError, "made with another"),
    ({"whitening": Path("foreign.npz")}, IncompatibleError, "learn one from this model's"),
    ({"whitening": Path("pca.pkl")}, UsageError, "ends in .npz or .safetensors"),
    ({"whitening": Path("pickled.npz")}, ModelError, "not a whitening of gloam"),
    ({"whitening": Path("objects.npz")}, ModelError, "not a whitening of gloam"),
]


@pytest.mark.parametrize(("asked", "error", "words"), BAD, ids=[str(index) for index in range(len(BAD))])
def test_what_cannot_be_is_one_line(
    asked: dict[str, Any],
    error: type[GloamError],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("map"))
    write(Path("other"), 1, space="d" * 64)
    learn_pca(np.eye(9), 4).save("foreign.npz")
    Path("pca.pkl").write_bytes(pickle.dumps({"mean": np.zeros(8), "components": np.eye(8)}))
    shutil.copy("pca.pkl", "pickled.npz")
    np.savez("objects.npz", description="{}", mean=np.array([print], object), projection=np.eye(8), allow_pickle=True)
    before = files(tmp_path)
    with pytest.raises(error, match=words) as raised:
        whiten(WhitenRequest(**{"store": Path("map"), "output": Path("white"), **asked}))
    assert "\n" not in str(raised.value)
    assert files(tmp_path) == before


def test_the_command_says_how_queries_follow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mapped = write(tmp_path / "map")
    assert main(["whiten", str(mapped), "-o", str(tmp_path / "white"), "--dimension", "4"]) == 0
    said, shown = capsys.readouterr()
    assert "21 descriptors whitened, 8 to 4 values" in said
    assert f"learning from 21 descriptors of {mapped}" in shown
    assert main(["whiten", str(mapped), "-o", str(tmp_path / "quiet"), "--json"]) == 0
    assert capsys.readouterr().err == ""
    assert f"--whitening {tmp_path / 'white' / 'whitening.npz'}" in said
    assert main(["whiten", str(mapped), "-o", str(tmp_path / "w"), "--whitening", str(tmp_path / "pca.pkl")]) == 2
    assert "pca.pkl: a whitening file ends in" in capsys.readouterr().err
