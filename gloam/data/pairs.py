"""Image pairs as text: hloc's ``query map`` lines and kapture's ``query, map, score`` table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gloam.data.text import listed_names, plain_name, text_lines
from gloam.errors import DataError, UsageError
from gloam.files import atomic_write, bad_name

HEADER = "# kapture format: 1.1\n# query_image, map_image, score\n"
PairFormat = Literal["kapture", "hloc"]


@dataclass(frozen=True)
class Pair:
    """A query image, an image of the map, and their similarity (None where the file states none)."""

    query: str
    mapping: str
    score: float | None = None


def read_pairs(path: str | Path) -> list[Pair]:
    """Read a pair list; a line with a comma is kapture's, any other is hloc's.

    Names are read as :mod:`gloam.data.text` says; in a line without a comma those with spaces stand in double quotes.

    Returns:
        pairs in the order of the file.

    Raises:
        DataError: the file cannot be read, or a line is not a pair; the message names file and line.
    """
    place = Path(path)
    lines = text_lines(place, "the pair list cannot be read")
    pairs = [_parse(text, f"{place}:{number}") for number, text in lines]
    return pairs


def write_pairs(path: str | Path, pairs: Iterable[Pair], format: PairFormat = "kapture") -> int:
    """Write pairs as they come, atomically; memory does not grow with their number.

    Args:
        path: the text file.
        pairs: a pair without a score is written as 0 in kapture's format.
        format: ``kapture`` or ``hloc`` (no scores, no header).

    Returns:
        number of pairs written.

    Raises:
        DataError: a name cannot be written in this format (control characters, ``..``, commas in kapture's,
            spaces in hloc's), or a score is not finite. The file is then as it was before.
    """
    if format not in ("kapture", "hloc"):
        raise UsageError(f"unknown pair format {format!r}; choose kapture or hloc")
    count = 0
    with atomic_write(path) as handle:
        if format == "kapture":
            handle.write(HEADER.encode())
        for pair in pairs:
            for name in (pair.query, pair.mapping):
                if reason := _unwritable(name, format):
                    raise DataError(f"{path}: image name {name!r} {reason}; rename the image or use the other format")
            if pair.score is not None and not math.isfinite(pair.score):
                raise DataError(
                    f"{path}: the score of {pair.query!r} and {pair.mapping!r} is {pair.score}; describe both images "
                    "again"
                )
            if format == "kapture":
                line = f"{pair.query}, {pair.mapping}, {0.0 if pair.score is None else pair.score:.6g}\n"
            else:
                line = f"{pair.query} {pair.mapping}\n"
            handle.write(line.encode())
            count += 1
    return count


def _parse(text: str, where: str) -> Pair:
    score: float | None = None
    if "," in text:
        fields = [field.strip() for field in text.split(",")]
        if len(fields) == 3:
            try:
                score = float(fields.pop())
            except ValueError:
                raise DataError(f"{where}: the score in {text[:80]!r} is not a number") from None
            if not math.isfinite(score):
                raise DataError(f"{where}: the score is {'NaN' if math.isnan(score) else score}, not a finite number")
        fields = [plain_name(field) for field in fields]
    else:
        fields = listed_names(text) or []
    if len(fields) != 2:
        raise DataError(f"{where}: {text[:80]!r} is not a pair; expected 'query map' or 'query, map, score'")
    for name in fields:
        if reason := bad_name(name):
            raise DataError(f"{where}: image name {name!r} {reason}")
    return Pair(fields[0], fields[1], score)


def _unwritable(name: str, format: PairFormat) -> str | None:
    if reason := bad_name(name):
        return reason
    if format == "kapture" and ("," in name or name != name.strip()):
        return "contains a comma or outer spaces, which kapture's text cannot hold"
    if format == "hloc" and ("," in name or any(character.isspace() for character in name)):
        return "contains a space or comma, which hloc's text cannot hold"
    return "starts with '#', which begins a comment" if name.startswith("#") else None
