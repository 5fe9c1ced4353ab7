"""The state of a run on disk: one file per process and save, and a small file that names the newest complete save.

The name is written last, after every process's file has reached the disk, so a kill or a full disk at any moment leaves
the newest save whole: either the new one or the one before. Beside each file stands its checksum, as ``sha256sum``
writes it; where the newest save is damaged, the run carries on from the one before.
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
from gloam.files import read_sealed, sealed_json, sha256_bytes, sha256_file, sha256_json, write_bytes, write_text
from gloam.heartbeat import Say
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
        file = self.folder / _file(step, self.rank)
        checksum = write_torch(file, {"format": STATE_FORMAT, "step": step, **state})
        write_text(_checksum_file(file), f"{checksum}  {file.name}\n")
        self.barrier()
        if self.rank == 0:
            newest = {
                "format": STATE_FORMAT,
                "step": step,
                "world": self.world,
                "identity": self.identity,
                "identity_sha256": sha256_json(self.identity),
            }
            write_bytes(self.folder / NEWEST_FILE, sealed_json(newest))
            self._prune(step)
        self.barrier()

    def load(self, say: Say | None = None) -> dict[str, Any] | None:
        """The newest complete and whole state of this process, or None for a run that has saved none.

        Args:
            say: told of a damaged save, and that the one before is taken.

        Raises:
            StoreError: another configuration, another number of processes, or no file that can be read.
        """
        path = self.folder / NEWEST_FILE
        if not path.is_file():
            return None
        try:
            newest = read_sealed(path)
            step, world, identity = int(newest["step"]), int(newest["world"]), dict(newest["identity"])
            known = newest["format"] == STATE_FORMAT
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{path}: the run's state is not readable ({error}); remove it to train from the start"
            ) from error
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
        step = self._whole_step(step, say)
        file = self.folder / _file(step, self.rank)
        try:
            value = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises pickle, zip and runtime errors alike
            raise StoreError(f"{file}: the state is not readable; remove {path} to train from the start") from error
        if not isinstance(value, dict) or value.get("step") != step:
            raise StoreError(f"{file}: is not the state of step {step}; remove {path} to train from the start")
        return value

    def _whole_step(self, newest: int, say: Say | None) -> int:
        """The newest step whose files are as they were written, those of all processes, so that all choose the same.

        Raises:
            StoreError: there is none.
        """
        damaged: Path | None = None
        for step in reversed([step for step in self._steps() if step <= newest] or [newest]):
            files = [self.folder / _file(step, rank) for rank in range(self.world)]
            faults = [file for file in files if not _is_whole(file)]
            if not faults:
                return step
            damaged = damaged or faults[0]
            if say is not None:
                say(f"{faults[0]}: the state is damaged; looking for the save before it")
        raise StoreError(
            f"{damaged}: the state is not readable; remove {self.folder / NEWEST_FILE} to train from the start"
        )

    def _steps(self) -> list[int]:
        """Steps of which there are files, ascending."""
        return sorted({found for file in self.folder.glob("step-*.pt") if (found := _step(file)) is not None})

    def _prune(self, newest: int) -> None:
        """Remove what is older than the kept saves, and what a run beyond them has left."""
        kept = [step for step in self._steps() if step <= newest][-KEPT:]
        for file in self.folder.glob("step-*.pt*"):
            if _step(file) is not None and _step(file) not in kept:
                with contextlib.suppress(OSError):
                    file.unlink()


def has_state(folder: Path) -> bool:
    """Whether the run in a folder has saved a state."""
    return (folder / STATE_FOLDER / NEWEST_FILE).is_file()


def write_torch(path: Path, value: Any) -> str:
    """``torch.save``, atomically; the hex sha256 of what was written.

    Raises:
        StoreError: the disk is full or not writable.
    """
    buffer = io.BytesIO()
    torch.save(value, buffer)
    content = buffer.getvalue()
    write_bytes(path, content)
    return sha256_bytes(content)


def _file(step: int, rank: int) -> str:
    return f"step-{step:08d}-rank{rank}.pt"


def _checksum_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _is_whole(file: Path) -> bool:
    """Whether a file is there with its checksum; one of before has none, and shows it when read."""
    try:
        stated = _checksum_file(file).read_bytes().split()
        return stated[:1] == [sha256_file(file).encode()]
    except FileNotFoundError:
        return file.is_file()
    except OSError:
        return False


def _step(file: Path) -> int | None:
    match = re.fullmatch(r"step-(\d+)-rank\d+\.pt(\.sha256)?", file.name)
    return int(match[1]) if match else None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
