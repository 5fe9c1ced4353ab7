"""Figures 3 and 4 of mduit again, each with a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gloam.data.town.drives.config import DrivesConfig
from gloam.files import write_json
from gloam.heartbeat import Say
from gloam.workflows.reports.page.data import ReportData, ReportPicture, Table, Value
from gloam.workflows.reports.page.write import write_report
from gloam.workflows.reproduce.localization.content import DRIVES
from gloam.workflows.reproduce.mduit.figure3 import Figure3, reproduce_figure_3
from gloam.workflows.reproduce.mduit.figure4 import Figure4, reproduce_figure_4
from gloam.workflows.reproduce.mduit.request import PAPER, MduitRequest


def reproduce_mduit(
    request: MduitRequest,
    town_minutes: float | None = None,
    say: Say | None = None,
    drives: DrivesConfig = DRIVES,
) -> Figure3 | Figure4:
    """A figure of the paper, from what is there; see :func:`reproduce_figure_3`, :func:`reproduce_figure_4`.

    Args:
        request: what and with what.
        town_minutes: processor time of each training, at most, on the town; None for the data folder.
        say: gets one line per step.
        drives: of the town.

    Raises:
        GloamError: pairs that cannot be used.
    """
    draw = reproduce_figure_3 if request.table == "figure3" else reproduce_figure_4
    figure: Figure3 | Figure4 = draw(request, town_minutes, say, drives)
    if not figure.ran:
        return figure
    figure = replace(figure, page=request.output / f"{request.table}.html")
    assert figure.page is not None  # set above
    number = figure.table.removeprefix("figure")
    rows = _of_images(figure) if isinstance(figure, Figure3) else _of_retrieval(figure)
    data = ReportData(
        title=f"{PAPER}, figure {number}: {figure.published.title}",
        pictures=[ReportPicture(figure.published.title, figure.sheet)],
        tables=[
            *rows,
            Table("What the columns are made by", ["column", "network", "weights, sha256", "from"], _made(figure)),
            Table("What the picture means", ["note"], [[note] for note in (figure.published.note, *figure.notes)]),
        ],
    )
    write_report(data, figure.page)
    write_json(figure.json, figure.to_dict())
    return figure


def _of_images(figure: Figure3) -> list[Table]:
    rows: list[list[Value]] = [
        [one.domain, one.source, one.example, "yes" if one.paired else "no"] for one in figure.examples
    ]
    return [Table("Rows", ["domain", "source", "example", "one place"], rows)]


def _of_retrieval(figure: Figure4) -> list[Table]:
    title = f"Nearest image of {figure.reference} within {figure.right:g} m, % of queries"
    shares: list[list[Value]] = [
        [name, *(round(value, 1) for value in values), n] for name, values, n in figure.shares()
    ]
    return [Table(title, ["queries", *figure.scores, "chance", "count"], shares)]


def _made(figure: Figure3 | Figure4) -> list[list[Value]]:
    found: list[list[Value]] = []
    for row, facts in figure.made_by.items():
        files = " ".join(f"{Path(one['file']).name} {one['sha256'][:12]}" for one in facts["weights"])
        found.append([row, facts["network"], files, facts["from"]])
    return found
