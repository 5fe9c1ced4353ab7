"""Bulk image-to-image runs: decode in threads, run the model, encode and write in threads, carry on after a stop.

The same for translators and edge detectors, and for whatever else turns an image into a picture of its size. Pictures
go into a folder, one file each, or into tar shards. Memory is bounded by the number of images in flight; a folder's
manifest, which names every picture, grows with the run, and tars do not. A bad image is a row of ``failures.csv``,
never a stop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2

from gloam.data.images import decode_image, image_size
from gloam.data.sources import ImageItem
from gloam.errors import DataError, StoreError, UsageError
from gloam.files import sha256_bytes
from gloam.heartbeat import progress_bar
from gloam.runtime.bulk.driver import Driver, Prepared, Task
from gloam.runtime.bulk.metrics import served_metrics
from gloam.runtime.bulk.picture_folder import PictureFolder, output_clashes, output_name
from gloam.runtime.bulk.picture_sink import Failure, Picture, PictureSink
from gloam.runtime.bulk.picture_tars import PictureTars
from gloam.runtime.bulk.resume import Resuming, look_again, lost
from gloam.runtime.bulk.stages import Queues, RunSummary, worker_threads
from gloam.runtime.models.image_model import ImageOperation, Pixels
from gloam.runtime.output_folder import SourceStamps, names_sha256

MIN_SIDE = 16  # pixels; smaller than any photograph, and large enough for every generator's padding to make sense
JPEG_QUALITY = 95


@dataclass(frozen=True)
class PictureOptions:
    """What decides a picture's bytes, beside the model and the source.

    Attributes:
        max_side: longer side, pixels; larger images are reduced first. None keeps native sizes.
        format: ``png`` (lossless) or ``jpg`` (quality 95).
        upright: turn sources as their EXIF orientation says. False for what stands beside intrinsics, which are of the
            pixels as stored.
    """

    max_side: int | None = 1024  # the side that descriptions use; a generator's memory grows with the pixels
    format: Literal["png", "jpg"] = "png"
    upright: bool = True

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 32:
            raise UsageError("--max-side must be 32 pixels or more")
        if self.format not in ("png", "jpg"):
            raise UsageError(f"unknown format {self.format!r}; choose png or jpg")

    def stated(self) -> dict[str, Any]:
        """For the manifest; what earlier ones did not state is left out where it is as it was then."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("upright", True)}


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

    def reuse(self, images: int, failed: int, reduced: int) -> None:
        """See :class:`RunSummary`."""
        self.reused += images - failed
        self.done += images - failed
        self.failed += failed
        self.reduced += reduced

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
    grow: bool = False,
    verify_sources: bool = False,
    threads: int | None = None,
    metrics_port: int | None = None,
    progress: bool = False,
) -> PictureSummary:
    """Turn images into pictures; the same call carries on where an earlier one stopped.

    Pictures whose sources are what they were, by their content, are kept; sources that failed are tried again. Where
    nothing is needed, no file is touched.

    Args:
        items: the sources; their names decide those of the pictures.
        operation: a translator or an edge detector.
        folder: of the run; must not hold the sources. Pictures are files below its ``images``.
        options: size and format.
        tar_size: write tar shards into the folder instead, each the pictures of so many sources.
        grow: go on with other sources than an earlier run had: pictures, and tars, of the same ones are kept, those of
            sources that are gone go.
        verify_sources: read every source again, also where size, time and number of its file say that it is unchanged.
            Those of a folder of pictures always are.
        threads: that decode, and that encode and write; all cores by default.
        metrics_port: serve the state of the run for Prometheus.
        progress: show a bar on stderr where that is a terminal.

    Raises:
        DataError: no images, or not one picture could be made.
        UsageError: the pictures would land among their sources.
        IncompatibleError, StoreError: see :class:`PictureFolder` and :class:`PictureTars`; finished work is kept.
    """
    options, threads = options or PictureOptions(), worker_threads(threads)
    if not items:
        raise DataError("no images to work on")
    place: PictureSink
    if tar_size is None:
        _refuse_own_sources(items, Path(folder))
        job = {"model": operation.name, "fingerprint": operation.fingerprint, **options.stated()}
        place = PictureFolder(folder, job, items, grow)
    else:
        job = tar_job(operation, options, names_sha256(items), tar_size)
        place = PictureTars.begun(folder, job, len(items), tar_size, grow=grow)
    summary = PictureSummary(images=len(items))
    resuming = Resuming(grow, verify_sources, progress)
    clashes = output_clashes(items, f".{options.format}")
    maker = PictureMaker(items, operation, place, options, summary, grow, clashes)
    with (
        place,
        served_metrics(metrics_port, summary, maker.queues),
        progress_bar(len(items), shown=progress) as bar,
        summary.timed("total"),
    ):
        stale = stale_parts(items, place, maker.tried, resuming, threads, summary, maker.queues, clashes)
        bar.update(summary.done + summary.failed)
        maker.make(stale, threads, bar.update)
        complete_pictures(place, summary)
    summary.backend = operation.backend
    return summary


