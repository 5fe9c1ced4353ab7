"""One page about a training run, from the files in its folder: scores, samples, then curves, then facts.

No script, no request to anywhere: styles, charts and pictures are inside the file, every text is escaped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from gloam.data.images import open_image
from gloam.errors import StoreError
from gloam.files import open_file, read_json
from gloam.training.embedders.samples import SAMPLES_FOLDER
from gloam.training.run_record import RECORD_FILE
from gloam.training.translators.monitor import (
    HELD_OUT_FILE,
    LOSSES_FILE,
    in_units,
    read_table,
    strip_step,
    strips,
)
from gloam.training.translators.train import WHEN
from gloam.workflows.reports.page.charts import Series, line_chart
from gloam.workflows.reports.page.data import Table, Value
from gloam.workflows.reports.page.pictures import picture_uri
from gloam.workflows.reports.page.template import write_page
from gloam.workflows.reports.page.terms import explained

REPORT_FILE = "report.html"
MAX_STRIPS = 6  # first, last, and evenly between
MAX_POINTS = 400  # of a curve; neighbours are averaged beyond
MAX_WIDTH = 1200  # of a strip, pixels
JPEG_QUALITY = 82
COLOURS = 6  # series styles in the style sheet
OF_EPOCHS = ("loss", "p", "negative_distance", "night", "learning_rate")  # an embedder's, beside its validation

Row = Mapping[str, float | None]
Chart = tuple[str, Sequence[tuple[str, int]], Markup]


@dataclass(frozen=True)
class _Run:
    """What a page says of a run.

    Attributes:
        sentence: how far it went.
        scores: before and after.
        strips: caption and file, latest first; strips_note: what they are.
        held_out, losses: charts; losses_note: what the latter are.
        identity: what was run.
    """

    sentence: str
    scores: Table | None = None
    strips: Sequence[tuple[str, Path]] = ()
    strips_note: str = ""
    held_out: Sequence[Chart] = ()
    losses: Sequence[Chart] = ()
    losses_note: str = ""
    identity: Mapping[str, str] = field(default_factory=dict)


def write_training_report(folder: str | Path, made: Mapping[str, str] | None = None) -> Path:
    """Write ``report.html`` into the folder of a run: a translator's, finished or not, or an embedder's.

    Args:
        folder: of the run.
        made: see :func:`gloam.workflows.reports.page.template.write_page`.

    Returns:
        its path.

    Raises:
        StoreError: no run there, or a file that cannot be read or written.
    """
    place = Path(folder)
    record = _read_record(place)
    run = _embedder(place, record) if record.get("history") else _translator(place, record)
    sections = {
        "samples": ("Samples", run.strips),
        "held-out": ("Held-out scores", run.held_out),
        "losses": ("Losses", run.losses),
    }
    path = place / REPORT_FILE
    write_page(
        path,
        "training.html",
        made,
        title=f"Training of {record.get('recipe', place.name)}",
        contents={key: title for key, (title, content) in sections.items() if content},
        sentence=run.sentence,
        scores=run.scores,
        terms=explained([run.scores])[0] if run.scores else (),
        pictures=[(caption, _picture(file)) for caption, file in run.strips],
        pictures_note=run.strips_note,
        held_out_charts=run.held_out,
        loss_charts=run.losses,
        losses_note=run.losses_note,
        identity=run.identity,
    )
    return path


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD_FILE
    if not path.is_file():
        return {}
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not readable ({error})") from error
    if not isinstance(value, dict) or "config" not in value:
        raise StoreError(f"{path}: is not the record of a training run")
    return value


def _translator(folder: Path, record: Mapping[str, Any]) -> _Run:
    losses = read_table(folder / LOSSES_FILE) if (folder / LOSSES_FILE).is_file() else []
    held_out = read_table(folder / HELD_OUT_FILE) if (folder / HELD_OUT_FILE).is_file() else []
    if not record and not losses:
        raise StoreError(f"{folder}: holds no training run; give the folder that 'gloam train' wrote")
    if record:
        done = f"{record['step']} of {record['steps']} steps" + (", ended by its time limit" * bool(record["limited"]))
        kind = {"cpu": "processor time", "wall": "time"}[record["clock"]]
        sentence = f"{done}; {record['seconds'] / 60:.1f} minutes of {kind} on {record['device']}."
    else:
        sentence = f"Unfinished: {losses[-1]['step']:.0f} steps so far."
    scores = None
    if held_out:  # a run that has been judged once has no end yet
        first, last = held_out[0], held_out[-1] if len(held_out) > 1 else {}
        told = [in_units({name: value for name, value in row.items() if value is not None}) for row in (first, last)]
        names = [name for name in dict.fromkeys(name for row in told for name in row) if name not in WHEN]
        rows: list[list[Value]] = [[name, *(row.get(name) for row in told)] for name in names]
        scores = Table("Images that are never trained on", ["score", "before training", "at the end"], rows)
    return _Run(
        sentence,
        scores,
        [(f"after {strip_step(path)} steps", path) for path in _spread(strips(folder), MAX_STRIPS)],
        "Images that are never trained on, latest first.",
        [_chart(name, [name], held_out) for name in _names(held_out)],
        [_chart(title, names, losses) for title, names in _families(_names(losses)).items()],
        "Means over the steps between two rows of losses.csv, unweighted.",
        _identity(record, ("trainer", "seed", "batch", "precision", "processes"), ("options", "data")),
    )


def _embedder(folder: Path, record: Mapping[str, Any]) -> _Run:
    """Of an embedder's or an edge detector's record, which has a history by epoch."""
    history = record["history"]
    rows = [{"step": entry["epoch"], **_numbers(entry)} for entry in history]
    judged = [
        {"step": entry["epoch"], **_numbers(entry["validation"]), "chance": entry["validation"]["chance_mAP"]}
        for entry in history
        if entry.get("validation")
    ]
    best = f"; epoch {record['best_epoch']} is the best and was written" if record["best_epoch"] else ""
    seconds = f", {record['seconds'] / 60:.1f} minutes" if "seconds" in record else ""
    scores = _embedder_scores(record)
    found = sorted((folder / SAMPLES_FOLDER).glob("epoch-*.png"))
    held_out = []
    if judged:
        held_out = [_chart(names[0], names, judged, "epochs") for names in (["mAP", "chance"], ["loss"])]
    elif "validation_f" in record:
        held_out = [_chart("F-score", list(record["validation_f"]), rows, "epochs")]
    epochs = len(history) - (history[0]["epoch"] == 0)
    return _Run(
        f"{epochs} {'epoch' if epochs == 1 else 'epochs'}{seconds} on {record['device']}{best}.",
        scores,
        [(_after(path), path) for path in _spread(found, MAX_STRIPS)],
        "Queries that are never trained on, and the most similar images, as the network sees them; latest first. A "
        "green frame marks the query's place, a red one another.",
        held_out,
        [_chart(name.replace("_", " "), [name], rows, "epochs") for name in OF_EPOCHS if _varies(name, rows)],
        "Of training, by epoch: the mean loss of a tuple, and what else changed. p is GeM's power, the higher the "
        "nearer to a maximum; negative distance is that of the mined negatives.",
        _identity(record, ("network", "seed", "epochs", "batch", "image_side", "photometric"), ("night", "data")),
    )


def _embedder_scores(record: Mapping[str, Any]) -> Table | None:
    title = "Images that are never trained on"
    if "validation_f" in record:  # an edge detector's
        found = record["validation_f"]
        names = list(next(iter(found.values())))
        rows: list[list[Value]] = [[f"F-score by {condition}", *scores.values()] for condition, scores in found.items()]
        return Table(title, ["score", *names], rows)
    if "untrained" not in record:
        return None
    first, last = record["untrained"], record["validation"]
    rows = [["mAP", first["mAP"], last["mAP"], last["chance_mAP"]], ["loss", first["loss"], last["loss"], None]]
    asked, shown = (record["config"].get(f"{side}_condition") for side in ("query", "map"))
    which = "" if asked is None else f" Queries are by {asked}, the images searched by {shown}."
    columns = ["score", "initial weights", "best epoch", "chance"]
    return Table(title, columns, rows, f"{last['queries']} queries.{which}")


def _after(path: Path) -> str:
    epoch = int(path.stem.removeprefix("epoch-"))
    return f"after {epoch} epoch{'s' * (epoch > 1)}" if epoch else "before training"


def _numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in entry.items() if isinstance(value, int | float)}


def _varies(name: str, rows: Sequence[Row]) -> bool:
    return len({row[name] for row in rows if row.get(name) is not None}) > 1


def _names(rows: Sequence[Row]) -> list[str]:
    return [name for name in dict.fromkeys(name for row in rows for name in row) if name not in WHEN]


def _families(names: Iterable[str]) -> dict[str, list[str]]:
    """Losses whose names begin alike share a chart: ``cycle_day`` and ``cycle_night`` are the family ``cycle``."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.split("_")[0], []).append(name)
    return found


