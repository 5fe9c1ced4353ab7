"""A measurement as it is asked for: which images, which choices, and whether the fastest is to be used from now on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image, resize_image
from gloam.data.sources import find_images
from gloam.errors import DataError, ImageError, UsageError
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.tensorrt.engine_card import is_engine
from gloam.runtime.backends.tuning import TuneProfile, profile_path
from gloam.runtime.bench import compare as bench


@dataclass(frozen=True)
class BenchRequest:
    """What to measure.

    Attributes:
        model: ``.onnx`` file of an embedder, translator or edge detector.
        images: folder or list of photographs; four made ones by default.
        count: images to use, evenly from all that are given.
        max_side: longer side, pixels; 0 keeps native sizes. None: an embedder's own input rule, else native sizes.
        rounds: timed ones.
        only: measure this backend, precision and number of threads alone, where it names them, beside the default.
        tune: write the fastest into the profile beside the model.
        allow: reduced precisions that may be chosen.
    """

    model: Path
    images: Path | str | None = None
    count: int = 8
    max_side: int | None = None
    rounds: int = bench.ROUNDS
    only: Placement = field(default_factory=Placement)
    tune: bool = False
    allow: Sequence[str] = ()


@dataclass(frozen=True)
class BenchRun:
    """What was measured, and on what.

    Attributes:
        request: what was asked for.
        found: the rates.
        shapes: height and width of each image.
        notes: what was not measured, and why.
        profile: that was written, where one was asked for.
    """

    request: BenchRequest
    found: bench.Comparison
    shapes: Sequence[tuple[int, int]]
    notes: Sequence[str]
    profile: TuneProfile | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found = self.found
        rows = [
            {**asdict(row), "loss": None if row.problem or row.loss == float("inf") else row.loss, "rate": row.rate}
            for row in found.rows
        ]
        data: dict[str, Any] = {
            "model": str(self.request.model),
            "fingerprint": found.fingerprint,
            "precision": found.precision,
            "images": [list(shape) for shape in self.shapes],
            "unit": found.unit,
            "rows": rows,
            "notes": list(self.notes),
        }
        if self.profile is not None:
            data |= {"profile": str(profile_path(self.request.model)), "choice": asdict(self.profile.choice)}
        return data

    def __str__(self) -> str:
        """A table for people."""
        model, found = self.request.model, self.found
        lines = [
            f"{model}: {len(self.shapes)} images, median of {self.request.rounds} interleaved rounds, decoding apart",
            f"{'':44s} {'images/s':>9s} {'ratio':>6s}  {found.unit} from the first",
        ]
        for row in found.rows:
            if row.problem is not None:
                lines.append(f"{row.choice!s:44s} {'-':>9s} {'-':>6s}  {row.problem}")
                continue
            verdict = "" if row.agrees else "  DIFFERS, never chosen"
            ratio = row.rate / found.default.rate
            lines.append(f"{row.choice!s:44s} {row.rate:9.2f} {ratio:6.2f}  {max(row.loss, 0):.1e}{verdict}")
        lines += self.notes
        if self.profile is not None:
            lines.append(f"{profile_path(model)}: {self.profile.choice} from now on")
        return "\n".join(lines)


def run_bench(request: BenchRequest) -> BenchRun:
    """Measure, and write the profile where that is asked for.

    Raises:
        UsageError: an engine, or numbers out of range.
        DataError: none of the images can be read and run.
        ModelError: the default cannot run, or bf16 was asked for by name and cannot be had.
    """
    if is_engine(request.model):
        raise UsageError(f"{request.model}: an engine has one way to run; give the .onnx file")
    if "bf16" in request.allow and request.only.cpu_precision is None:
        bench.here(replace(request.only, cpu_precision="bf16"))  # allowed by name, so refused where it cannot be had
    choices, notes = bench.here(request.only)
    images, unread = read_images(request)
    notes = [*notes, *unread]
    found = bench.compare_choices(request.model, images, choices, request.rounds)
    profile = None
    if request.tune:
        profile = bench.tune(request.model, found, request.allow)
        profile.save(request.model)
    return BenchRun(request, found, [image.shape[:2] for image in images], [*notes, *found.notes], profile)


def read_images(request: BenchRequest) -> tuple[list[npt.NDArray[np.uint8]], list[str]]:
    """The photographs that were given, or made ones that the model takes; and a line for each that cannot be used.

    Raises:
        DataError: none of the images can be read and run.
    """
    card = read_card(request.model)
    profile = card.profile
    rule = card.reads if request.max_side is None and card.embeds else card.reads.sized(request.max_side)
    if request.count < 1:
        raise UsageError("--count must be 1 or more")
    if request.images is None:
        fixed = profile.kind == "fixed"
        made = bench.generated_images((max(profile.heights), max(profile.widths)) if fixed else None)
        return [resize_image(image, rule) for image in made], []
    items = find_images(request.images)
    images, unread = [], []
    for at in np.linspace(0, len(items) - 1, min(len(items), request.count)).astype(int):
        try:
            if items[at].problem is not None:
                raise ImageError(items[at].problem)
            image = decode_image(items[at].read(), rule=rule)
            profile.shape_for(image.shape[0], image.shape[1])
            images.append(image)
        except ImageError as error:
            unread.append(f"left out: {items[at].name}: {error}")
    if not images:
        raise DataError(f"{request.images}: none of the images can be read and run; try others, or --max-side")
    return images, unread
