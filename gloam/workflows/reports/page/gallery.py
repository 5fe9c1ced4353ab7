"""Which queries a page shows as examples, and their pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gloam.errors import ImageError
from gloam.workflows.reports.page.data import GalleryRow, is_night
from gloam.workflows.reports.page.pictures import THUMBNAIL, picture_uri, thumbnail

MAX_RESULTS = 5  # of a query; with the number of queries it bounds the file
SUCCESSES = 1 / 3  # of a condition's rows, where there are so many
MATCH_WIDTH = {False: 860, True: 620}  # pixels, on a page of examples and of single queries
MATCH_QUALITY = 66  # lines on noise take much room
SMALL = 160  # longer side of the latter's thumbnails, pixels


@dataclass(frozen=True)
class Shown:
    """A picture of the page: what is in it, or why it is absent."""

    uri: str
    problem: str
    score: float | None = None
    correct: bool | None = None


@dataclass(frozen=True)
class Example:
    """A query of the page: its row, its pictures, and that of its matches with what is in it."""

    row: GalleryRow
    query: Shown
    results: Sequence[Shown]
    match: str = ""
    match_note: str = ""


def chosen_rows(rows: Sequence[GalleryRow], most: int) -> dict[str, list[GalleryRow]]:
    """At most so many rows by condition, those by night first; failures before successes, of each in the order given.

    Conditions share the room, and what one does not need goes to the others. Where rows tell failures, a third of a
    condition's room is for successes, if it has them.
    """
    of = dict[str, list[GalleryRow]]()
    for row in sorted(rows, key=lambda row: (not is_night(row.condition), row.condition.lower() != "night")):
        of.setdefault(row.condition, []).append(row)
    room = dict.fromkeys(of, 0)
    while sum(room.values()) < min(most, len(rows)):
        for condition, count in room.items():
            if count < len(of[condition]) and sum(room.values()) < most:
                room[condition] += 1
    return {condition: _mixed(of[condition], count) for condition, count in room.items() if count}


def _mixed(rows: Sequence[GalleryRow], count: int) -> list[GalleryRow]:
    well = [row for row in rows if row.failed is False]
    rest = [row for row in rows if row.failed is not False]
    kept = min(len(well), max(int(count * SUCCESSES), count - len(rest)))
    return [*rest[: count - kept], *well[:kept]]


def examples(rows: Sequence[GalleryRow], most: int, details: bool = False) -> dict[str, list[Example]]:
    """The chosen rows with their pictures; an image that cannot be read is shown as its reason.

    Args:
        rows: see :func:`chosen_rows`.
        most: rows to choose.
        details: for a page of single queries, whose pictures are smaller.
    """
    seen: dict[Path, tuple[str, str]] = {}

    def shown(path: Path) -> tuple[str, str]:
        if path not in seen:
            try:
                seen[path] = (thumbnail(path, SMALL if details else THUMBNAIL), "")
            except ImageError as error:
                seen[path] = ("", str(error).removeprefix(f"{path}: "))
        return seen[path]

    def made(chosen: Sequence[GalleryRow]) -> Iterator[Example]:
        for row in chosen:
            drawn = row.match() if row.match is not None else None
            match = "" if drawn is None else picture_uri(drawn[0], MATCH_WIDTH[details], MATCH_QUALITY)
            note = "" if drawn is None else drawn[1]
            results = [Shown(*shown(item.path), item.score, item.correct) for item in row.results[:MAX_RESULTS]]
            yield Example(row, Shown(*shown(row.query)), results, match, note)

    return {condition: list(made(chosen)) for condition, chosen in chosen_rows(rows, most).items()}
