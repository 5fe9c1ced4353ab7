"""Where FAISS trains and searches: on its GPUs where it has any and the index has a form for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from gloam.errors import DeviceError, UsageError

DEVICES = ("cpu", "auto", "cuda")


@contextlib.contextmanager
def trained_on(faiss: ModuleType, index: Any, device: str) -> Iterator[str]:
    """Run the k-means of an inverted file on every GPU inside the block; the index itself stays on the CPU.

    Args:
        faiss: the module.
        index: untrained, on the CPU.
        device: ``cpu``, ``cuda``, or ``auto``: GPUs where they can be used.

    Yields:
        what was chosen and why, in words.

    Raises:
        DeviceError: ``cuda`` cannot be had.
    """
    refusal = _refusal(faiss, device)
    cells = inverted_file(faiss, index)
    if refusal is None and cells is None:
        refusal = "no k-means of cells that a GPU could take over"
    if cells is None or refusal is not None:
        yield _stay(device, refusal or "")
        return
    helper = faiss.index_cpu_to_all_gpus(faiss.IndexFlat(cells.d, cells.metric_type))
    cells.clustering_index = helper
    try:
        yield _gpus(faiss)
    finally:
        cells.clustering_index = None  # it must not outlive the helper


def searched_on(faiss: ModuleType, index: Any, device: str) -> tuple[Any, str]:
    """A copy of an index on every GPU, queries divided among them, or the index itself on the CPU.

    Returns:
        the index to search, and what was chosen and why, in words.

    Raises:
        DeviceError: ``cuda`` cannot be had, or FAISS has no GPU form of this index.
    """
    refusal = _refusal(faiss, device)
    if refusal is None:
        try:
            return faiss.index_cpu_to_all_gpus(index), _gpus(faiss)
        except RuntimeError as error:
            refusal = f"FAISS takes this index to no GPU ({reason(error)})"
    return index, _stay(device, refusal)


def inverted_file(faiss: ModuleType, index: Any) -> Any | None:
    """The inverted file inside an index, None where there is none."""
    try:
        return faiss.extract_index_ivf(index)
    except RuntimeError:
        return None


def reason(error: Exception) -> str:
    """The last line of one of FAISS's errors, which says what failed."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][-160:]


def _refusal(faiss: ModuleType, device: str) -> str | None:
    """Why not on a GPU; None where nothing is against it."""
    if device not in DEVICES:
        raise UsageError(f"unknown device {device!r}; choose {', '.join(DEVICES)}")
    if device == "cpu":
        return "as asked"
    if not hasattr(faiss, "StandardGpuResources"):
        return "this FAISS has no GPU classes (pip install 'gloam[gpu]')"
    return None if faiss.get_num_gpus() > 0 else "FAISS sees no GPU"


def _stay(device: str, refusal: str) -> str:
    if device == "cuda":
        raise DeviceError(f"no GPU for the index: {refusal}; use --device cpu or auto")
    return f"CPU: {refusal}"


def _gpus(faiss: ModuleType) -> str:
    return f"{faiss.get_num_gpus()} GPU(s)"
