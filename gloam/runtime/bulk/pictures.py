"""Bulk image-to-image runs: decode in threads, run the model, encode and write in threads, carry on after a stop.

The same for translators and edge detectors, and for whatever else turns an image into a picture of its size. Pictures
go into a folder, one file each, or into tar shards. Memory is bounded by the number of images in flight; a folder's
manifest, which names every picture, grows with the run, and tars do not. A bad image is a row of ``failures.csv``,
never a stop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import cv2

from gloam.data.images import decode_image, image_size
from gloam.data.sources import ImageItem
from gloam.errors import DataError, ImageError, StoreError, UsageError
from gloam.files import sha256_bytes
from gloam.runtime.bulk.metrics import served_metrics
from gloam.runtime.bulk.picture_folder import Picture, PictureFolder, output_clashes, output_name
from gloam.runtime.bulk.picture_sink import PictureSink
from gloam.runtime.bulk.picture_tars import PictureTars
from gloam.runtime.bulk.stages import Buckets, InFlight, Queues, RunSummary, progress_bar, read_ahead, worker_threads
from gloam.runtime.models.image_model import ImageOperation, Pixels
from gloam.runtime.output_folder import names_sha256

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
class PictureSummary(RunSummary):
    """What a run did and where its time went.

    Attributes:
        done: pictures that are there, those of an earlier run included.
        reduced: pictures of sources that were larger than ``max_side``.
    """

    done: int = 0
    reduced: int = 0

    @property
    def succeeded(self) -> int:
        """See :class:`RunSummary`."""
        return self.done

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
    tar_size: int | None = None,
    threads: int | None = None,
    metrics_port: int | None = None,
    progress: bool = False,
) -> PictureSummary:
    """Turn images into pictures; the same call carries on where an earlier one stopped.

    Args:
        items: the sources; their names decide those of the pictures.
        operation: a translator or an edge detector.
        folder: of the run; must not hold the sources. Pictures are files below its ``images``.
        options: size and format.
        tar_size: write tar shards into the folder instead, each the pictures of so many sources.
        threads: that decode, and that encode and write; all cores by default.
        metrics_port: serve the state of the run for Prometheus.
        progress: show a bar on stderr where that is a terminal.

    Raises:
        DataError: no images, or not one picture could be made.
        UsageError: the pictures would land among their sources.
        IncompatibleError, StoreError: see :class:`PictureFolder` and :class:`PictureTars`; finished work is kept.
    """
    options = options or PictureOptions()
    if not items:
        raise DataError("no images to work on")
    job = {"model": operation.name, "fingerprint": operation.fingerprint, **asdict(options)}
    place: PictureSink
    if tar_size is None:
        _refuse_own_sources(items, Path(folder))
        place = PictureFolder(folder, job)
    elif tar_size < 1:
        raise UsageError("--tar-size must be 1 or more")
    else:
        listed = {"images_sha256": names_sha256(items), "tar_size": tar_size}
        place = PictureTars(folder, {**job, **listed}, len(items), tar_size)
    summary = PictureSummary(images=len(items))
    run = _Run(items, operation, place, options, summary)
    with place:
        run.all(worker_threads(threads), metrics_port, progress)
    summary.backend = operation.backend
    if not summary.done:
        raise DataError(f"none of {len(items)} images could be used; the reasons are in {folder}/failures.csv")
    return summary


@dataclass(frozen=True)
class _Task:
    part: range
    index: int
    item: ImageItem
    output: str


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
        self,
        items: Sequence[ImageItem],
        operation: ImageOperation,
        place: PictureSink,
        options: PictureOptions,
        summary: PictureSummary,
    ) -> None:
        self.items = items
        self.operation = operation
        self.place = place
        self.options = options
        self.summary = summary
        self.queues = Queues()
        self._clashes: Mapping[int, str] = output_clashes(items, f".{options.format}")
        self._buckets: Buckets[_Decoded] = Buckets(operation.batch_size, self.queues)
        self._at_once = operation.backend.runs_at_once
        self._running = InFlight(self._infer, self._at_once, summary)
        self._pictures: dict[int, Picture] = {}
        self._failures: dict[int, str] = {}
        self._writing: deque[tuple[int, Future[tuple[Picture, bytes]]]] = deque()

    def all(self, threads: int, metrics_port: int | None, progress: bool) -> None:
        """Every source becomes a picture or a failure."""
        ahead = 2 * threads + self.operation.batch_size * self._at_once
        taken = 0  # sources of the open part
        with (
            served_metrics(metrics_port, self.summary, self.queues),
            ThreadPoolExecutor(threads, "decode") as readers,
            ThreadPoolExecutor(threads, "write") as writers,
            self._running,
            progress_bar(len(self.items), progress) as bar,
            self.summary.timed("total"),
        ):
            try:
                for decoded in read_ahead(self._tasks(), self.decode, readers, ahead, self.summary, self.queues):
                    part = decoded.task.part
                    if not taken:
                        self.place.open_part(part)
                    taken += 1
                    self._take(decoded, writers)
                    self._collect(ahead)
                    if taken == len(part):
                        self._close(part, writers)
                        taken = 0
                    bar.update(1)
            finally:
                self._collect(0)  # what is on its way is noted, whatever happened
            with self.summary.timed("write"):
                self.place.finish()

    def decode(self, task: _Task) -> _Decoded:
        """Read, look up, decode and resize one image; a failure is a reason, never an exception."""
        digest, item = "", task.item
        problem = item.problem or self._clashes.get(task.index)
        if problem is not None:
            return _Decoded(task, reason=problem)
        try:
            content = item.read()
            digest = sha256_bytes(content)
            picture = self.place.finished(item.name, digest, task.output)
            if picture is not None:
                return _Decoded(task, digest, picture=picture)
            pixels = decode_image(content, max_side=self.options.max_side, min_side=MIN_SIDE)
            self.operation.check(pixels)
            reduced = self.options.max_side is not None and max(image_size(content)) > max(pixels.shape[:2])
        except ImageError as error:
            return _Decoded(task, digest, reason=item.explained(str(error)))
        except MemoryError:
            return _Decoded(task, digest, reason=item.explained("does not fit into memory"))
        return _Decoded(task, digest, pixels, reduced)

    def _tasks(self) -> Iterator[_Task]:
        """The sources of the parts that are not there as a whole."""
        for part in self.place.parts(len(self.items)):
            rows = self.place.closed(part)
            if rows is not None:
                done = [row for row in rows if "reason" not in row]
                self.summary.reused += len(done)
                self.summary.done += len(done)
                self.summary.failed += len(rows) - len(done)
                self.summary.reduced += sum(bool(row["reduced"]) for row in done)
                continue
            for index, item in zip(part, self.items[part.start : part.stop], strict=True):
                yield _Task(part, index, item, output_name(item.name, f".{self.options.format}"))

    def _take(self, decoded: _Decoded, writers: ThreadPoolExecutor) -> None:
        if decoded.reason is not None:
            self._fail(decoded.task.index, decoded.reason)
        elif decoded.picture is not None:
            self._done(decoded.task.index, decoded.picture)
            self.summary.reused += 1
        elif decoded.pixels is not None:
            shape = self.operation.shape_for(decoded.pixels)
            if batch := self._buckets.add(shape, decoded):
                self._turn(batch, writers)

    def _close(self, part: range, writers: ThreadPoolExecutor) -> None:
        """Run what waits, wait for what is written, and close the part."""
        for batch in self._buckets.rest():
            self._turn(batch, writers)
        self._note(self._running.rest(), writers)
        self._collect(0)
        pictures = [self._pictures[index] for index in sorted(self._pictures)]
        failures = [(self.items[index].name, reason) for index, reason in sorted(self._failures.items())]
        with self.summary.timed("write"):
            self.place.close_part(part, pictures, failures)
        self._pictures, self._failures = {}, {}
        self._buckets = Buckets(self.operation.batch_size, self.queues)

    def _turn(self, batch: list[_Decoded], writers: ThreadPoolExecutor) -> None:
        self._note(self._running.add(batch), writers)

    def _infer(self, batch: list[_Decoded]) -> list[Pixels]:
        return self.operation([decoded.pixels for decoded in batch if decoded.pixels is not None])

    def _note(
        self, finished: Sequence[tuple[list[_Decoded], Future[list[Pixels]]]], writers: ThreadPoolExecutor
    ) -> None:
        for batch, future in finished:
            try:
                results = future.result()
            except ImageError as error:
                if len(batch) > 1:  # one of them is at fault: each for itself
                    for decoded in batch:
                        self._note([([decoded], self._alone(decoded))], writers)
                else:
                    self._fail(batch[0].task.index, batch[0].task.item.explained(str(error)))
                continue
            for decoded, result in zip(batch, results, strict=True):
                self._writing.append((decoded.task.index, writers.submit(self._write, decoded, result)))

    def _alone(self, decoded: _Decoded) -> Future[list[Pixels]]:
        """One image run here and now, so that it keeps its place among the others."""
        with InFlight(self._infer, 1, self.summary) as one:
            return one.add([decoded])[0][1]

    def _write(self, decoded: _Decoded, result: Pixels) -> tuple[Picture, bytes]:
        content = encode(result, self.options.format)
        task = decoded.task
        self.place.write(task.output, content)
        height, width = result.shape[:2]
        picture = Picture(
            task.item.name, decoded.sha256, task.output, sha256_bytes(content), width, height, decoded.reduced
        )
        return picture, content

    def _collect(self, most: int) -> None:
        """Note finished pictures, in order; wait until at most ``most`` are unfinished."""
        with self.summary.timed("write"):
            while self._writing and (len(self._writing) > most or self._writing[0][1].done()):
                index, future = self._writing.popleft()
                picture, content = future.result()
                self.place.record(picture, content)
                self._done(index, picture)
        self.queues.writing = len(self._writing)

    def _done(self, index: int, picture: Picture) -> None:
        self._pictures[index] = picture
        self.summary.done += 1
        self.summary.reduced += picture.reduced

    def _fail(self, index: int, reason: str) -> None:
        self._failures[index] = reason
        self.summary.failed += 1


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
    for parent in {item.path.parent for item in items if item.origin is None}:
        if target == parent.resolve() or target in parent.resolve().parents:
            raise UsageError(f"{folder}: its images/ holds the sources; choose another output folder")
