"""KID of fake town nights against real ones, over that of untouched days, on streets that no translator has seen.

Three recipes, several seeds, on streets of the second look; the recipes' values were chosen on the first. Day and night
photographs of a street share no pose. Everything is judged in the space of an ImageNet MobileNetV2. The value is the
worst of all trained translators, each seed for itself.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.shared.night_scores import (
    LOOK,
    Job,
    controls,
    judging_space,
    mean_shade,
    score,
    second_look,
    seed_spread,
    town_detector,
    train_all,
    trained,
)
from benchmarks.shared.result import Result
from gloam.data.town.unpaired_views import render_unpaired

TARGET = 0.7
RECIPES = ("town_cyclegan", "town_cut", "town_hedngan")
SEEDS = (0, 1)
JUDGED = (71, 83, 97)  # streets; the recipes were chosen on 301 and 302
NIGHTS = 101  # a training street: its nights give gamma-darkening its mean, and a second set of real nights
VIEWS = 64  # of each street and condition


def run() -> Result:
    """Train, export, translate, score."""
    with tempfile.TemporaryDirectory(prefix="gloam-nights-") as temporary:
        folder = Path(temporary)
        detector = town_detector(folder)
        jobs = [Job(recipe, seed, second_look(recipe, JUDGED, detector)) for seed in SEEDS for recipe in RECIPES]
        made = train_all(jobs, folder)
        views = [render_unpaired(seed, VIEWS, look=LOOK) for seed in JUDGED]
        day = [image for street in views for image in street["day"]]
        night = [image for street in views for image in street["night"]]
        known = render_unpaired(NIGHTS, len(night), ("night",), look=LOOK)["night"]
        space = judging_space(folder)
        rows, _ = score(day, night, {**controls(mean_shade(known)), **trained(made)}, space)
        floor, _ = score(known, night, {"untouched": controls(0.5)["untouched"]}, space)
    worst = max(rows[job.label]["KID over untouched"] for job in jobs)
    detail: dict[str, Any] = {
        "scores": rows,
        "spread over seeds": seed_spread(rows, jobs),
        "real nights of a training street instead of fakes": floor["untouched"]["KID"] / rows["untouched"]["KID"],
        "runs": {label: {key: item[key] for key in ("steps", "of", "cpu minutes")} for label, item in made.items()},
        "images": {"day": len(day), "night": len(night), "streets": list(JUDGED), "look": LOOK, "size": "213x160"},
        "space": {"network": space.name, "weights_sha256": space.weights_sha256},
    }
    return Result(worst, "ratio of KID", f"<= {TARGET}", worst <= TARGET, detail)
