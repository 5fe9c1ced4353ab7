"""Bytes an image of a compact index with recall@10 >= 0.95: 8448 values, 100 000 and 300 000 images, by ``--memory``.

**The spectrum is real.** MobileNetV2 (ImageNet, GeM) describes every photograph of the data packs, whole and in three
crops each: 2292 descriptors of 1280 values. Their mean, and in the principal axes of their covariance the variance
between photographs and the variance among the crops of one, are taken as they are up to rank 640. From there to 8448
both are carried on by the power law that fits ranks 64 to 640, so the tail is heavier than measured, whose ranks end at
1280. Beside it stand the only real descriptors of a retrieval network at hand, 16 of AP-GeM-LM18: their power law, and
that of the same 16 pictures by MobileNetV2, which is flatter and so the harder to compress.

**Neighbours mean something.** An image is the mean, plus what its place is (drawn from the variance between), plus what
its view is (drawn from the variance within), turned by a dense rotation and scaled to unit length. A place has 4 to 16
views. Queries are other views of the same places, in no store: nothing is learned from them. What counts is the exact
ten by all 8448 values.

**What is counted.** What an opened index keeps in memory: codes, projection, tables and the images' names. The exact
vectors, float16, stay in the store on disk, where candidates are read. By how much the memory of a process grows that
opens the index, files that it maps left out, is measured beside. The budget is gloam's own ``--memory``: the smallest
for which the plan predicts the recall and the built index has it with the held-out queries. What the plan said of bytes
and recall stands beside what was measured.

``GLOAM_COMPACT_SIZES`` (``100000,300000``) names other sizes. ``GLOAM_BENCH_RUNS`` keeps stores, spectrum and what was
measured, and the same command goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dct

from benchmarks.shared.night_scores import NETWORK, WEIGHTS
from benchmarks.shared.result import KEPT, Result, code_state, data_pack
from gloam.errors import DataError, UsageError
from gloam.files import sha256_json, write_json
from gloam.networks.checkpoints import load_checkpoint
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import DescriptorStore, Job, Row
from gloam.runtime.search.index import DescriptorIndex
from gloam.runtime.search.index.card import resident_bytes
from gloam.runtime.search.index.compact import PlanSample, names_bytes, plan_compact
from gloam.runtime.search.index.make import IndexRequest, make_index

SIZES, SIZES_ASKED = (100_000, 300_000), "GLOAM_COMPACT_SIZES"
DIMENSION, SHARD = 8448, 10_000
QUERIES, SHARD_QUERIES = 500, 50
VIEWS = (4, 16)  # of a place, from and to
BUDGETS = (*range(40, 100, 2), *range(100, 205, 5))  # bytes an image that --memory is given, the smallest that serves
RECALL, BYTES, ERROR = 0.95, 200.0, 0.05
NEIGHBOURS = 10
PACKS = (
    *("amos_daynight", "wxbs_daynight", "night_street_unpaired", "strecha_herzjesu", "virtual_gallery_tutorial"),
    *("maupertuis_colmap", "phototourism_samples", "vpr_corridor"),
)
CROPS, SIDES = 4, (224, 160)  # of a photograph, itself the first; width and height that each is brought to
REAL, FITTED = 640, (64, 640)  # the ranks that are taken as measured, and those that the power law is fitted to
APGEM = "virtual_gallery_tutorial", "global_features"
OPENED = "import sys; from benchmarks.compact import resident; resident(sys.argv[1])"

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Variances by axis.

    Attributes:
        mean: length of the mean, squared.
        between, within: of places, and of the views of one: ``[D]`` each.
        said: what is known of it, JSON-ready.
    """

    mean: float
    between: npt.NDArray[np.float64]
    within: npt.NDArray[np.float64]
    said: dict[str, Any]


def described(pictures: list[Path], crops: int) -> Rows:
    """MobileNetV2's descriptors ``[pictures, crops, 1280]``, the whole picture first."""
    import torch

    weights = data_pack("weights") / WEIGHTS
    mean = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    model = load_checkpoint(weights, NETWORK, padding="tf", **mean).model.eval()
    random, rows = np.random.default_rng(0), []
    for path in pictures:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        views = []
        for crop in range(crops):
            share = random.uniform(0.5, 0.85) if crop else 1.0
            width, height = (int(side * share) for side in picture.size)
            x, y = random.integers(picture.width - width + 1), random.integers(picture.height - height + 1)
            views.append(np.asarray(picture.resize(SIDES, box=(x, y, x + width, y + height))))
        with torch.no_grad():
            rows.append(model.describe_uint8(torch.from_numpy(np.stack(views))).numpy())
    return np.stack(rows)


