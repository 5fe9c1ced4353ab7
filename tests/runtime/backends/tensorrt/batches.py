"""Batches for the fake engine, and whether it described them rightly."""

from __future__ import annotations

import numpy as np

from tests.fakes.cuda import expected_sums
from tests.tiny_models import DIMENSION

Batch = dict[str, np.ndarray]


def batch(rows: int, height: int = 256, width: int = 512, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    sizes = np.stack([rng.integers(1, height + 1, rows), rng.integers(1, width + 1, rows)], axis=1).astype(np.int32)
    return {"images": rng.integers(0, 256, (rows, height, width, 3), dtype=np.uint8), "sizes": sizes}


def right(found: dict[str, np.ndarray], given: Batch) -> bool:
    wanted = expected_sums(given["images"], given["sizes"], DIMENSION)
    return found["descriptors"].shape == wanted.shape and np.array_equal(found["descriptors"], wanted)
