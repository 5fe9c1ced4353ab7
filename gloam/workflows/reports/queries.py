"""One page about localized queries: what became of each, why, and its matches with the map."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from gloam.eval.localization.benchmark import LocalizationResult
from gloam.eval.localization.localize import REPORT_FILE, Localization
from gloam.eval.localization.match_pictures import counts_of, draw_lines, match_of
from gloam.eval.localization.outcomes import QueryOutcome
from gloam.eval.localization.scores import THRESHOLDS
from gloam.workflows.reports.page.data import (
    Bar,
    Errors,
    GalleryResult,
    GalleryRow,
    Hero,
    Picture,
    PoseTrack,
    ReportData,
    Table,
    Value,
)
from gloam.workflows.reports.page.template import three_digits
from gloam.workflows.reports.page.write import write_report

MOST, MOST_LISTED = 100, 1000  # queries with pictures, and in the table
DRAWN = ("2a", "2b")  # methods that match keypoints

QueryErrors = Mapping[str, tuple[float, float]]


def write_query_report(found: Localization) -> Path:
    """Write ``report.html`` into the folder of a localization: its queries, failures first.

    Of at most :data:`MOST` queries retrieved images and matches are shown, at most :data:`MOST_LISTED` are listed; all
    are in the methods' ``queries.csv``.

    Returns:
        its path.

    Raises:
        StoreError: the file cannot be written.
    """
    several = len(found.outcomes) > 1
    groups = {method: method if several else "" for method in found.outcomes}
    rows = [
        row
        for method, outcomes in found.outcomes.items()
        for row in query_rows(method, found.result, outcomes, dict.fromkeys(_names(outcomes), groups[method]))
    ]
    mapping = found.result.matcher.mapping if found.result.matcher is not None else None
    centres = np.array([pose.center for pose in mapping.poses.values()]) if mapping is not None else np.empty((0, 3))
    axes = _flattest(centres)
    tables = [
        query_table(outcomes, f"Queries by {method}", f"All queries: {method}/queries.csv.")
        for method, outcomes in found.outcomes.items()
    ]
    data = ReportData(
        title=f"Localization: {found.output.name}",
        hero=_hero(found.outcomes),
        tables=[*_reasons(found.outcomes), *tables],
        gallery=rows,
        tracks=[_track(method, outcomes, axes) for method, outcomes in found.outcomes.items()],
        map_xy=centres @ axes,
        identity={
            name.replace("_", " "): str(value)
            for name, value in found.summary.items()
            if isinstance(value, str | int | float)
        }
        | ({"map": found.result.map_source} if found.result.map_source else {}),
        most=MOST,
        details=True,
    )
    path = found.output / REPORT_FILE
    write_report(data, path)
    return path


def query_rows(
    method: str,
    result: LocalizationResult,
    outcomes: Sequence[QueryOutcome],
    conditions: Mapping[str, str],
    errors: QueryErrors | None = None,
    judged: Mapping[tuple[str, str], tuple[float, bool]] | None = None,
) -> list[GalleryRow]:
    """A row of a page for every query, failures first, of these the worst.

    Args:
        method: by which it was localized.
        result: of the run.
        outcomes: of its queries.
        conditions: of the queries, by name.
        errors: metres and degrees by query, NaN without a pose, where true poses are known. A pose that misses the
            finest of the thresholds is a failure then; else the lack of one is.
        judged: similarity, and whether it shows the query's place, by query and map image, where known.
    """
    matcher = result.matcher
    assert matcher is not None  # of every run
    rows = []
    for item in sorted(outcomes, key=lambda item: _worth(item, errors)):
        shown = (judged or {}).get
        results = [
            GalleryResult(matcher.mapping.image_path(image), *shown((item.name, image), (None, None)))
            for image in item.retrieved
        ]
        match = partial(_draw, method, result, item) if method in DRAWN and item.retrieved else None
        failed, words = _failed(item, errors), _words(item, errors)
        rows.append(
            GalleryRow(
                matcher.query.image_path(item.name), item.name, conditions[item.name], results, words, failed, match
            )
        )
    return rows


def query_table(
    outcomes: Sequence[QueryOutcome], title: str, note: str = "", errors: QueryErrors | None = None
) -> Table:
    """A row for every query, failures first; of at most :data:`MOST_LISTED`.

    Args:
        outcomes: of the queries.
        title, note: of the table.
        errors: see :func:`query_rows`.
    """
    rows: list[list[Value]] = []
    for item in sorted(outcomes, key=lambda item: _worth(item, errors))[:MOST_LISTED]:
        share = None if not item.correspondences or item.inliers is None else 100 * item.inliers / item.correspondences
        cells: list[Value] = [item.name, item.inliers, item.correspondences, share]
        cells += [None, None] if item.deviations is None else list(item.deviations)
        if errors is not None:
            cells += list(errors[item.name])
        rows.append([*cells, item.reason])
    columns = ["query", "inliers", "correspondences", "% inliers", "± m", "± °"]
    columns += ["off by m", "off by °"] if errors is not None else []
    left = f"The first {MOST_LISTED} of {len(outcomes)}. " if len(outcomes) > MOST_LISTED else ""
    return Table(title, [*columns, "why there is no pose"], rows, left + note)


def _draw(method: str, result: LocalizationResult, item: QueryOutcome) -> tuple[Picture, str] | None:
    assert result.matcher is not None  # of every run
    pair = match_of(method, result, item.name, item.retrieved, item.pose)
    return None if pair is None else (draw_lines(result.matcher, pair), f"with {pair.other}, {counts_of(pair)}")


def _failed(item: QueryOutcome, errors: QueryErrors | None) -> bool:
    if item.pose is None or errors is None:
        return item.pose is None
    return not all(error <= most for error, most in zip(errors[item.name], THRESHOLDS[0], strict=True))


def _worth(item: QueryOutcome, errors: QueryErrors | None) -> tuple[bool, bool, float, str]:
    """Ascending: failures, of them those without a pose, of others the least sure."""
    share = (item.inliers or 0) / item.correspondences if item.correspondences else 0.0
    if errors is not None and item.pose is not None:
        share = -errors[item.name][0]
    return not _failed(item, errors), item.pose is not None, share, item.name


def _words(item: QueryOutcome, errors: QueryErrors | None) -> str:
    if item.pose is None:
        return f"not localized: {item.reason}"
    words = []
    if errors is not None:
        metres, degrees = errors[item.name]
        words.append(f"{three_digits(metres)} m and {three_digits(degrees)}° off")
    if item.correspondences:
        words.append(f"{item.inliers} of {item.correspondences} correspondences agree")
    if item.deviations is not None:
        metres, degrees = item.deviations
        words.append(f"expected to be within {three_digits(metres)} m and {three_digits(degrees)}°")
    return "; ".join(words) or "localized"


def _hero(outcomes: Mapping[str, Sequence[QueryOutcome]]) -> Hero:
    method, first = next(iter(outcomes.items()))
    bars = []
    for name, items in outcomes.items():
        posed = sum(item.pose is not None for item in items)
        parts = [("fine", posed, str(posed)), ("lost", len(items) - posed, str(len(items) - posed))]
        bars.append(
            Bar(
                name,
                f"{len(items)} queries",
                [part for part in parts if part[1]],
                f"{name}: {posed} of {len(items)} localized",
            )
        )
    share = sum(item.pose is not None for item in first) / max(len(first), 1)
    return Hero(
        [(f"{100 * share:.0f}", "%", "")],
        f"of {len(first)} queries have a pose by {method}.",
        "Whether a pose is right only true poses tell: see gloam eval localization. Many inliers that are a large "
        "share of the correspondences speak for it.",
        bars,
        [("fine", "localized"), ("lost", "without a pose")],
    )


def _reasons(outcomes: Mapping[str, Sequence[QueryOutcome]]) -> Iterator[Table]:
    rows: list[list[Value]] = []
    for method, items in outcomes.items():
        counted = Counter(
            re.sub(r"^\d+ (correspondences .*)$", r"too few \1", item.reason) for item in items if item.pose is None
        )
        rows += [[method, reason, count] for reason, count in counted.most_common()]
    if rows:
        yield Table("Why queries have no pose", ["method", "reason", "queries"], rows)


def _track(method: str, outcomes: Sequence[QueryOutcome], axes: Errors) -> PoseTrack:
    nowhere = np.full(3, np.nan)
    centres = np.array([nowhere if item.pose is None else item.pose.center for item in outcomes]).reshape(-1, 3)
    return PoseTrack(method, np.full((len(centres), 2), np.nan), centres @ axes)


def _flattest(centres: Errors) -> Errors:
    """Two axes ``[3, 2]`` of the plane that the map's cameras lie in best: which way is up, a map does not say."""
    if len(centres) < 2:
        return np.eye(3)[:, :2]
    axes: Errors = np.linalg.svd(centres - centres.mean(axis=0), full_matrices=False)[2][:2].T
    return axes


def _names(outcomes: Sequence[QueryOutcome]) -> list[str]:
    return [item.name for item in outcomes]
