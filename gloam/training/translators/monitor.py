"""What a run shows of itself while it trains: strips of samples, curves as CSV, TensorBoard events."""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from torch import Tensor

from gloam.errors import StoreError, require
from gloam.files import atomic_write, write_failure, write_text

LOSSES_FILE = "losses.csv"
HELD_OUT_FILE = "held_out.csv"
SAMPLES_FOLDER = "samples"
EVENTS_FOLDER = "tensorboard"
GAP, HEADING = 4, 16  # pixels
CYCLE = "cycle_L1"  # how names of errors of cycles end


class Table:
    """A CSV file with one row per step, appended while running; a resumed run drops the rows that it will write again.

    Args:
        path: of the file.
        resumed_step: rows of later steps are dropped; -1 where no state is carried on, so all of them.
    """

    def __init__(self, path: Path, resumed_step: int) -> None:
        self.path = path
        self.columns: list[str] = []
        if not path.is_file():
            return
        rows = [row for row in read_table(path) if row["step"] is not None and row["step"] <= resumed_step]
        if rows:
            self._write(rows)
        else:
            path.unlink()

    def append(self, row: Mapping[str, float | int | None]) -> None:
        """Add a row; a name that no earlier row has becomes a further column.

        Raises:
            StoreError: the disk is full or not writable.
        """
        if not set(row) <= set(self.columns):
            self._write([*(read_table(self.path) if self.path.is_file() else []), row])
            return
        try:
            with self.path.open("a", encoding="utf-8", newline="") as handle:
                csv.writer(handle).writerow([_cell(row.get(name)) for name in self.columns])
        except OSError as error:
            raise StoreError(write_failure(self.path, error)) from error

    def _write(self, rows: Sequence[Mapping[str, float | int | None]]) -> None:
        self.columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(self.columns)
        writer.writerows([[_cell(row.get(name)) for name in self.columns] for row in rows])
        write_text(self.path, text.getvalue())


def read_table(path: Path) -> list[dict[str, float | None]]:
    """Rows of a CSV file of numbers; a row that a kill cut short is left out.

    Raises:
        StoreError: not readable.
    """
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            lines = list(csv.reader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path}: not readable ({error})") from error
    rows: list[dict[str, float | None]] = []
    for line in lines[1:]:
        with contextlib.suppress(ValueError):
            if len(line) == len(lines[0]):
                values = [float(cell) if cell else None for cell in line]
                rows.append(dict(zip(lines[0], values, strict=True)))
    return rows


class Monitor:
    """Writes the curves and pictures of a run; one process of a run has one.

    Args:
        folder: of the run.
        resumed_step: what was written of later steps is dropped; all where it is -1.
        tensorboard: write event files too.

    Attributes:
        sampled: step of the newest strip; -1 where there is none.

    Raises:
        MissingExtraError: events are wanted and tensorboard is not installed.
    """

    def __init__(self, folder: Path, resumed_step: int, tensorboard: bool = True) -> None:
        self.folder = folder
        self._losses = Table(folder / LOSSES_FILE, resumed_step)
        self._held_out = Table(folder / HELD_OUT_FILE, resumed_step)
        for strip in strips(folder):
            if strip_step(strip) > resumed_step:
                strip.unlink()
        self.sampled = max(map(strip_step, strips(folder)), default=-1)
        self._events: Any = None
        if tensorboard:
            writer = require("torch.utils.tensorboard", "train", "write TensorBoard events").SummaryWriter
            self._events = writer(str(folder / EVENTS_FOLDER), purge_step=resumed_step + 1)

    def losses(self, step: int, epoch: int, seconds: float, rate: float, values: Mapping[str, float]) -> None:
        """A row of mean losses since the row before.

        Args:
            step: steps done.
            epoch: of the step, counted from 1.
            seconds: of the run so far, by its clock.
            rate: learning rate.
            values: losses by name.
        """
        self._losses.append(
            {"step": step, "epoch": epoch, "seconds": round(seconds, 2), "learning_rate": rate, **values}
        )
        self._scalars("loss", {**values, "learning_rate": rate}, step)

    def held_out(self, step: int, epoch: int, values: Mapping[str, float], pictures: Mapping[str, Tensor]) -> None:
        """Scores and a strip of images that are never trained on.

        Args:
            step, epoch: as in :meth:`losses`.
            values: scores by name.
            pictures: float ``[B, C, H, W]`` in [-1, 1] by name, all of one B, H and W.
        """
        if values:
            self._held_out.append({"step": step, "epoch": epoch, **values})
            self._scalars("held_out", values, step)
        strip, self.sampled = draw_strip(pictures), step
        path = self.folder / SAMPLES_FOLDER / f"step-{step:08d}.png"
        with atomic_write(path) as handle:
            Image.fromarray(strip).save(handle, "PNG")
        if self._events is not None:
            self._events.add_image("samples", strip, step, dataformats="HWC")
            self._events.flush()

    def close(self) -> None:
        """Flush the event file."""
        if self._events is not None:
            self._events.close()

    def _scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{group}/{name}", value, step)


def draw_strip(pictures: Mapping[str, Tensor]) -> npt.NDArray[np.uint8]:
    """One row per image and one named column per kind of picture, uint8 ``[h, w, 3]``.

    Args:
        pictures: float ``[B, C, H, W]`` in [-1, 1] with C 1 or 3.
    """
    names = list(pictures)
    columns = [_to_uint8(pictures[name]) for name in names]
    count, height, width, _ = columns[0].shape
    canvas = np.full((HEADING + count * (height + GAP) - GAP, len(names) * (width + GAP) - GAP, 3), 255, np.uint8)
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for number, name in enumerate(names):
        draw.text((number * (width + GAP) + 2, 2), name, fill=(40, 40, 60))
    canvas = np.array(image)
    for number, column in enumerate(columns):
        left = number * (width + GAP)
        for row, picture in enumerate(column):
            top = HEADING + row * (height + GAP)
            canvas[top : top + height, left : left + width] = picture
    return canvas


def in_units(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores as they are told: the error of a cycle in the networks' unit and in that of pictures, both named."""
    found: dict[str, float] = {}
    for name, value in scores.items():
        if name.endswith(CYCLE):
            found |= {f"{name} in [-1, 1]": value, f"{name} in [0, 1]": value / 2}
        else:
            found[name] = value
    return found


def strips(folder: Path) -> list[Path]:
    """The strips of a run, oldest first."""
    found = (folder / SAMPLES_FOLDER).glob("step-*.png")
    return sorted(path for path in found if path.stem.removeprefix("step-").isdigit())


def strip_step(path: Path) -> int:
    """After how many steps a strip was drawn."""
    return int(path.stem.removeprefix("step-"))


def _to_uint8(pictures: Tensor) -> npt.NDArray[np.uint8]:
    """``[B, H, W, 3]`` of ``[B, C, H, W]`` in [-1, 1]; what is not finite is black."""
    values = pictures.detach().float().nan_to_num(-1.0).clamp(-1.0, 1.0)
    if values.shape[1] == 1:
        values = values.expand(-1, 3, -1, -1)
    shades: npt.NDArray[np.uint8] = ((values + 1.0) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return shades


def _cell(value: float | int | None) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
