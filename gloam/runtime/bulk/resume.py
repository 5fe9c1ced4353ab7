"""What of an earlier run still holds: each image's content decides, read again only where its stamp is another.

A part is kept where its files are those that were written and each of its images is what it was made from. Nothing is
written here: whoever finds that all is kept has touched nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gloam.data.sources import ImageItem
from gloam.data.sources.files import NoAnswer
from gloam.errors import DataError, ImageError, IncompatibleError
from gloam.files import sha256_bytes
from gloam.heartbeat import Heartbeat, to_stderr
from gloam.runtime.bulk.stages import Queues, RunSummary, read_ahead
from gloam.runtime.output_folder import EarlierImage, SourceStamps

CHUNK = 64  # images that a thread looks at in a row


@dataclass(frozen=True)
class Resuming:
    """How a run goes on where an earlier one stopped.

    Attributes:
        grow: with other images than it had; what no longer is there goes.
        verify_sources: read every image again, also where its stamp says that it is unchanged.
        progress: say on stderr how far the look is, where it takes long.
    """

    grow: bool = False
    verify_sources: bool = False
    progress: bool = False


@dataclass(frozen=True)
class _Look:
    """Images of one part, why they are not even read, what an earlier run has of them, and the stamps it noted."""

    part: int
    pairs: Sequence[tuple[ImageItem, str | None, EarlierImage, str]]
    noted_ns: int


@dataclass
class _Part:
    images: int
    failed: int
    reduced: int
    stale: bool = False


def look_again(
    items: Sequence[ImageItem],
    parts: Iterable[tuple[int, range]],
    earlier: Callable[[int], Sequence[EarlierImage] | None],
    stamps: SourceStamps,
    tried: Callable[[ImageItem, bytes], str | None] | None,
    resuming: Resuming,
    threads: int,
    summary: RunSummary,
    queues: Queues,
    problems: Mapping[int, str] | None = None,
) -> list[int]:
    """Compare the images with what an earlier run made of them.

    Args:
        items: all images.
        parts: number and positions of each part to look at.
        earlier: what an earlier run has of a part's images, in order; None where the part is not there, or damaged.
        stamps: that it noted.
        tried: why an image's bytes cannot be used, or None where they can: for those that failed before. Where there is
            none, bytes that failed are taken to fail again, but for want of memory.
        resuming: what was asked for.
        threads: that look.
        summary: told what is kept; its counts of changed images, and of failed ones that were tried again, are kept up
            to date.
        queues: kept up to date.
        problems: by position, why an image is not even read, beside its own problem.

    Returns:
        numbers of the parts that are to be made, in order.

    Raises:
        IncompatibleError: an image that was described cannot be read any more, and ``grow`` was not asked for.
        DataError: a store of images does not answer.
    """
    found: dict[int, _Part | None] = {}
    clashes = problems or {}

    def looks() -> Iterator[_Look]:
        for part, span in parts:
            rows = earlier(part)
            here = [] if rows is None else items[span.start : span.stop]
            if rows is None or [row.name for row in rows] != [item.name for item in here]:
                found[part] = None
                continue
            failed = sum(row.failure is not None for row in rows)
            found[part] = _Part(len(rows), failed, sum(row.reduced for row in rows))
            texts, noted = stamps.read(part, len(span))
            reasons = [item.problem or clashes.get(index) for index, item in zip(span, here, strict=True)]
            pairs = list(zip(here, reasons, rows, texts, strict=True))
            for start in range(0, len(pairs), CHUNK):
                yield _Look(part, pairs[start : start + CHUNK], noted)

    def look(task: _Look) -> tuple[int, list[tuple[EarlierImage, bool, bool]]]:
        seen = []
        for item, problem, row, text in task.pairs:
            if problem is not None:
                seen.append((row, row.failure == problem, False))
                continue
            unread = not resuming.verify_sources and row.failure is None and _settled(item, text, task.noted_ns)
            seen.append((row, unread or _same(item, row, tried, resuming.grow), row.failure is not None))
        return task.part, seen

    beat = Heartbeat(to_stderr if resuming.progress else None, "looking at the images of an earlier run", None)
    with ThreadPoolExecutor(threads, "look") as pool:
        for number, seen in read_ahead(looks(), look, pool, 2 * threads, summary, queues):
            part = found[number]
            assert part is not None  # it was looked at
            beat.update(len(seen))
            for row, same, again in seen:
                part.stale |= not same
                summary.retried += again
                summary.changed += not same and row.failure is None
    stale = []
    for number, part in found.items():
        if part is None or part.stale:
            stale.append(number)
        else:
            summary.reuse(part.images, part.failed, part.reduced)
    return stale


def lost(item: ImageItem, reason: str) -> IncompatibleError:
    """The refusal of an image that an earlier run has used, and that cannot be read any more."""
    return IncompatibleError(
        f"{item.name}: an earlier run has read it, and now: {reason}; bring it back, or add --grow to go on without it"
    )


def _settled(item: ImageItem, text: str, noted_ns: int) -> bool:
    """Whether an image's stamp is the noted one, and cannot hide a later change."""
    stamp = item.stamp() if text else None
    return stamp is not None and stamp.holds(text, noted_ns)


def _same(
    item: ImageItem, row: EarlierImage, tried: Callable[[ImageItem, bytes], str | None] | None, grow: bool
) -> bool:
    """Whether a run would make of an image, by its content, what an earlier one did."""
    try:
        content = item.read()
    except ImageError as error:
        if isinstance(error, NoAnswer):
            if row.failure is None:
                raise DataError(f"{item.name}: {error}; run again when it answers") from error
            return not row.sha256
        if row.failure is None and not grow:
            raise lost(item, str(error)) from error
        return row.failure == item.explained(str(error)) and not row.sha256
    if sha256_bytes(content) != row.sha256:
        return False
    if row.failure is None or row.final:
        return True
    if tried is None:
        return "memory" not in row.failure
    return tried(item, content) == row.failure
