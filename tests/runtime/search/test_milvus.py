"""Collections of Milvus, here of Milvus Lite: what is found, what is refused, what a kill leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gloam.cli.main import main
from gloam.errors import (
    ClusterError,
    DataError,
    GloamError,
    IncompatibleError,
    MissingExtraError,
    StoreError,
    UsageError,
)
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import DescriptorStore, Job, Row
from gloam.runtime.search import milvus
from gloam.runtime.search.milvus import MilvusIndex, MilvusRequest, send_store, without_password

pymilvus = pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

COUNT, DIMENSION, SPACE, OPTIONS = 700, 24, "a" * 64, {"max_side": 512}
ODD = ["día/1.jpg", 'it\'s "quoted"/2 3.jpg', "gloam and (row >= 0).jpg"]  # of no expression of Milvus's


def write(folder: Path, count: int = COUNT, seed: int = 0, **job: Any) -> Path:
    rng = np.random.default_rng(seed)
    dimension = job.pop("dimension", DIMENSION)
    rows = rng.normal(size=(count, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [*ODD, *(f"cam{n % 3}/{n:05d}.jpg" for n in rng.permutation(count))][:count]
    stated = {"space": SPACE, "fingerprint": "b" * 64, "metric": "cosine", "options": OPTIONS} | job
    shards = -(-count // 300)
    writer = ShardWriter.begin(
        folder, Job(dimension=dimension, images_sha256=f"{seed:064x}", images=count, **stated), shards
    )
    for shard in range(shards):
        span = slice(300 * shard, 300 * shard + 300)
        writer.write(shard, [Row(name) for name in names[span]], rows[span])
    writer.finish()
    return folder


def release(uri: Path) -> None:
    """Let a file of Milvus Lite go, as the end of a process does."""
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(str(uri))


@pytest.fixture
def uri(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "place.db"
    release(tmp_path / "place.db")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("milvus") / "store")


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("milvus") / "sent.db"
    send_store(MilvusRequest(store, str(place)))
    yield place
    release(place)


def said(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_search_finds_what_an_exact_index_finds(
    store: Path, sent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = write(tmp_path / "queries", 40, 5)
    assert main(["index", str(store), "-o", str(tmp_path / "flat"), "--kind", "flat"]) == 0
    capsys.readouterr()
    exact = said(capsys, "search", tmp_path / "flat", "--store", queries, "-k", 20)
    found = said(capsys, "search", "--milvus", sent, "--store", queries, "-k", 20)
    assert exact.keys() == found.keys()
    assert list(exact["results"]) == list(found["results"])
    for query, expected in exact["results"].items():
        assert [hit["image"] for hit in found["results"][query]] == [hit["image"] for hit in expected]
        scores = [[hit["score"] for hit in hits] for hits in (found["results"][query], expected)]
        np.testing.assert_allclose(*scores, atol=1e-6)
    assert found["space"] == exact["space"]
    assert (found["index"], found["settings"], found["recall"]) == (f"{sent}, collection gloam", {}, {})
    assert found["searched_on"].startswith("Milvus ")


def test_a_store_finds_itself_whatever_its_images_are_called(store: Path, sent: Path) -> None:
    index, opened = MilvusIndex.open(str(sent)), DescriptorStore.open(store)
    names, scores = index.search(opened.load(), 1, space=opened.space, batch=64)
    assert [found[0] for found in names] == opened.names
    np.testing.assert_allclose(scores, 1, atol=1e-6)
    card = index.card
    assert (card.count, card.dimension, card.factory, card.fingerprint) == (COUNT, DIMENSION, "FLAT", "b" * 64)
    assert card.options["max_side"] == 512
    assert index.search(opened.load()[:2], COUNT + 9, space=opened.space)[1].shape == (2, COUNT)
    index.close()


def test_equal_scores_come_in_the_order_of_the_store(sent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hits = [("late", 0.5, 9), ("best", 0.75, 5), ("early", 0.5, 2)]
    monkeypatch.setattr(milvus._Server, "search", lambda self, collection, queries, k: iter([hits]))
    index = MilvusIndex.open(str(sent))
    names, scores = index.search(np.zeros((1, DIMENSION), np.float32), 5, space=index.card.space)
    assert names == [["best", "early", "late", "", ""]]
    assert scores.tolist() == [[0.75, 0.5, 0.5, -np.inf, -np.inf]]


def test_what_is_there_is_not_sent_again(
    store: Path, sent: Path, uri: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert send_store(MilvusRequest(store, str(sent))).sent == 0
    monkeypatch.setattr(milvus, "ROWS", 100)
    upsert, calls = milvus._Server.upsert, []

    def killed(self: Any, collection: str, rows: list[Any]) -> None:
        calls.append(len(rows))
        if len(calls) == 4:
            upsert(self, collection, rows[::2])  # half of a request
            raise KeyboardInterrupt
        upsert(self, collection, rows)

    monkeypatch.setattr(milvus._Server, "upsert", killed)
    with pytest.raises(KeyboardInterrupt):
        send_store(MilvusRequest(store, str(uri)))
    with pytest.raises(StoreError, match="was not finished; run the same `gloam index --milvus` again"):
        MilvusIndex.open(str(uri))
    calls[:] = [0] * 9
    made = send_store(MilvusRequest(store, str(uri)), progress=True)
    assert (made.sent, made.card.count) == (COUNT - 350, COUNT)
    assert calls[9:] == [0, 0, 0, 50, 100, 100, 100]
    assert str(made).startswith(f"{uri}, collection gloam: 700 vectors of 24 values, FLAT, 350 of them were there\n")
    assert MilvusIndex.open(str(uri)).card == MilvusIndex.open(str(sent)).card


def test_a_kill_at_any_moment_is_carried_on_from(store: Path, uri: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom gloam.runtime.search import milvus\nmilvus.ROWS = 50\n"
        "upsert = milvus._Server.upsert\n"
        "def slow(self, *what):\n    upsert(self, *what); print('sent', flush=True); time.sleep(0.2)\n"
        "milvus._Server.upsert = slow\n"
        "milvus.send_store(milvus.MilvusRequest(Path(sys.argv[1]), sys.argv[2]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(store), str(uri)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(4):
        assert process.stdout.readline() == b"sent\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    made = send_store(MilvusRequest(store, str(uri)))
    assert 0 < made.sent <= COUNT - 200
    opened = DescriptorStore.open(store)
    found, _ = MilvusIndex.open(str(uri)).search(opened.load(), 1, space=opened.space)
    assert [row[0] for row in found] == opened.names


@pytest.mark.parametrize(
    ("job", "error", "words"),
    [
        ({"space": "c" * 64}, IncompatibleError, "they come from another model or normalisation"),
        ({"fingerprint": "c" * 64}, IncompatibleError, "of fingerprint bbbbbbbbbbbb, the store's is cccccccccccc"),
        ({"dimension": 8}, IncompatibleError, "vectors of 24 values, the store's have 8"),
        ({"options": OPTIONS | {"photometric": "clahe"}}, IncompatibleError, "read with photometric 'clahe'"),
        ({"options": {"max_side": 64}}, IncompatibleError, "extract them again alike"),
        ({}, StoreError, "holds another store of this space; give --collection another name"),
    ],
)
def test_what_may_not_be_in_one_collection_is_refused(
    sent: Path, tmp_path: Path, job: dict[str, Any], error: type[GloamError], words: str
) -> None:
    other = write(tmp_path / "other", 50, 3, **job)
    with pytest.raises(error, match=words.replace("(", r"\(")):
        send_store(MilvusRequest(other, str(sent)))
    assert MilvusIndex.open(str(sent)).card.count == COUNT


def test_what_a_search_may_not_compare_is_refused(sent: Path, tmp_path: Path) -> None:
    index = MilvusIndex.open(str(sent))
    rows = np.eye(DIMENSION, dtype=np.float32)[:2]
    with pytest.raises(IncompatibleError, match="cannot be compared"):
        index.search(rows, space="c" * 64)
    with pytest.raises(IncompatibleError, match=r"queries of shape \[2, 8\], \[q, 24\] is needed"):
        index.search(rows[:, :8], space=index.card.space)
    with pytest.raises(UsageError, match="must be from 1 to 16384"):
        index.search(rows, 16385, space=index.card.space)
    with pytest.raises(UsageError, match="nprobe is of an index of FAISS"):
        index.search(rows, space=index.card.space, nprobe=3)


def test_collections_that_are_not_ours_or_not_whole_are_refused(store: Path, uri: Path) -> None:
    client = pymilvus.MilvusClient(str(uri))
    client.create_collection("theirs", dimension=DIMENSION)
    with pytest.raises(StoreError, match="collection theirs: gloam did not make this collection"):
        send_store(MilvusRequest(store, str(uri), "theirs"))
    with pytest.raises(StoreError, match="collection theirs: gloam did not make this collection"):
        MilvusIndex.open(str(uri), "theirs")
    with pytest.raises(StoreError, match="collection none: is not there"):
        MilvusIndex.open(str(uri), "none")
    send_store(MilvusRequest(store, str(uri), "ours"))
    for key, value, words in (
        ("count", "few", "its properties are damaged"),
        ("options", "[]", "its properties are damaged"),
        ("count", "-3", "its properties are damaged"),
        ("count", "701", "700 vectors where 701 are stated"),
        ("schema", "9", "a collection of schema '9', this gloam reads 1"),
    ):
        before = client.describe_collection("ours")["properties"][f"gloam.{key}"]
        client.alter_collection_properties("ours", {f"gloam.{key}": value})
        with pytest.raises(StoreError, match=words):
            MilvusIndex.open(str(uri), "ours")
        client.alter_collection_properties("ours", {f"gloam.{key}": before})
    client.delete("ours", ids=["cam0/00003.jpg"])
    with pytest.raises(StoreError, match="699 vectors where 700 are stated; drop it"):
        MilvusIndex.open(str(uri), "ours")


def test_stores_that_no_collection_takes_are_refused(
    tmp_path: Path, uri: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, job, words in (
        ("dot", {"metric": "dot"}, "needs cosine"),
        ("wide", {"dimension": 40000}, "gloam whiten"),
    ):
        with pytest.raises(GloamError, match=words):
            send_store(MilvusRequest(write(tmp_path / name, 2, **job), str(uri)))
    for number, names in enumerate((["a"] * 2, ["b" * 66000, "a"])):
        monkeypatch.setattr("tests.runtime.search.test_milvus.ODD", names)
        with pytest.raises(DataError, match=r"twice|longer than 65535 bytes"):
            send_store(MilvusRequest(write(tmp_path / f"names{number}", 2), str(uri)))
    with pytest.raises(DataError, match="no descriptors"):
        send_store(MilvusRequest(write(tmp_path / "none", 0), str(uri)))
    assert not uri.exists()


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http://u:secret@127.0.0.1:1", "http://127.0.0.1:1: no Milvus answers"),
        ("nowhere", "give http://HOST:19530, or PATH.db for Milvus Lite"),
        ("{tmp}/none/x.db", "none"),
    ],
)
@pytest.mark.parametrize("verb", ["index {store} --milvus", "search --store {store} --milvus"])
def test_a_server_that_is_not_there_is_one_line(
    store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], verb: str, uri: str, words: str
) -> None:
    command = [word.format(store=store, tmp=tmp_path) for word in [*verb.split(), uri]]
    assert main(command) == 2
    errors = capfd.readouterr().err
    assert errors.count("\n") == 1
    assert words in errors
    assert "secret" not in errors


def test_a_file_that_another_process_holds_is_one_line(sent: Path, store: Path) -> None:
    code = "import sys; from gloam.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "search", "--milvus", str(sent), "--store", str(store)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr


def test_errors_of_the_server_are_one_line(
    sent: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    index = MilvusIndex.open(str(sent))
    pymilvus.MilvusClient(str(sent))
    monkeypatch.setattr(milvus, "DESCRIPTOR", "none")
    with pytest.raises(StoreError, match="Milvus fails"):
        index.search(np.eye(DIMENSION, dtype=np.float32)[:1], space=index.card.space)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("index s --milvus u.db --kind flat", "--kind is of an index of FAISS"),
        ("index s --milvus u.db -o out", "--output is of an index of FAISS"),
        ("index --milvus u.db", "--milvus takes a STORE"),
        ("index s --collection c -o out", "--collection is of Milvus; add --milvus URI"),
        ("index s", "say where the index goes"),
        ("index s --milvus u.db --collection 1st", "letters, digits and underscores"),
        ("search i --milvus u.db --store s", "give an INDEX to search, or --milvus URI: one of the two"),
        ("search --store s", "give an INDEX to search, or --milvus URI: one of the two"),
        ("search i --collection c --store s", "--collection is of Milvus; add --milvus URI"),
        ("search --milvus u.db --store s --mmap", "--mmap is of an index of FAISS"),
        ("search --milvus u.db --store s --nprobe 3", "--nprobe is of an index of FAISS"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_needs_milvus_lite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "milvus_lite", None)
    with pytest.raises(MissingExtraError, match=r"milvus_lite is needed .* pip install milvus-lite$"):
        milvus._Server("x.db")


def test_passwords_are_not_shown() -> None:
    assert without_password("https://root:secret@host:19530/db") == "https://host:19530/db"
    assert without_password("a@b/place.db") == "a@b/place.db"


def test_a_server_that_refuses_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILVUS_TOKEN", "key")
    given: list[Any] = []

    def refuse(uri: str, token: str) -> None:
        given.append((uri, token))
        raise pymilvus.MilvusException(message="bad token\nand more")

    monkeypatch.setattr(pymilvus, "MilvusClient", refuse)
    with pytest.raises(ClusterError, match=r"^https://h:1: no Milvus answers \(bad token\); start it, or check"):
        milvus._Server("https://u:p@h:1")
    assert given == [("https://u:p@h:1", "key")]
