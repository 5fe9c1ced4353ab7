"""Whether a store is still what was written, byte by byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.runtime.descriptors.store import damaged_files, read_manifest, shard_paths


@dataclass(frozen=True)
class StoreCheck:
    """What :func:`verify_store` found.

    Attributes:
        folder: of the store.
        shards: of its job, and how many of them are there.
        present: shards that are there.
        complete: whether the manifest states it complete.
        damaged: name and fault of each damaged or missing file.
    """

    folder: Path
    shards: int
    present: int
    complete: bool
    damaged: Sequence[tuple[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        damaged = [{"file": name, "fault": fault} for name, fault in self.damaged]
        return {**vars(self), "folder": str(self.folder), "damaged": damaged, "passed": not damaged}

    def __str__(self) -> str:
        """Lines for people."""
        there = f"{self.present} of {self.shards} shards"
        state = "complete" if self.complete else "not finished, run the same `gloam extract` again"
        lines = [f"{self.folder}: {name}: {fault}" for name, fault in self.damaged]
        if not lines:
            return f"{self.folder}: {there} are as they were written; the store is {state}"
        return "\n".join([*lines, f"{self.folder}: {len(lines)} damaged; the same `gloam extract` makes them again"])


def verify_store(folder: str | Path) -> StoreCheck:
    """Read every byte of a store and compare it with the checksums of what was written.

    Args:
        folder: as given to ``gloam extract -o``; an unfinished store's shards are compared with what was noted of each.

    Raises:
        StoreError: not a store, or its manifest is damaged.
    """
    place = Path(folder)
    manifest = read_manifest(place)
    present = [all(path.is_file() for path in shard_paths(place, shard)) for shard in range(manifest["shards"])]
    damaged = list(damaged_files(place, manifest))
    return StoreCheck(place, len(present), sum(present), manifest["complete"], damaged)
