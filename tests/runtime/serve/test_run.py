"""A service at an address: it says where, answers over sockets, outlives bad clients, and ends as told."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gloam.cli.main import main
from gloam.errors import UsageError
from gloam.runtime.serve import run
from gloam.runtime.serve.options import Limits, ServeRequest
from tests.runtime.serve.services import encoded, picture, write_indexed

POST = b"POST /v1/embed HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_indexed(tmp_path_factory.mktemp("served"), 2)


@contextlib.contextmanager
def running(request: ServeRequest, patch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """A service in a thread of this process."""
    said, made = [], []

    class Server(run.uvicorn.Server):  # type: ignore[misc, name-defined]  # to be told to end
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            made.append(self)

    patch.setattr(run.uvicorn, "Server", Server)
    patch.setattr(run, "to_stderr", said.append)
    thread = threading.Thread(target=run.serve, args=(request,))
    thread.start()
    patience = time.monotonic() + 20
    while not (made and made[0].started):
        assert time.monotonic() < patience
        time.sleep(0.01)
    found = re.match(r"http://(.*):(\d+): serving tiny", said[0])
    assert found is not None, said
    try:
        yield found[1], int(found[2])
    finally:
        made[0].should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def told(address: tuple[str, int], *parts: bytes, pause: float = 0.0) -> bytes:
    """What comes back on a connection of its own until it is closed."""
    with socket.create_connection(address, timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while block := connection.recv(1 << 16):
                found += block
        return found


def test_bad_clients_are_refused_and_good_ones_answered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "HEADERS", 0.4)
    monkeypatch.setattr(run, "IDLE", 1)
    photo = encoded(picture(0))
    request = ServeRequest(folder / "tiny.onnx", port=0, limits=Limits(body=100_000, upload=0.4))
    with running(request, monkeypatch) as address:
        whole = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(photo) + photo
        assert told(address, whole).startswith(b"HTTP/1.1 200 ")
        assert told(address) == b""  # says nothing
        assert told(address, POST, pause=0.05) == b""  # never ends its headers
        slow = told(address, POST + b"Content-Length: 50\r\n\r\n", b"x")
        assert slow.startswith(b"HTTP/1.1 408 ")
        assert b"did not come within 0.4 s" in slow
        huge = told(address, POST + b"Content-Length: 99999999999\r\n\r\n")
        assert huge.startswith(b"HTTP/1.1 413 ")
        chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n" + (b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n") * 2
        assert b"larger than 100000 bytes" in told(address, chunked)
        assert told(address, b"\x16\x03\x01 no HTTP\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert told(address, POST + b"X: " + b"y" * 200_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        with socket.create_connection(address) as cut:  # goes in the middle of its body
            cut.sendall(POST + b"Content-Length: 5000\r\n\r\nhalf")
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=10)) as kept:  # two requests on one
            for _ in range(2):
                kept.request("POST", "/v1/embed", photo)
                with kept.getresponse() as answer:
                    assert (answer.status, len(json.loads(answer.read()))) == (200, 6), answer
        url = f"http://{address[0]}:{address[1]}"
        patience = time.monotonic() + 5
        while "gloam_requests_open 0.0" not in urllib.request.urlopen(f"{url}/metrics").read().decode():
            assert time.monotonic() < patience
            time.sleep(0.02)
        assert json.load(urllib.request.urlopen(f"{url}/health"))["status"] == "ok"


def test_an_address_that_cannot_be_had_is_refused_before_anything_is_loaded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}: cannot be had \\(Address already in use\\)"):
            run.serve(ServeRequest(Path("missing.onnx"), port=port))
    with pytest.raises(UsageError, match=r"--host gloam\.invalid: no such address"):
        run.serve(ServeRequest(Path("missing.onnx"), host="gloam.invalid", open=True))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model {0}/missing.onnx", "missing.onnx: no such model file"),
        ("--model {0}/tiny.onnx --map {0}/images", "images: "),
        ("--model {0}/tiny.onnx --map {0}/missing", "missing: "),
        ("--model {0}/tiny.onnx --index {0}/images", "images: not an index, or one that was not finished"),
        ("--model {0}/tiny.onnx --api-keys {0}/missing", "missing: the file of keys cannot be read"),
        ("--model {0}/tiny.onnx --max-pixels 0", "--max-pixels must be above 0"),
        ("--model {0}/tiny.onnx --matcher m.onnx", "--matcher is of a map; add --map FOLDER"),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    assert main(["serve", "--port", "0", *words.format(folder).split()]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert said.startswith("gloam serve: ")


def test_it_ends_as_told_and_says_how_much_it_answered(folder: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "gloam.cli.main",
        "serve",
        "--model",
        str(folder / "tiny.onnx"),
        "--port",
        "0",
        "--json",
    ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    address = process.stderr.readline().partition(": ")[0]
    patience = time.monotonic() + 20
    while True:
        try:
            assert urllib.request.urlopen(f"{address}/health").status == 200
            break
        except OSError:
            assert time.monotonic() < patience
            time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1]) == {"address": address, "requests": 1}
