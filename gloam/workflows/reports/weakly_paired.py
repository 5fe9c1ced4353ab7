"""Weakly-paired translation's table or figure again, the figure with a page of its curves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gloam.eval.translation.domains import FIGURES, UNTOUCHED
from gloam.files import write_json
from gloam.heartbeat import Say
from gloam.workflows.reports.page.data import DistanceCurve, ReportData, Table
from gloam.workflows.reports.page.write import write_report
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.weakly_paired.figure7 import DISTANCES, Figure7, at_shown, reproduce_figure_7
from gloam.workflows.reproduce.weakly_paired.miniature import Miniature
from gloam.workflows.reproduce.weakly_paired.request import PAPER, WeaklyPairedRequest
from gloam.workflows.reproduce.weakly_paired.table import TABLE_JSON, WeaklyPairedTable, reproduce_table_2

PAGE, TABLE_PAGE = "figure7.html", "table2.html"


def reproduce_weakly_paired(
    request: WeaklyPairedRequest, miniature: Miniature | None = None, say: Say | None = None
) -> WeaklyPairedTable | Figure7:
    """A table or figure of the paper, from what is there; see :func:`reproduce_table_2`, :func:`reproduce_figure_7`.

    Args:
        request: what and with what.
        miniature: of the town, which is rendered and trained on; None for the data folder.
        say: gets one line per step.

    Raises:
        UsageError: no such table; they are named.
        GloamError: a file that is there and cannot be used.
    """
    published(PAPER, request.table)
    if request.table != "figure7":
        table = reproduce_table_2(request, miniature, say)
        return _with_page(table) if table.ran else table
    figure = reproduce_figure_7(request, miniature, say)
    if not figure.curves:
        return figure
    figure = replace(figure, page=request.output / PAGE)
    _write_page(figure)
    return figure


def _with_page(table: WeaklyPairedTable) -> WeaklyPairedTable:
    """The table with a page of its numbers, FID and then SIFT distance."""
    table = replace(table, page=table.output / TABLE_PAGE)
    rows = [UNTOUCHED, *table.published.rows]
    tables = []
    for figure in FIGURES:
        lines: list[list[str | int | float | None]] = []
        for domain in (*table.domains, "Mean", "Std"):
            cells = [table.cell(row, domain, figure) for row in rows]
            lines.append([domain, *(value for cell in cells for value in cell)])
        columns = ["domain", *(f"{row}, {part}" for row in rows for part in ("paper", "ours"))]
        tables.append(Table(f"{figure} by domain; lower is better", columns, lines))
    made = [
        [row, " ".join(f"{Path(one['file']).name} {one['sha256'][:12]}" for one in facts["weights"]), facts["from"]]
        for row, facts in table.made_by.items()
    ]
    protocol = [f"{key}: {value}" for key, value in table.protocol.items()]
    notes = [[note] for note in (*protocol, table.published.note, *table.notes)]
    tables += [
        Table("What the rows are made by", ["row", "weights, sha256", "from"], made),
        Table("What the numbers mean", ["note"], notes),
    ]
    assert table.page is not None  # set above
    write_report(ReportData(title=f"{PAPER}, table 2: {table.published.title}", tables=tables), table.page)
    write_json(table.output / TABLE_JSON, table.to_dict())
    return table


def _write_page(figure: Figure7) -> None:
    columns = ["network", "map", "queries pass", *(f"{metres:g} m" for metres in at_shown(DISTANCES))]
    notes = [[note] for note in (figure.published.note, *figure.notes)]
    data = ReportData(
        title=f"{PAPER}, figure 7: {figure.published.title}",
        tables=[
            Table("Nearest neighbour within a distance, % of queries", columns, figure.rows()),
            Table("What the numbers mean", ["note"], notes),
        ],
        distance_curves=[
            DistanceCurve(one.method, f"{one.network}, map {one.reference}", one.scores.distances, one.scores.recall[1])
            for one in figure.curves
        ],
    )
    assert figure.page is not None  # by the caller
    write_report(data, figure.page)
