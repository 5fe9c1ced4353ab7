"""A million images in the memory of a hundred thousand: the real sources, pipeline and shards around a fake model.

Decoder and model are replaced by ones that cost next to nothing, so that what is measured is the pipeline's own: tar
shards are indexed and read, images pass threads and batches, shards are written, each run in a process of its own.
A smaller run is killed ten times and must end with the bytes of one that was not. Where Ray is installed, two of its
workers must do more than one, see :mod:`benchmarks.ray_scaling`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.shared.fake_images import FakeEmbedder, fake_decode, write_tars
from benchmarks.shared.result import Result
from gloam.data.sources import find_images
from gloam.errors import MissingExtraError
from gloam.runtime.bulk import extract as pipeline
from gloam.runtime.models.embedder import Embedder

COUNTS = (100_000, 1_000_000)  # images
KILLED = 20_000  # images of the run that is killed
KILLS = 10
SHARD = 1000  # images per shard; fewer in the run that is killed, so that every kill finds one half done
THREADS = 2
MEMORY_LIMIT, TIME_LIMIT = 1.10, 11.0
CHILD = "import sys; from benchmarks.bulk_million import child; child(*sys.argv[1:])"


def child(source: str, out: str, shard_size: str) -> None:
    """One extraction; prints its peak memory and its times."""
    pipeline.decode_image = fake_decode  # type: ignore[assignment]  # the fake takes what the pipeline gives
    clock = time.perf_counter()
    items = find_images(source)
    listed = time.perf_counter() - clock
    summary = pipeline.extract(
        items,
        cast(Embedder, FakeEmbedder()),
        out,
        pipeline.ExtractOptions(shard_size=int(shard_size)),
        decode_threads=THREADS,
    )
    report = {
        "seconds": time.perf_counter() - clock,
        "seconds_listing": listed,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "summary": dataclasses.asdict(summary),
    }
    print(json.dumps(report))


def command(source: Path, out: Path, shard_size: int) -> list[str]:
    return [sys.executable, "-c", CHILD, str(source), str(out), str(shard_size)]


def measured(source: Path, out: Path) -> dict[str, Any]:
    """The report of one extraction in a process of its own."""
    done = subprocess.run(command(source, out, SHARD), check=True, capture_output=True, text=True)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def digests(store: Path) -> dict[str, str]:
    """sha256 of every file of a store but what a kill left behind."""
    files = (path for path in sorted(store.rglob("*")) if path.is_file() and not path.name.startswith(".tmp-"))
    return {path.relative_to(store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kill_and_resume(root: Path, count: int = KILLED, kills: int = KILLS) -> dict[str, Any]:
    """Whether a store is the same, byte for byte, after ``kills`` kills as after none."""
    shard_size = max(count // (10 * kills), 1)
    write_tars(root / "killed", count)
    subprocess.run(command(root / "killed", root / "whole", shard_size), check=True, capture_output=True)
    rng = np.random.default_rng(5)
    happened = 0
    for kill in range(1, kills + 1):
        process = subprocess.Popen(command(root / "killed", root / "out", shard_size), stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list((root / "out" / "shards").glob("*.parquet"))) < 9 * kill:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        happened += process.wait() == -signal.SIGKILL
    subprocess.run(command(root / "killed", root / "out", shard_size), check=True, capture_output=True)
    return {
        "images": count,
        "kills": happened,
        "shards": len(list((root / "out" / "shards").glob("*.parquet"))),
        "identical": digests(root / "out") == digests(root / "whole"),
    }


def scaling(root: Path, counts: Sequence[int] = COUNTS) -> dict[str, Any]:
    """Peak memory and time at two numbers of images."""
    detail: dict[str, Any] = {}
    for count in counts:
        write_tars(root / str(count), count)
        detail[str(count)] = measured(root / str(count), root / f"store-{count}")
    few, many = (detail[str(count)] for count in counts)
    detail["memory_ratio"] = many["peak_mib"] / few["peak_mib"]
    detail["time_ratio"] = many["seconds"] / few["seconds"]
    return detail


def run() -> Result:
    """Both numbers of images, the kills, then Ray; judged on memory, time, bytes and workers together."""
    from benchmarks import ray_scaling  # which takes its fakes from here

    with tempfile.TemporaryDirectory(prefix="gloam-bulk-") as temporary:
        detail = scaling(Path(temporary))
        detail["resume"] = kill_and_resume(Path(temporary))
        try:
            detail["ray"] = ray_scaling.two_over_one(Path(temporary))
        except MissingExtraError as error:
            detail["ray"] = f"not run: {error}"
    ratio = float(detail["memory_ratio"])
    resumed = detail["resume"]["identical"] and detail["resume"]["kills"] == KILLS
    met = bool(ratio <= MEMORY_LIMIT and detail["time_ratio"] <= TIME_LIMIT and resumed)
    target = f"<= {MEMORY_LIMIT:.2f}, time <= {TIME_LIMIT:.0f}x, {KILLS} kills to identical shards"
    if isinstance(detail["ray"], dict):
        met = met and detail["ray"]["ratio"] >= ray_scaling.LIMIT
        target += f", two Ray workers >= {ray_scaling.LIMIT} of one"
    return Result(ratio, "ratio", target, met, detail)
