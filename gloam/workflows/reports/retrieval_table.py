"""A table of retrieval again, with a page and a JSON file of it in the output folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gloam.files import write_json
from gloam.heartbeat import Say
from gloam.workflows.reports.page.data import PlainCurve, ReportData, ReportPicture, Table
from gloam.workflows.reports.page.write import write_report
from gloam.workflows.reproduce.cyclegan_study.table import PAPER as STUDY
from gloam.workflows.reproduce.cyclegan_study.table import reproduce_study
from gloam.workflows.reproduce.request import RetrievalRequest
from gloam.workflows.reproduce.result import RetrievalTable, setting
from gloam.workflows.reproduce.table import reproduce
from gloam.workflows.reproduce.town.table import reproduce_town

REPORT_FILE, TABLE_FILE = "report.html", "table.json"


def reproduce_retrieval(request: RetrievalRequest, say: Say | None = None) -> RetrievalTable:
    """A table of retrieval, or of generators, from what is there or on the town.

    Args:
        request: what and with what.
        say: gets one line per step.

    Raises:
        UsageError: no such table or row. What is wrong with a row's files is that row's reason.
        StoreError: the output folder cannot be written.
    """
    if request.paper == STUDY:
        table = reproduce_study(request, say)
    else:
        table = reproduce_town(request, say) if request.town else reproduce(request, say)
    if table.ours:
        table = replace(table, page=request.output / REPORT_FILE)
        write_table_page(table, request.output / REPORT_FILE)
    write_json(request.output / TABLE_FILE, table.to_dict())
    return table


def write_table_page(table: RetrievalTable, path: Path) -> None:
    """Write the page.

    Raises:
        StoreError: the file cannot be written.
    """
    heads = [f"{column}, {part}" for column, part in table.heads()]
    numbers = [[row.name, *table.cells(row)] for row in table.rows]
    for name, values in table.controls.items():
        numbers.append([name, *(values.get(column) if part == "ours" else None for column, part in table.heads())])
    notes = [table.published.note, *table.notes, *(f"{row.name}: {row.reason}" for row in table.rows if row.reason)]
    tables = [
        Table(table.published.title, ["row", *heads], numbers),
        _made_by(table),
        Table("What the numbers mean", ["note"], [[note] for note in notes if note]),
    ]
    if table.missing:
        tables.append(Table("Missing", ["file", "where"], [[str(item.path), item.where] for item in table.missing]))
    data = ReportData(
        title=f"{table.paper}, {table.table}{', in miniature' if table.town else ''}: {table.published.title}",
        tables=tables,
        plain_curves=[
            PlainCurve(name, "made nights against real ones", "recall", "precision", item["recall"], item["precision"])
            for name, item in table.curves.items()
        ],
        pictures=[ReportPicture(title, file) for title, file in table.pictures],
    )
    write_report(data, path)


def _made_by(table: RetrievalTable) -> Table:
    rows: list[list[str | int | float | None]] = []
    for row in table.rows:
        images = "; ".join(f"{name}: {count}" for name, count in row.facts.get("images", {}).items())
        for member in row.facts.get("members", ()):
            files = " ".join(f"{Path(one['file']).name} {one['sha256'][:12]}" for one in member["weights"])
            where = str(member.get("from") or member.get("recipe") or "")
            seeds = ", ".join(row.scores)
            rows.append([row.name, str(member.get("network") or ""), files, where, setting(member), seeds, images])
    columns = ["row", "network", "weights, sha256", "from", "setting", "seeds", "images"]
    return Table("What the rows are made by", columns, rows)
