"""Many files in one text: ``train-{000..099}.tar``, ``{day,night}.tar``, ``shards/*.parquet``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gloam.data.sources.files import Files
from gloam.errors import DataError

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")
MOST = 1_000_000  # files; more is a slip of the pen


def is_pattern(text: str) -> bool:
    """Whether a text has braces or a ``*``."""
    return "*" in text or BRACES.search(text) is not None


def expand(text: str, files: Files) -> list[str]:
    """The files that a pattern names: braces in their order, ``*`` in the order of names.

    Raises:
        DataError: a range that is empty or has too many files.
    """
    paths: list[str] = []
    for path in _braces(text):
        paths += files.glob(path) if "*" in path else [path]
        if len(paths) > MOST:
            raise DataError(f"{text[:80]}: names more than {MOST:,} files; name fewer at once")
    return paths


def _braces(text: str) -> Iterator[str]:
    """Every text that the braces stand for, one after another; few of them are held, however many there are."""
    waiting = [iter((text,))]
    tried = 0
    while waiting:
        part = next(waiting[-1], None)
        if part is None:
            waiting.pop()
            continue
        found = BRACES.search(part)
        if found is None:
            yield part
        else:
            tried += 1
            if tried > MOST:
                raise DataError(f"{text[:80]}: names more than {MOST:,} files; name fewer at once")
            waiting.append(_words(part, found))


def _words(text: str, found: re.Match[str]) -> Iterator[str]:
    span = RANGE.fullmatch(found[1])
    if span is None:
        words: Iterable[str] = found[1].split(",")
    else:
        first, last = int(span[1]), int(span[2])
        if not first <= last < first + MOST:
            raise DataError(f"{text}: {{{found[1]}}} must rise, over at most {MOST} files")
        words = (f"{number:0{len(span[1])}d}" for number in range(first, last + 1))
    return (f"{text[: found.start()]}{word}{text[found.end() :]}" for word in words)
