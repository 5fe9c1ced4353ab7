"""Two Ray workers over one: the real extraction on Ray around a fake model that burns one core for 20 ms per batch.

What is judged is the rate while all workers are at work: a run's shards between the moment the last worker began and
the moment the first one had nothing left. So start-up does not count, and neither does the end.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from benchmarks.shared.fake_images import FakeEmbedder, fake_decode, write_tars
from benchmarks.shared.result import Result
from gloam.data.sources import find_images
from gloam.runtime.bulk import extract as pipeline
from gloam.runtime.bulk.extract import ExtractOptions
from gloam.runtime.bulk.on_ray.cluster import Cluster, import_ray
from gloam.runtime.bulk.on_ray.extract import extract_on_ray
from gloam.runtime.bulk.on_ray.worker import ShardReport
from gloam.runtime.models.embedder import Embedder

BATCH = 16  # images
BATCH_SECONDS = 0.020  # of one core
BATCHES, SHARD_BATCHES = 480, 16  # of a run; of a shard
ROUNDS = 3  # of one worker and two, in turns
LIMIT = 1.4
BLOCK = bytes(1 << 16)  # what is hashed to burn time; hashing lets other threads run


class BurningEmbedder(FakeEmbedder):
    """Hashes so many blocks per batch; every image has one shape, so that every batch is full.

    Args:
        blocks: of 64 KiB; a fixed amount of work, whatever else the machine does.
    """

    batch_size = BATCH

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks

    def shape_for(self, image: npt.NDArray[np.uint8]) -> tuple[int, int]:
        return 0, 0

    def run_batch(self, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        burn(self.blocks)
        return super().run_batch(images)


def burn(blocks: int) -> None:
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(BLOCK)


def load(blocks: int) -> Embedder:
    """In a worker: the fake decoder and the fake model."""
    pipeline.decode_image = fake_decode  # type: ignore[assignment]  # the fake takes what the pipeline gives
    return cast(Embedder, BurningEmbedder(blocks))


def calibrated(seconds: float = BATCH_SECONDS) -> int:
    """Blocks that take so long of one core's time, by the quickest of five trials."""
    blocks, quickest = 200, float("inf")
    for _ in range(5):
        clock = time.thread_time()
        burn(blocks)
        quickest = min(quickest, time.thread_time() - clock)
    return max(round(blocks * seconds / quickest), 1)


def common_rate(reports: Sequence[ShardReport]) -> tuple[float, float]:
    """Images per second while every worker was at work, and how many seconds that was; a shard counts by its part."""
    spans: dict[int, list[ShardReport]] = {}
    for report in reports:
        spans.setdefault(report.worker, []).append(report)
    begin = max(min(report.began for report in made) for made in spans.values())
    end = min(max(report.ended for report in made) for made in spans.values())
    images = 0.0
    for report in reports:
        inside = min(report.ended, end) - max(report.began, begin)
        images += report.succeeded * max(inside, 0.0) / (report.ended - report.began)
    return images / max(end - begin, 1e-9), end - begin


def measured(source: Path, out: Path, workers: int, blocks: int) -> dict[str, Any]:
    """One run on Ray."""
    reports: list[ShardReport] = []
    options = ExtractOptions(shard_size=BATCH * SHARD_BATCHES)
    clock = time.perf_counter()
    run = extract_on_ray(
        find_images(source),
        partial(load, blocks),
        out,
        options,
        cluster=Cluster(workers=workers),
        on_shard=reports.append,
    )
    rate, seconds = common_rate(reports)
    return {
        "workers": len({report.worker for report in reports}),
        "described": run.summary.described,
        "images_per_second": rate,
        "seconds_common": seconds,
        "model_share": sum(report.seconds["infer"] for report in reports)
        / sum(report.ended - report.began for report in reports),
        "seconds_with_start": time.perf_counter() - clock,
    }


def two_over_one(root: Path, batches: int = BATCHES, rounds: int = ROUNDS) -> dict[str, Any]:
    """Rates of one and of two workers, in turns; the ratio is the median of the rounds'.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    import_ray()
    write_tars(root / "burnt", batches * BATCH)
    blocks = calibrated()
    runs = [
        {str(workers): measured(root / "burnt", root / f"ray-{turn}-{workers}", workers, blocks) for workers in (1, 2)}
        for turn in range(rounds)
    ]
    ratios = [run["2"]["images_per_second"] / run["1"]["images_per_second"] for run in runs]
    return {
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "batches": batches,
        "images_per_batch": BATCH,
        "cpu_seconds_per_batch": BATCH_SECONDS,
        "rounds": runs,
    }


def run() -> Result:
    """Rounds of one worker and of two."""
    with tempfile.TemporaryDirectory(prefix="gloam-ray-") as temporary:
        detail = two_over_one(Path(temporary))
    ratio = float(detail["ratio"])
    return Result(ratio, "ratio", f">= {LIMIT}", ratio >= LIMIT, detail)