def exponent(values: npt.NDArray[np.float64], first: int, last: int) -> float:
    """Of the power law through some ranks, counted from 1."""
    ranks = np.arange(first, last + 1)
    return float(-np.polyfit(np.log(ranks), np.log(values[first - 1 : last]), 1)[0])


def carried_on(rows: Rows, dimension: int = DIMENSION, real: int = REAL, fitted: tuple[int, int] = FITTED) -> Spectrum:
    """The spectrum of real descriptors ``[pictures, crops, d]``, carried on to more dimensions."""
    pictures, crops, _ = rows.shape
    mean = rows.mean(axis=(0, 1), dtype=np.float64)
    axes = np.linalg.svd((rows - mean).reshape(pictures * crops, -1), full_matrices=False)[2]
    inside = ((rows - rows.mean(axis=1, keepdims=True)) @ axes.T).reshape(pictures * crops, -1)
    within = (inside**2).mean(axis=0, dtype=np.float64) * crops / (crops - 1)
    across = ((rows.mean(axis=1) - mean) @ axes.T) ** 2
    between = np.maximum(across.mean(axis=0, dtype=np.float64) - within / crops, 0)
    total = between + within
    power = exponent(total, *fitted)
    span = slice(fitted[0] - 1, fitted[1])
    ranks = np.arange(*fitted) + 1
    level = float(np.exp(np.mean(np.log(total[fitted[0] : fitted[1]]) + power * np.log(ranks))))
    share = float(within[span].sum() / total[span].sum())
    tail = level * np.arange(real + 1, dimension + 1, dtype=np.float64) ** -power
    said = {
        "photographs": pictures,
        "descriptors": pictures * crops,
        "power law of ranks " + " to ".join(map(str, fitted)): power,
        "within a photograph, of the variance of those ranks": share,
        "mean, between, within of unit length, as measured": [float(mean @ mean), between.sum(), within.sum()],
        f"variance beyond rank {real}, carried on over measured": float(tail.sum() / total[real:].sum()),
    }
    return Spectrum(
        float(mean @ mean),
        np.concatenate([between[:real], tail * (1 - share)]),
        np.concatenate([within[:real], tail * share]),
        said,
    )


def apgem(same: Rows) -> dict[str, float]:
    """Power laws of the real AP-GeM descriptors, ranks 2 to 16 about the origin, and of the same pictures otherwise."""
    folder = data_pack(APGEM[0]) / APGEM[1]
    files = sorted(folder.rglob("*.gfeat"))
    if not files:
        raise DataError(f"{folder}: no AP-GeM descriptors there")
    real = np.stack([np.fromfile(path, np.float32) for path in files])
    laws = {}
    for name, rows in (("AP-GeM-LM18", real), ("MobileNetV2", same)):
        values = np.linalg.svd(rows.astype(np.float64), compute_uv=False) ** 2
        laws[f"power law of {len(rows)} descriptors, {name}"] = exponent(values, 2, len(values))
    return laws


def spectrum(folder: Path) -> Spectrum:
    """Of the data packs' photographs, kept in a folder."""
    pictures = [
        path
        for pack in PACKS
        for path in sorted(data_pack(pack).rglob("*"))
        if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    ]
    kept = folder / f"described-{sha256_json([str(path) for path in pictures])[:12]}.npy"
    if kept.is_file():
        rows = np.load(kept)
    else:
        rows = described(pictures, CROPS)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "described.tmp").open("wb") as file:
            np.save(file, rows)
        (folder / "described.tmp").rename(kept)
    found = carried_on(rows)
    gallery = [number for number, path in enumerate(pictures) if APGEM[0] in path.parts]
    found.said.update(apgem(rows[gallery, 0]))
    return found


