"""A set of descriptors in memory, of the interface of a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass
class MemorySource:
    names: list[str]
    rows: npt.NDArray[np.float32]
    space: str = "a" * 64
    fingerprint: str = "b" * 64
    metric: str = "cosine"
    shard: int = 7  # blocks end at shards, as in a store

    def __post_init__(self) -> None:
        self.dimension = int(self.rows.shape[1])

    def blocks(self, rows: int = 65536) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
        step = min(rows, self.shard)
        for start in range(0, len(self.names), step):
            yield self.names[start : start + step], self.rows[start : start + step]


def random_source(count: int, dimension: int = 16, seed: int = 0, prefix: str = "map") -> MemorySource:
    """Unit vectors with nested, unsorted names."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"{prefix}/cam{n % 3}/{n:05d}.jpg" for n in rng.permutation(count)]
    return MemorySource(names, rows)
