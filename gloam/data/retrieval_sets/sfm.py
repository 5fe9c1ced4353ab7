"""Retrieval-SfM and everything in its pickles' schema (Radenović et al. 2019; SfM-N/D of Jenicek & Chum 2019).

A pickle is ``{"train": part, "val": part}`` or one part, ``{"cids", "cluster", "qidxs", "pidxs"}``. An id of 32
hexadecimal digits lies at ``ims/<last 2>/<previous 2>/<previous 2>/<id>``, without an extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gloam.data.day_night.papers import CID
from gloam.data.pickles import load_pickle
from gloam.data.retrieval_sets.sets import RetrievalSet, whole_numbers
from gloam.data.sources import ImageItem
from gloam.data.text import listed_name, text_lines
from gloam.errors import DataError
from gloam.files import bad_name

KEYS = ("cids", "cluster", "qidxs", "pidxs")


def read_sfm(
    path: str | Path,
    images: str | Path,
    set_name: str | None = None,
    day: str | Path | None = None,
    night: str | Path | None = None,
) -> RetrievalSet:
    """Read one part of a pickle.

    Args:
        path: e.g. ``retrieval-SfM-120k.pkl`` or ``retrieval-SfM-120k-whiten.pkl``.
        images: the folder ``ims``.
        set_name: ``train`` (the default) or ``val``; left out for a pickle of one part.
        day, night: lists of ids, e.g. ``train_day.txt``; they give the conditions, ``unknown`` for images of neither.

    Raises:
        DataError: the pickle is not readable or refers to a class, a key is missing, or indices are wrong.
    """
    content = load_pickle(path)
    part = _part(content, set_name, path)
    missing = [key for key in KEYS if key not in part]
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}; a part of Retrieval-SfM holds {', '.join(KEYS)}")
    cids = list(part["cids"])
    wrong = [row for row, cid in enumerate(cids) if not isinstance(cid, str) or not cid]
    if wrong:
        raise DataError(f"{path}: cids[{wrong[0]}] is {cids[wrong[0]]!r}, not an image's id ({len(wrong)} such)")
    root = Path(images)
    try:
        return RetrievalSet(
            tuple(_item(cid, root) for cid in cids),
            whole_numbers(part["cluster"], "cluster"),
            whole_numbers(part["qidxs"], "qidxs"),
            whole_numbers(part["pidxs"], "pidxs"),
            _conditions(cids, day, night),
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def image_path(cid: str, root: Path) -> Path:
    """Where an image lies below ``ims``; a name that is no id is a relative path, or an absolute one."""
    return Path(root, cid[-2:], cid[-4:-2], cid[-6:-4], cid) if CID.fullmatch(cid) else root / cid


def _item(cid: str, root: Path) -> ImageItem:
    name = cid.lstrip("/")
    problem = bad_name(name)
    return ImageItem(name, image_path(cid, root), f"name {problem}" if problem else None)


def _part(content: Any, set_name: str | None, path: str | Path) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no dictionary; a part of Retrieval-SfM holds {', '.join(KEYS)}")
    if "cids" in content:
        if set_name is not None:
            raise DataError(f"{path}: holds a single part without a name; leave out the name {set_name!r}")
        return content
    parts = [str(name) for name, part in content.items() if isinstance(part, dict)]
    chosen = content.get(set_name or "train")
    if not isinstance(chosen, dict):
        known = ", ".join(parts) or "none"
        raise DataError(f"{path}: has no part {set_name or 'train'!r}; its parts are {known}")
    return chosen


def _conditions(cids: list[str], day: str | Path | None, night: str | Path | None) -> tuple[str, ...] | None:
    if day is None and night is None:
        return None
    label: dict[str, str] = {}
    known = {cid.rpartition("/")[2] for cid in cids}
    for condition, path in (("day", day), ("night", night)):
        if path is None:
            continue
        listed = {listed_name(line).rpartition("/")[2]: number for number, line in text_lines(Path(path))}
        if known.isdisjoint(listed):
            raise DataError(f"{path}: names none of the set's {len(cids)} images; is it another set's list?")
        for name, number in listed.items():
            if label.setdefault(name, condition) != condition:
                raise DataError(f"{path}:{number}: {name} is in the list of the day, too; remove it from one")
    return tuple(label.get(cid.rpartition("/")[2], "unknown") for cid in cids)
