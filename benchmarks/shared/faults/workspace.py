"""A workspace of everything that gloam's commands read and write, small, and put back to what it was after each fault.

A file that a command or a fault has not changed stays where it is, so that its times and numbers are those that a run
noted; every other one is written again.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.shared.tiny import embedder_and_translator, parquet_of, tar_of, translator_recipe
from gloam.cli.main import main
from gloam.files import write_text
from gloam.training.run_state import RunState

PICTURES = 8
EXTRACT = ("--model", "W/embedder.onnx", "--shard-size", "3", "--decode-threads", "1", "--threads", "1")
TRANSLATE = ("--model", "W/translator.onnx", "--decode-threads", "1", "--threads", "1")


@dataclass(frozen=True)
class Ran:
    """What a command did.

    Attributes:
        code: exit code.
        out, err: what it printed.
        crash: the traceback of an exception that it let through.
    """

    code: int
    out: str
    err: str
    crash: str = ""

    @property
    def said(self) -> str:
        """All that it printed."""
        return f"{self.out}\n{self.err}"


def run(words: Sequence[str], work: Path) -> Ran:
    """Run a command in this process; ``W`` stands for the workspace."""
    out, err, code, crash = io.StringIO(), io.StringIO(), 0, ""
    placed = [word.replace("W/", f"{work}/") for word in words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(placed)
        except SystemExit as ended:  # of argparse
            code = ended.code if isinstance(ended.code, int) else 2
        except Exception:
            code, crash = -1, traceback.format_exc()
    if "Traceback (most recent call last)" in err.getvalue():
        crash = crash or err.getvalue()
    return Ran(code, out.getvalue(), err.getvalue(), crash)


class Workspace:
    """The folder that commands work in, and its content as it was made.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.work = root / "work"
        self.work.mkdir(parents=True)
        self._kept: dict[str, tuple[bytes, int]] = {}

    def do(self, *words: str) -> Ran:
        """Run a command that must succeed.

        Raises:
            RuntimeError: it did not.
        """
        ran = run(words, self.work)
        if ran.code:
            raise RuntimeError(f"gloam {' '.join(words)}: {ran.crash or ran.said.strip()}")
        return ran

    def keep(self) -> None:
        """What is there now is what :meth:`restore` goes back to."""
        files = (path for path in sorted(self.work.rglob("*")) if path.is_file())
        self._kept = {
            path.relative_to(self.work).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files
        }

    def restore(self) -> None:
        """Put every file back; those that are as they were are left alone."""
        for path in sorted(self.work.rglob("*"), reverse=True):
            name = path.relative_to(self.work).as_posix()
            if path.is_symlink() or (path.is_file() and name not in self._kept):
                path.unlink()
            elif path.is_dir() and not any(kept.startswith(f"{name}/") for kept in self._kept):
                shutil.rmtree(path)
        for name, (content, time) in self._kept.items():
            path = self.work / name
            if path.is_dir():
                shutil.rmtree(path)
            if not path.is_file() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            if path.stat().st_mtime_ns != time:
                os.utime(path, ns=(time, time))


def picture(seed: int, size: tuple[int, int] = (96, 64)) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Smooth noise with sharp blots, uint8 ``[h, w, 3]``; size is (width, height)."""
    rng = np.random.default_rng(seed)
    low = cv2.resize(rng.uniform(0, 255, (6, 8, 3)).astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        centre = (int(rng.integers(size[0])), int(rng.integers(size[1])))
        cv2.circle(low, centre, int(rng.integers(2, 8)), rng.uniform(0, 255, 3).tolist(), -1)
    return np.clip(low, 0, 255).astype(np.uint8)


def write_picture(path: Path, seed: int, size: tuple[int, int] = (96, 64)) -> None:
    """A picture file of the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture(seed, size))


def make_bulk(space: Workspace) -> None:
    """Pictures, models, and all that commands make of them."""
    make_pictures(space.work)
    embedder_and_translator(space.work)
    _more_models(space.work)
    make_stores(space)
    space.do("translate", "W/images", *TRANSLATE, "-o", "W/night")
    space.do("translate", "W/images", *TRANSLATE, "--tar", "--tar-size", "3", "-o", "W/night-tar")
    local = ("--model", "W/local.onnx", "--threads", "1", "--strongest", "20")
    space.do("asmk", "build", "W/images", *local, "--words", "16", "--codebook", "W/codebook.npz", "-o", "W/asmk.npz")