def views(truth: Spectrum, shard: int, count: int, queries: int) -> tuple[list[str], Rows, Rows]:
    """A shard of places: names, images ``[count, D]``, and other views of its places, ``[queries, D]``."""
    random = np.random.default_rng([7, shard])
    sizes: list[int] = []
    while sum(sizes) < count:
        sizes.append(int(random.integers(VIEWS[0], VIEWS[1] + 1)))
    place_of = np.repeat(np.arange(len(sizes)), sizes)[:count]
    names = [f"place-{shard:03d}-{place:05d}/{number:06d}.jpg" for number, place in enumerate(place_of.tolist())]
    dimension = len(truth.between)
    signs = np.random.default_rng(8).choice([-1.0, 1.0], dimension).astype(np.float32)
    centre = np.zeros(dimension, np.float32)
    centre[-1] = np.sqrt(truth.mean)  # the weakest axis, so that the mean is a direction of its own
    deep, wide = (np.sqrt(part).astype(np.float32) for part in (truth.between, truth.within))
    places = random.standard_normal((len(sizes), dimension), np.float32) * deep + centre
    asked = random.choice(len(sizes), queries, replace=False)

    def seen(members: npt.NDArray[np.int64]) -> Rows:
        rows = random.standard_normal((len(members), dimension), np.float32)
        rows *= wide
        rows += places[members]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        turned: Rows = dct(rows * signs, norm="ortho", axis=1, overwrite_x=True)
        return turned

    return names, seen(place_of), seen(asked)


