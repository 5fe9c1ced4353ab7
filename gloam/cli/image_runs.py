"""What ``gloam translate`` and ``gloam edges`` share: the options of a bulk image-to-image run, and its report."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gloam.cli.report import Report
from gloam.cli.values import DEVICES
from gloam.errors import UsageError

if TYPE_CHECKING:
    from gloam.runtime.image_model import ImageOperation


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of both verbs."""
    parser.add_argument("source", type=Path, help="folder, text list of names, kapture dataset, or one image")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="folder to write: images/ under the sources' names, manifest.json, failures.csv; the same command resumes",
    )
    parser.add_argument("--root", type=Path, help="folder that a list's names are relative to (default: the list's)")
    parser.add_argument("--max-side", type=int, default=1024, help="longer side in pixels, 0 keeps native sizes")
    parser.add_argument(
        "--contact-sheet", action="store_true", help="also write contact_sheet.jpg: sources beside their pictures"
    )
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where the model runs")
    parser.add_argument("--threads", type=int, help="threads of the model (default: all cores)")
    parser.add_argument("--decode-threads", type=int, help="threads that read and write (default: all cores)")


def run_pictures(arguments: argparse.Namespace, load: Callable[[], ImageOperation], suffix: str, verb: str) -> Report:
    """Find the images, run them, and say what happened."""
    from gloam.data.sources import find_images
    from gloam.runtime.translate import PictureOptions, run_images

    options = PictureOptions(arguments.max_side or None, "jpg" if suffix == "jpg" else "png")
    _refuse_nesting(arguments.source, arguments.output)
    items = find_images(arguments.source, arguments.root)
    operation = load()
    summary = run_images(
        items,
        operation,
        arguments.output,
        options,
        threads=arguments.decode_threads,
        progress=not arguments.json,
    )
    seconds, backend = summary.seconds, summary.backend
    lines = [
        f"{arguments.output / 'images'}: {summary.done} of {summary.images} images {verb} by {operation.name}"
        + (f", {summary.reused} of them by an earlier run" if summary.reused else ""),
        f"{summary.images_per_second:.1f} images/s; {seconds['total']:.1f} s: waited for images {seconds['read']:.1f}, "
        f"model {seconds['run']:.1f}, writing {seconds['write']:.1f}",
        f"backend {backend['backend']} on {', '.join(backend['providers'])}, {backend['threads']} threads, "
        f"{backend['precision']}",
    ]
    if arguments.device == "auto" and "why" in backend:
        lines.append(backend["why"])
    if summary.reduced:
        lines.append(f"{summary.reduced} images were larger than --max-side {arguments.max_side} and were reduced")
    if summary.failed:
        lines.append(f"{summary.failed} images failed; the reasons are in {arguments.output / 'failures.csv'}")
    data = asdict(summary) | {
        "images_per_second": summary.images_per_second,
        "output": str(arguments.output / "images"),
        "model": operation.name,
        "fingerprint": operation.fingerprint,
    }
    if arguments.contact_sheet:
        from gloam.runtime.contact_sheet import write_contact_sheet

        sheet = write_contact_sheet(arguments.output, items)
        data["contact_sheet"] = str(sheet)
        lines.append(f"contact sheet {sheet}")
    return Report(data, "\n".join(lines))


def _refuse_nesting(source: Path, output: Path) -> None:
    """Pictures below a folder of sources would be sources of the next run."""
    if not source.is_dir() or (source / "sensors" / "records_camera.txt").is_file():
        return
    if output.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{output}: lies inside the folder of the sources; choose an output folder elsewhere")
