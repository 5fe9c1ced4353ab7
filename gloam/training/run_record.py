"""The record of a training run: what made the weights, on what, and how it went."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gloam import __version__
from gloam.files import write_json

RECORD_FILE = "train.json"
PACKAGES = ("numpy", "torch", "opencv-python-headless", "safetensors")


def installed(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Version by name of gloam, of Python and of packages."""
    own = {"gloam": __version__, "python": platform.python_version()}
    return own | {name: importlib.metadata.version(name) for name in packages}


@dataclass(frozen=True)
class RunRecord:
    """What ``train.json`` holds of every kind of run.

    Attributes:
        recipe: its name.
        config: JSON form of the configuration.
        weights_sha256: of the written tensors; by name where there are several networks.
        device: that trained, as torch names it.
        history: a record per epoch; empty where tables beside it hold the curves.
        more: what a kind adds, beside these in the file.
        threads: of torch.
        versions: by name, see :func:`installed`.
    """

    recipe: str
    config: Mapping[str, Any]
    weights_sha256: str | Mapping[str, str]
    device: str
    history: Sequence[Mapping[str, Any]] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    threads: int = field(default_factory=torch.get_num_threads)
    versions: Mapping[str, str] = field(default_factory=installed)

    def to_dict(self) -> dict[str, Any]:
        """JSON form: every attribute, with the keys of ``more`` beside them."""
        return {**self.more, **{name: value for name, value in vars(self).items() if name != "more"}}

    def write(self, folder: Path) -> None:
        """Write ``train.json``.

        Raises:
            StoreError: the disk is full or not writable.
        """
        write_json(folder / RECORD_FILE, self.to_dict())