def write_store(truth: Spectrum, folder: Path, count: int) -> Rows:
    """A store of so many images, and the queries, which are kept beside it; what is there is left."""
    shards = -(-count // SHARD)
    state = sha256_json([truth.said, VIEWS, SHARD_QUERIES, len(truth.between)])
    job = Job(state, state, len(truth.between), "cosine", state, count, {"dtype": "float16"})
    writer = ShardWriter.begin(folder / "store", job, shards)
    (folder / "queries").mkdir(parents=True, exist_ok=True)
    kept = [folder / "queries" / f"{shard}.npy" for shard in range(shards)]
    for shard, path in enumerate(kept):
        if path.is_file() and writer.done(shard):
            continue
        rows = min(SHARD, count - SHARD * shard)
        names, images, queries = views(truth, shard, rows, min(SHARD_QUERIES, rows // VIEWS[1]))
        np.save(path, queries)
        writer.write(shard, [Row(name) for name in names], images.astype(np.float16))
        print(f"store of {count}: shard {shard + 1} of {shards}", file=sys.stderr)
    writer.finish()
    every = np.concatenate([np.load(path) for path in kept])
    return every[:: max(1, len(every) // QUERIES)][:QUERIES]


def exact_ten(store: DescriptorStore, queries: Rows) -> Rows:
    """The scores of the ten nearest of each query ``[q, 10]``, by every value of every image."""
    best = np.full((len(queries), NEIGHBOURS), -np.inf, np.float32)
    for _, block in store.blocks(4096):
        both = np.concatenate([best, queries @ block.T], axis=1)
        best = np.partition(both, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
    return best


def resident(folder: str) -> None:
    """Open an index twice; prints by how much the second grew what this process has in memory that no file backs.

    The first is charged with what libraries load for themselves.
    """

    def anonymous() -> int:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    first = DescriptorIndex.open(folder, trust=True)
    before = anonymous()
    second = DescriptorIndex.open(folder, trust=True)
    print(json.dumps({"grown": anonymous() - before, "names": [len(first.names), len(second.names)]}))


def built(store: Path, folder: Path, budget: int, queries: Rows, ten: Rows) -> dict[str, Any]:
    """An index by ``--memory``, what its plan said of it, and what was measured; kept in its folder."""
    kept = folder / "measured.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    began = time.perf_counter()
    made = make_index(IndexRequest(folder / "index", store=store, kind="compact", memory=budget, recall=RECALL))
    seconds = time.perf_counter() - began
    index = DescriptorIndex.open(folder / "index")
    began = time.perf_counter()
    _, scores = index.search(queries, NEIGHBOURS, space=index.card.space)
    searched = time.perf_counter() - began
    right = scores >= ten.min(axis=1, keepdims=True) - 1e-6
    plan, card, count = made.to_dict()["predicted"], made.card, made.card.count
    done = subprocess.run(
        [sys.executable, "-c", OPENED, str(folder / "index")], check=True, capture_output=True, text=True
    )
    grown = json.loads(done.stdout.splitlines()[-1])["grown"]
    size = resident_bytes(card)
    # As planned: the candidates of the plan, where the build found that other ones suffice.
    index.card.search["rerank"] = plan["rerank"]
    planned = index.search(queries, NEIGHBOURS, space=index.card.space)[1]
    at_plan = float((planned >= ten.min(axis=1, keepdims=True) - 1e-6).mean())
    found = {
        "memory": budget,
        "memory, bytes an image": budget / count,
        "factory": card.factory,
        "candidates a result": card.search["rerank"],
        "bytes an image": size / count,
        "names among them, bytes an image": names_bytes(index.names) / count,
        "grown memory of a process that opens it, bytes an image": grown / count,
        "predicted bytes an image": plan["nbytes"] / count,
        "bytes, error of the model": abs(plan["nbytes"] / size - 1),
        "recall@10": float(right.mean()),
        "recall@10 by quarter of the queries": [float(part.mean()) for part in np.array_split(right, 4)],
        "recall@10 in the card": card.recall["recall@10"],
        "predicted recall@10": plan["recall"],
        "candidates a result of the plan": plan["rerank"],
        "recall@10 with those candidates": at_plan,
        "recall, error of the model": abs(plan["recall"] / at_plan - 1),
        "seconds to choose and build": seconds,
        "milliseconds a query": 1000 * searched / len(queries),
    }
    write_json(kept, found)
    return found


def smallest(truth: Spectrum, folder: Path, count: int) -> dict[str, Any]:
    """The smallest budget that serves at one size, and all that was tried."""
    queries = write_store(truth, folder, count)
    store = DescriptorStore.open(folder / "store")
    kept = folder / "exact.npy"
    if not kept.is_file():
        np.save(kept, exact_ten(store, queries))
    ten = np.load(kept)
    began = time.perf_counter()
    sample = PlanSample.of(store, 512, 0)
    drawn = time.perf_counter() - began
    predicted: dict[int, dict[str, Any]] = {}
    tried: list[dict[str, Any]] = []
    code, chosen = code_state("gloam/runtime/search")[:12], 0.0
    for budget in BUDGETS:
        began = time.perf_counter()
        try:
            plan = plan_compact(faiss, store, memory=budget * count, recall=RECALL, sample=sample)
        except UsageError:  # nothing is so small
            continue
        finally:
            chosen += time.perf_counter() - began
        said = {"factory": plan.factory, "recall@10": plan.recall, "rerank": plan.rerank}
        known = said in predicted.values()
        predicted[budget] = said
        if plan.recall < RECALL or known:
            continue
        tried.append(built(folder / "store", folder / f"memory-{budget}-{code}", budget * count, queries, ten))
        if tried[-1]["recall@10"] >= RECALL:
            break
    return {
        "images": count,
        "chosen": tried[-1] if tried else None,
        "tried": tried,
        "predicted by budget, bytes an image": predicted,
        "seconds to predict them": drawn + chosen,
        "queries": len(queries),
    }


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A folder that stays where one is named, for as long as code and versions stay."""
    if root := os.environ.get(KEPT):
        yield Path(root) / "compact"
        return
    with tempfile.TemporaryDirectory(prefix="gloam-compact-") as temporary:
        yield Path(temporary)


def run() -> Result:
    """Both sizes, one after the other; the value is the larger of the two."""
    asked = os.environ.get(SIZES_ASKED)
    try:
        sizes = SIZES if asked is None else tuple(int(word) for word in asked.split(","))
    except ValueError as error:
        raise UsageError(f"{SIZES_ASKED}={asked}: numbers of images and commas between them") from error
    began = time.perf_counter()
    with workplace() as root:
        truth = spectrum(root)
        state = sha256_json([truth.said, VIEWS, SHARD, SHARD_QUERIES, QUERIES])[:12]
        rows = {str(count): smallest(truth, root / f"{count}-{state}", count) for count in sizes}
    chosen = [row["chosen"] for row in rows.values()]
    detail = {
        "sizes": rows,
        "spectrum": truth.said,
        "model, largest error of bytes and of recall": None,
        "seconds in all": time.perf_counter() - began,
        "threads": {"faiss": faiss.omp_get_max_threads(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")},
    }
    target = f"<= {BYTES:g} at recall@10 >= {RECALL:g}, the model's error <= {ERROR:.0%}"
    if any(row is None for row in chosen):
        return Result(None, "bytes an image", target, False, detail)
    value = max(row["bytes an image"] for row in chosen)
    worst = [max(row[key] for row in chosen) for key in ("bytes, error of the model", "recall, error of the model")]
    detail["model, largest error of bytes and of recall"] = worst
    reached = all(row["recall@10"] >= RECALL for row in chosen)
    met = bool(value <= BYTES and reached and max(worst) <= ERROR and sizes == SIZES)
    return Result(value, "bytes an image", target, met, detail)
