"""One page about a table of localization: generators, what is retrieved, and the poses, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gloam.data.scene import position_error, rotation_error
from gloam.files import write_json
from gloam.heartbeat import Say
from gloam.workflows.reports.page.data import (
    DistanceCurve,
    ErrorSet,
    GalleryResult,
    GalleryRow,
    RecallCurve,
    ReportData,
    Table,
)
from gloam.workflows.reports.page.gallery import MAX_RESULTS
from gloam.workflows.reports.page.write import write_report
from gloam.workflows.reproduce.localization.protocol import Poses
from gloam.workflows.reproduce.localization.request import TableRequest
from gloam.workflows.reproduce.localization.result import Cell, GeneratorFacts, LocalizationTable, Triple
from gloam.workflows.reproduce.localization.runner import Part, SetRun, part_of
from gloam.workflows.reproduce.localization.table import localize_table
from gloam.workflows.reproduce.localization.town import localize_town

REPORT_FILE, TABLE_FILE = "report.html", "table.json"
NEAR = 5.0  # metres from the query that a retrieved image is a right one
TURNED = 60.0  # degrees between the two, at most
KS = (1, 5, 10, 20)
DISTANCES = (1.0, 2.0, 5.0, 10.0, 25.0)
PARTS: tuple[Part, ...] = ("day", "night")
Cells = list[str | int | float | None]


def reproduce_localization(
    request: TableRequest, *, town_minutes: float | None = None, say: Say | None = None
) -> LocalizationTable:
    """A table of localization, with a page and a JSON file of it in the output folder.

    Args:
        request: what and with what.
        town_minutes: processor time of each generator, at most, for the look-alikes; None for the benchmarks.
        say: gets one line per step.

    Raises:
        as :func:`gloam.workflows.reproduce.localization.table.localize_table`.
    """
    tell = say or (lambda line: None)
    generators: Sequence[GeneratorFacts] = ()
    if town_minutes is None:
        table, runs = localize_table(request, tell)
    else:
        table, runs, generators = localize_town(request, town_minutes, tell)
    if runs:
        table = replace(table, page=request.output / REPORT_FILE)
        write_localization_report(request.output / REPORT_FILE, table, runs, generators)
    write_json(request.output / TABLE_FILE, table.to_dict())
    return table


def write_localization_report(
    path: Path, table: LocalizationTable, runs: Sequence[SetRun], generators: Sequence[GeneratorFacts] = ()
) -> None:
    """Write the page.

    Args:
        path: of the page.
        table: of the paper, again.
        runs: of each benchmark that was localized.
        generators: that the rows' nights are made by, with their metrics.

    Raises:
        StoreError: the file cannot be written.
    """
    known = [run for run in runs if run.truth is not None]
    tables = [_joined(table, runs, generators), _paper(table)]
    if generators:
        tables.append(_generators(generators))
    if known:
        tables.append(_retrieval(known))
    notes = [table.published.note, *table.notes, *(f"{row.name}: {row.reason}" for row in table.rows if row.reason)]
    tables.append(Table("What the numbers mean", ["note"], [[note] for note in notes if note]))
    if table.context:
        tables.append(Table("Published by kapture-localization", ["rows"], [[line] for line in table.context]))
    tables += [_submissions(table), _facts(table)]
    errors = [item for run in known for item in _errors(run)]
    data = ReportData(
        title=f"{table.paper}, table {table.table}: {table.published.title}",
        tables=tables,
        recall_curves=[curve for run in known for curve in _recall_curves(run)],
        distance_curves=[curve for run in known for curve in _distance_curves(run)],
        errors=errors,
        gallery=[row for run in known for row in _gallery(run)],
        identity=_identity(runs),
        method=_shown([item.method for item in errors]),
    )
    write_report(data, path)


def retrieval_recalls(run: SetRun, row: str, part: Part, k: int, near: float = NEAR) -> float | None:
    """Share of the queries by day or by night of which one of the first k retrieved images shows the place.

    That is within ``near`` metres of the query and turned by at most :data:`TURNED` degrees.

    Args:
        run: of a benchmark whose true poses are known.
        row: of the table.
        part: which queries.
        k: retrieved images; near: metres.
    """
    names = _names(run, part)
    retrieved = run.retrieved.get(row)
    if retrieved is None or not names:
        return None
    return _mean(any(_right(run, name, image, near) for image in retrieved[name][:k]) for name in names)


def _mean(values: Iterable[bool]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def _share(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f}"


def _right(run: SetRun, query: str, image: str, near: float = NEAR) -> bool:
    assert run.truth is not None  # asked for such benchmarks alone
    true, shown = run.truth[query], run.benchmark.mapping.poses[image]
    return position_error(true, shown) <= near and rotation_error(true, shown) <= TURNED


def _names(run: SetRun, part: Part) -> list[str]:
    wanted = {
        name for condition in part_of(run.benchmark, part) for name in run.benchmark.conditions.get(condition, ())
    }
    return [name for name in run.benchmark.scored_queries if name in wanted]


def _title(run: SetRun) -> str:
    return "Aachen" if run.benchmark.style == "aachen" else "RobotCar"


def _short(row: str) -> str:
    return row.removeprefix("Aachen ").removeprefix("RobotCar ")


def _text(values: Triple | None) -> str | None:
    return None if values is None else " / ".join(f"{value:.1f}" for value in values)


def _generator_of(row: str, generators: Sequence[GeneratorFacts]) -> GeneratorFacts | None:
    return next((item for item in generators if item.name in row.split()), None)


def _joined(table: LocalizationTable, runs: Sequence[SetRun], generators: Sequence[GeneratorFacts]) -> Table:
    of_row = {row: run for run in runs if run.truth is not None for row in run.retrieved}
    rows: list[Cells] = []
    for row in table.rows:
        generator, run = _generator_of(row.name, generators), of_row.get(row.name)
        cells: Cells = [row.name, None if generator is None else generator.name]
        cells.append(None if generator is None else generator.figures.get("KID"))
        cells += [None if run is None else _share(retrieval_recalls(run, row.name, "night", k)) for k in (1, 20)]
        cells += [_text(row.cells.get(group, Cell()).ours) for group in table.groups]
        rows.append(cells)
    return Table(
        "From generator to pose",
        ["row", "generator", "KID of its nights", "R@1, %", "R@20, %", *table.groups],
        rows,
        f"R@k: queries by night of which one of the first k retrieved images is within {NEAR:g} m and {TURNED:g} "
        "degrees. Poses: % of the queries within 0.25 m 2° / 0.5 m 5° / 5 m 10°.",
    )


def _paper(table: LocalizationTable) -> Table:
    columns = ["row", *(f"{group}, {whose}" for group in table.groups for whose in ("paper", "ours"))]
    rows: list[Cells] = []
    for row in table.rows:
        cells: Cells = [row.name]
        for group in table.groups:
            cell = row.cells.get(group, Cell())
            cells += [_text(cell.published), _text(cell.ours)]
        rows.append(cells)
    return Table("The paper's table", columns, rows, table.published.note)


def _generators(generators: Sequence[GeneratorFacts]) -> Table:
    metrics = list(dict.fromkeys(metric for item in generators for metric in item.figures))
    rows: list[Cells] = [
        [
            item.name,
            f"{item.step} of {item.steps}" if item.steps else None,
            round(item.seconds / 60, 1) if item.seconds else None,
            *(item.figures.get(metric) for metric in metrics),
        ]
        for item in generators
    ]
    return Table(
        "Generators: nights of a street that nothing was trained on",
        ["generator", "steps", "minutes", *metrics],
        rows,
        "Against real nights of that street; features by the demo's embedder. 'day as it is' is the control.",
    )


def _retrieval(runs: Sequence[SetRun]) -> Table:
    rows: list[Cells] = []
    for run in runs:
        for row in run.retrieved:
            rows.append([row, *(_share(retrieval_recalls(run, row, part, k)) for part in PARTS for k in KS)])
        reach = [
            _share(_mean(any(_right(run, name, image) for image in run.benchmark.mapping.names) for name in names))
            for names in (_names(run, part) for part in PARTS)
        ]
        rows.append([f"{_title(run)}, any map image", *(share for share in reach for _ in KS)])
    columns = ["row", *(f"{part} R@{k}, %" for part in PARTS for k in KS)]
    note = f"Right is an image within {NEAR:g} m and {TURNED:g} degrees of the query's true pose."
    return Table("Retrieval", columns, rows, note)


def _submissions(table: LocalizationTable) -> Table:
    rows: list[Cells] = []
    for row in table.rows:
        seen = {cell.submission: cell for cell in row.cells.values() if cell.submission}
        rows += [[row.name, file, cell.localized, cell.queries] for file, cell in seen.items()]
    return Table("Files for the evaluation server", ["row", "file", "localized", "queries"], rows)


def _facts(table: LocalizationTable) -> Table:
    rows: list[Cells] = []
    for row in table.rows:
        if row.facts:
            weights = row.facts.get("weights") or []
            rows.append(
                [
                    row.name,
                    str(row.facts.get("network") or ""),
                    str(row.facts.get("recipe") or ""),
                    str(row.facts.get("from") or ""),
                    " ".join(f"{Path(item['file']).name} {item['sha256'][:12]}" for item in weights),
                    row.facts.get("map images"),
                    row.facts.get("queries"),
                ]
            )
    columns = ["row", "network", "recipe", "from", "weights, sha256", "map images", "queries"]
    return Table("What the rows are made by", columns, rows)


def _best_label(run: SetRun, row: str) -> str | None:
    """The strongest method that a row was localized by."""
    labels = list(run.found.get(row, ()))
    return next((label for method in ("2b", "2a", "top-1") for label in labels if label.startswith(method)), None)


def _errors(run: SetRun) -> list[ErrorSet]:
    assert run.truth is not None
    sets = []
    for row in run.retrieved:
        label = _best_label(run, row)
        if label is None or row not in run.published:
            continue
        poses: Poses = run.found[row][label]
        for part in PARTS:
            names = _names(run, part)
            if not names:
                continue
            found = [(poses.get(name), run.truth[name]) for name in names]
            position = [np.nan if pose is None else position_error(pose, true) for pose, true in found]
            rotation = [np.nan if pose is None else rotation_error(pose, true) for pose, true in found]
            sets.append(ErrorSet(f"{_short(row)}, {label}", f"{_title(run)} {part}", position, rotation))
    return sets


def _recall_curves(run: SetRun) -> list[RecallCurve]:
    most = max((len(images) for found in run.retrieved.values() for images in found.values()), default=0)
    ks = [k for k in (1, 2, 3, 5, 10, 20, 50) if k <= most]
    return [
        RecallCurve(_short(row), f"{_title(run)} {part}", ks, [retrieval_recalls(run, row, part, k) or 0.0 for k in ks])
        for part in PARTS
        for row in run.retrieved
        if ks and _names(run, part)
    ]


def _distance_curves(run: SetRun) -> list[DistanceCurve]:
    return [
        DistanceCurve(
            _short(row),
            f"{_title(run)} night",
            DISTANCES,
            [retrieval_recalls(run, row, "night", 1, metres) or 0.0 for metres in DISTANCES],
        )
        for row in run.retrieved
        if _names(run, "night")
    ]


def _gallery(run: SetRun) -> list[GalleryRow]:
    """The queries by night, and what the row that the first screen shows retrieved for them."""
    row = _shown([row for row in run.retrieved if row in run.published])
    if row is None:
        return []
    rows = []
    for name in _names(run, "night"):
        shown = [
            GalleryResult(run.benchmark.mapping.image_path(image), cosine, _right(run, name, image))
            for image, cosine in zip(run.retrieved[row][name][:MAX_RESULTS], run.cosines[row][name], strict=False)
        ]
        rows.append(GalleryRow(run.localizer.query.image_path(name), f"{name}, {row}", f"{_title(run)} night", shown))
    return rows


def _shown(names: Sequence[str]) -> str | None:
    """The row or method of the first screen: made nights before day photographs, the larger network first."""
    ranked = sorted(names, key=lambda name: ("CycleGAN" in name, "R101" in name))
    return ranked[-1] if ranked else None


def _identity(runs: Sequence[SetRun]) -> dict[str, str]:
    found: dict[str, str] = {}
    for run in runs:
        protocol = run.localizer.protocol
        found[_title(run)] = f"{run.benchmark.name}, {run.benchmark.layout} form, {run.benchmark.root}"
        found["retrieved per query"] = f"{protocol.top_k}, within the {protocol.within}"
        found["queries without a pose"] = protocol.unlocalized
        found["rig"] = protocol.rig
    return found
