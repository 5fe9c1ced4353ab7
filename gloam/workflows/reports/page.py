"""The report: one self-contained HTML page that first answers how well the place is recognised by night.

No script, no request to anywhere: styles, charts and thumbnails are inside the file, every text is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image

from gloam import __version__
from gloam.data.images import decode_image
from gloam.errors import ImageError, UsageError
from gloam.files import write_text
from gloam.workflows.reports.charts import SHARES, Series, line_chart, pose_map
from gloam.workflows.reports.template import page_environment

THUMBNAIL = 240  # longer side, pixels
WIDE_PICTURE = 1200  # likewise, of a picture of its own
JPEG_QUALITY = 76
MAX_ROWS, MAX_RESULTS = 24, 5  # bound the file: 144 thumbnails, about 2 MB
THRESHOLDS = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))  # metres, degrees: the long-term localization benchmark
COLOURS = 6  # series styles in the style sheet
POSITION_TICKS = ((0.01, "1 cm"), (0.1, "10 cm"), (1.0, "1 m"), (10.0, "10 m"), (100.0, "100 m"))
ROTATION_TICKS = ((0.05, "0.05°"), (0.5, "0.5°"), (5.0, "5°"), (50.0, "50°"), (180.0, ""))

Errors = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """A table. Cells are text, numbers (right-aligned; floats to 3 digits after the point) or None."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]
    note: str = ""


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
class PlainCurve:
    """One share over another, both 0 to 1 and of one length, with the names of both."""

    label: str
    condition: str
    x_label: str
    y_label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class ReportPicture:
    """A picture of its own, shown as wide as the page."""

    title: str
    path: Path


@dataclass(frozen=True)
class ErrorSet:
    """Pose errors of a method's queries under one condition: metres and degrees ``[n]``, NaN = not localized."""

    method: str
    condition: str
    position_m: Sequence[float] | Errors
    rotation_deg: Sequence[float] | Errors


@dataclass(frozen=True)
class PoseTrack:
    """True and estimated camera positions seen from above, metres ``[n, 2]``; rows of NaN = not localized."""

    condition: str
    true_xy: Errors
    estimated_xy: Errors


@dataclass(frozen=True)
class GalleryResult:
    """A retrieved image, its similarity, and whether it shows the query's place (None = unknown)."""

    path: Path
    score: float
    correct: bool | None


@dataclass(frozen=True)
class GalleryRow:
    """A query and what was retrieved for it, best first."""

    query: Path
    label: str
    condition: str
    results: Sequence[GalleryResult]


@dataclass(frozen=True)
class ReportData:
    """All that a report shows; what is empty is left out.

    Attributes:
        title: of the page.
        tables, recall_curves, distance_curves, errors, tracks, gallery, plain_curves, pictures: the sections.
        map_xy: positions of the map's cameras, metres ``[m, 2]``.
        identity: name -> value of what was run: models, spaces, seeds, versions.
        method: whose errors the first screen shows; the first of ``errors`` by default.
        summary: one or two sentences under the headline.
    """

    title: str
    tables: Sequence[Table] = ()
    recall_curves: Sequence[RecallCurve] = ()
    distance_curves: Sequence[DistanceCurve] = ()
    errors: Sequence[ErrorSet] = ()
    tracks: Sequence[PoseTrack] = ()
    map_xy: Errors = field(default_factory=lambda: np.empty((0, 2)))
    gallery: Sequence[GalleryRow] = ()
    plain_curves: Sequence[PlainCurve] = ()
    pictures: Sequence[ReportPicture] = ()
    identity: dict[str, str] = field(default_factory=dict)
    method: str | None = None
    summary: str = ""


@dataclass(frozen=True)
class Outcome:
    """How many queries of a condition fall into each class; the classes exclude each other and sum to ``total``."""

    condition: str
    total: int
    counts: tuple[int, int, int, int, int]  # within each of THRESHOLDS, worse, not localized

    def recall(self, level: int) -> float:
        """Share within ``THRESHOLDS[level]``."""
        return sum(self.counts[: level + 1]) / self.total if self.total else 0.0


