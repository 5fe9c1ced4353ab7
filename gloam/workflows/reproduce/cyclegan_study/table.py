"""The five experiments of the CycleGAN study: how far images are from what two generators make of them, there and back.

A row is a recipe's run: its L1 over the set's test images, before training and at its end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gloam.errors import DataError, UsageError
from gloam.files import sha256_file, sha256_json
from gloam.heartbeat import Say
from gloam.training.config_changes import merge
from gloam.training.train import train
from gloam.training.translators.config import RECIPES
from gloam.training.translators.monitor import HELD_OUT_FILE, read_table, strips
from gloam.training.typed_config import recipe_mapping
from gloam.workflows.reproduce.begun import begun
from gloam.workflows.reproduce.published import STUDY, published
from gloam.workflows.reproduce.records import Budget, Scored, run_row
from gloam.workflows.reproduce.request import RetrievalRequest
from gloam.workflows.reproduce.result import RetrievalTable
from gloam.workflows.reproduce.rows import EXPERIMENTS, Missing

PAPER = "cyclegan-study"
SETS = Path("cyclegan-study")  # under the data folder: emoji/, mnist/, fashion-mnist/
EMOJI, DIGITS, FASHION = "EMOJI", "MNIST", "FASHION_MNIST"
WHERE = {
    EMOJI: "folders trainA, trainB, testA and testB of emoji of two makers, e.g. Apple and Windows, as emoji-data of "
    "https://unicodey.com has them; or set EMOJI",
    DIGITS: "images of MNIST's training and test set; or set MNIST",
    FASHION: "images of Fashion-MNIST's training and test set; or set FASHION_MNIST",
}
FOLDERS = {EMOJI: "emoji", DIGITS: "mnist", FASHION: "fashion-mnist"}
MINUTES = 14.0
# The town's day and night in place of two sets, and networks that train in minutes.
IN_MINIATURE: dict[str, Any] = {
    "max_minutes": MINUTES,
    "clock": "cpu",
    "device": "cpu",
    "tensorboard": False,
    "held_out": 16,
    "sample_every": 5,
    "steps_per_epoch": 50,
    "data": {
        "kind": "town",
        **dict.fromkeys(("root", "day", "night", "test_day", "test_night")),
        "views": 40,
        "held_out_views": 16,
        "workers": 0,
    },
}
SMALL = {
    "encoder_decoder": {"width": 16},
    "unet": {"width": 16},
}


def reproduce_study(request: RetrievalRequest, say: Say | None = None) -> RetrievalTable:
    """Judge every experiment that was trained or can be; the same call carries on.

    Args:
        request: what and with what.
        say: gets one line per step.

    Raises:
        UsageError: no such table or row, or weights: a row is a run.
    """
    table = published(PAPER, request.table)
    unknown = [row for row in (*request.rows, *request.weights) if row not in table.rows]
    if unknown:
        raise UsageError(
            f"{PAPER}, table {request.table}: no row {unknown[0]!r}; choose one of {', '.join(table.rows)}"
        )
    if request.weights:
        raise UsageError(f"{PAPER}: a row is a run with its losses, not a file; leave out --weights")
    tell = say or (lambda line: None)
    budget = Budget.of(request)
    names = list(request.rows or table.rows)
    shares = budget.shares(len(names) * request.seeds, 0)
    minutes = shares[0] if shares is not None else request.minutes if request.town else None
    missing: list[Missing] = []
    rows = []
    for name in names:
        one = partial(_scored, request, name, minutes, missing, tell)
        seeds = [request.seed + at for at in range(request.seeds)]
        key = sha256_json([_changes(request, name, 0, minutes), request.town]) if request.town else None
        rows.append(run_row(request, name, one, budget, tell, seeds=seeds, key=key))
    pictures = [
        (f"{row.name}: images never trained on", Path(row.facts["sample"])) for row in rows if row.facts.get("sample")
    ]
    notes = ["L1 of pixels in [-1, 1], over images that are never trained on; on [0, 1] it is half of that."]
    if request.town:
        notes.append(
            "Procedural streets by day (A) and by night (B) in the place of two sets, small networks, minutes: "
            "compare how "
            "the numbers move with the report's, not the numbers."
        )
    return RetrievalTable(
        PAPER,
        request.table,
        table,
        STUDY,
        rows,
        missing=list(dict.fromkeys(missing)),
        notes=notes,
        pictures=pictures,
        town=request.town,
    )


def _scored(
    request: RetrievalRequest, name: str, minutes: float | None, missing: list[Missing], say: Say, seed: int
) -> Scored:
    recipe = _recipe(name)
    base = request.output if request.town else request.data / EXPERIMENTS
    folder = base / (recipe if seed == 0 else f"{recipe}-seed{seed}")
    if request.town:
        folder = begun(folder, minutes)
    if not request.town:
        absent = [item for item in _inputs(name, request.data) if not item.path.exists()]
        trained = (folder / HELD_OUT_FILE).is_file()
        if absent and not trained:
            missing += absent
            raise DataError(f"{absent[0].path}: is not there; {absent[0].where}")
        if not request.train and not trained:
            command = f"gloam reproduce {PAPER} {request.table} --train"
            missing.append(Missing(folder / "train.json", f"{command} trains recipe {recipe}"))
            raise DataError(f"{folder}: holds no run of recipe {recipe}; --train trains it")
    say(f"{name}: recipe {recipe}")
    summary = train("translator", recipe, _changes(request, name, seed, minutes), folder, say=say)
    steps = read_table(folder / HELD_OUT_FILE)
    first, last = steps[0], steps[-1]
    scores = {
        "start": _mean(first),
        "end": _mean(last),
        "end A-B-A": float(last["cycle_L1"] or 0.0),
        "end B-A-B": float(last["night_cycle_L1"] or 0.0),
    }
    config = summary.config
    ended = f", {summary.step} of {summary.steps} steps" if summary.limited else ""
    facts: dict[str, Any] = {
        "members": [
            {
                "weights": [{"file": str(file), "sha256": sha256_file(file)} for file in summary.weights.values()],
                "network": f"{config.options.generator}, {config.options.discriminator}",
                "recipe": recipe,
                "from": f"trained by recipe {recipe}, seed {seed}, batch {config.batch}{ended}",
            }
        ],
        "images": {"L1": "all of the test set" if config.score_all else f"{config.held_out} of each domain at most"},
    }
    if found := strips(folder):
        facts["sample"] = str(found[-1])
    return Scored(scores, facts, [folder])


def _recipe(name: str) -> str:
    """The recipe of a row; its name begins with the experiment's number."""
    return f"cyclegan_study_{name.split()[0]}"


