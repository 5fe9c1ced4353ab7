"""What a page shows, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gloam.errors import UsageError

Errors = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]
Value = str | int | float | None
MAX_ROWS = 24  # queries of a page of examples


@dataclass(frozen=True)
class Table:
    """A table. Cells are text, numbers (right-aligned; floats to three digits) or None."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str = ""

    def numeric(self, column: int) -> bool:
        """Whether a column holds a number."""
        return any(isinstance(row[column], int | float) for row in self.rows)


@dataclass(frozen=True)
class RecallCurve:
    """Share of queries with a correct image among the k first; ``k`` and ``recall`` are of one length."""

    label: str
    condition: str
    k: Sequence[int]
    recall: Sequence[float]


@dataclass(frozen=True)
class DistanceCurve:
    """Share of queries whose first image is within a distance; ``metres`` ascending, of the length of ``recall``."""

    label: str
    condition: str
    metres: Sequence[float]
    recall: Sequence[float]


@dataclass(frozen=True)
class ErrorSet:
    """Pose errors of a method's queries under one condition: metres and degrees ``[n]``, NaN = not localized."""

    method: str
    condition: str
    position_m: Sequence[float] | Errors
    rotation_deg: Sequence[float] | Errors


@dataclass(frozen=True)
class PoseTrack:
    """True and estimated camera positions seen from above, metres ``[n, 2]``.

    Rows of NaN: of the estimate where a query was not localized, of the truth where it is not known.
    """

    condition: str
    true_xy: Errors
    estimated_xy: Errors


@dataclass(frozen=True)
class GalleryResult:
    """A retrieved image, its similarity, and whether it shows the query's place (None = unknown, of both)."""

    path: Path
    score: float | None
    correct: bool | None


@dataclass(frozen=True)
class GalleryRow:
    """A query and what was retrieved for it, best first.

    Attributes:
        query: its image.
        label: its name.
        condition: of the query; conditions share the room of the page.
        results: retrieved images.
        outcome: what became of it, in words.
        failed: whether that is a failure; None where it is not told.
        match: draws the query beside the map image that it agrees with best; asked where the row is shown.
    """

    query: Path
    label: str
    condition: str
    results: Sequence[GalleryResult]
    outcome: str = ""
    failed: bool | None = None
    match: Callable[[], tuple[Picture, str] | None] | None = None


@dataclass(frozen=True)
class Control:
    """What stands beside the method of the first screen.

    Attributes:
        method: whose errors these are.
        label: what it is called there.
        shown: what the method of the first screen is called there.
    """

    method: str
    label: str
    shown: str


@dataclass(frozen=True)
class Bar:
    """Shares of a condition's queries: ``parts`` and ``control`` are (style, count, text inside)."""

    label: str
    note: str
    parts: Sequence[tuple[str, float, str]]
    spoken: str
    control: Sequence[tuple[str, float, str]] = ()
    asked: bool = False


@dataclass(frozen=True)
class Hero:
    """The first screen: a figure, or two to compare, what they are of, and a bar for each condition.

    Attributes:
        figures: (number, unit, label) each.
        sentence: under them.
        more: smaller, under the sentence.
        bars: beside them.
        legend: (style, text) of the bars' parts; a style of "" is text alone.
    """

    figures: Sequence[tuple[str, str, str]]
    sentence: str
    more: str = ""
    bars: Sequence[Bar] = ()
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class ReportData:
    """All that a report shows; what is empty is left out.

    Attributes:
        title: of the page.
        tables, recall_curves, distance_curves, errors, tracks, gallery: the sections.
        map_xy: positions of the map's cameras, metres ``[m, 2]``.
        ground: what the view from above shows beneath them, rectangles ``[n, 4]`` (x and y of two corners, metres) by
            kind: ``road``, ``pavement``, ``house``, ``lamp``.
        identity: name -> value of what was run: models, spaces, seeds, versions.
        method: whose errors the first screen shows; the first of ``errors`` by default.
        control: what stands beside it there.
        summary: one or two sentences under the headline.
        hero: the first screen, where it is not about ``errors``.
        most: queries to show.
        details: the page is about single queries: all their matches are unfolded, and pictures are smaller.
        links: (address, text) of pages beside this one.
    """

    title: str
    tables: Sequence[Table] = ()
    recall_curves: Sequence[RecallCurve] = ()
    distance_curves: Sequence[DistanceCurve] = ()
    errors: Sequence[ErrorSet] = ()
    tracks: Sequence[PoseTrack] = ()
    map_xy: Errors = field(default_factory=lambda: np.empty((0, 2)))
    ground: Mapping[str, Errors] = field(default_factory=dict)
    gallery: Sequence[GalleryRow] = ()
    identity: Mapping[str, str] = field(default_factory=dict)
    method: str | None = None
    control: Control | None = None
    summary: str = ""
    hero: Hero | None = None
    most: int = MAX_ROWS
    details: bool = False
    links: Sequence[tuple[str, str]] = ()


def check(data: ReportData) -> None:
    """Refuse what does not fit together.

    Raises:
        UsageError: arrays or rows of different lengths.
    """
    for table in data.tables:
        if any(len(row) != len(table.columns) for row in table.rows):
            raise UsageError(f"report table {table.title!r}: a row has not {len(table.columns)} cells")
    for curve in data.recall_curves:
        if len(curve.k) != len(curve.recall) or not len(curve.k):
            raise UsageError(f"recall curve {curve.label!r}: {len(curve.k)} k for {len(curve.recall)} recalls")
    for line in data.distance_curves:
        if len(line.metres) != len(line.recall) or not len(line.metres):
            raise UsageError(f"distance curve {line.label!r}: {len(line.metres)} distances, {len(line.recall)} recalls")
    for item in data.errors:
        if len(item.position_m) != len(item.rotation_deg):
            raise UsageError(f"errors of {item.method!r}, {item.condition}: positions and rotations differ in number")
    for track in data.tracks:
        if track.true_xy.shape != track.estimated_xy.shape or track.true_xy.shape[1:] != (2,):
            raise UsageError(f"track {track.condition!r}: true and estimated positions must both be [n, 2]")
    for kind, rectangles in data.ground.items():
        if rectangles.shape[1:] != (4,):
            raise UsageError(f"ground {kind!r}: rectangles must be [n, 4]")


def is_night(condition: str) -> bool:
    """Whether a condition's name says night."""
    return "night" in condition.lower()
