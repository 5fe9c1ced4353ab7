"""Images behind URLs: the same images, some attempts more, and an end where the store is gone."""

from __future__ import annotations

import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from gloam.data.sources import find_images, remote
from gloam.errors import DataError, ImageError, MissingExtraError


class Flaky(MemoryFileSystem):
    """Answers after ``failing`` errors; counts what it was asked."""

    protocol = "flaky"
    cachable = False
    store: dict[str, Any] = {}  # noqa: RUF012  # as in its base
    pseudo_dirs = [""]  # noqa: RUF012  # as in its base
    failing = 0
    asked = 0
    error: Exception = TimeoutError("no answer in time")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(path.replace("flaky://", "memory://"))
        return stripped

    def size(self, path: str) -> int:
        return len(MemoryFileSystem.cat_file(self, path))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        Flaky.asked += 1
        if Flaky.failing > 0:
            Flaky.failing -= 1
            raise Flaky.error
        content: bytes = super().cat_file(path, start, end)
        return content


@pytest.fixture(autouse=True)
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    waited: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", waited.append)
    Flaky.failing = Flaky.asked = 0
    yield waited
    for system in (MemoryFileSystem, Flaky):
        system.store.clear()
        system.pseudo_dirs[:] = [""]


def put(**files: bytes) -> None:
    for system in (MemoryFileSystem(), Flaky()):
        for name, content in files.items():
            system.pipe_file(f"/bucket/{name.replace('__', '/')}.jpg", content)


@pytest.mark.parametrize("scheme", ["memory", "flaky"])
def test_a_folder_of_a_store_is_a_folder(scheme: str) -> None:
    put(a=b"1", place__b=b"2", place__c=b"3")
    found = find_images(f"{scheme}://bucket")
    assert {item.name: item.read() for item in found} == {"a.jpg": b"1", "place/b.jpg": b"2", "place/c.jpg": b"3"}
    assert [item.name for item in find_images(f"{scheme}://bucket/place/")] == ["b.jpg", "c.jpg"]
    assert find_images(f"{scheme}://bucket/a.jpg")[0].read() == b"1"
    assert found[0].explained("why") == "why"  # it is a file of its own
    assert [item.read() for item in pickle.loads(pickle.dumps(found))] == [b"1", b"2", b"3"]


def test_file_urls_are_files(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"1")
    (item,) = find_images(f"file://{tmp_path}")
    assert (item.name, item.read()) == ("a.jpg", b"1")


def test_lists_roots_tars_and_tables_of_a_store(tmp_path: Path) -> None:
    put(a=b"1", place__b=b"2")
    system = MemoryFileSystem()
    system.pipe_file("/bucket/names.txt", b"place/b.jpg\na.jpg\n")
    (tmp_path / "names.txt").write_text("a.jpg\n")
    assert [item.read() for item in find_images("memory://bucket/names.txt")] == [b"2", b"1"]
    assert [item.read() for item in find_images(tmp_path / "names.txt", "memory://bucket")] == [b"1"]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in (("x.jpg", b"44444"), ("y.jpg", b"55")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    system.pipe_file("/tars/0.tar", buffer.getvalue())
    table = io.BytesIO()
    pq.write_table(pa.table({"image": [b"6"], "name": ["z.jpg"]}), table)
    system.pipe_file("/tables/0.parquet", table.getvalue())
    for source in ("memory://tars", "memory://tars/{0..0}.tar", "memory://tars/*.tar", "memory://tars/0.tar"):
        assert {item.name: item.read() for item in find_images(source)} == {"x.jpg": b"44444", "y.jpg": b"55"}
    assert find_images("memory://tables")[0].read() == b"6"


def test_a_store_is_asked_again_and_no_longer_than_stated(stores: list[float]) -> None:
    put(a=b"1")
    (item,) = find_images("flaky://bucket")
    Flaky.failing = 3
    assert item.read() == b"1"
    assert stores == list(remote.WAITS)
    Flaky.failing = 4
    with pytest.raises(ImageError, match="cannot be read after 4 attempts: no answer in time"):
        item.read()
    assert Flaky.asked == 8


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_listing_that_gets_no_answer_stops_before_the_run(kind: str) -> None:
    buffer = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for number in range(3):
                tar.addfile(tarfile.TarInfo(f"{number}.jpg"))
    else:
        pq.write_table(pa.table({"image": [b"1"] * 3, "name": ["0.jpg", "1.jpg", "2.jpg"]}), buffer)
    Flaky().pipe_file(f"/shards/0.{kind}", buffer.getvalue())
    Flaky.failing = 3  # as often as it is asked again
    assert [item.name for item in find_images("flaky://shards")] == ["0.jpg", "1.jpg", "2.jpg"]
    Flaky.failing = 4
    with pytest.raises(DataError, match=rf"0\.{kind}: cannot be read after 4 attempts") as error:
        find_images("flaky://shards")
    assert len(str(error.value).splitlines()) == 1


def test_an_image_that_is_not_there_is_not_asked_for_again(stores: list[float]) -> None:
    put(a=b"1")
    (item,) = find_images("flaky://bucket")
    Flaky.store.clear()
    with pytest.raises(ImageError, match="cannot be read"):
        item.read()
    assert (Flaky.asked, stores) == (1, [])


def test_a_store_that_is_gone_costs_one_attempt_an_image(stores: list[float]) -> None:
    put(a=b"1")
    (item,) = find_images("flaky://bucket")
    Flaky.failing = 10**9
    for _ in range(remote.GONE + 50):
        with pytest.raises(ImageError):
            item.read()
    assert Flaky.asked == remote.GONE * 4 + 50
    Flaky.failing = 0  # and comes back
    assert item.read() == b"1"
    Flaky.failing = 1
    assert item.read() == b"1"


def test_a_server_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, stores: list[float]) -> None:
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        hanging = False

        def do_GET(self) -> None:
            if Handler.hanging:
                done.wait(20)
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"jpeg"[: 4 * (self.command == "GET")])

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        (item,) = find_images(f"http://127.0.0.1:{server.server_port}/a.jpg")
        assert item.read() == b"jpeg"
        monkeypatch.setattr(remote, "TIMEOUT", 0.05)
        Handler.hanging = True
        with pytest.raises(ImageError, match="cannot be read after 4 attempts"):
            item.read()
    finally:
        done.set()
        server.shutdown()
        server.server_close()


def test_what_cannot_be_opened_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="nosuch"):
        find_images("nosuch://bucket")
    with pytest.raises(DataError, match="no images found"):
        find_images("memory://empty")
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match=r"gloam\[remote\]"):
        find_images("memory://bucket")


def test_a_stamp_is_a_strong_etag(monkeypatch: pytest.MonkeyPatch) -> None:
    put(a=b"1", b=b"2")
    asked: list[str] = []
    tags: dict[str, dict[str, str]] = {}

    def info(self: MemoryFileSystem, path: str, **_: Any) -> dict[str, Any]:
        asked.append(path)
        return {"size": 1, **tags.get(path[-5:], {})}

    items = find_images("memory://bucket")
    monkeypatch.setattr(MemoryFileSystem, "info", info)
    assert items[0].stamp() is None  # a size alone tells too little
    tags["b.jpg"] = {"ETag": 'W/"1"'}
    assert items[1].stamp() is None
    tags["a.jpg"] = {"etag": '"1"'}
    stamp = items[0].stamp()
    assert stamp is not None
    assert (stamp.text, stamp.changed_ns) == ('1 "1"', 0)
    assert len(asked) == 3
    assert items[0].stamp() == stamp
    assert len(asked) == 3  # as of a tar, by each of its members
