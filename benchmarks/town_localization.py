"""Recall of the town's queries on one global map (2b) with SIFT; retrieval by untrained weights as control."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.shared.result import Result
from gloam.workflows.demo import DemoConfig, run_demo

LIMIT = 0.95
SEEDS = (7, 61)  # 7 is the demo's; 61 was never looked at while the town or the embedder were made


def run() -> Result:
    """The demo's own road, on both towns; the worse day recall at (0.25 m, 2 degrees) is judged."""
    detail = {}
    with tempfile.TemporaryDirectory(prefix="gloam-town-") as temporary:
        for seed in SEEDS:
            result = run_demo(Path(temporary) / str(seed), DemoConfig(seed=seed))
            detail[str(seed)] = {
                "retrieval by the trained embedder": result.data["localization"]["2b trained"],
                "control: retrieval by untrained weights": result.data["localization"]["2b untrained"],
                "night to day mAP": {
                    name: scores["conditions"]["night"]["mAP"] for name, scores in result.data["retrieval"].items()
                },
                "seconds": result.data["seconds"],
            }
    worst = min(item["retrieval by the trained embedder"]["day"]["recalls"][0] for item in detail.values())
    return Result(worst, "day recall", f">= {LIMIT}", worst >= LIMIT, detail)
