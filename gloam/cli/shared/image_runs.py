"""What ``gloam translate`` and ``gloam edges`` share: the options of a bulk image-to-image run, and its report."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gloam.cli.shared.backend_options import add_backend, placement
from gloam.cli.shared.ray_options import add_cluster, add_workers, expect_cluster, ray_cluster
from gloam.cli.shared.report import Report
from gloam.cli.shared.values import place

if TYPE_CHECKING:
    from gloam.runtime.backends.placement import Placement
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
        "command resumes: pictures of changed sources are made again, failed sources tried again",
    )
    parser.add_argument(
        "--max-side",
        type=int,
        help="longer side in pixels, 0 keeps native sizes (default: 1024; native for kapture datasets, whose "
        "intrinsics are of the pixels as stored)",
    )
    parser.add_argument(
        "--contact-sheet", action="store_true", help="also write contact_sheet.jpg: sources beside their pictures"
    )
    parser.add_argument(
        "--tar",
        action="store_true",
        help="write part-000000.tar, part-000001.tar, ... (WebDataset) instead of images/, for very many pictures; a "
        "tar is whole or absent",
    )
    parser.add_argument("--tar-size", type=int, help="sources per tar, the unit of resume (default: 1000)")
    add_resuming(parser)
    cluster = parser.add_argument_group(
        "on a Ray cluster, with --tar",
        "run on one of its nodes. Workers write whole tars, of the same bytes as without Ray; what a lost one had is "
        "made by another. Images, model and output must lie on storage that every node sees under the same path",
    )
    add_cluster(cluster, "--threads and --decode-threads unless given")
    add_workers(cluster)
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


def add_resuming(parser: argparse.ArgumentParser) -> None:
    """Add how a run goes on where an earlier one stopped."""
    parser.add_argument(
        "--grow",
        action="store_true",
        help="go on with other images than the output was begun with: unchanged shards or pictures are kept, what is "
        "no longer in the source goes (default: added or removed images are refused)",
    )
    parser.add_argument(
        "--verify-sources",
        action="store_true",
        help="read every image of an earlier run again and compare its content; by default only those whose file has "
        "another size, time or number, or whose URL another ETag",
    )


def add_metrics_port(parser: argparse.ArgumentParser) -> None:
    """Add the port for Prometheus."""
    parser.add_argument(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help="serve images done and failed, seconds per stage and queue lengths to Prometheus while the run lasts",
    )


def report_pictures(
    arguments: argparse.Namespace, load: Callable[[Placement], ImageOperation], suffix: Literal["png", "jpg"], verb: str
) -> Report:
    """Run, and say what happened.

    Args:
        arguments: of the verb.
        load: gives the model where it is to run; picklable.
        suffix: of the pictures.
        verb: what becomes of an image.
    """
    from gloam.runtime.bulk.picture_run import PictureRequest, run_pictures

    expect_cluster(arguments, "workers")
    cluster = ray_cluster(arguments, arguments.workers)
    where = placement(arguments) if cluster is None else cluster.placed(placement(arguments))

    request = PictureRequest(
        source=arguments.source,
        output=arguments.output,
        root=arguments.root,
        max_side=arguments.max_side,
        format=suffix,
        tar=arguments.tar,
        tar_size=arguments.tar_size,
        contact_sheet=arguments.contact_sheet,
        grow=arguments.grow,
        verify_sources=arguments.verify_sources,
        threads=arguments.decode_threads,
        metrics_port=arguments.metrics_port,
        progress=not arguments.json,
    )
    done = run_pictures(request, partial(load, where), cluster)
    return Report(done.to_dict(), done.said(verb))
