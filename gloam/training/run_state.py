"""The state of a run on disk: one file per process and save, and a small file that names the newest complete save.

The name is written last, after every process's file has reached the disk, so a kill or a full disk at any moment leaves
the newest save whole: either the new one or the one before.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from gloam.errors import StoreError
from gloam.files import TEMPORARY_PREFIX, atomic_write, sha256_json, write_json
from gloam.training.typed_config import differences

STATE_FOLDER = "state"
NEWEST_FILE = "newest.json"
STATE_FORMAT = 1
KEPT = 2  # complete saves, the newest included


class RunState:
    """Saves and restores the state of one process of a run.

    Args:
        folder: of the run.
        identity: JSON-ready description of everything that the trajectory depends on.
        rank, world: this process among all.
        barrier: returns once every process has called it.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        rank: int = 0,
        world: int = 1,
        barrier: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder / STATE_FOLDER
        self.identity = dict(identity)
        self.rank, self.world, self.barrier = rank, world, barrier

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Make ``state`` the newest; all processes call it with the same ``step``, which grows from save to save.

        Raises:
            StoreError: the disk is full or not writable; the newest save is then what it was.
        """
        write_torch(self.folder / _file(step, self.rank), {"format": STATE_FORMAT, "step": step, **state})
        self.barrier()
        if self.rank == 0:
            newest = {
                "format": STATE_FORMAT,
                "step": step,
                "world": self.world,
                "identity": self.identity,
                "identity_sha256": sha256_json(self.identity),
            }
            write_json(self.folder / NEWEST_FILE, newest)
            self._prune(step)
        self.barrier()

    def load(self) -> dict[str, Any] | None:
        """The newest complete state of this process, or None for a run that has saved none.

        Raises:
            StoreError: another configuration, another number of processes, or a file that cannot be read.
        """
        path = self.folder / NEWEST_FILE
        if not path.is_file():
            return None
        try:
            newest = json.loads(path.read_text(encoding="utf-8"))
            step, world, identity = int(newest["step"]), int(newest["world"]), dict(newest["identity"])
            known = newest["format"] == STATE_FORMAT
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path}: the run's state is not readable; remove it to train from the start") from error
        if not known:
            raise StoreError(f"{path}: the run's state is of another version of gloam; choose another folder")
        if sha256_json(identity) != sha256_json(self.identity):
            name, old, new = next(iter(differences(identity, self.identity)))
            raise StoreError(
                f"{self.folder.parent}: belongs to a run with another {name} ({_short(old)}, now {_short(new)}); "
                "choose another folder or remove it"
            )
        if world != self.world:
            raise StoreError(f"{self.folder.parent}: was trained by {world} processes; carry on with as many")
        file = self.folder / _file(step, self.rank)
        try:
            value = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises pickle, zip and runtime errors alike
            raise StoreError(f"{file}: the state is not readable; remove {path} to train from the start") from error
        if not isinstance(value, dict) or value.get("step") != step:
            raise StoreError(f"{file}: is not the state of step {step}; remove {path} to train from the start")
        return value

    def _prune(self, newest: int) -> None:
        """Remove what is older than the kept saves, and what killed processes have left."""
        steps = sorted({found for file in self.folder.glob("step-*.pt") if (found := _step(file)) is not None})
        kept = [step for step in steps if step <= newest][-KEPT:]
        for file in self.folder.iterdir():
            stale = _step(file) is not None and _step(file) not in kept
            if stale or file.name.startswith(TEMPORARY_PREFIX):
                with contextlib.suppress(OSError):
                    file.unlink()


def write_torch(path: Path, value: Any) -> None:
    """``torch.save``, atomically.

    Raises:
        StoreError: the disk is full or not writable.
    """
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with atomic_write(path) as handle:
        handle.write(buffer.getbuffer())


def _file(step: int, rank: int) -> str:
    return f"step-{step:08d}-rank{rank}.pt"


def _step(file: Path) -> int | None:
    match = re.fullmatch(r"step-(\d+)-rank\d+\.pt", file.name)
    return int(match[1]) if match else None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
