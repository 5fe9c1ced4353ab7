"""Edges of town nights: does the night student of HED^N GAN find more of the exact edges than its day teacher?

HED is trained on day streets with exact edges; HED^N GAN then trains the student on fakes alone, without one true edge.
Both, and the controls, are judged by the F-score (ODS) on streets that none of them has seen. The strongest control is
the same HED trained on days with as much noise as nights have: it needs no generator.

The streets are of the first look: in the second, cars and people move between the hours, and one map of edges would not
be true of both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.shared.night_scores import Job, town_detector, train_all
from benchmarks.shared.result import Result
from gloam.data.town.edges import EdgeViews, render_edge_views
from gloam.eval.edges import canny_edges, score_edges, sobel_edges
from gloam.networks.checkpoints import load_detector
from gloam.networks.edges import EdgeDetectorNetwork
from gloam.training.edges.config import DetectorConfig, read_detector_recipe
from gloam.training.edges.train import detect

RECIPE = "town_hedngan"
NIGHT_NOISE = 0.12  # largest standard deviation that the control adds to its days
SEEDS = (0, 1)
JUDGED = (71, 83, 97)
VIEWS = 16
CONDITIONS = ("day", "night")


def run() -> Result:
    """Train teacher and students, judge; the value is the smallest gain over the seeds."""
    recipe = read_detector_recipe("town_hed")
    with tempfile.TemporaryDirectory(prefix="gloam-edges-") as temporary:
        folder = Path(temporary)
        teacher = town_detector(folder)
        noisy = town_detector(folder, noise=NIGHT_NOISE)
        overrides = (("options", {"detector_weights": str(teacher)}), ("data", {"reserved_seeds": list(JUDGED)}))
        made = train_all([Job(RECIPE, seed, overrides) for seed in SEEDS], folder)
        networks = {"HED": load_detector(teacher).model, "HED of noisy days": load_detector(noisy).model}
        for label, item in made.items():
            networks[f"HED^N ({label})"] = load_detector(item["files"]["student"]).model
        streets = [render_edge_views(seed, VIEWS, CONDITIONS) for seed in JUDGED]
        rows = {name: _scores(streets, recipe, model) for name, model in networks.items()}
    rows["Sobel"] = _scores(streets, recipe, "sobel")
    rows["Canny"] = _scores(streets, recipe, "canny")
    gains = {name: row["night"] - rows["HED"]["night"] for name, row in rows.items() if name.startswith("HED^N")}
    detail: dict[str, Any] = {
        "F (ODS)": rows,
        "night gain over HED": gains,
        "night gain over HED by street": {
            name: list(np.subtract(row["night by street"], rows["HED"]["night by street"]))
            for name, row in rows.items()
            if name in gains
        },
        "runs": {label: {key: item[key] for key in ("steps", "of", "cpu minutes")} for label, item in made.items()},
        "images": {"streets": list(JUDGED), "views": VIEWS * len(JUDGED), "size": "213x160"},
        "mind": "the teacher saw weak noise only; part of the gain is denoising, so the controls stand beside it",
    }
    value = min(gains.values())
    return Result(value, "F-score gain", "> 0", value > 0, detail)


def _scores(
    streets: Sequence[EdgeViews], recipe: DetectorConfig, detector: EdgeDetectorNetwork | str
) -> dict[str, Any]:
    """F by condition over all streets at one threshold, and by night for each street."""
    found: dict[str, Any] = {}
    for condition in CONDITIONS:
        maps = [_maps(detector, views.images[condition]) for views in streets]
        truths = [list(views.edges) for views in streets]
        found[condition] = _f(list(chain(*maps)), list(chain(*truths)), recipe, detector)
        if condition == "night":
            found["night by street"] = [_f(a, b, recipe, detector) for a, b in zip(maps, truths, strict=True)]
    return found


def _maps(detector: EdgeDetectorNetwork | str, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
    if isinstance(detector, str):
        formula = sobel_edges if detector == "sobel" else canny_edges
        return [formula(image) for image in images]
    return list(detect(detector, images))


def _f(
    found: list[npt.NDArray[np.float32]],
    truth: list[npt.NDArray[np.float32]],
    recipe: DetectorConfig,
    detector: EdgeDetectorNetwork | str,
) -> float:
    return score_edges(found, truth, tolerance=recipe.tolerance, thin=detector != "canny").f
