"""Shared by the benchmarks that hold a rate against the machine's limits: operations of a network, measured ceilings.

Not a benchmark of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

MATRICES = {"cpu": (1536, 3072), "cuda": (8192,)}  # sides of the square matrices whose products are timed
COPIED = {"cpu": 1 << 28, "cuda": 1 << 30}  # bytes copied


def operations(model: nn.Module, images: torch.Tensor) -> float:
    """Multiplications and additions of one image, counted by torch as it runs; 2 for a multiply-add."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(images)
    return counter.get_total_flops() / len(images)


def least_bytes(model: nn.Module, images: torch.Tensor) -> float:
    """Bytes that one image must move at least: every weight once, each layer's input and output once, float32."""
    moved = [0]

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and not list(module.children()):
            tensors = [item for item in inputs if isinstance(item, torch.Tensor)]
            moved[0] += sum(item.numel() * item.element_size() for item in (*tensors, output))

    handles = [module.register_forward_hook(count) for module in model.modules()]
    try:
        with torch.inference_mode():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    weights = sum(item.numel() * item.element_size() for item in model.parameters())
    return moved[0] / len(images) + weights / len(images)


def best_seconds(run: Callable[[], object], rounds: int = 7, wait: Callable[[], object] = lambda: None) -> float:
    """The quickest of some rounds, after one to warm up; ``wait`` for a device to be done."""
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def matrix_ceiling(device: str, dtype: torch.dtype) -> float:
    """Operations per second of a large product of matrices: by the quickest library and size of this machine."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    found = []
    for side in MATRICES[device]:
        first, second = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        pairs: list[tuple[Any, Any]] = [(first, second)]
        if device == "cpu" and dtype == torch.float32:  # NumPy's library is another, and the quicker on some processors
            pairs.append((first.numpy(), second.numpy()))
        found += [2 * side**3 / best_seconds(lambda pair=pair: pair[0] @ pair[1], wait=wait) for pair in pairs]
    return max(found)


def memory_ceiling(device: str) -> float:
    """Bytes per second of a copy within the device's memory, those read and those written."""
    source = torch.zeros(COPIED[device] // 4, device=device)
    target = torch.empty_like(source)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    return 2 * COPIED[device] / best_seconds(lambda: target.copy_(source), wait=wait)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An image of detail at several scales, uint8 ``[height, width, 3]``, as JPEG has to work for."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64):
        coarse = rng.uniform(0, 255 / 3, (cells, cells, 3)).astype(np.float32)
        total += np.kron(coarse, np.ones((-(-height // cells), -(-width // cells), 1), np.float32))[:height, :width]
    return total.clip(0, 255).astype(np.uint8)
