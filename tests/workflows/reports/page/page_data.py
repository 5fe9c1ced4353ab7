"""A report of invented numbers with everything that a report can hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gloam.workflows.reports.page.data import (
    Control,
    ErrorSet,
    GalleryResult,
    GalleryRow,
    PoseTrack,
    RecallCurve,
    ReportData,
    Table,
)

CONDITIONS = {"day": 0.05, "dusk": 0.1, "night": 0.9, "night-rain": 2.5}  # median error, metres
HOSTILE = '<script>alert("night")</script> & <b>bold</b>.jpg'


def photographs(folder: Path, count: int = 6) -> list[Path]:
    """Small pictures of noise, each with its own brightness."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 40 + 40 * number, (300, 400, 3), dtype=np.uint8)).save(path)
    return paths


def full_report(pictures: Sequence[Path], rows: int = 4) -> ReportData:
    """Four conditions, two methods, a street of 60 m."""
    rng = np.random.default_rng(1)
    errors, curves, tracks = [], [], []
    for method, factor, gain in (("GeM, trained on the town", 1.0, 0.25), ("GeM, untrained", 3.0, 0.08)):
        for condition, median in CONDITIONS.items():
            position = median * factor * rng.lognormal(0, 1.3, 40)
            position[rng.random(40) < 0.06 * factor * median] = np.nan
            errors.append(ErrorSet(method, condition, position, position * rng.uniform(1, 6, 40)))
            k = list(range(1, 21))
            curves.append(RecallCurve(method, condition, k, [1 - np.exp(-gain * n / (0.3 + median)) for n in k]))
    street = np.stack([np.linspace(0, 60, 90), np.sin(np.linspace(0, 5, 90)) * 3], axis=1)
    for condition, median in CONDITIONS.items():
        true = street[::3] + rng.normal(0, 0.8, (30, 2))
        estimated = true + rng.normal(0, median, (30, 2))
        estimated[: int(2 * median)] = np.nan
        tracks.append(PoseTrack(condition, true, estimated))
    gallery = []
    for number in range(rows):
        results = [
            GalleryResult(pictures[(number + rank + 1) % len(pictures)], 0.93 - 0.04 * rank, rank % 3 != 1)
            for rank in range(5)
        ]
        label = HOSTILE if number == 0 else f"night/rear/{1418235000 + number}.jpg"
        condition, failed = ("night", "day")[number % 2], number < 2
        outcome = "not localized: 9 correspondences with the map, 12 are needed" if failed else "0.021 m and 0.12° off"
        match = np.full((48, 128, 3), 40 * number, np.uint8), "40 matches: 31 inliers, 9 outliers"
        gallery.append(
            GalleryRow(pictures[number % len(pictures)], label, condition, results, outcome, failed, lambda m=match: m)
        )
    table = Table(
        "Localization in one global map",
        ["condition", "method", "queries", "0.25 m, 2°", "0.5 m, 5°", "5 m, 10°", "median error, m"],
        [[name, "trained", 40, 0.95 / (1 + m), 0.97 / (1 + m), 0.99, m] for name, m in CONDITIONS.items()],
        note="Recalls count queries that were not localized as failures.",
    )
    return ReportData(
        title="A street by night: seed 7",
        tables=[table],
        recall_curves=curves,
        errors=errors,
        tracks=tracks,
        map_xy=street,
        ground={
            "road": np.array([[-20.0, -5.0, 80.0, 5.0]]),
            "pavement": np.array([[-20.0, 5.0, 80.0, 7.0], [-20.0, -7.0, 80.0, -5.0]]),
            "house": np.array([[x, side * 7.0, x + 7.0, side * 16.0] for x in range(-20, 80, 7) for side in (1, -1)]),
            "lamp": np.array([[x, 5.0, x + 0.3, 5.3] for x in range(-15, 80, 12)]),
        },
        gallery=gallery,
        identity={"embedder": "gem_mobilenet_v2", "space": "8c1f" * 16, "fingerprint": "77ab" * 16, "seed": "7"},
        method="GeM, trained on the town",
        control=Control("GeM, untrained", "untrained weights", "trained embedder"),
        links=[("queries.html", "Every query")],
        summary="Trained on other streets, by day and night; none of these was seen.",
    )
