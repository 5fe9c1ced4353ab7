"""Settings of a translator's recipe searched on a grid, as the thesis does for normalisation, dropout and rate.

Every combination is a run of its own, judged on images that are never trained on by FID and by precision and recall.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloam.data.yaml_text import load_yaml
from gloam.errors import GloamError, UsageError
from gloam.files import write_json, write_text
from gloam.heartbeat import Say
from gloam.training.config_changes import merge, nest
from gloam.training.train import train
from gloam.workflows.reports.page.data import ReportData, ReportPicture, Table
from gloam.workflows.reports.page.write import write_report
from gloam.workflows.reproduce.records import slug

FIGURES = ("FID", "KID", "F_8 recall", "F_1/8 precision")
FILES = ("grid.csv", "grid.json", "grid.html")
HELD_OUT = 64  # images of each domain that a setting is judged on, where the recipe's changes do not say
MOST = 200  # combinations


@dataclass(frozen=True)
class SettingsRequest:
    """What to search.

    Attributes:
        recipe: of translators.
        changes: keys of it replaced in every run; a ``judge`` among them.
        axes: ``NAME=VALUE,VALUE,...``: dotted keys and the values that they take, read as YAML.
        output: folder of the runs and of the table.
        epochs: of every run; None for the recipe's.
        views: rendered town views, shared by the runs.

    Raises:
        UsageError: no judge, an axis that cannot be read, or too many combinations.
    """

    recipe: str
    changes: Mapping[str, Any]
    axes: Sequence[str]
    output: Path
    epochs: int | None = None
    views: Path | None = None

    def __post_init__(self) -> None:
        if not self.changes.get("judge"):
            raise UsageError(
                "--grid compares settings by FID, precision and recall: give --judge MODEL.onnx, or inception"
            )
        count = len(self.settings())
        if count > MOST:
            raise UsageError(f"--grid: {count} combinations are more than {MOST}; give fewer values")

    def settings(self) -> list[dict[str, Any]]:
        """Every combination, values by dotted key."""
        axes = [_axis(text) for text in self.axes]
        names = [name for name, _ in axes]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"--grid {twice[0]}: is given twice; put its values into one list")
        return [dict(zip(names, values, strict=True)) for values in itertools.product(*(values for _, values in axes))]


@dataclass(frozen=True)
class Setting:
    """One combination.

    Attributes:
        values: by dotted key.
        folder: of its run.
        scores: figures of the held-out images by name; empty where it could not be trained.
        step, steps, seconds: of its training.
        reason: why it could not be.
    """

    values: Mapping[str, Any]
    folder: Path
    scores: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class SettingsGrid:
    """What the search gave, best FID first.

    Attributes:
        recipe: that was searched.
        settings: trained ones first.
        output: folder of its files.
    """

    recipe: str
    settings: Sequence[Setting]
    output: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        rows = [
            {
                "settings": dict(one.values),
                "scores": dict(one.scores),
                "folder": str(one.folder),
                "step": one.step,
                "steps": one.steps,
                "seconds": round(one.seconds, 1),
                "reason": one.reason,
            }
            for one in self.settings
        ]
        return {"recipe": self.recipe, "settings": rows, "page": str(self.output / FILES[2])}

    def heads(self) -> list[str]:
        """Of the columns: what was searched, then the figures that any setting has."""
        figures = [name for name in FIGURES if any(name in one.scores for one in self.settings)]
        return [*self.settings[0].values, *figures, "steps", "minutes"]

    def rows(self) -> list[list[str | int | float | None]]:
        """A row for every setting."""
        names = list(self.settings[0].values)
        figures = [name for name in self.heads() if name in FIGURES]
        return [
            [
                *(str(one.values[name]) for name in names),
                *(one.scores.get(name) for name in figures),
                one.step,
                round(one.seconds / 60, 1),
            ]
            for one in self.settings
        ]

    def to_csv(self) -> str:
        """Settings, figures, time, and why there are none."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*self.heads(), "reason"])
        for row, one in zip(self.rows(), self.settings, strict=True):
            writer.writerow([*("" if value is None else value for value in row), one.reason])
        return text.getvalue()

    def to_text(self) -> str:
        """A table, best first."""
        heads = self.heads()
        cells = [[_cell(value) for value in row] for row in self.rows()]
        widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *cells)
        ]
        reasons = [f"{dict(one.values)}: {one.reason}" for one in self.settings if one.reason]
        return "\n".join([*(line.rstrip() for line in lines), *reasons, *(str(self.output / name) for name in FILES)])


def search_settings(request: SettingsRequest, say: Say | None = None) -> SettingsGrid:
    """Train every combination and judge it; the same call carries on, and a setting that cannot be trained is a reason.

    Args:
        request: what to search.
        say: gets one line per step.

    Raises:
        UsageError: a recipe that does not exist.
        StoreError: the folder cannot be written.
    """
    tell = say or (lambda line: None)
    found = []
    for number, values in enumerate(request.settings(), 1):
        name = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in values.items())
        folder = request.output / slug(name)
        tell(f"setting {number}: {name}")
        changes = merge({"held_out": HELD_OUT}, request.changes)
        for key, value in values.items():
            changes = merge(changes, nest(key, value))
        try:
            views = request.views or request.output / "views"
            run = train("translator", request.recipe, changes, folder, epochs=request.epochs, views=views, say=tell)
        except GloamError as error:
            found.append(Setting(values, folder, reason=str(error)))
            continue
        found.append(Setting(values, folder, run.held_out, run.step, run.steps, run.seconds))
    found.sort(key=lambda one: (one.scores.get("FID") is None, one.scores.get("FID", 0.0)))
    grid = SettingsGrid(request.recipe, found, request.output)
    write_text(request.output / FILES[0], grid.to_csv())
    write_json(request.output / FILES[1], grid.to_dict())
    _write_page(grid)
    return grid


def _write_page(grid: SettingsGrid) -> None:
    from gloam.training.translators.monitor import strips

    pictures = []
    for one in grid.settings:
        if one.scores and (found := strips(one.folder)):
            pictures.append(ReportPicture(", ".join(f"{key}={value}" for key, value in one.values.items()), found[-1]))
    reasons = [[str(dict(one.values)), one.reason] for one in grid.settings if one.reason]
    tables = [Table("Settings, best FID first", grid.heads(), grid.rows(), "Of images that are never trained on.")]
    tables += [Table("Settings that could not be trained", ["settings", "reason"], reasons)] if reasons else []
    title = f"Settings of recipe {grid.recipe}"
    write_report(ReportData(title, tables=tables, pictures=pictures[:12]), grid.output / FILES[2])


def _axis(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    if not equals or not all(name.split(".")) or not values.strip():
        raise UsageError(
            f"--grid {text!r}: expected NAME=VALUE,VALUE,..., for example options.learning_rate=1.0e-4,2.0e-4"
        )
    try:
        found = load_yaml(f"[{values}]")
    except ValueError as error:
        raise UsageError(f"--grid {text!r}: the values are not readable as YAML") from error
    return name, list(found)


def _cell(value: str | int | float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
