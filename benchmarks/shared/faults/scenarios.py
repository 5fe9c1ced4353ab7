"""What a user runs after a fault, and what of it is compared with the truth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq

from benchmarks.shared.faults.workspace import EXTRACT, FEATURES, LOCALIZE, TOWN, TRAIN, TRANSLATE, Ran
from gloam.files import sha256_file

Found = Any
UNSTEADY = ("seconds", "took", "rate", "per_second", "images_per_second")


@dataclass(frozen=True)
class Scenario:
    """Commands in order, and what they are for.

    Attributes:
        steps: words of each; ``W`` is the workspace.
        result: what is compared, of the workspace and of what the last command printed.
        outputs: what a fresh run begins without.
    """

    steps: tuple[tuple[str, ...], ...]
    result: Callable[[Path, Ran], Found]
    outputs: tuple[str, ...]


def store(name: str) -> Callable[[Path, Ran], Found]:
    """Rows and descriptors of a store, read past gloam."""

    def read(work: Path, ran: Ran) -> Found:
        rows, values = [], []
        for table in sorted((work / name / "shards").glob("*.parquet")):
            rows += [(row["image"], row["sha256"], row["status"]) for row in pq.read_table(table).to_pylist()]
            values.append(np.load(table.with_suffix(".npy")).tobytes())
        return rows, hashlib.sha256(b"".join(values)).hexdigest(), (work / name / "failures.csv").read_text()

    return read


def files(*patterns: str) -> Callable[[Path, Ran], Found]:
    """The bytes of files."""

    def read(work: Path, ran: Ran) -> Found:
        found = sorted(path for pattern in patterns for path in work.glob(pattern) if path.is_file())
        return {path.relative_to(work).as_posix(): sha256_file(path) for path in found}

    return read


def pictures(name: str) -> Callable[[Path, Ran], Found]:
    """Pixels of a folder of pictures, and what failed."""

    def read(work: Path, ran: Ran) -> Found:
        found = sorted((work / name / "images").rglob("*.png"))
        pixels = {path.name: hashlib.sha256(cv2.imread(str(path)).tobytes()).hexdigest() for path in found}
        return pixels, (work / name / "failures.csv").read_text()

    return read


def printed(work: Path, ran: Ran) -> Found:
    """The JSON report, but for times."""

    def steady(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: steady(item) for key, item in value.items() if not key.endswith(UNSTEADY)}
        return [steady(item) for item in value] if isinstance(value, list) else value

    return steady(json.loads(ran.out.strip().splitlines()[-1]))


def _extract(source: str, output: str, *more: str) -> Scenario:
    return Scenario((("extract", f"W/{source}", *EXTRACT, *more, "-o", f"W/{output}"),), store(output), (output,))


def _translate(source: str, output: str, *more: str) -> Scenario:
    words = ("translate", f"W/{source}", *TRANSLATE, *more, "-o", f"W/{output}")
    tars = files(f"{output}/*.tar", f"{output}/failures.csv")
    return Scenario((words,), tars if "--tar" in more else pictures(output), (output,))


def _search(index: str, *queries: str) -> tuple[str, ...]:
    return ("search", f"W/{index}", *(queries or ("--store", "W/store-query")), "-k", "5", "--json")


LOCAL = ("--model", "W/local.onnx", "--threads", "1", "--strongest", "20")
PAIRS = ("pairs", "--query", "W/store-query", "--map", "W/store", "-k", "3", "-o", "W/new.txt")
EVAL = ("eval", "retrieval", "--query", "W/store-query", "--map", "W/store", "--ground-truth", "W/truth.json", "--json")
PROTOCOLS = {
    "sets": ("--ground-truth", "W/truth.json"),
    "vpr-bench": ("--ground-truth", "W/numbers.json"),
    "clusters": ("--ground-truth", "W/clusters.csv"),
    "distance": ("--query-positions", "W/positions-query.csv", "--map-positions", "W/positions-map.csv"),
}


def _scored(protocol: str, source: str, output: str) -> Scenario:
    stores = ("--query", "W/store-query", "--map", "W/store", "--json")
    score = ("eval", "retrieval", *stores, "--protocol", protocol, *PROTOCOLS[protocol])
    return Scenario((("extract", f"W/{source}", *EXTRACT, "-o", f"W/{output}"), score), printed, (output,))


TAR = ("--tar", "--tar-size", "3")
SCENARIOS = {
    "extract": _extract("images", "store"),
    "extract --verify-sources": _extract("images", "store", "--verify-sources"),
    "extract --grow": _extract("images", "store", "--grow"),
    "extract unfinished": _extract("images", "store-begun"),
    "extract list": _extract("list.txt", "store-list"),
    "extract list --grow": _extract("list.txt", "store-list", "--grow"),
    "extract tar": _extract("tars/images.tar", "store-tar"),
    "extract tar --grow": _extract("tars/images.tar", "store-tar", "--grow"),
    "extract table": _extract("tables/images.parquet", "store-table"),
    "extract table --grow": _extract("tables/images.parquet", "store-table", "--grow"),
    "extract anew": _extract("queries", "store-new"),
    "verify": Scenario((("store", "verify", "W/store"),), files("store/shards/*", "store/*.*"), ()),
    "index": Scenario((("index", "W/store", "-o", "W/new"), _search("new")), printed, ("new",)),
    "index --add": Scenario((("index", "--add", "W/store-query", "-o", "W/index"), _search("index")), printed, ()),
    "search": Scenario((_search("index"),), printed, ()),
    "search hnsw": Scenario((_search("index-hnsw"),), printed, ()),
    "search images": Scenario((_search("index", "--images", "W/queries", "--model", "W/embedder.onnx"),), printed, ()),
    "pairs": Scenario((PAIRS,), files("new.txt"), ("new.txt",)),
    "eval retrieval": Scenario((EVAL,), printed, ()),
    "whitening": Scenario(
        (("train", "whitening", "W/store", "--kind", "pca", "--dimension", "4", "-o", "W/new.npz"),),
        files("new.npz"),
        ("new.npz",),
    ),
    "export": Scenario(
        (("export", "W/weights.safetensors", "--whitening", "W/whitening.npz", "-o", "W/new.onnx"),),
        files("new.onnx"),
        ("new.onnx",),
    ),
    "check": Scenario((("check", "W/embedder.onnx"),), lambda work, ran: ran.code, ()),
    "translate": _translate("images", "night"),
    "translate --grow": _translate("images", "night", "--grow"),
    "translate --verify-sources": _translate("images", "night", "--verify-sources"),
    "translate --tar": _translate("images", "night-tar", *TAR),
    "translate --tar --grow": _translate("images", "night-tar", *TAR, "--grow"),
    "translate anew": _translate("queries", "night-new"),
    "asmk search": Scenario(
        (("asmk", "search", "W/asmk.npz", "W/queries", *LOCAL, "-k", "5", "-o", "W/new.json"),),
        lambda work, ran: json.loads((work / "new.json").read_text()),
        ("new.json",),
    ),
    "asmk build": Scenario(
        (("asmk", "build", "W/images", *LOCAL, "--words", "16", "--codebook", "W/codebook.npz", "-o", "W/new.npz"),),
        files("new.npz"),
        ("new.npz",),
    ),
    "localize": Scenario((LOCALIZE,), files("poses/2?/sensors/trajectories.txt", "poses/ewb/sensors/*"), ("poses",)),
    "eval localization": Scenario(
        (("eval", "localization", "--results", "W/poses", "--ground-truth", "W/town/query", "--json"),), printed, ()
    ),
    **{f"score queries, {name}": _scored(name, "queries", "store-query") for name in PROTOCOLS},
    **{f"score map, {name}": _scored(name, "images", "store") for name in PROTOCOLS},
    "localize by features": Scenario(
        (
            (
                *("localize", "--mapping", "W/town/mapping", "--query", "W/town/query", "--method", "ewb"),
                *("--global-features", "W/features", "-o", "W/poses-features", "--workers", "1"),
            ),
        ),
        files("poses-features/ewb/sensors/*"),
        ("poses-features",),
    ),
    "features": Scenario(
        (("extract", "W/town/query", *EXTRACT, *FEATURES, "-o", "W/new"),),
        files("features/**/*"),
        ("new",),
    ),
    "town": Scenario((TOWN,), files("town/**/*.*"), ("town",)),
    "train": Scenario((TRAIN,), files("run/*.safetensors"), ("run",)),
}


def shown(steps: Sequence[Sequence[str]]) -> str:
    """Commands for people."""
    return "; ".join(" ".join(words) for words in steps)
