"""Revisited Oxford and Paris: one file of ground truth, three protocols.

Each query has images where its landmark is easy, hard, or too little to judge (``junk``). **Easy**: the easy ones
count, hard and junk are left out of the ranking. **Medium**: both count, junk is left out. **Hard**: the hard ones
count, easy and junk are left out. Queries without a positive do not count (Radenovic et al., CVPR 2018, section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

PROTOCOLS = {  # positives, left out
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}


def is_revisited(value: Mapping[str, Any]) -> bool:
    """Whether the entries of a set are those of the revisited benchmarks."""
    entries = value.get("gnd")
    return isinstance(entries, list) and bool(entries) and isinstance(entries[0], dict) and "easy" in entries[0]


def protocols(value: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sets ``easy``, ``medium`` and ``hard`` of a revisited ground truth, in the form of ``ok`` and ``junk``.

    Args:
        value: ``imlist``, ``qimlist`` and ``gnd``; entries are not validated here.
    """
    return {
        name: {**value, "gnd": [_entry(entry, right, ignored) for entry in value["gnd"]]}
        for name, (right, ignored) in PROTOCOLS.items()
    }


def plain(value: Any) -> Any:
    """A value of a pickle with arrays as lists and numpy numbers as numbers, as JSON would have them."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _entry(entry: Any, right: tuple[str, ...], ignored: tuple[str, ...]) -> Any:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), list) for key in ("easy", "hard", "junk")):
        return None  # reported with the query's name where the set is validated
    box = {"bbx": entry["bbx"]} if "bbx" in entry else {}
    return {"ok": [i for key in right for i in entry[key]], "junk": [i for key in ignored for i in entry[key]]} | box
