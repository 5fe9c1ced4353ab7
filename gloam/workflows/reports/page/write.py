"""The report: one self-contained HTML page that first answers how well the place is recognised by night.

No script, no request to anywhere: styles, charts and thumbnails are inside the file, every text is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from gloam.data.images import decode_image
from gloam.errors import ImageError
from gloam.eval.localization.scores import THRESHOLDS
from gloam.workflows.reports.page.charts import SHARES, Series, line_chart, pose_map
from gloam.workflows.reports.page.data import (
    DistanceCurve,
    Errors,
    ErrorSet,
    PlainCurve,
    RecallCurve,
    ReportData,
    check,
)
from gloam.workflows.reports.page.gallery import examples
from gloam.workflows.reports.page.hero import pose_hero
from gloam.workflows.reports.page.pictures import picture_uri
from gloam.workflows.reports.page.template import write_page
from gloam.workflows.reports.page.terms import explained

COLOURS = 6  # series styles in the style sheet
WIDE_PICTURE = 1200  # width of a picture of its own, pixels
MOST_POINTS = 2000  # of a kind in a view from above; evenly fewer beyond
POSITION_TICKS = ((0.01, "1 cm"), (0.1, "10 cm"), (1.0, "1 m"), (10.0, "10 m"), (100.0, "100 m"))
ROTATION_TICKS = ((0.05, "0.05°"), (0.5, "0.5°"), (5.0, "5°"), (50.0, "50°"), (180.0, ""))


def write_report(data: ReportData, path: str | Path, made: Mapping[str, str] | None = None) -> None:
    """Write the page, atomically.

    An image that cannot be read is shown as its reason. How many queries are shown, and which, says
    :mod:`gloam.workflows.reports.page.gallery`.

    Args:
        data: what it shows.
        path: of the page.
        made: see :func:`gloam.workflows.reports.page.template.write_page`.

    Raises:
        UsageError: arrays or rows of different lengths.
        StoreError: the file cannot be written.
    """
    check(data)
    labels = [[curve.label for curve in curves] for curves in (data.recall_curves, data.distance_curves)]
    styles = _styles(*labels, [item.method for item in data.errors], [curve.label for curve in data.plain_curves])
    gallery = examples(data.gallery, data.most, data.details)
    sections = {
        "examples": ("Queries" if data.details else "Examples", gallery),
        "retrieval": ("Retrieval", data.recall_curves),
        "distance": ("Within a distance", data.distance_curves),
        "curves": ("Curves", data.plain_curves),
        "pictures": ("Pictures", data.pictures),
        "errors": ("Pose errors", data.errors),
        "above": ("From above", data.tracks),
        "numbers": ("Numbers", data.tables),
    }
    write_page(
        path,
        "page.html",
        made,
        title=data.title,
        identity=data.identity,
        links=data.links,
        contents={key: title for key, (title, content) in sections.items() if content},
        data=data,
        thresholds=THRESHOLDS,
        hero=data.hero or pose_hero(data),
        styles=styles,
        recall_charts=_recall_charts(data.recall_curves, styles),
        distance_charts=_distance_charts(data.distance_curves, styles),
        error_charts=_error_charts(data.errors, styles),
        plain_charts=_plain_charts(data.plain_curves, styles),
        pictures=[(item.title, *_shown(item.path)) for item in data.pictures],
        maps=_maps(data),
        true_known=any(np.isfinite(track.true_xy).any() or not len(track.true_xy) for track in data.tracks),
        gallery=gallery,
        shown=sum(map(len, gallery.values())),
        told=any(row.failed is not None for row in data.gallery),
        scored=any(item.score is not None for row in data.gallery for item in row.results),
        judged=any(item.correct is not None for row in data.gallery for item in row.results),
        matched=any(example.match for part in gallery.values() for example in part),
        terms=explained(data.tables),
    )


def _styles(*labels: Sequence[str]) -> dict[str, int]:
    """One colour per label over the whole page, in order of appearance; a group of other labels begins anew."""
    styles: dict[str, int] = {}
    for group in labels:
        new = [label for label in dict.fromkeys(group) if label not in styles]
        first = len(styles) if styles.keys() & set(group) else 0
        styles |= {label: (first + number) % COLOURS for number, label in enumerate(new)}
    return styles


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


def _shown(path: Path) -> tuple[str, str]:
    """A picture as a URI, or why it cannot be shown."""
    try:
        return picture_uri(decode_image(path), WIDE_PICTURE), ""
    except ImageError as error:
        return "", str(error)


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
        some = _thinned(np.arange(count))
        text = f"{found} of {count} localized"
        drawing = pose_map(
            np.asarray(track.true_xy, float)[some],
            np.asarray(track.estimated_xy, float)[some],
            _thinned(np.asarray(data.map_xy, float).reshape(-1, 2)),
            title=f"True and estimated positions seen from above, {track.condition}: {text}",
            name=f"map-{number}",
            ground=data.ground,
        )
        maps.append((track.condition, text, drawing))
    return maps


def _thinned(points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """At most :data:`MOST_POINTS` rows, evenly chosen."""
    rows = np.linspace(0, len(points) - 1, min(len(points), MOST_POINTS)).round().astype(int)
    thinned: npt.NDArray[Any] = points[rows]
    return thinned
