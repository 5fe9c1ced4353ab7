"""Bulk extraction: decode in threads, normalise, bucket by shape, describe, write shards.

The bytes of a shard do not depend on timing: images are taken in order, batches are formed inside one shard only, and
a batch is run when it is full, or when too many images wait, by a rule that looks at counts alone. Memory is bounded
by the number of images in flight, never by the number of images.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from gloam.data.images import decode_image, read_bytes
from gloam.data.sources import ImageItem
from gloam.errors import DataError, ImageError, UsageError
from gloam.files import sha256_bytes, sha256_json
from gloam.runtime.embedder import Embedder
from gloam.runtime.store import Job, Row, ShardWriter

WAITING = 32  # decoded images that may wait in buckets before the fullest is run


@dataclass(frozen=True)
class ExtractOptions:
    """What decides the bytes of a store, beside the model and the list.

    Attributes:
        max_side: longer side, pixels; None keeps native sizes.
        stretch: exact (width, height); excludes ``max_side``.
        dtype: of the stored descriptors.
        shard_size: images per shard, the unit of work and resume.
    """

    max_side: int | None = 1024  # the protocol of retrieval benchmarks
    stretch: tuple[int, int] | None = None
    dtype: Literal["float16", "float32"] = "float16"  # cosine loss about 1e-7, half the disk
    shard_size: int = 1000

    def __post_init__(self) -> None:
        if self.stretch is not None and self.max_side is not None:
            raise UsageError("--stretch and --max-side exclude each other")
        sides = [side for side in (self.max_side, *(self.stretch or ())) if side is not None]
        if any(side < 32 for side in sides):
            raise UsageError("image sides must be 32 pixels or more")
        if self.shard_size < 1:
            raise UsageError("--shard-size must be 1 or more")
        if self.dtype not in ("float16", "float32"):
            raise UsageError(f"unknown dtype {self.dtype!r}; choose float16 or float32")


@dataclass
class ExtractSummary:
    """What an extraction did and where its time went.

    Attributes:
        images, described, failed: counts over the whole store, shards of an earlier run included.
        reused: images in shards that were already there.
        seconds: wall time; ``read`` waited for decoding, ``infer`` ran the model, ``write`` wrote shards.
        padded_share: part of the pixels run that was padding.
    """

    images: int = 0
    described: int = 0
    failed: int = 0
    reused: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"total": 0.0, "read": 0.0, "infer": 0.0, "write": 0.0})
    padded_share: float = 0.0
    backend: dict[str, Any] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Images of this run, not of an earlier one, per second."""
        return (self.images - self.reused) / max(self.seconds["total"], 1e-9)


def extract(
    items: Sequence[ImageItem],
    embedder: Embedder,
    folder: str | Path,
    options: ExtractOptions | None = None,
    *,
    decode_threads: int | None = None,
    progress: bool = False,
) -> ExtractSummary:
    """Describe images into a store; the same call carries on where an earlier one stopped.

    Args:
        items: images, in the order of the store.
        embedder: the model.
        folder: of the store.
        options: resizing, dtype, shard size.
        decode_threads: all cores by default.
        progress: show a bar on stderr where that is a terminal.

    Raises:
        DataError: no images, or not one could be described.
        IncompatibleError: the folder holds a store of another job.
        StoreError: the disk is full; finished shards are kept.
    """
    options = options or ExtractOptions()
    if not items:
        raise DataError("no images to describe")
    started = time.perf_counter()
    job = Job(
        space=embedder.space,
        fingerprint=embedder.fingerprint,
        dimension=embedder.dimension,
        metric=embedder.card.metric,
        images_sha256=sha256_json([[item.name, item.problem] for item in items]),
        images=len(items),
        options=_job_options(options, embedder),
        untranslated_space=None if embedder.translator is None else embedder.untranslated_space,
    )
    shards = -(-len(items) // options.shard_size)
    writer = ShardWriter(folder, job, shards)
    summary = ExtractSummary(images=len(items), backend=embedder.session.backend)
    run = _Run(embedder, options, summary)
    threads = decode_threads or len(os.sched_getaffinity(0))
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool,
        tqdm(total=len(items), unit="img", disable=not (progress and sys.stderr.isatty())) as bar,
    ):
        for shard in range(shards):
            part = items[shard * options.shard_size : (shard + 1) * options.shard_size]
            if writer.done(shard):
                summary.reused += len(part)
                bar.update(len(part))
                continue
            rows, descriptors = run.shard(part, pool, ahead=2 * threads + embedder.batch_size, bar=bar)
            clock = time.perf_counter()
            writer.write(shard, rows, descriptors)
            summary.seconds["write"] += time.perf_counter() - clock
    clock = time.perf_counter()
    writer.finish()
    summary.seconds["write"] += time.perf_counter() - clock
    with open(Path(folder) / "failures.csv", encoding="utf-8") as handle:
        summary.failed = sum(1 for _ in handle) - 1
    summary.described = summary.images - summary.failed
    summary.padded_share = 1 - run.valid_pixels / run.run_pixels if run.run_pixels else 0.0
    summary.seconds["total"] = time.perf_counter() - started
    if summary.described == 0:
        raise DataError(f"none of {len(items)} images could be described; the reasons are in {folder}/failures.csv")
    return summary


