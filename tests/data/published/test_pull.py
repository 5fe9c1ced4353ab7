"""Fetching: resumed, pinned, and refused, against a server on this machine."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gloam.cli.main import main
from gloam.data.published import pull as pulling
from gloam.data.published.names import PUBLISHED, find_published, named_hash
from gloam.data.published.pull import pull
from gloam.errors import DataError, GloamError, StoreError, UsageError
from gloam.files import sha256_bytes

CONTENT = bytes(range(256)) * 4096  # 1 MiB
FILE = "how_r18.pth"
NAME = "how_r18"


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files``; breaks a connection off after ``break_after`` bytes while ``breaks`` is above 0."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {FILE: CONTENT}
        self.breaks, self.break_after, self.ranges = 0, 300_000, True
        self.failures: list[int] = []
        self.headers: dict[str, str] = {}
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection is what some tests want."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        name = self.path.rpartition("/")[2]
        if self.server.failures:
            self.send_error(self.server.failures.pop(0))
            return
        if name not in self.server.files:
            self.send_error(404)
            return
        content = self.server.files[name]
        tag = f'"{sha256_bytes(content)[:8]}"'
        begin = 0
        if asked and self.server.ranges and self.headers.get("If-Range") == tag:
            begin = int(asked.removeprefix("bytes=").split("-")[0])
            if begin >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", tag)
        headers = {"Content-Length": str(len(content) - begin)} | self.server.headers
        for key, value in headers.items():
            if value:
                self.send_header(key, value)
        self.end_headers()
        rest = content[begin:]
        if self.server.breaks > 0:
            self.server.breaks -= 1
            self.wfile.write(rest[: self.server.break_after])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(rest)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


def fetch(server: Server, folder: Path, **options: Any) -> Any:
    return pull(NAME, folder, mirror=server.url, wait=0.0, **options)


def one_line(error: GloamError) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_first_use_pins_and_later_ones_find_the_same(server: Server, tmp_path: Path) -> None:
    told = []
    first = fetch(server, tmp_path, progress=lambda *what: told.append(what))
    assert first.paths[0].read_bytes() == CONTENT
    assert first.fetched == first.pinned == (FILE,)
    assert told[-1] == (FILE, len(CONTENT), len(CONTENT))
    pins = json.loads((tmp_path / "published.lock.json").read_text())
    assert pins[FILE]["sha256"] == first.sha256[0] == sha256_bytes(CONTENT)
    again = fetch(server, tmp_path)
    assert again.fetched == again.pinned == ()
    assert len(server.asked) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, "published.lock.json"]


def test_a_broken_connection_is_resumed_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.breaks = 2
    assert fetch(server, tmp_path).paths[0].read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-"]


def test_an_interrupted_command_is_resumed_by_the_next(server: Server, tmp_path: Path) -> None:
    server.breaks, server.break_after = pulling.ATTEMPTS, 100_000
    with pytest.raises(DataError, match="broke off after 400,000 bytes, 4 times; run the same command again") as error:
        fetch(server, tmp_path)
    one_line(error.value)
    assert not (tmp_path / FILE).exists()
    assert fetch(server, tmp_path).paths[0].read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=400000-"


def test_a_file_that_changed_in_between_is_fetched_from_its_start(server: Server, tmp_path: Path) -> None:
    server.breaks = pulling.ATTEMPTS
    server.break_after = 1000
    with pytest.raises(DataError, match="resume"):
        fetch(server, tmp_path)
    server.files[FILE] = CONTENT[::-1]
    assert fetch(server, tmp_path).paths[0].read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_begins_again(server: Server, tmp_path: Path) -> None:
    server.breaks, server.ranges = 1, False
    assert fetch(server, tmp_path).paths[0].read_bytes() == CONTENT


def test_an_overloaded_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.failures = [503, 429]
    assert fetch(server, tmp_path).paths[0].read_bytes() == CONTENT


def test_other_bytes_than_were_pinned_are_refused(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    (tmp_path / FILE).unlink()
    server.files[FILE] = CONTENT[::-1]
    with pytest.raises(DataError, match="is pinned from the first use") as error:
        fetch(server, tmp_path)
    one_line(error.value)
    assert not (tmp_path / f"{FILE}.part").exists()
    (tmp_path / FILE).write_bytes(b"edited by hand")
    with pytest.raises(DataError, match="the file has changed"):
        fetch(server, tmp_path)


def test_a_lock_file_of_the_project_guards_every_folder(server: Server, tmp_path: Path) -> None:
    lock = tmp_path / "project.lock.json"
    fetch(server, tmp_path / "a", lock=lock)
    assert fetch(server, tmp_path / "b", lock=lock).pinned == ()
    server.files[FILE] = b"another"
    with pytest.raises(DataError, match="pinned"):
        fetch(server, tmp_path / "c", lock=lock)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "cannot be read"), ("[]", "no lock file"), ('{"a": 1}', "no lock")]
)
def test_a_damaged_lock_file_is_named(server: Server, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "published.lock.json").write_text(content)
    with pytest.raises(DataError, match=message):
        fetch(server, tmp_path)


def test_a_page_is_not_a_file(server: Server, tmp_path: Path) -> None:
    server.files[FILE] = b"\n<!DOCTYPE html><html>moved</html>"
    with pytest.raises(DataError, match="a web page in place of the file"):
        fetch(server, tmp_path)
    assert not (tmp_path / "published.lock.json").exists()


def test_a_hash_in_the_name_is_checked(server: Server, tmp_path: Path) -> None:
    assert named_hash("vgg_clahe_sfmnd0.25-85f6ced3.pth") == "85f6ced3"
    assert named_hash("retrievalSfM120k-vgg16-gem-b4dcdc6.pth") == ""
    server.files["vgg_clahe_sfmnd0.25-85f6ced3.pth"] = CONTENT
    with pytest.raises(DataError, match="its name says 85f6ced3"):
        pull("vgg_clahe_sfmnd0.25", tmp_path, mirror=server.url, wait=0.0)


def test_too_little_space_is_said_before_anything_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(StoreError, match="are needed and 0 MB are free"):
        fetch(server, tmp_path)
    assert not (tmp_path / f"{FILE}.part").exists()


def test_a_disk_that_fills_up_is_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.part").symlink_to("/dev/full")
    with pytest.raises(StoreError, match="the disk is full"):
        fetch(server, tmp_path)


def test_missing_and_unreachable(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files.clear()
    with pytest.raises(DataError, match="404 Not Found; give another address"):
        fetch(server, tmp_path)
    monkeypatch.setenv(pulling.MIRROR_VARIABLE, "http://127.0.0.1:9")
    with pytest.raises(DataError, match="cannot be reached"):
        pull(NAME, tmp_path, wait=0.0)
    with pytest.raises(UsageError, match="must begin with"):
        pull(NAME, tmp_path, mirror="ftp://example.org")
    with pytest.raises(UsageError, match="did you mean gem_vgg16_hedngan"):
        pull("gem_vgg16_hedgan", tmp_path)


def test_a_folder_serves_as_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / FILE).write_bytes(CONTENT)
    monkeypatch.setenv(pulling.MIRROR_VARIABLE, (tmp_path / "mirror").as_uri())
    monkeypatch.setenv(pulling.FOLDER_VARIABLE, str(tmp_path / "kept"))
    assert pull(NAME).paths == (tmp_path / "kept" / FILE,)


def test_command(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", NAME, "--to", str(tmp_path), "--mirror", server.url, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fetched"] == [FILE]
    assert report["sha256"] == [sha256_bytes(CONTENT)]
    assert main(["pull", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in PUBLISHED)
    assert main(["pull"]) == 2


def test_names() -> None:
    six = (
        "gem_vgg16_cyclegan",
        "gem_vgg16_hedngan",
        "gem_resnet101_cyclegan",
        "gem_resnet101_hedngan",
        "cyclegan",
        "hedngan",
    )
    assert all(name in PUBLISHED for name in six)
    assert find_published("gem_vgg16_hedngan").files == ("hedngan_embed_vgg16.pth", "hedngan_embed_vgg16_lw.pkl")
    files = [file for one in PUBLISHED.values() for file in one.files]
    assert len(files) == len(set(files))  # a mirror is one flat folder


@pytest.mark.parametrize(
    ("headers", "content", "message"),
    [
        ({"Content-Length": ""}, CONTENT[:1000], "does not say how long the file is"),
        ({"Content-Encoding": "gzip"}, CONTENT, "sent the file encoded as 'gzip'"),
        ({"Content-Type": "text/html; charset=utf-8"}, CONTENT, "a web page in place of the file"),
        ({"Content-Type": "application/json"}, CONTENT, "a web page in place of the file"),
        ({}, b"\xef\xbb\xbf  <!-- moved --><p>moved", "a web page in place of the file"),
        ({}, b"", "an empty file"),
    ],
)
def test_only_what_is_whole_is_pinned(
    server: Server, tmp_path: Path, headers: dict[str, str], content: bytes, message: str
) -> None:
    server.headers, server.files[FILE] = headers, content
    with pytest.raises(DataError, match=message) as error:
        fetch(server, tmp_path)
    one_line(error.value)
    assert not (tmp_path / "published.lock.json").exists()
    assert not (tmp_path / FILE).exists()
    (tmp_path / FILE).write_bytes(content)  # put there by hand
    if not headers:
        with pytest.raises(DataError, match="it was not pinned"):
            fetch(server, tmp_path)


def test_a_file_of_a_known_hash_needs_no_length(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    (tmp_path / FILE).unlink()
    server.headers = {"Content-Length": ""}
    assert fetch(server, tmp_path).paths[0].read_bytes() == CONTENT


def test_pulls_at_one_time_keep_each_others_pins(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["how_r18", "how_r50-", "netvlad_pitts30k", "resnet18"]
    monkeypatch.setattr(pulling, "named_hash", lambda _: "")
    server.files = {file: CONTENT[: 1000 + row] for row, name in enumerate(names) for file in PUBLISHED[name].files}
    all_there = threading.Barrier(len(names))
    first = pulling._read_lock

    def read(path: Path) -> Any:
        pins = first(path)
        if not all_there.broken and threading.current_thread().name not in passed:
            passed.add(threading.current_thread().name)
            all_there.wait(20)
        return pins

    passed: set[str] = set()
    monkeypatch.setattr(pulling, "_read_lock", read)
    lock = tmp_path / "lock.json"
    threads = [
        threading.Thread(target=pull, args=(name, tmp_path / name), kwargs={"mirror": server.url, "lock": lock})
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(json.loads(lock.read_text())) == set(server.files)


def test_encryption_is_asked_for_first(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(pulling._addresses(url)[0].startswith("https://") for one in PUBLISHED.values() for url in one.urls)
    monkeypatch.setattr(pulling, "_addresses", lambda _: ("https://127.0.0.1:9/x", f"{server.url}/{FILE}"))
    pull(NAME, tmp_path, wait=0.0)
    assert json.loads((tmp_path / "published.lock.json").read_text())[FILE]["url"] == f"{server.url}/{FILE}"
