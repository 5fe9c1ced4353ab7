"""What both figures say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloam.runtime.models.image_model import Pixels
from gloam.workflows.reproduce.mduit.request import PAPER
from gloam.workflows.reproduce.published import PublishedTable
from gloam.workflows.reproduce.rows import Missing

CELL = 256  # longer side of a picture on a sheet, pixels


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture of the paper again.

    Attributes:
        table: ``figure3`` or ``figure4``.
        published: what is known of the paper's.
        output: folder of its files.
        reference: domain of the sources, or of the map; "" where there were no pairs.
        made_by: of each column that is shown its weights with sha256, network, recipe, and where they are from.
        missing: files that columns need.
        notes: to be read with it, of columns that are not there among them.
        page: with the picture; None where there is none.
    """

    table: str
    published: PublishedTable
    output: Path
    reference: str = ""
    made_by: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: Sequence[Missing] = ()
    notes: Sequence[str] = ()
    page: Path | None = None

    @property
    def ran(self) -> bool:
        """Whether any column is shown."""
        return bool(self.made_by)

    @property
    def sheet(self) -> Path:
        """The picture."""
        return self.output / f"{self.table}.png"

    @property
    def json(self) -> Path:
        """What :meth:`to_dict` gives, as a file."""
        return self.output / f"{self.table}.json"

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "paper": PAPER,
            "table": self.table,
            "reference": self.reference,
            "columns": list(self.made_by),
            "made_by": {row: dict(facts) for row, facts in self.made_by.items()},
            "missing": [{"path": str(item.path), "where": item.where} for item in self.missing],
            "notes": list(self.notes),
            "sheet": str(self.sheet) if self.ran else None,
            "page": None if self.page is None else str(self.page),
        }

    def shown(self) -> list[str]:
        """Lines of what the picture holds."""
        return []

    def to_text(self) -> str:
        """What is shown and by what it is made, then what is missing and where the picture is."""
        lines = [f"{PAPER}, figure {self.table.removeprefix('figure')}: {self.published.title}", "", *self.shown()]
        for row, facts in self.made_by.items():
            weights = ", ".join(f"{Path(one['file']).name} (sha256 {one['sha256'][:12]})" for one in facts["weights"])
            lines.append("; ".join([f"{row}: {facts['network']}", weights, facts["from"]]))
        lines += ["", self.published.note, *self.notes]
        if self.missing:
            lines += ["", f"missing, {len(self.missing)} files or folders:"]
            lines += [f"  {item.path}\n      {item.where}" for item in self.missing]
        files = [*([self.sheet] if self.ran else []), self.json, *([] if self.page is None else [self.page])]
        return "\n".join([*lines, *map(str, files)])


def cell_size(picture: Pixels) -> tuple[int, int]:
    """Width and height of a sheet's cells for pictures like one, uint8 ``[h, w, 3]``: the longer side :data:`CELL`."""
    height, width = picture.shape[:2]
    scale = CELL / max(height, width)
    return max(round(width * scale), 1), max(round(height * scale), 1)