def write_report(data: ReportData, path: str | Path) -> None:
    """Write the page, atomically.

    An image that cannot be read is shown as its reason. At most :data:`MAX_ROWS` queries are shown, those by night
    first, with :data:`MAX_RESULTS` results each.

    Raises:
        UsageError: arrays or rows of different lengths.
        StoreError: the file cannot be written.
    """
    _check(data)
    environment = page_environment()
    environment.filters["cell"] = _cell
    environment.tests["numeric"] = lambda value: isinstance(value, int | float)
    styles = _styles(
        [curve.label for curve in data.recall_curves],
        [curve.label for curve in data.distance_curves],
        [item.method for item in data.errors],
        [curve.label for curve in data.plain_curves],
    )
    method = data.method or (data.errors[0].method if data.errors else None)
    outcomes = [classify(item) for item in data.errors if item.method == method]
    page = environment.get_template("page_template.html").render(
        data=data,
        version=__version__,
        thresholds=THRESHOLDS,
        method=method,
        outcomes=outcomes,
        headline=headline(outcomes),
        styles=styles,
        recall_charts=_recall_charts(data.recall_curves, styles),
        distance_charts=_distance_charts(data.distance_curves, styles),
        error_charts=_error_charts(data.errors, styles),
        plain_charts=_plain_charts(data.plain_curves, styles),
        pictures=[(item.title, *_shown_picture(item.path, WIDE_PICTURE)) for item in data.pictures],
        maps=_maps(data),
        gallery=_gallery(data.gallery),
        gallery_total=len(data.gallery),
    )
    write_text(path, page)


def classify(errors: ErrorSet) -> Outcome:
    """Count the queries of a set by the finest threshold that they meet."""
    position, rotation = np.asarray(errors.position_m, float), np.asarray(errors.rotation_deg, float)
    lost = ~(np.isfinite(position) & np.isfinite(rotation))
    left = ~lost
    counts = []
    for metres, degrees in THRESHOLDS:
        met = left & (position <= metres) & (rotation <= degrees)
        counts.append(int(met.sum()))
        left &= ~met
    fine, medium, coarse = counts
    return Outcome(errors.condition, len(position), (fine, medium, coarse, int(left.sum()), int(lost.sum())))