def make_pictures(work: Path) -> None:
    """Pictures of a map and of queries, one of which does not decode; as folder, list, tar and table."""
    for number in range(PICTURES):
        write_picture(work / "images" / f"p{number}.{'png' if number % 3 else 'jpg'}", number)
        if number < 3:
            write_picture(work / "queries" / f"q{number}.png", 100 + number)
    (work / "images" / "p8.png").write_bytes((work / "images" / "p1.png").read_bytes()[:900])  # does not decode
    names = sorted(path.name for path in (work / "images").iterdir())
    write_text(work / "list.txt", "".join(f"images/{name}\n" for name in names))
    (work / "tars").mkdir()
    (work / "tables").mkdir()
    tar_of(work / "images", work / "tars" / "images.tar")
    parquet_of(work / "images", work / "tables" / "images.parquet")
    truth: dict[str, Any] = {
        "imlist": names,
        "qimlist": ["q0.png", "q1.png", "q2.png"],
        "gnd": [{"ok": [0, 1], "junk": [2]}, {"ok": [3], "junk": []}, {"ok": [5, 8], "junk": []}],
    }
    write_text(work / "truth.json", json.dumps(truth))
    numbers = [[number, row["ok"]] for number, row in enumerate(truth["gnd"])]
    write_text(work / "numbers.json", json.dumps({**truth, "gnd": numbers}))
    for names, kind in ((truth["qimlist"], "query"), (truth["imlist"], "map")):
        rows = [f"{name},{3 * number},0\n" for number, name in enumerate(names)]
        write_text(work / f"positions-{kind}.csv", "".join(["image,x,y\n", *rows]))
    every = [*truth["qimlist"], *truth["imlist"]]
    rows = [f"{name},{number % 3}\n" for number, name in enumerate(every)]
    write_text(work / "clusters.csv", "".join(["image,cluster\n", *rows]))


def make_stores(space: Workspace) -> None:
    """Stores of the pictures by ``embedder.onnx``, a begun one among them; indexes, pairs and a whitening."""
    space.do("extract", "W/images", *EXTRACT, "-o", "W/store")
    space.do("extract", "W/tars/images.tar", *EXTRACT, "-o", "W/store-tar")
    space.do("extract", "W/tables/images.parquet", *EXTRACT, "-o", "W/store-table")
    space.do("extract", "W/list.txt", *EXTRACT, "-o", "W/store-list")
    space.do("extract", "W/queries", *EXTRACT, "-o", "W/store-query")
    part = ("--num-shards", "2", "--shard-index", "0")
    space.do("extract", "W/images", *EXTRACT, *part, "-o", "W/store-begun")
    space.do("index", "W/store", "-o", "W/index")
    space.do("index", "W/store", "-o", "W/index-hnsw", "--kind", "hnsw")
    space.do("pairs", "--query", "W/store-query", "--map", "W/store", "-k", "3", "-o", "W/pairs.txt")
    space.do("train", "whitening", "W/store", "--kind", "pca", "--dimension", "4", "-o", "W/whitening.npz")


def _more_models(work: Path) -> None:
    import torch

    from gloam.export.local_features import export_local_features
    from gloam.networks.checkpoints import save_checkpoint
    from gloam.networks.embedders import create_embedder

    torch.manual_seed(1)
    save_checkpoint(work / "weights.safetensors", create_embedder("gem_resnet18", width=8), {})
    how: Any = create_embedder("how_resnet18", width=8, dimension=8)
    export_local_features(how, work / "local.onnx", scales=(1.0, 0.5), provenance={})


def make_places(space: Workspace) -> None:
    """A town to localize in, and poses of its queries."""
    space.do(*TOWN)
    for part in ("query", "mapping"):
        space.do("extract", f"W/town/{part}", *EXTRACT, "-o", f"W/places-{part}")
    space.do("pairs", "--query", "W/places-query", "--map", "W/places-mapping", "-k", "4", "-o", "W/places.txt")
    space.do(*LOCALIZE)
    for part in ("query", "mapping"):
        space.do("extract", f"W/town/{part}", *EXTRACT, *FEATURES, "-o", f"W/places-{part}")


TOWN = (
    *("town", "W/town", "--size", "192x144", "--queries", "2", "--length", "30", "--spacing", "6"),
    *("--conditions", "day,night", "--workers", "1"),
)
FEATURES = ("--kapture", "W/features", "--feature-type", "places")
LOCALIZE = (
    *("localize", "--mapping", "W/town/mapping", "--query", "W/town/query", "--pairs", "W/places.txt"),
    *("-o", "W/poses", "--method", "2a", "--method", "2b", "--method", "ewb", "--workers", "1"),
)


TRAIN = ("train", "translator", "--recipe", "cyclegan", "--config", "W/translator.yaml", "-o", "W/run")


def make_training(space: Workspace) -> None:
    """A training that was ended behind its first state."""
    for number in range(8):
        write_picture(space.work / "domains" / ("day", "night")[number % 2] / f"{number}.png", 200 + number, (48, 40))
    translator_recipe(space.work / "translator.yaml", space.work / "domains")
    whole, taken = RunState.save, []

    def once(state: RunState, *arguments: Any, **options: Any) -> Any:
        if taken:
            raise KeyboardInterrupt
        taken.append(whole(state, *arguments, **options))
        return taken[0]

    RunState.save = once  # type: ignore[method-assign]  # until it was taken once
    try:
        ended = run(TRAIN, space.work)
    finally:
        RunState.save = whole  # type: ignore[method-assign]  # as it was
    if ended.code != 130 or not taken:
        raise RuntimeError(f"the training was not ended: {ended.said}")
