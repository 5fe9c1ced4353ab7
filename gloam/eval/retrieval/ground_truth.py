"""Retrieval ground truth: which map images show the place of each query.

The file is the pickle of Oxford, Paris and Tokyo 24/7 (``.pkl``; of plain values, anything else is refused) or JSON
(``.json`` or ``.json.gz``) of the same content: either one set ``{"imlist": [...], "qimlist": [...], "gnd": [{"ok":
[...], "junk": [...]}]}`` or several, ``{SET: {...}}``. ``ok`` and ``junk`` are indices into ``imlist``; junk images
are neither right nor wrong and are taken out of the ranking. An optional ``"conditions": {NAME: [query, ...]}``
groups the queries. Entries of the revisited benchmarks have ``easy``, ``hard`` and ``junk`` in place of ``ok``; they
are three sets, named ``easy``, ``medium`` and ``hard`` (:mod:`gloam.eval.retrieval.revisited`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.pickles import load_pickle
from gloam.errors import DataError
from gloam.eval.retrieval.revisited import is_revisited, plain, protocols
from gloam.files import read_json

Indices = npt.NDArray[np.int64]
Box = tuple[float, float, float, float]
MOST = 1 << 29  # bytes of a ground truth in JSON
SHOWN = 5  # bad entries named in one message


@dataclass(frozen=True)
class GroundTruth:
    """One validated set.

    Attributes:
        map_names: the database, without duplicates.
        query_names: the queries, without duplicates.
        positives: per query, int64 indices into ``map_names``, ascending; may be empty.
        junk: per query, int64 indices to take out of the ranking, ascending.
        conditions: names of queries by condition; a query may be in several or in none.
        boxes: per query, the part of its image that is the query, ``(left, top, right, bottom)`` in pixels; None for
            the whole image.
    """

    map_names: tuple[str, ...]
    query_names: tuple[str, ...]
    positives: tuple[Indices, ...]
    junk: tuple[Indices, ...]
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    boxes: tuple[Box | None, ...] = ()


def read_ground_truth(path: str | Path, set_name: str | None = None) -> GroundTruth:
    """Read and validate one set of a ground-truth file.

    Args:
        path: a ``.pkl``, ``.json`` or ``.json.gz`` file.
        set_name: which set of a file of several; may be left out where there is only one.

    Raises:
        DataError: the file is not readable, the set is not there, or entries are wrong; the first bad ones are named.
    """
    path = Path(path)
    sets, conditions = _sets(path)
    if list(sets) == [""]:
        if set_name is not None:
            raise DataError(f"{path}: holds a single set without a name; leave out the name {set_name!r}")
        return parse_ground_truth({"conditions": conditions, **sets[""]}, str(path))
    if set_name is None and len(sets) == 1:
        set_name = next(iter(sets))
    if set_name not in sets:
        asked = "names several sets" if set_name is None else f"has no set {set_name!r}"
        raise DataError(f"{path}: {asked}; choose one of {', '.join(sorted(sets))}")
    return parse_ground_truth({"conditions": conditions, **sets[set_name]}, f"{path} [{set_name}]")


def read_ground_truth_sets(path: str | Path) -> dict[str, GroundTruth]:
    """Read and validate every set of a ground-truth file, by name; a single set without a name is ``all``.

    Raises:
        DataError: see :func:`read_ground_truth`.
    """
    sets, conditions = _sets(Path(path))
    return {
        name or "all": parse_ground_truth(
            {"conditions": conditions, **value}, f"{path} [{name}]" if name else str(path)
        )
        for name, value in sets.items()
    }


def parse_ground_truth(value: Mapping[str, Any], where: str = "ground truth") -> GroundTruth:
    """Validate one set given as the JSON object.

    Args:
        value: ``imlist``, ``qimlist``, ``gnd`` and perhaps ``conditions``.
        where: the file, for messages.

    Raises:
        DataError: see :func:`read_ground_truth`.
    """
    for key in ("imlist", "qimlist", "gnd"):
        if not isinstance(value.get(key), list):
            raise DataError(f"{where}: {key!r} is missing or not a list")
    map_names = _names(value["imlist"], f"{where}: imlist")
    query_names = _names(value["qimlist"], f"{where}: qimlist")
    entries = value["gnd"]
    if len(entries) != len(query_names):
        raise DataError(f"{where}: gnd has {len(entries)} entries for {len(query_names)} queries in qimlist")
    problems: list[str] = []
    positives: list[Indices] = []
    junk: list[Indices] = []
    for query, entry in zip(query_names, entries, strict=True):
        if not isinstance(entry, dict) or "ok" not in entry:
            problems.append(f"{query}: no 'ok' list")
            continue
        right = _indices(entry["ok"], len(map_names), f"{query}: ok", problems)
        ignored = _indices(entry.get("junk", []), len(map_names), f"{query}: junk", problems)
        both = sorted(set(right.tolist()) & set(ignored.tolist()))
        if both:
            problems.append(f"{query}: index {both[0]} is both ok and junk")
        positives.append(right)
        junk.append(ignored)
    boxes = tuple(_box(entry, query, problems) for query, entry in zip(query_names, entries, strict=True))
    conditions = _conditions(value.get("conditions") or {}, query_names, where, problems)
    if problems:
        more = f" (and {len(problems) - SHOWN} more)" if len(problems) > SHOWN else ""
        raise DataError(f"{where}: {'; '.join(problems[:SHOWN])}{more}; correct the file")
    return GroundTruth(map_names, query_names, tuple(positives), tuple(junk), conditions, boxes)


def _sets(path: Path) -> tuple[dict[str, dict[str, Any]], Any]:
    """The sets of a file, not validated, and the conditions of all; a single set without a name is ``""``."""
    value = _load(path)
    if "gnd" in value:
        return (protocols(value) if is_revisited(value) else {"": value}), value.get("conditions", {})
    sets = {name: item for name, item in value.items() if isinstance(item, dict) and "gnd" in item}
    if not sets:
        raise DataError(f"{path}: no ground truth in it; expected the keys imlist, qimlist and gnd, or sets of them")
    return sets, value.get("conditions", {})


def _load(path: Path) -> dict[str, Any]:
    if path.suffix == ".pkl":
        value = plain(load_pickle(path))
        if not isinstance(value, dict):
            raise DataError(f"{path}: not readable as ground truth (a dictionary is expected)")
        return value
    try:
        value = read_json(path, MOST)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path}: not readable as ground truth ({reason})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: not readable as ground truth (a JSON object is expected)")
    return value


def _names(values: Sequence[Any], where: str) -> tuple[str, ...]:
    if not values:
        raise DataError(f"{where} is empty")
    wrong = [value for value in values if not isinstance(value, str)]
    if wrong:
        raise DataError(f"{where}: {wrong[0]!r} is not an image name")
    repeated = [name for name, count in Counter(values).items() if count > 1]
    if repeated:
        raise DataError(f"{where}: listed twice: {_shown(repeated)}")
    return tuple(values)


def _indices(values: Any, length: int, where: str, problems: list[str]) -> Indices:
    if not isinstance(values, list) or any(isinstance(item, bool) or not isinstance(item, int) for item in values):
        problems.append(f"{where} is not a list of integers")
        return np.empty(0, np.int64)
    outside = [item for item in values if not 0 <= item < length]
    if outside:
        problems.append(f"{where} index {outside[0]} is outside 0..{length - 1}")
        return np.empty(0, np.int64)
    if len(set(values)) != len(values):
        problems.append(f"{where} names index {Counter(values).most_common(1)[0][0]} twice")
    return np.array(sorted(values), np.int64)


def _conditions(value: Any, queries: Iterable[str], where: str, problems: list[str]) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Mapping) or not all(isinstance(names, list) for names in value.values()):
        raise DataError(f"{where}: 'conditions' must map a condition to a list of queries")
    known = set(queries)
    for condition, names in value.items():
        unknown = [str(name) for name in names if name not in known]
        if unknown:
            problems.append(f"condition {condition}: not among the queries: {_shown(unknown)}")
    return {str(condition): tuple(dict.fromkeys(names)) for condition, names in value.items()}


def _box(entry: Any, query: str, problems: list[str]) -> Box | None:
    value = entry.get("bbx") if isinstance(entry, dict) else None
    if value is None:
        return None
    numbers = isinstance(value, list) and len(value) == 4 and all(isinstance(item, int | float) for item in value)
    if not numbers or not (value[0] < value[2] and value[1] < value[3]):
        problems.append(f"{query}: bbx {value!r} is not left, top, right, bottom")
        return None
    left, top, right, bottom = (float(item) for item in value)
    return left, top, right, bottom


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
