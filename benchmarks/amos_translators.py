"""Fake nights of REAL webcams: trained on some cameras, judged on the others, beside all controls.

Training nights are those of the training cameras and unpaired street photographs. The networks and schedules are the
town recipes', but for the images, which are resized (so the recipes' sensor noise is left out) and cropped at scales of
their own; the value is the worst of the trained translators.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.shared.night_scores import (
    Job,
    controls,
    judging_space,
    mean_shade,
    score,
    town_detector,
    train_all,
    trained,
)
from benchmarks.shared.result import Result, data_pack
from gloam.data.day_night.crops import shorter_side
from gloam.data.images import decode_image
from gloam.workflows.reproduce.town.rows import NO_NOISE

RECIPES = ("town_cyclegan", "town_cut", "town_hedngan")
JUDGED = ("cam03", "cam06", "cam09")  # by number alone: every third
SIDE = 192  # shorter side of training and judged images, pixels
SEED = 0
PHOTOGRAPHS: dict[str, Any] = {"max_side": 256, "scale": [0.7, 1.0]}  # how the recipes' ``data`` reads them


def run() -> Result:
    """Train on seven cameras, judge on three."""
    pack, streets = data_pack("amos_daynight") / "images", data_pack("night_street_unpaired") / "images"
    root = pack.parents[1]
    files = {when: sorted(pack.glob(f"*/{when}/*.jpg")) for when in ("day", "night")}
    ours = {when: [path for path in paths if path.parts[-3] not in JUDGED] for when, paths in files.items()}
    judged = {when: [path for path in paths if path.parts[-3] in JUDGED] for when, paths in files.items()}
    ours["night"] += sorted(streets.glob("*.JPG"))
    with tempfile.TemporaryDirectory(prefix="gloam-amos-") as temporary:
        folder = Path(temporary)
        data: dict[str, Any] = {"kind": "lists", "root": str(root), "held_out_share": 0.05, **PHOTOGRAPHS}
        for when, paths in ours.items():
            data[when] = str(folder / f"{when}.txt")
            Path(data[when]).write_text(
                "\n".join(str(path.relative_to(root)) for path in paths) + "\n", encoding="utf-8"
            )
        detector = town_detector(folder)
        hedn = {"detector_weights": str(detector)}
        jobs = [
            Job(recipe, SEED, (("data", data), ("options", NO_NOISE | (hedn if recipe == "town_hedngan" else {}))))
            for recipe in RECIPES
        ]
        made = train_all(jobs, folder)
        day, night = (_read(judged[when]) for when in ("day", "night"))
        operations = {**controls(mean_shade(_read(ours["night"]))), **trained(made)}
        rows, _ = score(day, night, operations, judging_space(folder))
    worst = max(rows[job.label]["KID over untouched"] for job in jobs)
    detail = {
        "scores": rows,
        "runs": {label: {key: item[key] for key in ("steps", "of", "cpu minutes")} for label, item in made.items()},
        "images": {
            "trained": {when: len(paths) for when, paths in ours.items()},
            "judged": {when: len(paths) for when, paths in judged.items()},
            "judged cameras": list(JUDGED),
        },
        "mind": "three cameras are few places; KID here says more of these cameras than of night in general",
    }
    return Result(worst, "ratio of KID", "< 1", worst < 1, detail)


def _read(paths: list[Path]) -> list[npt.NDArray[np.uint8]]:
    return [shorter_side(decode_image(path), SIDE) for path in paths]
