"""Bulk image-to-image runs: decode in threads, run the model, write pictures in threads, carry on after a stop.

The same for translators and edge detectors, and for whatever else turns an image into a picture of its size. Memory
is bounded by the number of images in flight. A bad image is a row of ``failures.csv``, never a stop.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
from tqdm import tqdm

from gloam.data.images import decode_image, image_size, read_bytes
from gloam.data.sources import ImageItem
from gloam.errors import DataError, ImageError, StoreError, UsageError
from gloam.files import sha256_bytes
from gloam.runtime.image_model import ImageOperation, Pixels
from gloam.runtime.picture_folder import Picture, PictureFolder, output_names

MIN_SIDE = 16  # pixels; smaller than any photograph, and large enough for every generator's padding to make sense
JPEG_QUALITY = 95


@dataclass(frozen=True)
class PictureOptions:
    """What decides a picture's bytes, beside the model and the source.

    Attributes:
        max_side: longer side, pixels; larger images are reduced first. None keeps native sizes.
        format: ``png`` (lossless) or ``jpg`` (quality 95).
    """

    max_side: int | None = 1024  # the side that descriptions use; a generator's memory grows with the pixels
    format: Literal["png", "jpg"] = "png"

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 32:
            raise UsageError("--max-side must be 32 pixels or more")
        if self.format not in ("png", "jpg"):
            raise UsageError(f"unknown format {self.format!r}; choose png or jpg")


@dataclass
class PictureSummary:
    """What a run did and where its time went.

    Attributes:
        images, done, failed: counts over all sources, pictures of an earlier run included.
        reused: pictures that were already there.
        reduced: pictures of sources that were larger than ``max_side``.
        seconds: wall time; ``read`` waited for decoding, ``run`` ran the model, ``write`` waited for the disk.
    """

    images: int = 0
    done: int = 0
    failed: int = 0
    reused: int = 0
    reduced: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"total": 0.0, "read": 0.0, "run": 0.0, "write": 0.0})
    backend: dict[str, Any] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Pictures made in this run per second."""
        return (self.done - self.reused) / max(self.seconds["total"], 1e-9)


def run_images(
    items: Sequence[ImageItem],
    operation: ImageOperation,
    folder: str | Path,
    options: PictureOptions | None = None,
    *,
    threads: int | None = None,
    progress: bool = False,
) -> PictureSummary:
    """Turn images into pictures below ``folder/images``; the same call carries on where an earlier one stopped.

    Args:
        items: the sources; their names decide those of the pictures.
        operation: a translator or an edge detector.
        folder: of the run; must not hold the sources.
        options: size and format.
        threads: that decode, and that write; all cores by default.
        progress: show a bar on stderr where that is a terminal.

    Raises:
        DataError: no images, or not one picture could be made.
        UsageError: the pictures would land among their sources.
        IncompatibleError, StoreError: see :class:`PictureFolder`; finished pictures are kept.
    """
    options = options or PictureOptions()
    if not items:
        raise DataError("no images to work on")
    _refuse_own_sources(items, Path(folder))
    started = time.perf_counter()
    place = PictureFolder(folder, {"model": operation.name, "fingerprint": operation.fingerprint, **asdict(options)})
    names, clashes = output_names(items, f".{options.format}")
    summary = PictureSummary(images=len(items), backend=dict(operation.backend))
    run = _Run(operation, place, options, summary)
    threads = threads or len(os.sched_getaffinity(0))
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="decode") as readers,
        ThreadPoolExecutor(threads, thread_name_prefix="write") as writers,
        tqdm(total=len(items), unit="img", disable=not (progress and sys.stderr.isatty())) as bar,
    ):
        tasks = [_Task(index, item, names[index], clashes.get(index)) for index, item in enumerate(items)]
        run.all(tasks, readers, writers, ahead=2 * threads + operation.batch_size, bar=bar)
    failures = [(items[index].name, reason) for index, reason in sorted(run.failures.items())]
    pictures = [run.pictures[index] for index in sorted(run.pictures)]
    place.finish(pictures, failures)
    summary.done, summary.failed = len(pictures), len(failures)
    summary.reduced = sum(picture.reduced for picture in pictures)
    summary.seconds["total"] = time.perf_counter() - started
    if not pictures:
        raise DataError(f"none of {len(items)} images could be used; the reasons are in {folder}/failures.csv")
    return summary


@dataclass(frozen=True)
class _Task:
    index: int
    item: ImageItem
    output: str
    problem: str | None


@dataclass(frozen=True)
class _Decoded:
    """A decoded source, a picture that is already there, or a reason; exactly one of the three."""

    task: _Task
    sha256: str = ""
    pixels: Pixels | None = None
    reduced: bool = False
    picture: Picture | None = None
    reason: str | None = None


