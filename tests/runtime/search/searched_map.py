"""A map that was searched, made up: index, store of queries, verified matches and ground truth, without any image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.hloc_io import write_hloc_matches
from gloam.files import sealed_json, sha256_file, write_bytes, write_json
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import DescriptorStore, Job, Row
from gloam.runtime.search.index import build_index

SPACE, DIMENSION = "a" * 64, 16
KIND = ["sift", 128, "mutual neighbours, ratio 0.85", [0, "solver 1, 9 trials"]]  # seed and solver last
PLACES, VIEWS = 12, 2  # in the map
MATCHED = 8  # images of a query, the most similar ones


def write_store(folder: Path, names: list[str], rows: np.ndarray, space: str = SPACE) -> Path:
    writer = ShardWriter.begin(folder, Job(space, "b" * 64, DIMENSION, "cosine", "c" * 64, len(names), {}), 1)
    writer.write(0, [Row(name) for name in names], rows)
    writer.finish()
    return folder


def write_matches(path: Path, counts: dict[tuple[str, str], int], source: list[Any] | None = None) -> Path:
    """As ``gloam match --verify`` writes them."""
    rows = {pair: np.repeat(np.arange(count, dtype=np.uint32)[:, None], 2, 1) for pair, count in counts.items()}
    write_hloc_matches(path, ((*pair, 400, row, np.ones(len(row), np.float32)) for pair, row in rows.items()))
    record = {"source": ["hloc", *(source or KIND)], "content": "", "sha256": sha256_file(path)}
    write_bytes(Path(f"{path}.json"), sealed_json(record))
    return path


def write_map(folder: Path, seed: int = 0, queries: int = 60, space: str = SPACE) -> Path:
    """``index``, ``store``, ``matches.h5`` and ``truth.json``; a fifth of the queries are of places not in the map, a
    fifth look like another place, and the nights have fewer verified matches than the days."""
    random = np.random.default_rng(seed)
    places = random.normal(size=(PLACES + queries, DIMENSION))
    images = [f"map/{place:02d}-{view}.jpg" for place in range(PLACES) for view in range(VIEWS)]
    rows = np.array([places[place] + random.normal(scale=0.3, size=DIMENSION) for place in range(PLACES) for _ in "ab"])
    names = [f"{('day', 'night')[number % 2]}/{number:04d}.jpg" for number in range(queries)]
    of = [PLACES + number if number % 5 == 0 else int(random.integers(PLACES)) for number in range(queries)]
    seen = [int(random.integers(PLACES)) if number % 5 == 1 else place for number, place in enumerate(of)]
    looks = np.array([places[place] + random.normal(scale=0.5, size=DIMENSION) for place in seen])
    unit = [(each / np.linalg.norm(each, axis=1, keepdims=True)).astype(np.float32) for each in (rows, looks)]
    build_index(DescriptorStore.open(write_store(folder / "mapped", images, unit[0], space)), folder / "index")
    write_store(folder / "store", names, unit[1], space)
    counts = {}
    for (number, name), nearest in zip(enumerate(names), np.argsort(-unit[1] @ unit[0].T, axis=1), strict=True):
        for row in nearest[:MATCHED].tolist():
            mean = random.gamma(2, 30 if number % 2 == 0 else 12) if of[number] == row // VIEWS else 8
            counts[name, images[row]] = int(random.poisson(mean))
    write_matches(folder / "matches.h5", counts)
    entries = [{"ok": [row for row in range(len(images)) if row // VIEWS == place], "junk": []} for place in of]
    conditions = {when: [name for name in names if name.startswith(when)] for when in ("day", "night")}
    truth = {"imlist": images, "qimlist": names, "gnd": entries, "conditions": conditions}
    write_json(folder / "truth.json", truth)
    return folder
