"""What a service answers under load: the share of 2,000 requests, 200 at once, that are answered rightly.

``gloam serve`` runs beside, with the demo's embedder and an index, on this machine's cores, which the askers take too.
Of every twenty requests fourteen want a descriptor, which must be the one that the library gives, to the bit, and three
the nearest images; one body is no image, one is larger than is let in and one is a form, which must be refused by their
statuses, in one line of JSON. ``GLOAM_SERVE_REQUESTS=20000`` asks more: then the service's memory is compared between a
tenth of the way and the end; ``GLOAM_SERVE_SIDE=64`` asks of smaller images, whose longer side it is.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.shared.result import Result
from gloam.data.images import decode_image
from gloam.data.sources import find_images
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.search.index import DescriptorIndex, build_index
from gloam.workflows.demo_embedder import SHIPPED

AT_ONCE, LIMIT = 200, 1 << 20
SHAPES = ((1.0, 0.75), (0.75, 1.0), (1.0, 0.5), (0.8, 0.6))  # of the longer side
MODEL = SHIPPED[2]["trained"]
KINDS = ("embed",) * 14 + ("search",) * 3 + ("malformed", "huge", "form")


@dataclass(frozen=True)
class Question:
    """A request, and the answer that is right: a status, and a part of the JSON."""

    kind: str
    path: str
    body: bytes
    headers: dict[str, str]
    status: int
    wanted: Any = None

    def right(self, status: int, answer: Any) -> bool:
        """Whether it was answered rightly."""
        if status != self.status:
            return False
        if self.kind == "embed":
            return bool(np.array_equal(np.float32(answer["descriptor"]), self.wanted))
        if self.kind == "search":
            return [each["image"] for each in answer["results"]] == self.wanted
        return [*answer] == ["error"] and "\n" not in answer["error"]


def write_images(folder: Path, side: int, count: int = 24) -> None:
    """Smooth noise, some of it turned by EXIF."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        small = rng.integers(0, 255, (12, 16, 3), np.uint8)
        exif = Image.Exif()
        exif[0x0112] = (1, 6, 3)[number % 3]
        width, height = (round(side * share) for share in SHAPES[number % len(SHAPES)])
        Image.fromarray(small).resize((width, height)).save(folder / f"{number:02d}.jpg", exif=exif)


def questions(root: Path) -> list[Question]:
    """One of every kind for every image; the answers by the library."""
    embedder = Embedder.load(MODEL)
    extract(find_images(root / "images"), embedder, root / "store", ExtractOptions(dtype="float32"))
    build_index(DescriptorStore.open(root / "store"), root / "index")
    index, found = DescriptorIndex.open(root / "index"), []
    for path in sorted((root / "images").iterdir()):
        content = path.read_bytes()
        row = embedder([decode_image(content)])[0]
        names, _ = index.search(row[None], 5, space=embedder.space)
        jpeg = {"content-type": "image/jpeg"}
        form = {"content-type": "multipart/form-data; boundary=x"}
        found += [
            Question("embed", "/v1/embed", content, jpeg, 200, row),
            Question("search", "/v1/search?k=5", content, jpeg, 200, names[0]),
            Question("malformed", "/v1/embed", content[: len(content) // 3], jpeg, 422),
            Question("huge", "/v1/embed", b"\xff\xd8" + bytes(LIMIT), jpeg, 413),
            Question("form", "/v1/search", content, form, 415),
        ]
    return found


def start(root: Path) -> tuple[subprocess.Popen[str], tuple[str, int]]:
    """The service and its address."""
    words = ["serve", "--model", str(MODEL), "--index", str(root / "index"), "--port", "0"]
    words += ["--max-body", str(LIMIT), "--answer-timeout", "600"]  # a busy machine is slow, and not wrong
    process = subprocess.Popen([sys.executable, "-m", "gloam.cli.main", *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    host, port = line.split(": ")[0].removeprefix("http://").split(":")
    threading.Thread(target=process.stderr.read, daemon=True).start()
    patience = time.monotonic() + 30
    while time.monotonic() < patience:
        try:
            http.client.HTTPConnection(host, int(port), timeout=5).request("GET", "/health")
            break
        except OSError:
            time.sleep(0.1)
    return process, (host, int(port))


class Askers:
    """Threads, each with a connection of its own."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address, self._own = address, threading.local()

    def ask(self, question: Question) -> tuple[str, bool, float, str]:
        """Kind, whether it was answered rightly, seconds, and what went wrong."""
        begun = time.perf_counter()
        try:
            status, answer = self._answer(question)
            right = question.right(status, answer)
            wrong = "" if right else f"{status} {answer if question.status != 200 else ''}"
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            right, wrong = False, f"{type(error).__name__}: {error}"
        return question.kind, right, time.perf_counter() - begun, wrong

    def _answer(self, question: Question) -> tuple[int, Any]:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = http.client.HTTPConnection(*self._address, timeout=120)
        try:
            try:
                connection.request("POST", question.path, question.body, question.headers)
            except (BrokenPipeError, ConnectionResetError):
                if question.kind != "huge":  # which is refused before it is sent whole
                    raise
            response = connection.getresponse()
            return response.status, json.load(io.TextIOWrapper(response, "utf-8"))
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            connection.close()
            self._own.connection = None
            if getattr(self._own, "again", False):
                raise
            self._own.again = True  # a kept connection may end while it idles: once more on a new one
            try:
                return self._answer(question)
            finally:
                self._own.again = False


def memory(process: subprocess.Popen[str]) -> float:
    """MiB that a process has."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def run() -> Result:
    """Ask, compare, count."""
    count, side = int(os.environ.get("GLOAM_SERVE_REQUESTS", "2000")), int(os.environ.get("GLOAM_SERVE_SIDE", "256"))
    with tempfile.TemporaryDirectory(prefix="gloam-serve-") as temporary:
        root = Path(temporary)
        write_images(root / "images", side)
        known = questions(root)
        by_kind = {kind: [each for each in known if each.kind == kind] for kind in set(KINDS)}
        draw = random.Random(0)
        asked = [draw.choice(by_kind[KINDS[number % len(KINDS)]]) for number in range(count)]
        process, address = start(root)
        answers, rss = [], []
        try:
            askers = Askers(address)
            begun = time.perf_counter()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for number, answer in enumerate(pool.map(askers.ask, asked), 1):
                    answers.append(answer)
                    if number % max(count // 10, 1) == 0:
                        rss.append(memory(process))
            seconds = time.perf_counter() - begun
        finally:
            process.terminate()
            process.wait(60)
    right = sum(answer[1] for answer in answers)
    detail: dict[str, Any] = {
        "requests": count,
        "at_once": AT_ONCE,
        "side_pixels": side,
        "load_average": os.getloadavg()[0],
        "requests_per_second": count / seconds,
        "wrong": Counter(f"{kind}: {wrong[:200]}" for kind, fine, _, wrong in answers if not fine).most_common(10),
        "memory_mib": rss,
        "memory_end_over_first_tenth": rss[-1] / rss[0],
        "exit_code": process.returncode,
    }
    for kind in sorted(set(KINDS)):
        times = [seconds for each, _, seconds, _ in answers if each == kind]
        p50, p99 = np.percentile(times, [50, 99])
        detail[kind] = {"count": len(times), "p50_seconds": float(p50), "p99_seconds": float(p99)}
    share = right / count
    return Result(share, "share", "1.0", share == 1.0 and process.returncode == 0, detail)
