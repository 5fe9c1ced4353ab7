"""A town as it is asked for: rendered, perhaps with one picture of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloam.data.town.config import TownConfig
from gloam.data.town.contact_sheet import write_contact_sheet
from gloam.data.town.dataset import TownDataset, default_workers, write_town
from gloam.errors import UsageError

SHOWN = 5  # damaged images that the report names


@dataclass(frozen=True)
class TownRequest:
    """What to render.

    Attributes:
        out: folder to write; a town that was begun there is finished.
        config: the town.
        workers: rendering processes; 0 is one per core.
        contact_sheet: picture of the town to write, or None.

    Raises:
        UsageError: a negative number of processes.
    """

    out: Path
    config: TownConfig = field(default_factory=TownConfig)
    workers: int = 0
    contact_sheet: Path | None = None

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UsageError(f"--workers {self.workers}: must be 0 or more")


@dataclass(frozen=True)
class RenderedTown:
    """A town on the disk.

    Attributes:
        town: what was written or found.
        seconds: of rendering.
        contact_sheet: picture that was written, or None.
    """

    town: TownDataset
    seconds: float
    contact_sheet: Path | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        town = self.town
        return {
            "folder": str(town.folder),
            "look": town.config.look,
            "content_hash": town.config.content_hash(),
            "mapping_images": len(town.mapping.records),
            "query_images": {condition: len(names) for condition, names in town.conditions.items()},
            "rendered": town.rendered,
            "reused": town.reused,
            "damaged": list(town.damaged),
            "seconds": round(self.seconds, 2),
            "contact_sheet": str(self.contact_sheet) if self.contact_sheet else None,
        }

    def __str__(self) -> str:
        """Lines for people."""
        town = self.town
        queries = ", ".join(f"{len(names)} {condition}" for condition, names in town.conditions.items())
        return (
            f"{town.folder}: {len(town.mapping.records)} mapping images, queries: {queries}\n"
            f"look {town.config.look}, {town.rendered} rendered, {town.reused} reused, {self.seconds:.1f} s"
            + (f"\ndamaged, rendered again: {', '.join(town.damaged[:SHOWN])}" if town.damaged else "")
        )


def render_town(request: TownRequest, progress: bool = False) -> RenderedTown:
    """Render, or finish what was begun.

    Args:
        request: what to render.
        progress: say how far it is, on stderr.

    Raises:
        StoreError: the folder holds another town, or cannot be written.
        UsageError, DataError: the config gives no town.
    """
    started = time.perf_counter()
    town = write_town(request.out, request.config, request.workers or default_workers(), progress=progress)
    seconds = time.perf_counter() - started
    if request.contact_sheet is not None:
        write_contact_sheet(town, request.contact_sheet)
    return RenderedTown(town, seconds, request.contact_sheet)
