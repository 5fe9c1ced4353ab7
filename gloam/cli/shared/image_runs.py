"""What ``gloam translate`` and ``gloam edges`` share: the options of a bulk image-to-image run, and its report."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gloam.cli.shared.backend_options import add_backend
from gloam.cli.shared.report import Report
from gloam.cli.shared.values import place
from gloam.errors import UsageError

if TYPE_CHECKING:
    from gloam.runtime.models.image_model import ImageOperation


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of both verbs."""
    add_source(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="folder to write: images/ under the sources' names (or tar shards), manifest.json, failures.csv; the same "
        "command resumes",
    )
    parser.add_argument("--max-side", type=int, default=1024, help="longer side in pixels, 0 keeps native sizes")
    parser.add_argument(
        "--contact-sheet", action="store_true", help="also write contact_sheet.jpg: sources beside their pictures"
    )
    parser.add_argument(
        "--tar",
        action="store_true",
        help="write part-000000.tar, part-000001.tar, ... (WebDataset) instead of images/, for very many pictures; a "
        "tar is whole or absent",
    )
    parser.add_argument("--tar-size", type=int, default=1000, help="sources per tar, the unit of resume")
    add_backend(parser)
    parser.add_argument("--decode-threads", type=int, help="threads that read and write (default: all cores)")
    add_metrics_port(parser)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the images of a bulk run."""
    parser.add_argument(
        "source",
        type=place,
        help="folder, text list of names, kapture dataset or one image; .tar shards (WebDataset) or .parquet files "
        "with image bytes: one, a folder of them, or a quoted pattern such as 'train-{000..099}.tar'; or a URL of "
        "these (s3://, https://)",
    )
    parser.add_argument(
        "--root", type=place, help="folder or URL that a list's names are relative to (default: the list's)"
    )


def add_metrics_port(parser: argparse.ArgumentParser) -> None:
    """Add the port for Prometheus."""
    parser.add_argument(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help="serve images done and failed, seconds per stage and queue lengths to Prometheus while the run lasts",
    )


def run_pictures(arguments: argparse.Namespace, load: Callable[[], ImageOperation], suffix: str, verb: str) -> Report:
    """Find the images, run them, and say what happened."""
    from gloam.data.sources import find_images
    from gloam.runtime.bulk.pictures import PictureOptions, run_images

    options = PictureOptions(arguments.max_side or None, "jpg" if suffix == "jpg" else "png")
    if arguments.tar and arguments.contact_sheet:
        raise UsageError("--contact-sheet shows pictures in a folder; leave out --tar, or --contact-sheet")
    _refuse_nesting(arguments.source, arguments.output)
    items = find_images(arguments.source, arguments.root)
    operation = load()
    summary = run_images(
        items,
        operation,
        arguments.output,
        options,
        tar_size=arguments.tar_size if arguments.tar else None,
        threads=arguments.decode_threads,
        metrics_port=arguments.metrics_port,
        progress=not arguments.json,
    )
    output = arguments.output if arguments.tar else arguments.output / "images"
    lines = [
        f"{output}: {summary.done} of {summary.images} images {verb} by {operation.name}"
        + (f", {summary.reused} of them by an earlier run" if summary.reused else ""),
        f"{summary.images_per_second:.1f} images/s; {summary.said()}",
        str(summary.backend),
    ]
    if summary.reduced:
        lines.append(f"{summary.reduced} images were larger than --max-side {arguments.max_side} and were reduced")
    if summary.failed:
        lines.append(f"{summary.failed} images failed; the reasons are in {arguments.output / 'failures.csv'}")
    data = summary.to_dict() | {
        "output": str(output),
        "model": operation.name,
        "fingerprint": operation.fingerprint,
    }
    if arguments.contact_sheet:
        from gloam.runtime.bulk.contact_sheet import write_contact_sheet

        sheet = write_contact_sheet(arguments.output, items)
        data["contact_sheet"] = str(sheet)
        lines.append(f"contact sheet {sheet}")
    return Report(data, "\n".join(lines))


def _refuse_nesting(source: Path | str, output: Path) -> None:
    """Pictures below a folder of sources would be sources of the next run."""
    if isinstance(source, str) or not source.is_dir() or (source / "sensors" / "records_camera.txt").is_file():
        return
    if output.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{output}: lies inside the folder of the sources; choose an output folder elsewhere")
