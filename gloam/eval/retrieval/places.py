"""Ground truth of plain places: whatever lies in one folder, or has one label in a table, shows the same place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.text import plain_name, table_rows
from gloam.errors import DataError
from gloam.eval.retrieval.ground_truth import MOST, GroundTruth, Indices
from gloam.files import read_json

GAPS = 0.1  # of the steps between numbered images; more of them are no accident
FARTHEST = 1 << 16  # step


def places_by_folder(names: Sequence[str]) -> dict[str, str]:
    """The folder of each image, its place.

    Raises:
        DataError: an image lies in no folder.
    """
    for name in names:
        if "/" not in name:
            raise DataError(f"image {name} lies in no folder, and the folder says its place; move it, or give a table")
    return {name: name.rsplit("/", 1)[0] for name in names}


def read_place_table(path: str | Path) -> dict[str, str]:
    """The place of each image from a CSV with the columns ``image`` and ``cluster``.

    Raises:
        DataError: not readable, without these columns, or an image with two places.
    """
    place_of: dict[str, str] = {}
    columns, lines = table_rows(Path(path))
    if missing := [column for column in ("image", "cluster") if column not in columns]:
        raise DataError(f"{path}: no column {missing[0]!r}; the columns are image, cluster")
    for line, row in lines:
        name, cluster = plain_name(row["image"].strip()), row["cluster"].strip()
        if not name or not cluster:
            raise DataError(
                f"{path}:{line}: no {'image' if cluster else 'cluster'} here; fill it, or leave the row out"
            )
        if place_of.setdefault(name, cluster) != cluster:
            raise DataError(f"{path}: image {name} has two clusters; keep one")
    return place_of


def ground_truth_of_places(
    query_names: Sequence[str], map_names: Sequence[str], place_of: Mapping[str, str]
) -> GroundTruth:
    """Right are the map images of the query's place; where the query itself is in the map, it is junk.

    Raises:
        DataError: an image has no place, or no query has another image of its place.
    """
    for name in (*query_names, *map_names):
        if name not in place_of:
            raise DataError(f"image {name} has no place; name its cluster, or take it out of the store")
    members: dict[str, list[int]] = {}
    for index, name in enumerate(map_names):
        members.setdefault(place_of[name], []).append(index)
    index_of = {name: index for index, name in enumerate(map_names)}
    positives: list[Indices] = []
    junk: list[Indices] = []
    for name in query_names:
        own = index_of.get(name, -1)
        positives.append(np.array([index for index in members.get(place_of[name], []) if index != own], np.int64))
        junk.append(np.array([own] if own >= 0 else [], np.int64))
    if not any(len(row) for row in positives):
        raise DataError(
            f"clusters: none of {len(set(place_of.values()))} places has a second image to find "
            f"(the first is {place_of[query_names[0]]}); put images of one place into one folder"
        )
    return GroundTruth(tuple(map_names), tuple(query_names), tuple(positives), tuple(junk))


def read_vpr_bench(path: str | Path, query_names: Sequence[str], map_names: Sequence[str]) -> GroundTruth:
    """Ground truth of VPR-Bench as JSON (``.json`` or ``.json.gz``): ``[[query, [map, ...]], ...]`` by number.

    A number means a place in the benchmark's list of images. The file may state the lists, ``{"qimlist": [...],
    "imlist": [...], "gnd": [[query, [map, ...]], ...]}``; else they are all the images of the two folders by name,
    those that could not be described among them. Windows around a place reach beyond the last image in the benchmark's
    own files; what is beyond cannot be found and is left out, as the benchmark's scores leave it.

    Args:
        path: the file, ``ground_truth_new.npy`` as JSON; -1 stands for no image.
        query_names, map_names: every image that was to be described, whether it could be or not, in any order.

    Raises:
        DataError: not readable, a query twice or absent, or one whose images are all beyond the map.
    """
    stated, entries = _vpr_entries(Path(path))
    queries, images = stated or (_numbered(path, query_names), _numbered(path, map_names))
    rows: list[Indices] = [np.empty(0, np.int64)] * len(queries)
    seen: set[int] = set()
    for query, right in entries:
        if not 0 <= query < len(queries) or query in seen:
            raise DataError(f"{path}: query {query} is listed twice or is beyond the {len(queries)} queries")
        inside = sorted({index for index in right if 0 <= index < len(images)})
        if not inside and max(right, default=-1) >= 0:
            raise DataError(f"{path}: query {query} names image {max(right)}, beyond the {len(images)} of the map")
        seen.add(query)
        rows[query] = np.array(inside, np.int64)
    if len(seen) < len(queries):
        raise DataError(
            f"{path}: numbers {len(seen)} queries, and there are {len(queries)}, so its numbers mean other images; "
            'extract the benchmark\'s own query folder, or state "qimlist", "imlist" and "gnd" in the file'
        )
    nothing = tuple(np.empty(0, np.int64) for _ in rows)
    return GroundTruth(tuple(images), tuple(queries), tuple(rows), nothing)


def _numbered(path: str | Path, names: Sequence[str]) -> list[str]:
    """The names in order; refused where the numbers in them say that one is gone, for every number behind it would
    then mean another image."""
    ordered = sorted(names)
    found = [re.search(r"(\d{1,15})\.\w+$", name) for name in ordered]
    numbers = np.array([int(match[1]) for match in found if match is not None], np.int64)
    steps = np.diff(numbers)
    if len(numbers) == len(ordered) and len(steps) and (steps > 0).all():
        step = np.bincount(np.minimum(steps, FARTHEST)).argmax()
        odd = np.flatnonzero(steps != step)
        if len(odd) and len(odd) <= GAPS * len(steps):
            raise DataError(
                f"{path}: between {ordered[odd[0]]} and {ordered[odd[0] + 1]} an image seems to be gone, and its "
                'numbers would then mean other images; restore it, or state "qimlist", "imlist" and "gnd" in the file'
            )
    return ordered


def _vpr_entries(path: Path) -> tuple[tuple[list[str], list[str]] | None, list[tuple[int, list[int]]]]:
    """The image lists of queries and map where the file states them, and the numbers of each query."""
    try:
        value = read_json(path, MOST)
        stated = None
        if isinstance(value, dict):
            absent = [key for key in ("qimlist", "imlist", "gnd") if not isinstance(value.get(key), list)]
            if absent:
                raise ValueError(f"{absent[0]!r} is not a list in it")
            stated = ([str(name) for name in value["qimlist"]], [str(name) for name in value["imlist"]])
            value = value["gnd"]
        return stated, [(_whole(query), [_whole(index) for index in right]) for query, right in value]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: not readable as ground truth of VPR-Bench ({error}); [[query, [map]]] is due"
        ) from error


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is not an index")
    return value