def tar_job(operation: ImageOperation, options: PictureOptions, images_sha256: str, tar_size: int) -> dict[str, Any]:
    """What decides the bytes of tars.

    Args:
        operation, options: that make the pictures.
        images_sha256: :func:`names_sha256` of the list of sources.
        tar_size: sources of a tar.

    Raises:
        UsageError: no such size.
    """
    if tar_size < 1:
        raise UsageError("--tar-size must be 1 or more")
    made = {"model": operation.name, "fingerprint": operation.fingerprint, **options.stated()}
    return {**made, "images_sha256": images_sha256, "tar_size": tar_size}


def stale_parts(
    items: Sequence[ImageItem],
    place: PictureSink,
    tried: Callable[[ImageItem, bytes], str | None] | None,
    resuming: Resuming,
    threads: int,
    summary: PictureSummary,
    queues: Queues,
    clashes: Mapping[int, str],
) -> list[int]:
    """The parts that are still or again to be made; the folder states that they are missing.

    Raises:
        as :func:`gloam.runtime.bulk.resume.look_again`, whose other arguments these are.
    """
    parts = enumerate(place.parts(len(items)))
    stamps = SourceStamps(place.folder)
    stale = look_again(items, parts, place.earlier, stamps, tried, resuming, threads, summary, queues, clashes)
    place.retract(stale)
    return stale


def complete_pictures(place: PictureSink, summary: PictureSummary) -> None:
    """State a run complete whose parts are all there.

    Raises:
        StoreError: one is damaged.
        DataError: not one picture could be made.
    """
    with summary.timed("write"):
        place.finish()
    summary.damaged = sorted(place.damaged)
    if not summary.done:
        raise DataError(
            f"none of {summary.images} images could be used; the reasons are in {place.folder}/failures.csv"
        )


@dataclass(frozen=True)
class _Note:
    """What is known of a source beside its pixels: whether it was made smaller, or its picture that is there."""

    reduced: bool = False
    picture: Picture | None = None


