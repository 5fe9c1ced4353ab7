"""What an evaluation server answered: percentages of queries within three thresholds, by condition.

Three forms are read. Text is what visuallocalization.net prints, ``day: 88.4 / 95.2 / 99.0``, with any separators; a
line in brackets says of which row and method the lines below it are. CSV has the columns ``row, method, condition,
fine, medium, coarse``, the first two of which may be left out. JSON is ``{"ROW": {"METHOD": {"CONDITION": [88.4, 95.2,
99.0]}}}``, or its inner part alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gloam.data.text import table_rows, text_lines
from gloam.errors import DataError
from gloam.files import load_json, printable, read_file

Triple = tuple[float, float, float]  # %, within the fine, medium and coarse threshold
Scores = dict[tuple[str, str], dict[str, Triple]]  # by row and method ("" where the file names none), by condition
COLUMNS = ("fine", "medium", "coarse")
SECTION = re.compile(r"^\[(.*)\]$")
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+|nan|inf)"
LINE = re.compile(
    rf"^(?P<condition>[^\W\d].*?)[\s:;|,=]*\s(?P<numbers>{NUMBER}(?:\s*%?\s*[/,;|\s]\s*{NUMBER})*)\s*%?\s*[/|]?$",
    re.IGNORECASE,
)
EXPECTED = "expected CONDITION: FINE / MEDIUM / COARSE, three percentages, as in 'night: 69.1 / 84.3 / 96.3'"


def read_server_scores(path: str | Path) -> Scores:
    """Scores of a file, by row and method and by condition; conditions in lower case with hyphens, ``night-all``.

    Args:
        path: ``.json``, ``.csv``, or any other for text.

    Raises:
        DataError: unreadable; a line without a condition and three percentages; one that is not between 0 and 100, or
            of a wider threshold below that of a narrower one; or a condition twice.
    """
    place = Path(path)
    if place.suffix == ".json":
        found = _of_json(place)
    elif place.suffix == ".csv":
        found = _of_csv(place)
    else:
        found = _of_text(place)
    if not any(found.values()):
        raise DataError(f"{place}: no scores in it; {EXPECTED}")
    return found


def condition_name(text: str) -> str:
    """A condition as gloam spells it: lower case, hyphens."""
    return re.sub(r"[\s_\-]+", "-", text.strip().strip("\"'").lower())


def _of_text(place: Path) -> Scores:
    found: Scores = {}
    key = ("", "")
    for number, line in text_lines(place, "the server's scores cannot be read"):
        where = f"{place}:{number}"
        if section := SECTION.match(line):
            row, comma, method = section[1].rpartition(",")
            if not comma or not row.strip() or not method.strip():
                raise DataError(
                    f"{where}: {line!r} names no row and method; expected [ROW, METHOD], as [NetVLAD, top-1]"
                )
            key = (row.strip(), method.strip())
            continue
        parts = LINE.match(line.replace(":", ": ", 1))
        if parts is None:
            raise DataError(f"{where}: {printable(line)[:80]!r} is no score; {EXPECTED}")
        numbers = re.findall(NUMBER, parts["numbers"], re.IGNORECASE)
        _add(found, key, condition_name(parts["condition"]), numbers, where)
    return found


def _of_csv(place: Path) -> Scores:
    found: Scores = {}
    columns, rows = table_rows(place, "the server's scores")
    lacking = [name for name in ("condition", *COLUMNS) if name not in columns]
    if lacking:
        raise DataError(
            f"{place}:1: no column {lacking[0]!r}; the columns are row, method, condition, fine, medium, coarse"
        )
    for number, row in rows:
        key = (row.get("row", "").strip(), row.get("method", "").strip())
        _add(found, key, condition_name(row["condition"]), [row[name] for name in COLUMNS], f"{place}:{number}")
    return found


def _of_json(place: Path) -> Scores:
    try:
        value = load_json(read_file(place))
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: the server's scores cannot be read ({error})") from error
    found: Scores = {}

    def walk(part: Any, path: tuple[str, ...]) -> None:
        if isinstance(part, Mapping) and len(path) < 3:
            for name, inner in part.items():
                walk(inner, (*path, str(name)))
        elif isinstance(part, list) and path:
            row, method, condition = ("", "", "", *path)[-3:]
            where = f"{place}: {' / '.join(path)}"
            _add(found, (row, method), condition_name(condition), [json.dumps(item) for item in part], where)
        else:
            name = " / ".join(path) or "the file"
            raise DataError(f"{place}: {name} holds no scores; expected ROW: METHOD: CONDITION: [FINE, MEDIUM, COARSE]")

    walk(value, ())
    return found


def _add(found: Scores, key: tuple[str, str], condition: str, texts: list[str], where: str) -> None:
    if len(texts) != 3:
        raise DataError(f"{where}: {condition or 'a condition'} has {len(texts)} numbers, not 3; {EXPECTED}")
    values = []
    for text in texts:
        try:
            values.append(float(text))
        except ValueError:
            raise DataError(f"{where}: {printable(text)[:40]!r} is no number; {EXPECTED}") from None
    if not all(math.isfinite(value) and 0 <= value <= 100 for value in values):
        numbers = " / ".join(f"{value:g}" for value in values)
        raise DataError(f"{where}: {condition} {numbers}: percentages are 0 to 100")
    fine, medium, coarse = values
    if not fine <= medium <= coarse:
        raise DataError(
            f"{where}: {condition} {fine:g} / {medium:g} / {coarse:g}: within a wider threshold are at least as many; "
            "the order is fine, medium, coarse"
        )
    of_key = found.setdefault(key, {})
    if condition in of_key:
        named = f" of {key[0]}, {key[1]}" if any(key) else ""
        raise DataError(f"{where}: {condition}{named} is there already; remove one of the two")
    of_key[condition] = (fine, medium, coarse)