def _mean(row: Mapping[str, float | None]) -> float:
    return float((row["cycle_L1"] or 0.0) + (row["night_cycle_L1"] or 0.0)) / 2


def _changes(request: RetrievalRequest, name: str, seed: int, minutes: float | None) -> dict[str, Any]:
    """Keys of a row's recipe replaced."""
    recipe = _recipe(name)
    stated = recipe_mapping(RECIPES, recipe)
    changes: dict[str, Any] = {"seed": seed}
    if minutes is not None:
        changes["max_minutes"] = minutes
    if request.town:
        small = {"generator_options": SMALL[stated["options"]["generator"]], "discriminator_options": {"width": 16}}
        transform = {"transform": "cyclegan_study"}
        changes = merge(merge(IN_MINIATURE, {"options": small, "data": transform}), changes)
        return merge(changes, request.generator_changes)
    data: dict[str, Any] = {}
    for key, text in stated["data"].items():
        if isinstance(text, str) and text.startswith("$"):
            variable, _, rest = text.removeprefix("$").partition("/")
            data[key] = str(_place(variable, request.data) / rest)
    return merge(merge(changes, {"data": data}), request.generator_changes)


def _place(variable: str, data: Path) -> Path:
    """The folder that an environment variable of a recipe names, or its place below the data folder."""
    return Path(os.environ[variable]) if variable in os.environ else data / SETS / FOLDERS[variable]


def _inputs(name: str, data: Path) -> list[Missing]:
    """What an experiment is trained on."""
    if not name.startswith("5"):
        place = _place(EMOJI, data)
        return [Missing(place / part, WHERE[EMOJI]) for part in ("trainA", "trainB", "testA", "testB")]
    return [
        Missing(_place(variable, data) / f"{part}-images-idx3-ubyte.gz", WHERE[variable])
        for variable in (DIGITS, FASHION)
        for part in ("train", "t10k")
    ]