class PictureMaker(Driver[_Note, Pixels]):
    """The stages that turn sources into pictures, and their counters.

    Args:
        items: all sources of the run, in order.
        operation: the model.
        place: where pictures go; entered by whoever uses this.
        options: of the job.
        summary: kept up to date, but for its total time.
        grow: go on where a source that had a picture cannot be read any more.
        clashes: :func:`output_clashes` of the items.

    Attributes:
        queues: how many images are where at this moment.
    """

    def __init__(
        self,
        items: Sequence[ImageItem],
        operation: ImageOperation,
        place: PictureSink,
        options: PictureOptions,
        summary: PictureSummary,
        grow: bool,
        clashes: Mapping[int, str],
    ) -> None:
        super().__init__(items, operation.batch_size, operation.backend.runs_at_once, summary)
        self.operation = operation
        self.place = place
        self.options = options
        self.summary = summary
        self.grow = grow
        self._parts = place.parts(len(items))
        self._clashes = clashes
        self._rows: dict[int, tuple[Picture | Failure, str]] = {}
        self._writers: ThreadPoolExecutor | None = None
        self._writing: deque[tuple[Prepared[_Note], Future[tuple[Picture, bytes]]]] = deque()

    def make(self, parts: Iterable[int], threads: int, moved: Callable[[int], Any] | None = None) -> None:
        """Make parts: every source becomes a picture or a failure.

        Args:
            parts: their numbers.
            threads: that decode, and that encode and write.
            moved: told of every source that is done.
        """
        with ThreadPoolExecutor(threads, "write") as self._writers:
            try:
                with closing(self.drive(parts, threads)) as images:
                    for _ in images:
                        self._collect(self.ahead(threads))
                        if moved is not None:
                            moved(1)
            finally:
                self._collect(0)  # what is on its way is noted, whatever happened

    def tried(self, item: ImageItem, content: bytes) -> str | None:
        """Why a source's bytes cannot be used; None where they can."""
        return self.prepared(Task(0, 0, item), content).reason

    def span(self, part: int) -> range:
        """See :class:`Driver`."""
        return self._parts[part]

    def problem(self, task: Task) -> str | None:
        """See :class:`Driver`."""
        return task.item.problem or self._clashes.get(task.index)

    def prepare(self, task: Task, content: bytes, sha256: str) -> tuple[Pixels | None, tuple[int, int], _Note]:
        """See :class:`Driver`; a picture that is there needs no model."""
        if (picture := self.place.finished(task.item.name, sha256, self._output(task.item))) is not None:
            return None, (0, 0), _Note(picture.reduced, picture)
        options = self.options
        pixels = decode_image(content, max_side=options.max_side, min_side=MIN_SIDE, upright=options.upright)
        self.operation.check(pixels)
        reduced = options.max_side is not None and sorted(image_size(content)) != sorted(pixels.shape[:2])
        return pixels, self.operation.shape_for(pixels), _Note(reduced)

    def infer(self, images: list[Pixels]) -> Sequence[Pixels]:
        """See :class:`Driver`."""
        return self.operation(images)

    def opened(self, part: int) -> None:
        """See :class:`Driver`."""
        self._rows = {}
        self.place.open_part(part)

    def made(self, image: Prepared[_Note], result: Pixels) -> None:
        """See :class:`Driver`."""
        assert self._writers is not None  # by all
        self.place.begin()
        self._count_earlier(image)
        self._writing.append((image, self._writers.submit(self._write, image, result)))

    def idle(self, image: Prepared[_Note]) -> None:
        """See :class:`Driver`."""
        if image.note is not None and image.note.picture is not None:
            self._done(image, image.note.picture)
            self.summary.reused += 1
            return
        item, reason, model = image.task.item, image.reason or "", image.shape[0] > 0
        earlier = self.place.earlier_of(item.name)
        read = bool(image.sha256) or self.problem(image.task) is not None
        if not read and earlier is not None and earlier.failure is None and not self.grow:
            raise lost(item, reason)
        self._rows[image.task.index] = (Failure(item.name, reason, image.sha256, model), image.stamp)
        self._count_earlier(image)
        self.summary.failed += 1

    def closed(self, part: int) -> None:
        """See :class:`Driver`: wait for what is written, and close the part."""
        self._collect(0)
        rows = [self._rows[index] for index in sorted(self._rows)]
        with self.summary.timed("write"):
            self.place.close_part(part, [row for row, _ in rows], [stamp for _, stamp in rows])

    def _output(self, item: ImageItem) -> str:
        return output_name(item.name, f".{self.options.format}")

    def _count_earlier(self, image: Prepared[_Note]) -> None:
        """A source that an earlier run had a picture of, from other bytes, or that failed."""
        earlier = self.place.earlier_of(image.task.item.name)
        if earlier is not None:
            self.summary.retried += earlier.failure is not None
            self.summary.changed += earlier.failure is None and earlier.sha256 != image.sha256

    def _write(self, image: Prepared[_Note], result: Pixels) -> tuple[Picture, bytes]:
        content = encode(result, self.options.format)
        item, output = image.task.item, self._output(image.task.item)
        self.place.write(output, content)
        height, width = result.shape[:2]
        reduced = image.note is not None and image.note.reduced
        return Picture(item.name, image.sha256, output, sha256_bytes(content), width, height, reduced), content

    def _collect(self, most: int) -> None:
        """Note finished pictures, in order; wait until at most ``most`` are unfinished."""
        with self.summary.timed("write"):
            while self._writing and (len(self._writing) > most or self._writing[0][1].done()):
                image, future = self._writing.popleft()
                picture, content = future.result()
                self.place.record(picture, content)
                self._done(image, picture)
        self.queues.writing = len(self._writing)

    def _done(self, image: Prepared[_Note], picture: Picture) -> None:
        self._rows[image.task.index] = (picture, image.stamp)
        self.summary.done += 1
        self.summary.reduced += picture.reduced


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