def _job_options(options: ExtractOptions, embedder: Embedder) -> dict[str, Any]:
    stated = {**asdict(options), "photometric": asdict(embedder.card.photometric), "batch": embedder.batch_size}
    if embedder.translator is not None:  # absent otherwise: stores of untranslated images stay what they were
        stated["translate"] = {"name": embedder.translator.name, "fingerprint": embedder.translator.fingerprint}
    return stated


@dataclass(frozen=True)
class _Decoded:
    row: Row
    pixels: npt.NDArray[np.uint8] | None


class _Run:
    """One extraction's stages and counters."""

    def __init__(self, embedder: Embedder, options: ExtractOptions, summary: ExtractSummary) -> None:
        self.embedder = embedder
        self.options = options
        self.summary = summary
        self.valid_pixels = 0
        self.run_pixels = 0
        # A generator holds gigabytes while it runs; normalisation alone needs no turn.
        self.translating: AbstractContextManager[Any] = nullcontext() if embedder.translator is None else Lock()

    def decode(self, item: ImageItem) -> _Decoded:
        """Read, decode, resize and normalise one image; a failure is a row, never an exception."""
        digest = ""
        try:
            if item.problem is not None:
                raise ImageError(item.problem)
            content = read_bytes(item.path)
            digest = sha256_bytes(content)
            pixels = decode_image(content, max_side=self.options.max_side, stretch=self.options.stretch)
            shape = self.embedder.shape_for(pixels)
            with self.translating:
                pixels = self.embedder.prepare(pixels)
        except ImageError as error:
            return _Decoded(Row(item.name, digest, status=str(error)), None)
        except MemoryError:
            return _Decoded(Row(item.name, digest, status="does not fit into memory"), None)
        height, width = pixels.shape[:2]
        return _Decoded(Row(item.name, digest, width, height, f"{shape[0]}x{shape[1]}"), pixels)

    def shard(
        self, items: Sequence[ImageItem], pool: ThreadPoolExecutor, ahead: int, bar: tqdm[Any]
    ) -> tuple[list[Row], npt.NDArray[np.floating[Any]]]:
        """Rows of every item and descriptors of those that are ok, in order."""
        rows: list[Row] = []
        found: dict[int, npt.NDArray[np.float32]] = {}
        buckets: dict[tuple[int, int], list[tuple[int, npt.NDArray[np.uint8]]]] = {}
        for index, decoded in enumerate(self._decoded(items, pool, ahead)):
            rows.append(decoded.row)
            bar.update(1)
            if decoded.pixels is None:
                continue
            bucket = buckets.setdefault(self.embedder.shape_for(decoded.pixels), [])
            bucket.append((index, decoded.pixels))
            if len(bucket) == self.embedder.batch_size:
                self._describe(bucket, found)
            elif sum(map(len, buckets.values())) >= WAITING:
                self._describe(max(buckets.values(), key=len), found)
        for bucket in buckets.values():
            if bucket:
                self._describe(bucket, found)
        dtype = np.dtype(self.options.dtype)
        descriptors = np.empty((len(found), self.embedder.dimension), dtype)
        for position, index in enumerate(sorted(found)):
            descriptors[position] = found[index]
        return rows, descriptors

    def _decoded(self, items: Sequence[ImageItem], pool: ThreadPoolExecutor, ahead: int) -> Iterator[_Decoded]:
        pending: deque[Future[_Decoded]] = deque()
        rest = iter(items)
        try:
            while True:
                while len(pending) < ahead and (item := next(rest, None)) is not None:
                    pending.append(pool.submit(self.decode, item))
                if not pending:
                    return
                clock = time.perf_counter()
                decoded = pending.popleft().result()
                self.summary.seconds["read"] += time.perf_counter() - clock
                yield decoded
        finally:
            for future in pending:
                future.cancel()

    def _describe(
        self, bucket: list[tuple[int, npt.NDArray[np.uint8]]], found: dict[int, npt.NDArray[np.float32]]
    ) -> None:
        images = [pixels for _, pixels in bucket]
        clock = time.perf_counter()
        descriptors = self.embedder.run_batch(images)
        self.summary.seconds["infer"] += time.perf_counter() - clock
        shape = self.embedder.shape_for(images[0])
        self.run_pixels += shape[0] * shape[1] * len(images)
        self.valid_pixels += sum(image.shape[0] * image.shape[1] for image in images)
        found.update({index: row for (index, _), row in zip(bucket, descriptors, strict=True)})
        bucket.clear()
