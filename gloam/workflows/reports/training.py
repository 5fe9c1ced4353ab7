"""One page about a translator's training run, from the files in its folder: samples first, then curves, then facts.

No script, no request to anywhere: styles, charts and pictures are inside the file, every text is escaped.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from gloam import __version__
from gloam.data.images import open_image
from gloam.errors import StoreError
from gloam.files import open_file, read_json, write_text
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
from gloam.workflows.reports.charts import Series, line_chart
from gloam.workflows.reports.template import page_environment

REPORT_FILE = "report.html"
MAX_STRIPS = 6  # first, last, and evenly between
MAX_POINTS = 400  # of a curve; neighbours are averaged beyond
MAX_WIDTH = 1200  # of a strip, pixels
JPEG_QUALITY = 82
COLOURS = 6  # series styles in the style sheet

Row = Mapping[str, float | None]


def write_training_report(folder: str | Path) -> Path:
    """Write ``report.html`` into the folder of a run, finished or not.

    Returns:
        its path.

    Raises:
        StoreError: no run there, or a file that cannot be read or written.
    """
    place = Path(folder)
    record = _read_record(place)
    losses = read_table(place / LOSSES_FILE) if (place / LOSSES_FILE).is_file() else []
    held_out = read_table(place / HELD_OUT_FILE) if (place / HELD_OUT_FILE).is_file() else []
    if not record and not losses:
        raise StoreError(f"{place}: holds no training run; give the folder that 'gloam train translator' wrote")
    environment = page_environment()
    page = environment.get_template("training_template.html").render(
        title=f"Training of {record.get('recipe', place.name)}",
        version=__version__,
        sentence=_sentence(record, losses),
        scores=_scores(held_out),
        pictures=[(strip_step(path), _picture(path)) for path in _spread(strips(place), MAX_STRIPS)],
        held_out_charts=[_chart(name, [name], held_out) for name in _names(held_out)],
        loss_charts=[_chart(title, names, losses) for title, names in _families(_names(losses)).items()],
        identity=_identity(record),
    )
    path = place / REPORT_FILE
    write_text(path, page)
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


def _sentence(record: Mapping[str, Any], losses: Sequence[Row]) -> str:
    if not record:
        return f"Unfinished: {losses[-1]['step']:.0f} steps so far."
    done = f"{record['step']} of {record['steps']} steps" + (", ended by its time limit" if record["limited"] else "")
    kind = {"cpu": "processor time", "wall": "time"}[record["clock"]]
    return f"{done}; {record['seconds'] / 60:.1f} minutes of {kind} on {record['device']}."


def _scores(held_out: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Name, value before training, value at the end; a run that has been judged once has no end yet."""
    if not held_out:
        return []
    first, last = held_out[0], held_out[-1] if len(held_out) > 1 else {}
    told = [in_units({name: value for name, value in row.items() if value is not None}) for row in (first, last)]
    names = [name for name in dict.fromkeys(name for row in told for name in row) if name not in WHEN]
    return [(name, _number(told[0].get(name)), _number(told[1].get(name))) for name in names]


def _names(rows: Sequence[Row]) -> list[str]:
    return [name for name in dict.fromkeys(name for row in rows for name in row) if name not in WHEN]


def _families(names: Iterable[str]) -> dict[str, list[str]]:
    """Losses whose names begin alike share a chart: ``cycle_day`` and ``cycle_night`` are the family ``cycle``."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.split("_")[0], []).append(name)
    return found


def _chart(title: str, names: Sequence[str], rows: Sequence[Row]) -> tuple[str, list[tuple[str, int]], Markup]:
    series = []
    for number, name in enumerate(names):
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        x, y = _thinned([(float(step or 0), float(value or 0)) for step, value in points])
        series.append(Series(name, number % COLOURS, x, y))
    last = max((entry.x[-1] for entry in series if entry.x), default=1.0)
    drawing = line_chart(
        series,
        title=f"{title} over steps",
        x_label="steps",
        x_ticks=[(0.0, "0"), (last / 2, f"{last / 2:.0f}"), (last, f"{last:.0f}")],
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
            strip = opened.convert("RGB")
    except OSError as error:
        raise StoreError(f"{path}: not readable ({error})") from error
    if strip.width > MAX_WIDTH:
        strip = strip.resize((MAX_WIDTH, round(strip.height * MAX_WIDTH / strip.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _identity(record: Mapping[str, Any]) -> dict[str, str]:
    if not record:
        return {}
    config = record["config"]
    rows: dict[str, str] = {"recipe": str(record["recipe"])}
    rows |= {f"{name} weights sha256": value for name, value in record["weights_sha256"].items()}
    for name in ("trainer", "seed", "batch", "precision", "processes"):
        rows[name] = str(config[name])
    rows |= {f"options.{name}": _text(value) for name, value in config["options"].items()}
    rows |= {f"data.{name}": _text(value) for name, value in config["data"].items()}
    rows["versions"] = ", ".join(f"{name} {value}" for name, value in record["versions"].items())
    return rows


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
