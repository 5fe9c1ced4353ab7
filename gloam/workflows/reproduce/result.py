"""A table of retrieval again: the paper's numbers, ours, and for each row what it is made by."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloam.workflows.reproduce.published import PublishedTable
from gloam.workflows.reproduce.rows import Missing

SHEET, SHOWN = "generators.png", 6  # a picture of images by all generators; how many images
WIDE = 9  # characters of a number
PARTS = {"published": "paper", "ours": "ours", "spread": "sd", "difference": "diff"}  # of a cell, and how a table says


@dataclass(frozen=True)
class TableRow:
    """A row.

    Attributes:
        name: as the paper has it.
        scores: by seed, by column; one seed where nothing was trained.
        facts: ``members`` (of each descriptor its weights with sha256, network, recipe or address, dimension, whether
            it is whitened, its scales and its normalisation), ``images`` (of each column), ``nights`` (of a generator),
            ``seeds`` (of each its files), ``trained`` (records of the runs behind it); empty where nothing ran.
        reason: why the row, or a part of it, is empty.
        record: its ``row.json``; None where none was written.
    """

    name: str
    scores: Mapping[str, Mapping[str, float]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    record: Path | None = None

    def values(self, column: str) -> list[float]:
        """Of a column, seed by seed."""
        return [found[column] for found in self.scores.values() if column in found]

    def mean(self, column: str) -> float | None:
        """Over the seeds; None where there is nothing."""
        values = self.values(column)
        return statistics.fmean(values) if values else None

    def spread(self, column: str) -> float | None:
        """Standard deviation over the seeds (ddof 1); None of fewer than two."""
        values = self.values(column)
        return statistics.stdev(values) if len(values) > 1 else None

    def said(self) -> list[str]:
        """Lines of what it is made by, a line for each descriptor."""
        lines = []
        images = ", ".join(f"{name} {count}" for name, count in self.facts.get("images", {}).items())
        for member in self.facts.get("members", ()):
            files = ", ".join(f"{Path(one['file']).name} (sha256 {one['sha256'][:12]})" for one in member["weights"])
            parts = [member.get("network"), files, member.get("from") or member.get("recipe"), setting(member)]
            lines.append(f"{self.name}: {'; '.join(str(part) for part in parts if part)}; images: {images or '-'}")
        return lines


@dataclass(frozen=True)
class RetrievalTable:
    """A table with what came out.

    Attributes:
        paper, table: which.
        published: the paper's numbers.
        columns: ours; those of the paper, or of the miniature.
        rows: in the paper's order; those that were asked for.
        controls: of the miniature, numbers by name that no training gives: chance, and light alone.
        missing: files that rows or columns need.
        notes: what a reader must know of this run.
        pictures: files for the page, each with a title.
        page: with all of it; None where none was written.
        town: whether it is the miniature.
    """

    paper: str
    table: str
    published: PublishedTable
    columns: Sequence[str]
    rows: Sequence[TableRow]
    controls: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    missing: Sequence[Missing] = ()
    notes: Sequence[str] = ()
    pictures: Sequence[tuple[str, Path]] = ()
    page: Path | None = None
    town: bool = False

    @property
    def ours(self) -> dict[str, dict[str, float]]:
        """Means over the seeds by row and column, of the rows that have any."""
        found = {}
        for row in self.rows:
            means = {column: mean for column in self.columns if (mean := row.mean(column)) is not None}
            if means:
                found[row.name] = means
        return found

    @property
    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Precision and recall of made nights by row, where that is known."""
        nights = {row.name: row.facts.get("nights", {}) for row in self.rows}
        return {
            name: {key: list(found[key]) for key in ("precision", "recall")}
            for name, found in nights.items()
            if found.get("precision")
        }

    @property
    def whole(self) -> bool:
        """Whether every row has numbers or a reason."""
        return all(row.reason or row.scores for row in self.rows)

    @property
    def shown(self) -> list[str]:
        """Our columns, and those that the paper alone has."""
        return list(dict.fromkeys((*self.columns, *self.published.columns)))

    def cell(self, row: TableRow, column: str) -> dict[str, Any]:
        """The paper's number, our mean, its spread and the seeds' values; None and empty where there are none."""
        printed = dict(zip(self.published.columns, self.published.rows.get(row.name, ()), strict=False)).get(column)
        ours = row.mean(column) if column in self.columns else None
        difference = None if printed is None or ours is None else ours - printed
        values = row.values(column)
        return {
            "published": printed,
            "ours": ours,
            "difference": difference,
            "spread": row.spread(column),
            "seeds": values,
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON form: every cell, and what every row is made by."""
        found: dict[str, Any] = {
            "paper": self.paper,
            "table": self.table,
            "rows": {row.name: {column: self.cell(row, column) for column in self.shown} for row in self.rows},
            "made_by": {row.name: _without_curve(row.facts) for row in self.rows if row.facts},
            "reasons": {row.name: row.reason for row in self.rows if row.reason},
            "records": {row.name: str(row.record) for row in self.rows if row.record is not None},
            "missing": [{"path": str(item.path), "where": item.where} for item in self.missing],
            "notes": list(self.notes),
            "page": None if self.page is None else str(self.page),
        }
        if self.town:
            found["town"] = self.ours
            found |= {name: dict(values) for name, values in self.controls.items()}
        if self.curves:
            found["curves"] = self.curves
        if self.pictures:
            found["pictures"] = {title: str(path) for title, path in self.pictures}
        return found

    def cells(self, row: TableRow) -> list[float | None]:
        """Numbers of a row in the order of :meth:`heads`."""
        found: list[float | None] = []
        for column in self.shown:
            cell = self.cell(row, column)
            found += [cell[name] for name in self._parts(column)]
        return found

    def heads(self) -> list[tuple[str, str]]:
        """Column and part (paper, ours, sd, diff) over every number."""
        return [(column, PARTS[part]) for column in self.shown for part in self._parts(column)]

    def _parts(self, column: str) -> list[str]:
        ours, theirs = column in self.columns, column in self.published.columns
        spread = ours and any(row.spread(column) is not None for row in self.rows)
        wanted = {"published": theirs, "ours": ours, "spread": spread, "difference": ours and theirs}
        return [name for name, there in wanted.items() if there]

    def to_text(self) -> str:
        """Every row with the paper's number and ours, then what the rows are made by, reasons, and what is missing."""
        named = [*(row.name for row in self.rows), *self.controls, ""]
        width = max(map(len, named)) + 2
        title = f"{self.paper}, {'' if self.table.startswith('figure') else 'table '}{self.table}"
        lines = [f"{title}{', in miniature' if self.town else ''}: {self.published.title}", ""]
        lines.append(" " * width + "".join(f"{column:^{self._wide(column)}}" for column in self.shown))
        places = [(column, part) for column in self.shown for part in self._parts(column)]
        lines.append(" " * width + self._line({place: PARTS[place[1]] for place in places}))
        digits = 3 if self.paper == "cyclegan-study" else 2 if self.town else 1
        for row in self.rows:
            texts = {at: _said(value, at[1], digits) for at, value in zip(places, self.cells(row), strict=True)}
            lines.append(f"{row.name:<{width}}" + self._line(texts))
        for name, values in self.controls.items():
            texts = {at: _said(values.get(at[0]) if at[1] == "ours" else None, at[1], digits) for at in places}
            lines.append(f"{name:<{width}}" + self._line(texts))
        lines += ["", *(line for row in self.rows for line in row.said())]
        lines += [f"{row.name}: {row.reason}" for row in self.rows if row.reason]
        lines += [*([self.published.note] if self.published.note else []), *self.notes]
        if self.missing:
            lines += ["", f"missing, {len(self.missing)} files or folders:"]
            lines += [f"  {item.path}\n      {item.where}" for item in self.missing]
        if self.page is not None:
            lines += ["", f"page: {self.page}"]
        return "\n".join(lines)

    def _wide(self, column: str) -> int:
        """Characters that a column takes."""
        return max(WIDE * len(self._parts(column)), len(column) + 2)

    def _line(self, texts: Mapping[tuple[str, str], str]) -> str:
        """A text for every number, below its column."""
        found = ""
        for column in self.shown:
            cells = "".join(f"{texts[column, part]:>{WIDE}}" for part in self._parts(column))
            found += f"{cells:>{self._wide(column)}}"
        return found


def _without_curve(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts for a table, whose curves stand apart."""
    nights = {key: item for key, item in facts.get("nights", {}).items() if key not in ("precision", "recall")}
    return {**facts, **({"nights": nights} if nights else {})}


def setting(member: Mapping[str, Any]) -> str:
    """Whitening, scales and normalisation of a descriptor in a few words."""
    if "whitened" not in member:
        return ""
    scales = ", ".join(f"{scale:.3g}" for scale in member.get("scales") or (1.0,))
    whitened = f"whitened ({member['whitened']})" if member["whitened"] else "not whitened"
    light = {"none": "no CLAHE", "clahe": "CLAHE"}.get(str(member.get("photometric")), str(member.get("photometric")))
    return f"{whitened}, scales {scales}, {light}"


def _said(value: float | None, part: str, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:+.{digits}f}" if part == "difference" else f"{value:.{digits}f}"