def headline(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The outcome that the first screen states: plain night, else any night, else the last condition."""
    night = [outcome for outcome in outcomes if _is_night(outcome.condition)]
    plain = [outcome for outcome in night if outcome.condition.lower() == "night"]
    return next(iter([*plain, *night, *reversed(outcomes)]), None)


def thumbnail(path: Path, side: int = THUMBNAIL) -> str:
    """An image as a ``data:`` URI of a JPEG of at most so many pixels.

    Raises:
        ImageError: the image cannot be read.
    """
    buffer = io.BytesIO()
    Image.fromarray(decode_image(path, max_side=side)).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _check(data: ReportData) -> None:
    for table in data.tables:
        if any(len(row) != len(table.columns) for row in table.rows):
            raise UsageError(f"report table {table.title!r}: a row has not {len(table.columns)} cells")
    for curve in data.recall_curves:
        if len(curve.k) != len(curve.recall) or not len(curve.k):
            raise UsageError(f"recall curve {curve.label!r}: {len(curve.k)} k for {len(curve.recall)} recalls")
    for line in data.distance_curves:
        if len(line.metres) != len(line.recall) or not len(line.metres):
            raise UsageError(f"distance curve {line.label!r}: {len(line.metres)} distances, {len(line.recall)} recalls")
    for plain in data.plain_curves:
        if len(plain.x) != len(plain.y) or not len(plain.x):
            raise UsageError(f"curve {plain.label!r}: {len(plain.x)} values of x, {len(plain.y)} of y")
    for item in data.errors:
        if len(item.position_m) != len(item.rotation_deg):
            raise UsageError(f"errors of {item.method!r}, {item.condition}: positions and rotations differ in number")
    for track in data.tracks:
        if track.true_xy.shape != track.estimated_xy.shape or track.true_xy.shape[1:] != (2,):
            raise UsageError(f"track {track.condition!r}: true and estimated positions must both be [n, 2]")


def _styles(*labels: Iterable[str]) -> dict[str, int]:
    """One colour per label over the whole page, in order of appearance."""
    ordered = dict.fromkeys(label for group in labels for label in group)
    return {label: number % COLOURS for number, label in enumerate(ordered)}


def _recall_charts(curves: Sequence[RecallCurve], styles: dict[str, int]) -> list[tuple[str, Markup]]:
    charts = []
    for condition in dict.fromkeys(curve.condition for curve in curves):
        shown = [curve for curve in curves if curve.condition == condition]
        every = sorted({int(k) for curve in shown for k in curve.k})
        wanted = [k for k in (1, 5, 10, 20, 50, 100) if every[0] < k < every[-1]]
        crowded = (every[-1] - every[0]) / 12  # ticks nearer than this would touch
        ticks = [every[0], *wanted, every[-1]]
        ticks = [k for n, k in enumerate(ticks) if n in (0, len(ticks) - 1) or every[-1] - k > crowded < k - every[0]]
        charts.append(
            (
                condition,
                line_chart(
                    [Series(curve.label, styles[curve.label], curve.k, curve.recall) for curve in shown],
                    title=f"Recall over the number of retrieved images, {condition}",
                    x_label="retrieved images, k",
                    x_ticks=[(k, str(k)) for k in dict.fromkeys(ticks)],
                ),
            )
        )
    return charts


def _distance_charts(curves: Sequence[DistanceCurve], styles: dict[str, int]) -> list[tuple[str, Markup]]:
    charts = []
    for condition in dict.fromkeys(curve.condition for curve in curves):
        shown = [curve for curve in curves if curve.condition == condition]
        last = max(curve.metres[-1] for curve in shown)
        drawing = line_chart(
            [Series(curve.label, styles[curve.label], curve.metres, curve.recall) for curve in shown],
            title=f"Recall over the distance within which an image counts, {condition}",
            x_label="distance, m",
            x_ticks=[(last * part / 4, f"{last * part / 4:g}") for part in range(5)],
        )
        charts.append((condition, drawing))
    return charts


def _plain_charts(curves: Sequence[PlainCurve], styles: dict[str, int]) -> list[tuple[str, Markup]]:
    charts = []
    for condition in dict.fromkeys(curve.condition for curve in curves):
        shown = [curve for curve in curves if curve.condition == condition]
        drawing = line_chart(
            [Series(curve.label, styles[curve.label], curve.x, curve.y) for curve in shown],
            title=f"{shown[0].y_label} over {shown[0].x_label}, {condition}",
            x_label=shown[0].x_label,
            x_ticks=SHARES,
        )
        charts.append((f"{condition}: {shown[0].y_label} over {shown[0].x_label}", drawing))
    return charts


def _error_charts(errors: Sequence[ErrorSet], styles: dict[str, int]) -> list[tuple[str, Markup, Markup]]:
    charts = []
    for condition in dict.fromkeys(item.condition for item in errors):
        shown = [item for item in errors if item.condition == condition]
        position, rotation = (
            line_chart(
                [Series(item.method, styles[item.method], *_cdf(getattr(item, values), ticks)) for item in shown],
                title=f"Share of queries below each {what} error, {condition}",
                x_label=f"{what} error",
                x_ticks=ticks,
                log=True,
                guides=[threshold[axis] for threshold in THRESHOLDS],
                step=True,
            )
            for axis, (values, what, ticks) in enumerate(
                (("position_m", "position", POSITION_TICKS), ("rotation_deg", "rotation", ROTATION_TICKS))
            )
        )
        charts.append((condition, position, rotation))
    return charts


def _cdf(values: Sequence[float] | Errors, ticks: Sequence[tuple[float, str]]) -> tuple[list[float], list[float]]:
    """Steps of the cumulative share; what is not localized never adds to it."""
    found = np.asarray(values, float)
    first, last = ticks[0][0], ticks[-1][0]
    ordered = np.sort(found[np.isfinite(found)])
    inner = ordered[(ordered > first) & (ordered <= last)]
    count = max(len(found), 1)
    shares = np.searchsorted(ordered, inner, side="right") / count
    start = float((ordered <= first).sum()) / count
    return [first, *inner.tolist(), last], [start, *shares.tolist(), float((ordered <= last).sum()) / count]


def _maps(data: ReportData) -> list[tuple[str, str, Markup]]:
    maps = []
    for number, track in enumerate(data.tracks):
        count = len(track.true_xy)
        found = int(np.isfinite(track.estimated_xy).all(axis=1).sum())
        text = f"{found} of {count} localized"
        drawing = pose_map(
            np.asarray(track.true_xy, float),
            np.asarray(track.estimated_xy, float),
            np.asarray(data.map_xy, float).reshape(-1, 2),
            title=f"True and estimated positions seen from above, {track.condition}: {text}",
            name=f"map-{number}",
        )
        maps.append((track.condition, text, drawing))
    return maps


@dataclass(frozen=True)
class _Picture:
    uri: str
    problem: str
    score: float = 0.0
    correct: bool | None = None


def _shown_picture(path: Path, side: int = THUMBNAIL) -> tuple[str, str]:
    """An image as a URI, or why it cannot be shown."""
    try:
        return thumbnail(path, side), ""
    except ImageError as error:
        return "", str(error)


def _gallery(rows: Sequence[GalleryRow]) -> list[tuple[GalleryRow, _Picture, list[_Picture]]]:
    picture = cache(_shown_picture)
    chosen = sorted(rows, key=lambda row: not _is_night(row.condition))[:MAX_ROWS]
    return [
        (
            row,
            _Picture(*picture(row.query)),
            [_Picture(*picture(item.path), item.score, item.correct) for item in row.results[:MAX_RESULTS]],
        )
        for row in chosen
    ]


def _is_night(condition: str) -> bool:
    return "night" in condition.lower()


def _cell(value: str | int | float | None) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "\N{EN DASH}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
