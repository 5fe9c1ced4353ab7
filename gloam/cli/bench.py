"""``gloam bench``: what runs a model fastest on this machine."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gloam.cli.shared.report import Report
from gloam.cli.shared.values import place
from gloam.errors import UsageError
from gloam.runtime.backends.placement import BACKENDS, CPU_PRECISIONS, Placement

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gloam.runtime.bench import Comparison

HELP = "measure images per second of a model by every backend, number of threads and precision of this machine's CPU"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("model", type=Path, help="embedder, translator or edge detector (.onnx)")
    parser.add_argument(
        "--images", type=place, help="folder or list of photographs, at native sizes (default: four made ones)"
    )
    parser.add_argument("--count", type=int, default=8, help="images to use, evenly from all that are given")
    parser.add_argument("--max-side", type=int, default=0, help="longer side in pixels, 0 keeps native sizes")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds; the median counts")
    parser.add_argument("--threads", type=int, help="only so many threads (default: all cores, and half of them)")
    parser.add_argument("--backend", choices=BACKENDS, help="only this one, beside the default")
    parser.add_argument("--cpu-precision", choices=CPU_PRECISIONS, help="only this one, beside the default")
    parser.add_argument(
        "--tune",
        action="store_true",
        help="write the fastest to MODEL.tune.json: every later run of the model on this machine uses it, unless "
        "--backend, --threads or --cpu-precision say otherwise",
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        choices=("bf16",),
        help="with --tune: may be chosen, too, although it changes the answers a little",
    )


def run(arguments: argparse.Namespace) -> Report:
    """Measure, and with ``--tune`` write the profile."""
    if arguments.allow and not arguments.tune:
        raise UsageError("--allow goes with --tune")
    from gloam.runtime.backends.tensorrt.engine_card import is_engine
    from gloam.runtime.bench import compare_choices, here, tune

    if is_engine(arguments.model):
        raise UsageError(f"{arguments.model}: an engine has one way to run; give the .onnx file")
    only = Placement("cpu", arguments.threads, arguments.backend, arguments.cpu_precision)
    if "bf16" in arguments.allow and only.cpu_precision is None:
        here(replace(only, cpu_precision="bf16"))  # allowed by name, so refused where it cannot be had
    choices, notes = here(only)
    images = _images(arguments)
    found = compare_choices(arguments.model, images, choices, arguments.rounds)
    lines = [
        f"{arguments.model}: {len(images)} images, median of {arguments.rounds} interleaved rounds, decoding apart"
    ]
    lines += [*_table(found), *notes, *found.notes]
    data: dict[str, Any] = {
        "model": str(arguments.model),
        "fingerprint": found.fingerprint,
        "precision": found.precision,
        "images": [list(image.shape[:2]) for image in images],
        "unit": found.unit,
        "rows": [
            {**asdict(row), "loss": None if row.problem or row.loss == float("inf") else row.loss, "rate": row.rate}
            for row in found.rows
        ],
        "notes": [*notes, *found.notes],
    }
    if arguments.tune:
        profile = tune(arguments.model, found, arguments.allow)
        saved = profile.save(arguments.model)
        data["profile"] = str(saved)
        data["choice"] = asdict(profile.choice)
        lines.append(f"{saved}: {profile.choice} from now on")
    return Report(data, "\n".join(lines))


def _table(found: Comparison) -> list[str]:
    lines = [f"{'':44s} {'images/s':>9s} {'ratio':>6s}  {found.unit} from the first"]
    for row in found.rows:
        if row.problem is not None:
            lines.append(f"{row.choice!s:44s} {'-':>9s} {'-':>6s}  {row.problem}")
            continue
        verdict = "" if row.agrees else "  DIFFERS, never chosen"
        lines.append(
            f"{row.choice!s:44s} {row.rate:9.2f} {row.rate / found.default.rate:6.2f}  {max(row.loss, 0):.1e}{verdict}"
        )
    return lines


def _images(arguments: argparse.Namespace) -> list[npt.NDArray[np.uint8]]:
    """The photographs that were given, or made ones that the model takes."""
    import numpy as np

    from gloam.data.images import decode_image
    from gloam.data.sources import find_images
    from gloam.errors import DataError, ImageError
    from gloam.runtime.backends.onnx_file import read_card
    from gloam.runtime.bench import generated_images

    profile = read_card(arguments.model).profile
    if arguments.images is None:
        fixed = profile.kind == "fixed"
        return generated_images((max(profile.heights), max(profile.widths)) if fixed else None)
    if arguments.count < 1:
        raise UsageError("--count must be 1 or more")
    items = find_images(arguments.images)
    images = []
    for at in np.linspace(0, len(items) - 1, min(len(items), arguments.count)).astype(int):
        try:
            if items[at].problem is None:
                image = decode_image(items[at].read(), max_side=arguments.max_side or None)
                profile.shape_for(image.shape[0], image.shape[1])
                images.append(image)
        except ImageError:
            continue
    if not images:
        raise DataError(f"{arguments.images}: none of the images can be read and run; try others, or --max-side")
    return images
