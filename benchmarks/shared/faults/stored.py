"""Damage to what is stored: flipped bits, swapped files, lost ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

Plant = Callable[[Path, np.random.Generator], Sequence[str]]


@dataclass(frozen=True)
class Fault:
    """One fault of a workspace.

    Attributes:
        kind: what it is one of.
        what: it, in words.
        scenario: what is run afterwards, a name of :data:`~benchmarks.shared.faults.scenarios.SCENARIOS`.
        plant: plants it, and gives words of which an error is to name one.
        truth: ``made``, what was there before; ``fresh``, what a new run makes of the inputs as they now are; or
            ``named``, no result can be right.
    """

    kind: str
    what: str
    scenario: str
    plant: Plant = field(compare=False)
    truth: str = "made"


# Pattern; what reads it, and how often each; whether a run has nothing to compare it with, because it is an input.
STORED: tuple[tuple[str, dict[str, int], bool], ...] = (
    (
        "store/shards/*.npy",
        {"extract": 6, "index": 3, "pairs": 2, "eval retrieval": 2, "whitening": 2, "verify": 3},
        False,
    ),
    ("store/shards/*.parquet", {"extract": 6, "index": 3, "pairs": 2, "eval retrieval": 2, "verify": 3}, False),
    ("store/manifest.json", {"extract": 4, "index": 2, "eval retrieval": 2, "verify": 2}, False),
    ("store/failures.csv", {"extract": 2, "verify": 2}, False),
    ("store/sources/*.json", {"extract": 4}, False),
    ("store-begun/shards/*.sha256", {"extract unfinished": 4}, False),
    ("store-begun/shards/*.npy", {"extract unfinished": 3}, False),
    ("store-begun/shards/*.parquet", {"extract unfinished": 3}, False),
    ("store-begun/manifest.json", {"extract unfinished": 2}, False),
    ("store-query/shards/*", {"search": 4}, False),
    ("store-tar/shards/*", {"extract tar": 4}, False),
    ("store-table/shards/*", {"extract table": 4}, False),
    ("index/index.faiss", {"search": 5, "index --add": 3}, False),
    ("index/index.json", {"search": 4, "index --add": 2}, False),
    ("index/names.txt", {"search": 4}, False),
    ("index-hnsw/index.faiss", {"search hnsw": 4}, False),
    ("asmk.npz", {"asmk search": 6}, False),
    ("codebook.npz", {"asmk build": 4}, False),
    ("embedder.onnx", {"extract anew": 8, "search images": 3, "check": 4}, False),
    ("translator.onnx", {"translate anew": 6}, False),
    ("local.onnx", {"asmk search": 4}, False),
    ("weights.safetensors", {"export": 4}, False),
    ("whitening.npz", {"export": 3}, False),
    ("night/images/*.png", {"translate": 4}, False),
    ("night/manifest.json", {"translate": 3}, False),
    ("night/failures.csv", {"translate": 2}, False),
    ("night-tar/*.tar", {"translate --tar": 5}, False),
    ("night-tar/*.jsonl", {"translate --tar": 3}, False),
    ("night-tar/manifest.json", {"translate --tar": 2}, False),
    ("night-tar/sources/*.json", {"translate --tar": 2}, False),
    ("poses/workspace/features/*/*.npz", {"localize": 4}, False),
    ("poses/workspace/matches/*/*.npz", {"localize": 5}, False),
    ("poses/workspace/poses/*/*.json", {"localize": 4}, False),
    ("poses/*/sensors/trajectories.txt", {"localize": 2}, False),
    ("run/state/*.pt", {"train": 5}, False),
    ("run/state/*.json", {"train": 2}, False),
    ("run/state/*.sha256", {"train": 2}, False),
    ("poses/*/sensors/*.txt", {"eval localization": 3}, True),
    ("truth.json", {"eval retrieval": 4}, True),
    ("places.txt", {"localize": 3}, True),
    ("features/reconstruction/global_features/places/*/*/*.gfeat", {"localize by features": 3}, True),
    ("features/reconstruction/global_features/places/*.txt", {"localize by features": 2}, True),
    ("town/*/sensors/*.txt", {"localize": 6}, True),
    ("images/p*.*g", {"extract": 4, "translate": 2}, True),
    ("tars/images.tar", {"extract tar": 4}, True),
    ("tables/images.parquet", {"extract table": 4}, True),
    ("list.txt", {"extract list": 2}, True),
)
# Two files of a kind, and what reads them.
SWAPS = (
    ("store/shards/part-000000.npy", "store/shards/part-000001.npy", ("extract", "index", "pairs", "eval retrieval")),
    ("store/shards/part-000000.parquet", "store/shards/part-000001.parquet", ("extract", "index", "verify")),
    ("store-begun/shards/part-000000.sha256", "store-begun/shards/part-000002.sha256", ("extract unfinished",)),
    ("store/manifest.json", "store-query/manifest.json", ("index",)),
    ("store/manifest.json", "store-list/manifest.json", ("extract",)),
    ("index/index.faiss", "index-hnsw/index.faiss", ("search",)),
    ("index/index.json", "index-hnsw/index.json", ("search",)),
    ("night/images/p1.png", "night/images/p2.png", ("translate",)),
    ("night-tar/part-000000.tar", "night-tar/part-000001.tar", ("translate --tar",)),
    ("night-tar/part-000000.jsonl", "night-tar/part-000001.jsonl", ("translate --tar",)),
    ("asmk.npz", "codebook.npz", ("asmk search", "asmk build")),
    ("embedder.onnx", "translator.onnx", ("extract anew", "translate anew")),
    ("store/sources/part-000000.json", "store/sources/part-000001.json", ("extract",)),
)
SWAPPED_IN = (  # two of those that match, drawn
    ("poses/workspace/features/*/*.npz", 2),
    ("poses/workspace/matches/*/*.npz", 3),
    ("poses/workspace/poses/*/*.json", 2),
)


# Caches that answer before those of a folder are read.
BEFORE = {
    "poses/workspace/features": ("poses/workspace/matches", "poses/workspace/poses"),
    "poses/workspace/matches": ("poses/workspace/poses",),
}


def flip(path: Path, rng: np.random.Generator) -> str:
    """Flip one bit of a file; where, in words."""
    content = bytearray(path.read_bytes())
    bit = int(rng.integers(8 * len(content)))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return f"byte {bit // 8}"


def chosen(work: Path, pattern: str, rng: np.random.Generator, count: int = 1) -> list[Path]:
    """Some of the files that match, never empty ones; what would keep them from being read is removed."""
    for folder in BEFORE.get("/".join(pattern.split("/")[:3]), ()):
        shutil.rmtree(work / folder)
    found = sorted(path for path in work.glob(pattern) if path.is_file() and path.stat().st_size)
    if len(found) < count:
        raise RuntimeError(f"{pattern}: the workspace has {len(found)} such files")
    return [found[int(at)] for at in rng.choice(len(found), count, replace=False)]


def names_of(work: Path, *paths: Path) -> list[str]:
    """What an error may call files: themselves, or the store, index or run that they are part of."""
    return [name for path in paths for name in (path.name, f"{work}/{path.relative_to(work).parts[0]}")]


def stored_faults() -> Iterator[Fault]:
    """Every one."""
    for pattern, readers, is_input in STORED:
        for scenario, count in readers.items():
            for _ in range(count):
                truth = "fresh" if is_input else "made"
                yield Fault("flipped bit", pattern, scenario, _flipped(pattern), truth)
    for first, second, scenarios in SWAPS:
        for scenario in scenarios:
            yield Fault("swapped", f"{first} and {second}", scenario, _swapped(first, second))
    for pattern, count in SWAPPED_IN:
        for _ in range(count):
            yield Fault("swapped", f"two of {pattern}", "localize", _swapped(pattern, None))
    for pattern, readers, is_input in STORED:
        if not is_input:
            yield Fault("lost its end", pattern, next(iter(readers)), _cut(pattern))


def _flipped(pattern: str) -> Plant:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        (path,) = chosen(work, pattern, rng)
        flip(path, rng)
        return [*names_of(work, path), *(("--grow",) if path.name == "list.txt" else ())]

    return plant


def _swapped(first: str, second: str | None) -> Plant:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        pair = chosen(work, first, rng, 2) if second is None else [work / first, work / second]
        contents = [path.read_bytes() for path in pair]
        for path, content in zip(pair, reversed(contents), strict=True):
            path.write_bytes(content)
        return names_of(work, *pair)

    return plant


def _cut(pattern: str) -> Plant:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        (path,) = chosen(work, pattern, rng)
        content = path.read_bytes()
        path.write_bytes(content[: int(rng.integers(len(content)))])
        return names_of(work, path)

    return plant
