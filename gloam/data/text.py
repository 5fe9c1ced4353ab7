"""Text that lists things, a line each: read once for every list, with the name of an image at the begin of a line.

UTF-8 with or without a byte order mark, lines of Unix, Windows or old Macs. A line that begins with ``#`` is a comment.
A name stands as it is, spaces and all; what looks like intrinsics behind it (numbers, perhaps after the name of a
camera model) is left out. A name that this would cut, that begins with ``#``, or that has spaces in a list of pairs,
stands in double quotes, where ``""`` is a quote: ``"view 12"``.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path

from gloam.errors import DataError
from gloam.files import open_file, read_file

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
INTRINSICS = re.compile(rf"(?:\s*,\s*|\s+)(?:[A-Z][A-Z_]*(?:\s*,\s*|\s+))?{NUMBER}(?:(?:\s*,\s*|\s+){NUMBER})*\s*,?$")
QUOTED = re.compile(r'"((?:[^"]|"")*)"')
LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|$)")
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_lines(path: Path, what: str = "no such folder or list") -> list[tuple[int, str]]:
    """Line numbers and stripped lines of a text file, without blank lines and comments.

    Args:
        path: the file.
        what: how the message of a file that cannot be read begins.

    Raises:
        DataError: unreadable, or not UTF-8.
    """
    try:
        content = read_file(path)
    except OSError as error:
        raise DataError(f"{path}: {what} ({error.strerror or error})") from error
    try:
        return list(lines_of(content))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error


def lines_of(content: bytes, errors: str = "strict") -> Iterator[tuple[int, str]]:
    """As :func:`text_lines`, of a file's bytes, one after another.

    Args:
        errors: as of ``bytes.decode``; ``surrogateescape`` keeps what is not UTF-8 inside the lines.

    Raises:
        UnicodeDecodeError: not UTF-8; before the first line is given.
    """
    if content.startswith(WIDE):
        raise UnicodeDecodeError("utf-8", content, 0, 2, "UTF-16; save it as UTF-8:")
    return _lines(content.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, found in enumerate(LINE.finditer(text), 1):
        line = found[0].strip()
        if line and not line.startswith("#"):
            yield number, line


def table_rows(
    path: Path, what: str = "the table", *, notes: bool = False
) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """A CSV table whose first line names the columns.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        what: it is, for messages.
        notes: the last column may hold commas that are not quoted, as descriptions do.

    Returns:
        the columns, and line number and cells by column of each row, one after another.

    Raises:
        DataError: unreadable, no table, a column named twice, or a row of another length; the rows' faults are
            raised when they are reached.
    """
    lines = _table_lines(path, what)
    _, header = next(lines, (1, []))
    columns = [name.strip() for name in header]
    if not all(map(str.isprintable, columns)):
        raise DataError(f"{path}:1: {what} names a column with control characters; is it a table?")
    if len(set(columns)) < len(columns):
        raise DataError(f"{path}:1: {what} has two columns of one name; rename one of them")
    return columns, _cells(path, columns, lines, notes)


def _table_lines(path: Path, what: str) -> Iterator[tuple[int, list[str]]]:
    try:
        with open_file(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle)
            yield from ((reader.line_num, row) for row in reader if row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {what} cannot be read ({error})") from error


def _cells(
    path: Path, columns: list[str], lines: Iterator[tuple[int, list[str]]], notes: bool
) -> Iterator[tuple[int, dict[str, str]]]:
    last = len(columns) - 1
    for line, row in lines:
        if notes and len(row) > len(columns):
            row[last:] = [",".join(row[last:])]
        if len(row) != len(columns):
            raise DataError(f"{path}:{line}: {len(row)} values where the header has {len(columns)}")
        yield line, dict(zip(columns, row, strict=True))


def listed_name(line: str) -> str:
    """The image's name of a line, without intrinsics behind it.

    Args:
        line: stripped, neither blank nor a comment.

    Returns:
        the name as :func:`plain_name` gives it; what follows a quoted name is left out.
    """
    quoted = QUOTED.match(line)
    if quoted is not None:
        return plain_name(quoted[1].replace('""', '"'))
    return plain_name(INTRINSICS.sub("", line))


def listed_names(line: str) -> list[str] | None:
    """The names of a line of several, separated by white space; those with spaces stand in quotes.

    Returns:
        names as :func:`plain_name` gives them, or None where a quote is not closed.
    """
    names, at = [], 0
    while at < len(line):
        if line[at].isspace():
            at += 1
        elif line[at] == '"':
            quoted = QUOTED.match(line, at)
            if quoted is None or (quoted.end() < len(line) and not line[quoted.end()].isspace()):
                return None
            names.append(plain_name(quoted[1].replace('""', '"')))
            at = quoted.end()
        else:
            word = line[at:].split(maxsplit=1)[0]
            names.append(plain_name(word))
            at += len(word)
    return names


def finite(text: str) -> float:
    """The number of a text.

    Raises:
        ValueError: none, NaN, or infinite.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def plain_name(name: str) -> str:
    r"""One spelling of a relative path: ``./a//b`` and ``a\b`` are ``a/b``; what leaves the folder stays as it is."""
    parts = name.replace("\\", "/").split("/")
    kept = [part for part in parts[1:] if part not in ("", ".")]
    return "/".join((*(parts[:1] if parts[0] != "." else ()), *kept)) or name
