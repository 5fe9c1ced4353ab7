"""What it costs to check a store when it is read: a search over 100 000 descriptors with the checks and without.

In one process the store is opened once with checks and once with ``trust``; the first search of the former compares
every shard with its checksum, the later ones do not. Ten queries, the ten best of each; the two kinds take turns, and
the medians are compared. Beside it stand the price of opening, of the first search, and of the index's own checks.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.result import Result
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.source import DescriptorArray
from gloam.runtime.descriptors.store import DescriptorStore, Job, Row
from gloam.runtime.search.index import DescriptorIndex, build_index
from gloam.runtime.search.pairs import retrieve_pairs

IMAGES, DIMENSION, SHARD = 100_000, 512, 5000
QUERIES, K, ROUNDS = 10, 10, 15
RATIO = 1.05


def write_store(folder: Path) -> None:
    """Random unit descriptors, fp16."""
    rng = np.random.default_rng(0)
    job = Job("space", "fingerprint", DIMENSION, "cosine", "", IMAGES, {})
    writer = ShardWriter.begin(folder, job, IMAGES // SHARD)
    for shard in range(writer.shards):
        rows = rng.standard_normal((SHARD, DIMENSION), np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        names = range(shard * SHARD, (shard + 1) * SHARD)
        writer.write(shard, [Row(f"{name:06d}.jpg", f"{name:064x}") for name in names], rows.astype(np.float16))
    writer.finish()


def seconds(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """That a call takes."""
    start = clock()
    call()
    return clock() - start


def checks(store: DescriptorStore) -> None:
    """The comparison of every shard that the first search makes, alone."""
    for shard in range(IMAGES // SHARD):
        store._compare(shard)


def run() -> Result:
    """Write the store, search it, compare."""
    with tempfile.TemporaryDirectory(prefix="gloam-verify-") as temporary:
        root = Path(temporary)
        write_store(root / "store")
        build_index(DescriptorStore.open(root / "store"), root / "index")
        stores = {trust: DescriptorStore.open(root / "store", trust=trust) for trust in (False, True)}
        opening = {trust: seconds(lambda t=trust: DescriptorStore.open(root / "store", trust=t)) for trust in stores}  # type: ignore[misc]  # a bound default
        names, rows = next(stores[True].blocks(QUERIES))
        queries = DescriptorArray(names, rows, "space", "fingerprint")

        def search(trust: bool) -> float:
            return seconds(lambda: list(retrieve_pairs(queries, stores[trust], K)))

        check = seconds(lambda: checks(DescriptorStore.open(root / "store")), time.process_time)
        check -= seconds(lambda: DescriptorStore.open(root / "store"), time.process_time)
        search(True)  # the page cache is warm for both
        first = search(False)
        times: dict[bool, list[float]] = {False: [], True: []}
        for number in range(ROUNDS):
            for trust in (False, True) if number % 2 else (True, False):
                times[trust].append(search(trust))
        checked, trusted = (statistics.median(times[trust]) for trust in (False, True))
        size = sum(path.stat().st_size for path in (root / "store" / "shards").glob("*.npy"))
        detail = {
            "images": IMAGES,
            "dimension": DIMENSION,
            "dtype": "float16",
            "descriptors_gb": size / 1e9,
            "search_seconds": checked,
            "search_seconds_trust": trusted,
            "first_search_seconds": first,
            "first_check_processor_seconds": check,
            "first_check_gb_per_processor_second": size / 1e9 / check,
            "open_seconds": opening[False],
            "open_index_seconds": seconds(lambda: DescriptorIndex.open(root / "index")),
            "open_index_seconds_trust": seconds(lambda: DescriptorIndex.open(root / "index", trust=True)),
            "rounds": ROUNDS,
            "page_cache": "warm",
        }
    ratio = checked / trusted
    return Result(ratio, "ratio", f"<= {RATIO} after the first search", ratio <= RATIO, detail)
