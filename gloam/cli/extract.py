"""``gloam extract``: images to a store of descriptors."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from gloam.cli.shared.backend_options import add_backend, placement
from gloam.cli.shared.image_runs import add_metrics_port, add_resuming, add_source
from gloam.cli.shared.ray_options import add_cluster, add_workers, expect_cluster, ray_cluster
from gloam.cli.shared.report import Report
from gloam.cli.shared.translating import add_direction
from gloam.cli.shared.unread import refuse
from gloam.cli.shared.values import width_height
from gloam.errors import UsageError

HELP = "describe a folder, list, kapture dataset, tar or Parquet shards or URL of images into a resumable store"
KEPT = ("shards/*.npy",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_source(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="folder of the store; the same command resumes: shards whose images changed are made again, failed images "
        "tried again, and a complete store that needs nothing is not touched",
    )
    parser.add_argument(
        "--model", type=Path, required=True, help="embedder, alone or fused with a translator: .onnx or engine folder"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--max-side",
        type=int,
        help="longer side in pixels, 0 keeps native sizes; another than the model's input rule, which is the default, "
        "gives descriptors of another space",
    )
    size.add_argument(
        "--stretch", type=width_height, metavar="WxH", help="exact width and height in pixels, whatever the aspect"
    )
    parser.add_argument(
        "--fast-decode",
        action="store_true",
        help="unpack large JPEGs at 1/2, 1/4 or 1/8 of their size, never below the size asked for: quicker, and the "
        "descriptors differ a little; noted in the store",
    )
    parser.add_argument("--photometric", choices=("none", "clahe"), help="instead of the model's own normalisation")
    parser.add_argument(
        "--translate",
        metavar="MODEL",
        help="bring every image to another condition first, e.g. queries from night to day, by a translator (.onnx) or "
        "a formula (see gloam translate); off by default, because it was measured to hurt retrieval (Dark Side "
        "Augmentation): translate the training images instead",
    )
    add_direction(parser, "--translate: ")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="of the stored descriptors")
    parser.add_argument("--shard-size", type=int, default=1000, help="images per shard, the unit of work and resume")
    add_resuming(parser)
    tasks = parser.add_argument_group("several tasks into one store, e.g. a Slurm array; the last one completes it")
    tasks.add_argument(
        "--shard-index", type=int, metavar="I", help="of this task, from 0: it makes the shards I, I + N, I + 2N, ..."
    )
    tasks.add_argument("--num-shards", type=int, metavar="N", help="number of tasks")
    tasks.add_argument(
        "--finish",
        action="store_true",
        help="describe nothing: state a store complete whose shards are all there, or say which are missing",
    )
    cluster = parser.add_argument_group(
        "on a Ray cluster",
        "run on one of its nodes. Workers write whole shards, of the same bytes as without Ray; one that dies is "
        "replaced. Images, model and output must lie on storage that every node sees under the same path",
    )
    add_cluster(cluster, "--threads and --decode-threads unless given")
    add_workers(cluster)
    add_backend(parser)
    parser.add_argument("--decode-threads", type=int, help="threads that decode images (default: all cores)")
    add_metrics_port(parser)
    parser.add_argument("--kapture", type=Path, metavar="DIR", help="also write .gfeat files into this kapture dataset")
    parser.add_argument("--feature-type", help="kapture's name for these features (default: the model's name)")
    parser.add_argument("--hloc", type=Path, metavar="FILE", help="also write hloc's .h5 file")


def run(arguments: argparse.Namespace) -> Report:
    """Find the images, describe them, write what else was asked for."""
    from gloam.runtime.bulk.extract import WHOLE, Part
    from gloam.runtime.bulk.extraction import EmbedderLoader, ExtractRequest, finish_store, run_extraction
    from gloam.runtime.descriptors.writers import write_formats

    loader = EmbedderLoader(
        arguments.model,
        placement(arguments),
        arguments.photometric,
        arguments.translate,
        domain=arguments.to,
        noise=arguments.noise,
        like=tuple(arguments.like),
        encoder=arguments.appearance,
    )
    request = ExtractRequest(
        source=arguments.source,
        output=arguments.output,
        embedder=loader,
        root=arguments.root,
        max_side=arguments.max_side,
        stretch=arguments.stretch,
        dtype=arguments.dtype,
        shard_size=arguments.shard_size,
        fast_decode=arguments.fast_decode,
        grow=arguments.grow,
        verify_sources=arguments.verify_sources,
        decode_threads=arguments.decode_threads,
        metrics_port=arguments.metrics_port,
        progress=not arguments.json,
    )
    _refuse_combinations(arguments)
    if arguments.finish:
        data, model = finish_store(arguments.output), loader.name() if arguments.kapture else ""
        text = f"{arguments.output}: complete, {data['described']} of {data['images']} images described"
    else:
        part = WHOLE if arguments.shard_index is None else Part(arguments.shard_index, arguments.num_shards)
        done = run_extraction(replace(request, part=part), ray_cluster(arguments, arguments.workers))
        data, model, text = done.to_dict(), done.model, str(done)
    others = write_formats(arguments.output, arguments.kapture, arguments.hloc, arguments.feature_type or model)
    return Report(data, "\n".join([text, *others]))


def _refuse_combinations(arguments: argparse.Namespace) -> None:
    if (arguments.shard_index is None) != (arguments.num_shards is None):
        raise UsageError("--shard-index and --num-shards go together")
    if arguments.feature_type is not None and arguments.kapture is None:
        raise UsageError("--feature-type names features of a kapture dataset; add --kapture DIR, or leave it out")
    if arguments.shard_index is not None and (arguments.kapture or arguments.hloc):
        raise UsageError("--kapture and --hloc need the whole store; give them to `gloam extract --finish`")
    if arguments.shard_index is not None and arguments.finish:
        raise UsageError("--finish is of the whole store; leave out --shard-index and --num-shards")
    if arguments.finish:
        why = "is of describing; --finish describes nothing"
        refuse(arguments, ("grow", "verify_sources", "metrics_port"), why)
    expect_cluster(arguments, "workers")
    if arguments.on != "ray":
        return
    if arguments.shard_index is not None or arguments.finish:
        raise UsageError(
            "--on ray shares out the shards and finishes the store itself; leave out --shard-index, --finish"
        )