def _chart(title: str, names: Sequence[str], rows: Sequence[Row], unit: str = "steps") -> Chart:
    series = []
    for number, name in enumerate(names):
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        x, y = _thinned([(float(step or 0), float(value or 0)) for step, value in points])
        series.append(Series(name, number % COLOURS, x, y))
    last = max((entry.x[-1] for entry in series if entry.x), default=1.0)
    drawing = line_chart(
        series,
        title=f"{title} over {unit}",
        x_label=unit,
        x_ticks=[(float(tick), str(tick)) for tick in sorted({0, round(last / 2), round(last)})],
        y_ticks=_ticks([value for entry in series for value in entry.y]),
    )
    return title, [(name, number % COLOURS) for number, name in enumerate(names)], drawing


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """At most :data:`MAX_POINTS`, each the mean of neighbours."""
    size = max(math.ceil(len(points) / MAX_POINTS), 1)
    blocks = [points[start : start + size] for start in range(0, len(points), size)]
    return [block[-1][0] for block in blocks], [sum(value for _, value in block) / len(block) for block in blocks]


def _ticks(values: Sequence[float]) -> list[tuple[float, str]]:
    """Round numbers around the values; from 0 where they are positive."""
    low, high = min([0.0, *values]), max(values, default=1.0)
    step = _round_up((high - low) / 4 or 0.25)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    return [(number * step, f"{number * step:.4g}") for number in range(first, last + 1)]


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.9999)


