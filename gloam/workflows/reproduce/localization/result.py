"""A table of localization recalls: the paper's numbers, ours, and the files that wait for their server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloam.workflows.reproduce.published import PublishedTable
from gloam.workflows.reproduce.rows import Missing

Triple = tuple[float, float, float]  # %, within 0.25 m 2 deg, 0.5 m 5 deg, 5 m 10 deg
THREE = 3
WIDE = 21  # characters of three numbers


@dataclass(frozen=True)
class Cell:
    """One group of three columns of a row.

    Attributes:
        published, ours: %; None where there are none.
        source: where ours is from: ``server``, ``truth``, ``known images``, or "".
        other: the same by the other reading of an average, where there are two: the mean of the conditions.
        submission: the file that a server takes, below the output folder.
        localized, queries: of that file.
    """

    published: Triple | None = None
    ours: Triple | None = None
    source: str = ""
    other: Triple | None = None
    submission: str = ""
    localized: int | None = None
    queries: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        difference = None
        if self.published is not None and self.ours is not None:
            difference = [ours - theirs for ours, theirs in zip(self.ours, self.published, strict=True)]
        return {
            "published": self.published and list(self.published),
            "ours": self.ours and list(self.ours),
            "difference": difference,
            "source": self.source,
            "mean_of_conditions": self.other and list(self.other),
            "submission": self.submission,
            "localized": self.localized,
            "queries": self.queries,
        }


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        name: as the paper has it.
        cells: by group of columns.
        facts: weights, sha256, network, recipe or address, numbers of images; empty where nothing ran.
        reason: why a row is empty, or a part of it.
    """

    name: str
    cells: Mapping[str, Cell]
    facts: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class GeneratorFacts:
    """A generator of the miniature, or a control beside it.

    Attributes:
        name: of it.
        weights, sha256: of its file; None and "" for a control.
        step, steps: of its training, and of the recipe.
        seconds: of processor time.
        figures: metrics of its nights by name.
    """

    name: str
    weights: Path | None = None
    sha256: str = ""
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        weights = {} if self.weights is None else {"weights": str(self.weights), "sha256": self.sha256}
        training = {"step": self.step, "steps": self.steps, "seconds": round(self.seconds, 1)} if self.steps else {}
        return {**weights, **training, "figures": dict(self.figures)}


@dataclass(frozen=True)
class LocalizationTable:
    """A paper's table again.

    Attributes:
        paper, table: which.
        published: the paper's numbers; three columns make a group.
        groups: of columns, in the paper's order.
        rows: in the paper's order, controls behind.
        context: lines of numbers that others published on the same benchmarks.
        missing: files or folders that rows need.
        notes: what a reader must know: data, map, retrieval, unlocalized queries, aggregation.
        detail: more for the JSON: maps, further numbers of retrieved images, retrieval, generators.
        page: of the joined report; None where none was written.
        whole: whether every row has numbers, files, or a reason.
    """

    paper: str
    table: str
    published: PublishedTable
    groups: tuple[str, ...]
    rows: Sequence[Row]
    context: Sequence[str] = ()
    missing: Sequence[Missing] = ()
    notes: Sequence[str] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
    page: Path | None = None

    @property
    def ran(self) -> bool:
        """Whether any row has a number or a file."""
        return any(cell.ours or cell.submission for row in self.rows for cell in row.cells.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "paper": self.paper,
            "table": self.table,
            "groups": list(self.groups),
            "thresholds": ["0.25 m 2 deg", "0.5 m 5 deg", "5 m 10 deg"],
            "rows": {
                row.name: {
                    "cells": {name: cell.to_dict() for name, cell in row.cells.items()},
                    "facts": dict(row.facts),
                    "reason": row.reason,
                }
                for row in self.rows
            },
            "context": list(self.context),
            "missing": [{"path": str(item.path), "where": item.where} for item in self.missing],
            "notes": list(self.notes),
            "detail": dict(self.detail),
            "page": None if self.page is None else str(self.page),
        }

    def to_text(self) -> str:
        """A line for every row, paper and ours in each group; then reasons, context, notes, and what is missing."""
        width = max(len(row.name) for row in self.rows) + 2
        lines = [
            f"{self.paper}, table {self.table}: {self.published.title}",
            "% of the queries within 0.25 m 2 deg / 0.5 m 5 deg / 5 m 10 deg",
            "",
            " " * width + "".join(f"{group:>{2 * WIDE}}" for group in self.groups),
            " " * width + f"{'paper':>{WIDE}}{'ours':>{WIDE}}" * len(self.groups),
        ]
        for row in self.rows:
            cells = (row.cells.get(group, Cell()) for group in self.groups)
            lines.append(f"{row.name:<{width}}" + "".join(_text(cell.published) + _ours(cell) for cell in cells))
        reasons = [f"{row.name}: {row.reason}" for row in self.rows if row.reason]
        made = [_made_by(row) for row in self.rows if row.facts]
        lines += [
            "",
            *filter(None, map(_by_condition, self.rows)),
            *made,
            *reasons,
            *([self.published.note] if self.published.note else []),
            *self.notes,
        ]
        if self.context:
            lines += ["", *self.context]
        if self.missing:
            lines += ["", f"missing, {len(self.missing)} files or folders:"]
            lines += [f"  {item.path}\n      {item.where}" for item in self.missing]
        if self.page is not None:
            lines += ["", f"page: {self.page}"]
        return "\n".join(lines)


def triples(published: PublishedTable, groups: Sequence[str]) -> dict[str, dict[str, Triple]]:
    """The published numbers by row and group of three columns."""
    found: dict[str, dict[str, Triple]] = {}
    for row, values in published.rows.items():
        parts = [values[start : start + THREE] for start in range(0, len(values), THREE)]
        found[row] = {
            group: (float(a), float(b), float(c))
            for group, (a, b, c) in zip(groups, parts, strict=True)
            if a is not None and b is not None and c is not None
        }
    return found


def _text(values: Triple | None) -> str:
    return f"{'-' if values is None else ' / '.join(f'{value:.1f}' for value in values):>{WIDE}}"


def _by_condition(row: Row) -> str:
    """The other reading of a row's averages, where it is another."""
    others = [
        f"{group} {_text(cell.other).strip()}"
        for group, cell in row.cells.items()
        if cell.other is not None and cell.ours is not None and _text(cell.other) != _text(cell.ours)
    ]
    return f"{row.name}, mean of the conditions: {', '.join(others)}" if others else ""


def _made_by(row: Row) -> str:
    """What a row is made by, in a line."""
    facts = row.facts
    files = ", ".join(f"{Path(item['file']).name} (sha256 {item['sha256'][:12]})" for item in facts.get("weights", ()))
    parts = [facts.get("network"), files, facts.get("from") or facts.get("recipe")]
    return f"{row.name}: {', '.join(part for part in parts if part)}; {facts.get('map images')} map images, " + (
        f"{facts.get('queries')} queries"
    )


def _ours(cell: Cell) -> str:
    if cell.ours is None and cell.submission:
        return f"{'to submit':>{WIDE}}"
    return _text(cell.ours)
