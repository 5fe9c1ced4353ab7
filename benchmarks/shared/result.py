"""What a benchmark returns, and the machine and versions that every number travels with."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gloam.errors import DataError
from gloam.files import sha256_file, sha256_json, write_json

ROOT = Path(__file__).resolve().parents[2]

# Names a folder in which runs stay, to be read again by whichever benchmark asks for the same.
KEPT = "GLOAM_BENCH_RUNS"
Row = TypeVar("Row")
PACKAGES = (
    "numpy",
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "tensorrt-rtx-cu12",
    "faiss-cpu",
    "opencv-python-headless",
    "kapture",
    "pycolmap",
)


@dataclass(frozen=True)
class Result:
    """One published number.

    Attributes:
        value: the judged figure; None where this machine cannot run what is measured, ``detail`` says why.
        unit: its unit, e.g. ``mAP``, ``s``, ``ratio``.
        target: the bound in words, e.g. ``<= 1e-5``; None where the figure is shown and not judged.
        met: whether the value meets the target; None where there is none, or where the machine cannot be judged by it.
        detail: controls and everything else worth keeping, JSON-ready.
    """

    value: float | None
    unit: str
    target: str | None
    met: bool | None
    detail: dict[str, Any] = field(default_factory=dict)


def largest(values: Iterable[float]) -> float:
    """The largest, and NaN where any is NaN, which Python's ``max`` passes over."""
    return float(np.max(list(values)))


@functools.cache
def code_state(*folders: str) -> str:
    """Changes with the Python files and the recipes of folders of the checkout: what is kept of a run holds as long."""
    files = (path for name in folders for path in sorted((ROOT / name).rglob("*")) if path.suffix in (".py", ".yaml"))
    return sha256_json([[path.relative_to(ROOT).as_posix(), sha256_file(path)] for path in files])


def kept_rows(benchmark: str, key: Any, make: Callable[[], Row], keep: Callable[[Row], bool] | None = None) -> Row:
    """JSON-ready rows of a benchmark; read where an earlier run of the same code and versions kept them.

    Args:
        benchmark: its name.
        key: JSON-ready, of what the rows are of.
        make: measures them.
        keep: whether rows are to be kept; all are by default.
    """
    folder = os.environ.get(KEPT)
    if not folder:
        return make()
    name = sha256_json([key, versions(), code_state("gloam", "benchmarks")])[:16]
    file = Path(folder) / benchmark / f"{name}.json"
    if not file.is_file():
        made = make()
        if keep is not None and not keep(made):
            return made
        write_json(file, made)
    rows: Row = json.loads(file.read_text(encoding="utf-8"))
    return rows


def data_pack(name: str) -> Path:
    """The folder of a test data pack under the environment variable ``GLOAM_DATA``.

    Raises:
        DataError: the variable is unset or the pack is absent.
    """
    root = os.environ.get("GLOAM_DATA")
    if not root:
        raise DataError(f"set GLOAM_DATA to the folder that holds the data pack '{name}'")
    folder = Path(root) / name
    if not folder.is_dir():
        raise DataError(f"{folder}: the data pack '{name}' is not there; check GLOAM_DATA")
    return folder


def machine() -> dict[str, Any]:
    """Processor, cores, memory and Python of this machine."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide a number."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