def _spread(paths: Sequence[Path], most: int) -> list[Path]:
    """The last, the first, and what lies evenly between, latest first."""
    if len(paths) <= most:
        return list(reversed(paths))
    chosen = {round(number * (len(paths) - 1) / (most - 1)) for number in range(most)}
    return [paths[index] for index in sorted(chosen, reverse=True)]


def _picture(path: Path) -> str:
    """A strip as a ``data:`` URI of a JPEG."""
    try:
        with open_file(path) as file, open_image(file) as opened:
            strip = np.array(opened.convert("RGB"))
    except OSError as error:
        raise StoreError(f"{path}: not readable ({error})") from error
    return picture_uri(strip, MAX_WIDTH, JPEG_QUALITY)


def _identity(record: Mapping[str, Any], plain: Sequence[str], nested: Sequence[str]) -> dict[str, str]:
    """Name -> value of what was run: the recipe, weights, and of the config some keys and some parts."""
    if not record:
        return {}
    config = record["config"]
    weights = record["weights_sha256"]
    rows: dict[str, str] = {"recipe": str(record["recipe"])}
    rows |= {"weights sha256": weights} if isinstance(weights, str) else {}
    rows |= {} if isinstance(weights, str) else {f"{name} weights sha256": value for name, value in weights.items()}
    rows |= {name: str(config[name]) for name in plain if name in config}
    for part in nested:
        rows |= {f"{part}.{name}": _text(value) for name, value in (config.get(part) or {}).items()}
    rows["versions"] = ", ".join(f"{name} {value}" for name, value in record["versions"].items())
    return rows


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
