"""Weakly-paired translation's table or figure again, the figure with a page of its curves."""

from __future__ import annotations

from dataclasses import replace

from gloam.heartbeat import Say
from gloam.workflows.reports.page.data import DistanceCurve, ReportData, Table
from gloam.workflows.reports.page.write import write_report
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.weakly_paired.figure7 import DISTANCES, Figure7, at_shown, reproduce_figure_7
from gloam.workflows.reproduce.weakly_paired.miniature import Miniature
from gloam.workflows.reproduce.weakly_paired.request import PAPER, WeaklyPairedRequest
from gloam.workflows.reproduce.weakly_paired.table import WeaklyPairedTable, reproduce_table_2

PAGE = "figure7.html"


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
        return reproduce_table_2(request, miniature, say)
    figure = reproduce_figure_7(request, miniature, say)
    if not figure.curves:
        return figure
    figure = replace(figure, page=request.output / PAGE)
    _write_page(figure)
    return figure


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
