"""Many files in one text: ``train-{000..099}.tar``, ``{day,night}.tar``, ``shards/*.parquet``."""

from __future__ import annotations

import re

from gloam.data.sources.files import Files
from gloam.errors import DataError

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
MOST = 1_000_000  # files; more is a slip of the pen


def is_pattern(text: str) -> bool:
    """Whether a text has braces or a ``*``."""
    return "*" in text or BRACES.search(text) is not None


def expand(text: str, files: Files) -> list[str]:
    """The files that a pattern names: braces in their order, ``*`` in the order of names.

    Raises:
        DataError: a range that is empty or has too many files.
    """
    paths = []
    for path in _braces(text):
        paths += files.glob(path) if "*" in path else [path]
    return paths


def _braces(text: str) -> list[str]:
    found = BRACES.search(text)
    if found is None:
        return [text]
    span = RANGE.fullmatch(found[1])
    if span is None:
        words = found[1].split(",")
    else:
        first, last = int(span[1]), int(span[2])
        if not first <= last < first + MOST:
            raise DataError(f"{text}: {{{found[1]}}} must rise, over at most {MOST} files")
        words = [f"{number:0{len(span[1])}d}" for number in range(first, last + 1)]
    return [path for word in words for path in _braces(f"{text[: found.start()]}{word}{text[found.end() :]}")]
