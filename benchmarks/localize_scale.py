"""Localization of 200 queries on maps of 2,000 and 4,000 images: its time against the plan, memory, and kills.

The images are of ``benchmarks.shared.long_street``, drawn by homographies with exact poses: rendering a town of so many
pictures takes far longer, and what counts is how many images, keypoints and pairs there are, and what they cost. SIFT,
1,024 keypoints, ten map images a query of which three are wrong, a map of each image with its ten neighbours. Two
cores take about an hour; ``GLOAM_BENCH_RUNS`` names a folder that keeps images and outputs, 6 GB. The machine must be
quiet: the processors' time beside the seconds tells whether it was.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.child_runs import answer, bytes_of, gloam_run
from benchmarks.shared.long_street import write_street
from benchmarks.shared.result import KEPT, Result

IMAGES, QUERIES = (2000, 4000), 200
KEYPOINTS = 1024
KILLS, PLANS = 5, 3
TIME, GROWTH, PEAK = 0.20, 0.10, 1.5e9  # share of the plan, share of memory at the smaller map, bytes


def run(images: Sequence[int] = IMAGES, queries: int = QUERIES, keypoints: int = KEYPOINTS) -> Result:
    """The value is the worst of time off the plan, memory's growth and peak, each as a share of its bound."""
    kept = os.environ.get(KEPT)
    with tempfile.TemporaryDirectory(prefix="gloam-scale-") as temporary:
        root = Path(kept) / "localize_scale" if kept else Path(temporary)
        few, many = images
        detail: dict[str, Any] = {"images": list(images), "queries": queries, "keypoints": keypoints}
        words = {count: _words(root / str(count), count, queries, keypoints) for count in images}
        plans = [
            answer(gloam_run([*words[few], "-o", str(root / "none"), "--dry-run", "--json"])) for _ in range(PLANS)
        ]
        plan = sorted(plans, key=lambda each: each["seconds"])[PLANS // 2]
        whole, cut = root / f"whole-{few}", root / f"cut-{few}"
        for folder in (whole, cut, root / f"whole-{many}"):
            shutil.rmtree(folder, ignore_errors=True)
        undisturbed = gloam_run([*words[few], "-o", str(whole), "--json"])
        detail["plan"] = plan | {"all": [{what: each[what] for what in ("seconds", "cpu", "memory")} for each in plans]}
        detail[str(few)] = _told(undisturbed, plan) | _localized(undisturbed)
        detail["kills"] = _killed([*words[few], "-o", str(cut)], undisturbed.seconds)
        left = {folder: bytes_of(folder) for folder in (whole, cut)}
        names = {*left[whole], *left[cut]}
        other = sorted(name for name in names if left[whole].get(name) != left[cut].get(name))
        detail["kills"] |= {"files": len(names), "other": other[:5]}
        large = gloam_run([*words[many], "-o", str(root / f"whole-{many}"), "--json"])
        detail[str(many)] = _told(large, None) | _localized(large)
    off, growth = abs(undisturbed.seconds / plan["seconds"] - 1), large.peak / undisturbed.peak - 1
    value = max(off / TIME, growth / GROWTH, undisturbed.peak / PEAK)
    detail |= {"time off the plan": off, "growth of memory": growth}
    bounds = f"time within {TIME:.0%} of the plan, peak <= {PEAK / 1e9:g} GB, within {GROWTH:.0%} at {many} images"
    met = value <= 1 and not other and detail["kills"]["killed"] == KILLS
    return Result(value, "worst share of a bound", f"<= 1 ({bounds}), {KILLS} kills, same bytes", met, detail)


def _words(folder: Path, images: int, queries: int, keypoints: int) -> list[str]:
    write_street(folder, images, queries)
    sides = ["--mapping", str(folder / "mapping"), "--query", str(folder / "query")]
    limits = ["--max-keypoints", str(keypoints), "--pixel-shift", "0.5"]
    return ["localize", *sides, "--pairs", str(folder / "pairs.txt"), "--top-k", "10", *limits]


def _localized(run: Any) -> dict[str, Any]:
    return {name: value for name, value in answer(run)["methods"]["2b"].items() if name != "folder"}


def _told(run: Any, plan: dict[str, Any] | None) -> dict[str, Any]:
    told = {"seconds": run.seconds, "cpu": run.cpu, "peak": run.peak}
    if plan is None:
        return told
    over = {
        f"{what} over plan": told[what] / plan[other]
        for what, other in zip(told, ("seconds", "cpu", "memory"), strict=True)
    }
    return told | over


def _killed(words: list[str], seconds: float) -> dict[str, Any]:
    """The command, killed again and again on its way, and its end."""
    runs = [gloam_run(words, kill_after=seconds / (KILLS + 1)) for _ in range(KILLS)]
    last = gloam_run(words)
    return {
        "killed": sum(run.killed for run in runs),
        "seconds": [*(run.seconds for run in runs), last.seconds],
        "peak": max(run.peak for run in (*runs, last)),
        "mean": statistics.fmean(run.cpu for run in runs),
    }
