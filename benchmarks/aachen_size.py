"""A localization of Aachen's real size, planned, begun, killed and gone on with for ten minutes: its rate and memory.

The images are the look-alike's, as many as Aachen Day-Night v1.1 has: 6,697 of the map and 1,015 queries; top-20 by
place, as a good retrieval gives them; SIFT with 2,048 keypoints. ``--memory 256MiB``: so much of features and matches
is held at once, which is full within a minute, and then nothing may grow. Rendering takes an hour the first time;
``GLOAM_BENCH_RUNS`` names a folder that keeps them, and rendering goes on where it was stopped.
``GLOAM_AACHEN_SECONDS`` makes the ten minutes others, ``GLOAM_AACHEN_SIZE=toy`` the look-alike small.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.child_runs import ChildRun, answer, gloam_run
from benchmarks.shared.result import KEPT, Result
from gloam.data.kapture_io import read_scene, write_scene
from gloam.data.localization_sets.look_alike.sizes import SizeName
from gloam.data.localization_sets.look_alike.write import write_look_alike
from gloam.data.localization_sets.read import read_localization_set
from gloam.data.scene import Scene
from gloam.files import write_text
from gloam.heartbeat import to_stderr

SECONDS, SIZE = 600.0, "real"
TOP_K, KEYPOINTS, PICTURE = 20, 2048, 640
MEMORY = "256MiB"
GROWTH = 0.10  # of memory in the last quarter of the time, over the second
KILLED_AT = 0.5  # of the time


def run() -> Result:
    """The value is memory's growth while pairs are matched; hours are extrapolated from what was done."""
    kept, size = os.environ.get(KEPT), os.environ.get("GLOAM_AACHEN_SIZE", SIZE)
    seconds = float(os.environ.get("GLOAM_AACHEN_SECONDS", SECONDS))
    with tempfile.TemporaryDirectory(prefix="gloam-aachen-") as temporary:
        root = Path(kept) / f"aachen_size_{size}" if kept else Path(temporary)
        words = ["localize", *_sides(root, "toy" if size == "toy" else "real")]
        words += ["--top-k", str(TOP_K), "--max-keypoints", str(KEYPOINTS), "--pixel-shift", "0.5", "--memory", MEMORY]
        return measured(words, root / "out", seconds)


def measured(words: list[str], output: Path, seconds: float) -> Result:
    """Plan a localization, begin it, kill it, and go on until the time is over."""
    plan = answer(gloam_run([*words, "-o", str(output), "--dry-run", "--json"]))
    shutil.rmtree(output, ignore_errors=True)
    words = [*words, "-o", str(output), "--json"]
    runs: list[ChildRun] = []
    done = [_done(output)]
    for part in (KILLED_AT, 1 - KILLED_AT):
        runs.append(gloam_run(words, kill_after=seconds * part))
        done.append(_done(output))
    features, pairs = (plan["images"], plan["pairs"])
    shares = [(found["features"] / features, found["matches"] / pairs) for found in done[1:]]
    parts = plan["parts"]
    planned = [parts["features"] * images + parts["matching"] * matched for images, matched in shares]
    spent = sum(run.seconds for run in runs)
    # Features come first: what the plan says of the part that is done tells how far it is right for the rest.
    pace = spent / planned[-1] if planned[-1] else float("nan")
    growth = max(_growth(run.memory) for run in runs)
    detail: dict[str, Any] = {
        "plan": plan,
        "runs": [
            {
                "seconds": run.seconds,
                "cpu": run.cpu,
                "peak": run.peak,
                "killed": run.killed,
                "memory": _quarters(run.memory),
            }
            for run in runs
        ],
        "done": done,
        "images a second": done[-1]["features"] / spent,
        "pairs a second": done[-1]["matches"] / spent,
        "time over plan": pace,
        "hours": plan["seconds"] * pace / 3600,
        "hours planned": plan["seconds"] / 3600,
    }
    carried_on = all(done[1][stage] <= done[2][stage] for stage in done[1])
    met = growth <= GROWTH and carried_on and done[-1]["features"] > 0
    return Result(growth, "growth of memory", f"<= {GROWTH:g} while it runs, killed and resumed", met, detail)


def _sides(root: Path, size: SizeName) -> list[str]:
    """The look-alike as two kapture datasets, and map images of each query by the hidden truth."""
    made = write_look_alike(root, "aachen-v1.1", size, picture=PICTURE, workers=0, say=to_stderr)
    found, truth = read_localization_set("aachen-v1.1", made.set), read_scene(made.truth)
    sides = []
    for part, scene in (("mapping", found.mapping), ("query", found.query)):
        copy = Scene(root / part, scene.cameras, scene.records, scene.poses)
        write_scene(copy)
        for name in scene.records:  # queries of the day and the night lie in two datasets
            link = copy.image_path(name)
            if not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(scene.image_path(name).absolute())
        sides += [f"--{part}", str(copy.root)]
    names = found.mapping.names
    centres = np.array([found.mapping.poses[name].center for name in names])
    axes = np.array([found.mapping.poses[name].rotation[2] for name in names])
    lines = []
    for name in found.query.names:
        pose = truth.poses[name]
        far = np.linalg.norm(centres - pose.center, axis=1) + 10 * (1 - axes @ pose.rotation[2])  # metres, looking away
        lines += [f"{name} {names[row]}\n" for row in np.argsort(far, kind="stable")[:TOP_K]]
    write_text(root / "pairs.txt", "".join(lines))
    return [*sides, "--pairs", str(root / "pairs.txt")]


def _done(output: Path) -> dict[str, int]:
    return {stage: sum(1 for _ in (output / "workspace" / stage).rglob("*.npz")) for stage in ("features", "matches")}


def _quarters(memory: tuple[int, ...]) -> list[int]:
    """Most bytes of each quarter of a run."""
    return [max(part.tolist()) for part in np.array_split(np.array(memory), 4) if len(part)]


def _growth(memory: tuple[int, ...]) -> float:
    """Of the last quarter over the second, when what may be held is held."""
    quarters = _quarters(memory)
    return quarters[-1] / quarters[1] - 1 if len(quarters) == 4 else 0.0