class _Run:
    """One run's stages and counters."""

    def __init__(
        self, operation: ImageOperation, place: PictureFolder, options: PictureOptions, summary: PictureSummary
    ) -> None:
        self.operation = operation
        self.place = place
        self.options = options
        self.summary = summary
        self.pictures: dict[int, Picture] = {}
        self.failures: dict[int, str] = {}
        self._writing: deque[tuple[int, Future[Picture]]] = deque()

    def all(
        self,
        tasks: Sequence[_Task],
        readers: ThreadPoolExecutor,
        writers: ThreadPoolExecutor,
        ahead: int,
        bar: tqdm[Any],
    ) -> None:
        """Every task becomes a picture or a failure."""
        waiting: list[_Decoded] = []
        try:
            for decoded in self._decoded(tasks, readers, ahead):
                if decoded.reason is not None:
                    self.failures[decoded.task.index] = decoded.reason
                elif decoded.picture is not None:
                    self.pictures[decoded.task.index] = decoded.picture
                    self.summary.reused += 1
                else:
                    waiting.append(decoded)
                if len(waiting) >= self.operation.batch_size:
                    self._turn(waiting, writers)
                    waiting = []
                bar.update(1)
                self._collect(ahead)
            self._turn(waiting, writers)
        finally:
            self._collect(0)

    def decode(self, task: _Task) -> _Decoded:
        """Read, look up, decode and resize one image; a failure is a reason, never an exception."""
        digest = ""
        try:
            if problem := task.item.problem or task.problem:
                raise ImageError(problem)
            content = read_bytes(task.item.path)
            digest = sha256_bytes(content)
            picture = self.place.finished(task.item.name, digest, task.output)
            if picture is not None:
                return _Decoded(task, digest, picture=picture)
            pixels = decode_image(content, max_side=self.options.max_side, min_side=MIN_SIDE)
            self.operation.check(pixels)
            reduced = self.options.max_side is not None and max(image_size(content)) > max(pixels.shape[:2])
        except ImageError as error:
            return _Decoded(task, digest, reason=str(error))
        except MemoryError:
            return _Decoded(task, digest, reason="does not fit into memory")
        return _Decoded(task, digest, pixels, reduced)

    def _decoded(self, tasks: Sequence[_Task], pool: ThreadPoolExecutor, ahead: int) -> Iterator[_Decoded]:
        pending: deque[Future[_Decoded]] = deque()
        rest = iter(tasks)
        try:
            while True:
                while len(pending) < ahead and (task := next(rest, None)) is not None:
                    pending.append(pool.submit(self.decode, task))
                if not pending:
                    return
                clock = time.perf_counter()
                decoded = pending.popleft().result()
                self.summary.seconds["read"] += time.perf_counter() - clock
                yield decoded
        finally:
            for future in pending:
                future.cancel()

    def _turn(self, batch: Sequence[_Decoded], writers: ThreadPoolExecutor) -> None:
        images = [decoded.pixels for decoded in batch if decoded.pixels is not None]
        clock = time.perf_counter()
        try:
            results = self.operation(images)
        except ImageError as error:
            if len(batch) > 1:  # one of them is at fault: each for itself
                for decoded in batch:
                    self._turn([decoded], writers)
            elif batch:
                self.failures[batch[0].task.index] = str(error)
            return
        finally:
            self.summary.seconds["run"] += time.perf_counter() - clock
        for decoded, result in zip(batch, results, strict=True):
            self._writing.append((decoded.task.index, writers.submit(self._write, decoded, result)))

    def _write(self, decoded: _Decoded, result: Pixels) -> Picture:
        content = encode(result, self.options.format)
        self.place.write(decoded.task.output, content)
        height, width = result.shape[:2]
        output = decoded.task.output
        return Picture(
            decoded.task.item.name, decoded.sha256, output, sha256_bytes(content), width, height, decoded.reduced
        )

    def _collect(self, most: int) -> None:
        """Note finished pictures; wait until at most ``most`` are unfinished."""
        clock = time.perf_counter()
        while self._writing and (len(self._writing) > most or self._writing[0][1].done()):
            index, future = self._writing.popleft()
            picture = future.result()
            self.place.record(picture)
            self.pictures[index] = picture
        self.summary.seconds["write"] += time.perf_counter() - clock


def encode(image: Pixels, suffix: str) -> bytes:
    """A picture file's bytes.

    Args:
        image: uint8 ``[h, w, 3]`` RGB, or ``[h, w]`` grey.
        suffix: ``png`` or ``jpg``.
    """
    order = image[..., ::-1] if image.ndim == 3 and image.shape[2] == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix == "jpg" else []
    done, encoded = cv2.imencode(f".{suffix}", order, options)
    if not done:
        raise StoreError(f"a picture of {image.shape[1]}x{image.shape[0]} could not be encoded as {suffix}")
    content: bytes = encoded.tobytes()
    return content


def _refuse_own_sources(items: Sequence[ImageItem], folder: Path) -> None:
    target = (folder / "images").resolve()
    for parent in {item.path.parent for item in items}:
        if target == parent.resolve() or target in parent.resolve().parents:
            raise UsageError(f"{folder}: its images/ holds the sources; choose another output folder")
