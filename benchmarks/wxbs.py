"""Matches between real photographs by day and by night that agree with the true epipolar geometry.

Six pairs of WxBS (Mishkin et al. 2015), reduced to 640 px, 1024 keypoints an image, every extractor that gloam has free
weights of, with mutual neighbours and with its learned matcher. A match is right within 3 px of both epipolar lines of
the fundamental matrix of hand-made correspondences; chance is about 1.3 %. SIFT with mutual neighbours is the control.
Pictures of the matches, right ones green, are written to ``wxbs`` below the folder named by ``GLOAM_BENCH_RUNS``, or
below the folder for temporary files.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.shared.matching_models import EXTRACTORS, extractor_of, matchers_of
from benchmarks.shared.result import KEPT, Result
from benchmarks.shared.wxbs_pairs import Pair, wxbs_pairs
from gloam.files import write_bytes

COUNT = 1024  # keypoints of an image
NEAR = 3.0  # pixels
ENOUGH = 15  # right matches, for a pose
TARGET = 80.0
TIMES_SIFT = 2.5  # of right matches that every learned extractor has by mutual neighbours


def run() -> Result:
    """Mean right matches of the best combination; all of them in the detail."""
    pairs = wxbs_pairs()
    pictures = Path(os.environ.get(KEPT) or tempfile.gettempdir()) / "wxbs"
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="gloam-wxbs-") as temporary:
        for name in ("SIFT", *EXTRACTORS):
            extract = extractor_of(name, Path(temporary), COUNT)
            features = [extract(list(pair.images)) for pair in pairs]
            for how, match in matchers_of(name, Path(temporary)).items():
                counts = []
                for pair, (first, second) in zip(pairs, features, strict=True):
                    matches, _ = match(first, second)
                    places = first.keypoints[matches[:, 0]], second.keypoints[matches[:, 1]]
                    right = pair.distances(*places) <= NEAR
                    counts.append((int(right.sum()), len(matches)))
                    _draw(pictures / f"{pair.name}, {name}, {how}.png", pair, places, right)
                rows[f"{name} + {how}"] = _row(pairs, counts)
    best = max(rows, key=lambda name: float(rows[name]["right"]))
    sift = rows["SIFT + mutual neighbours"]["right"]
    learned = {name: rows[f"{name} + mutual neighbours"]["right"] / max(sift, 1e-9) for name in EXTRACTORS}
    met = rows[best]["right"] >= TARGET and min(learned.values()) >= TIMES_SIFT
    detail = {
        "best": best,
        "combinations": rows,
        "right by mutual neighbours, times SIFT": {name: round(times, 2) for name, times in learned.items()},
    }
    target = f">= {TARGET:g}, and every learned extractor >= {TIMES_SIFT} times SIFT by mutual neighbours"
    return Result(rows[best]["right"], "matches within 3 px, mean of six pairs", target, met, detail)


def _row(pairs: list[Pair], counts: list[tuple[int, int]]) -> dict[str, Any]:
    right, all_ = (float(np.mean([count[at] for count in counts])) for at in (0, 1))
    return {
        "matches": round(all_, 1),
        "right": round(right, 1),
        "share": round(sum(count[0] for count in counts) / max(sum(count[1] for count in counts), 1), 3),
        f"pairs with {ENOUGH} right": sum(count[0] >= ENOUGH for count in counts),
        "right of all, by pair": {
            pair.name: f"{count[0]}/{count[1]}" for pair, count in zip(pairs, counts, strict=True)
        },
    }


def _draw(path: Path, pair: Pair, places: tuple[npt.NDArray[Any], npt.NDArray[Any]], right: npt.NDArray[Any]) -> None:
    """Both photographs side by side, wrong matches red below right ones green."""
    first, second = pair.images
    canvas = np.zeros((max(first.shape[0], second.shape[0]), first.shape[1] + second.shape[1], 3), np.uint8)
    canvas[: first.shape[0], : first.shape[1]] = first
    canvas[: second.shape[0], first.shape[1] :] = second
    for row in np.argsort(right, kind="stable"):
        ends = [tuple(map(int, np.round(at))) for at in (places[0][row], places[1][row] + (first.shape[1], 0))]
        cv2.line(canvas, ends[0], ends[1], (60, 220, 60) if right[row] else (220, 60, 60), 1, cv2.LINE_AA)
    _, content = cv2.imencode(".png", cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
    write_bytes(path, content.tobytes())
