"""Descriptors around centres, as photographs of places are: approximate indexes have something to find."""

from __future__ import annotations

import numpy as np

from tests.runtime.sources import MemorySource


def clustered(
    count: int, dimension: int = 32, seed: int = 0, prefix: str = "map", size: int = 20, noise: float = 0.5
) -> MemorySource:
    """Unit vectors in clusters of ``size``."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(-(-count // size), dimension))
    rows = np.repeat(centres, size, axis=0)[:count] + noise * rng.normal(size=(count, dimension))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    order = rng.permutation(count)
    names = [f"{prefix}/{number:05d}.jpg" for number in range(count)]
    return MemorySource(names, rows[order].astype(np.float32), shard=170)
