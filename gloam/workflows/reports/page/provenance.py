"""When, where and by which command a page was made."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from gloam.runtime.backends.processor import find_processor

PACKAGES = (
    "gloam",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "faiss-cpu",
    "faiss-gpu-cu12",
    "pycolmap",
    "opencv-python-headless",
    "torch",
)
MODULES = ("main.py", "__main__.py")  # what ``python -m`` runs


def provenance() -> Mapping[str, str]:
    """Date (UTC), command, machine and versions of this process, for people."""
    processor = find_processor()
    cores = "1 core" if processor.cores == 1 else f"{processor.cores} cores"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command_line(sys.argv),
        "machine": f"{processor.model}, {cores}, {platform.system()} {platform.machine()}",
        "versions": ", ".join([f"Python {platform.python_version()}", *installed(PACKAGES)]),
    }


def installed(packages: Iterable[str]) -> Iterator[str]:
    """Name and version of those that are there."""
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            yield f"{name} {metadata.version(name)}"


def command_line(words: Sequence[str]) -> str:
    """The command that a process was started by, quoted for a shell."""
    first, *rest = words or [""]
    name = Path(first).name
    return shlex.join(["gloam" if name in MODULES and "gloam" in Path(first).parts else name, *rest])
