"""``gloam extract``: images to a store of descriptors."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from gloam.cli.backend_options import add_backend, chosen, said
from gloam.cli.image_runs import add_metrics_port, add_source
from gloam.cli.report import Report
from gloam.errors import UsageError

HELP = "describe a folder, list, kapture dataset, tar or Parquet shards or URL of images into a resumable store"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_source(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="folder of the store; the same command resumes"
    )
    parser.add_argument(
        "--model", type=Path, required=True, help="embedder, alone or fused with a translator: .onnx or engine folder"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--max-side",
        type=int,
        help="longer side in pixels, 0 keeps native sizes (default: 1024; native for a model that resizes itself)",
    )
    size.add_argument(
        "--stretch", type=_size, metavar="WxH", help="exact width and height in pixels, whatever the aspect"
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
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="of the stored descriptors")
    parser.add_argument("--shard-size", type=int, default=1000, help="images per shard, the unit of work and resume")
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
    add_backend(parser)
    parser.add_argument("--decode-threads", type=int, help="threads that decode images (default: all cores)")
    add_metrics_port(parser)
    parser.add_argument("--kapture", type=Path, metavar="DIR", help="also write .gfeat files into this kapture dataset")
    parser.add_argument("--feature-type", help="kapture's name for these features (default: the model's name)")
    parser.add_argument("--hloc", type=Path, metavar="FILE", help="also write hloc's .h5 file")


def run(arguments: argparse.Namespace) -> Report:
    """Find the images, describe them, write what else was asked for."""
    from gloam.artifact import Photometric
    from gloam.data.sources import find_images
    from gloam.runtime.embedder import Embedder
    from gloam.runtime.pipeline import WHOLE, ExtractOptions, Part, extract
    from gloam.runtime.translator import load_translator

    default = ExtractOptions.max_side if arguments.max_side is None else arguments.max_side
    options = ExtractOptions(
        max_side=None if arguments.stretch or default == 0 else default,
        stretch=arguments.stretch,
        dtype=arguments.dtype,
        shard_size=arguments.shard_size,
        fast_decode=arguments.fast_decode,
    )
    if (arguments.shard_index is None) != (arguments.num_shards is None):
        raise UsageError("--shard-index and --num-shards go together")
    part = WHOLE if arguments.shard_index is None else Part(arguments.shard_index, arguments.num_shards)
    if part is not WHOLE and (arguments.kapture or arguments.hloc):
        raise UsageError("--kapture and --hloc need the whole store; give them to `gloam extract --finish`")
    if arguments.finish:
        return _finish(arguments)
    photometric = Photometric(arguments.photometric) if arguments.photometric else None
    items = find_images(arguments.source, arguments.root)
    translator = None
    if arguments.translate is not None:
        translator = load_translator(arguments.translate, requests=1, **chosen(arguments))  # one by one
    embedder = Embedder.load(arguments.model, photometric=photometric, translator=translator, **chosen(arguments))
    if embedder.card.resize is not None and arguments.max_side is None and not arguments.stretch:
        options = replace(options, max_side=None)
    summary = extract(
        items,
        embedder,
        arguments.output,
        options,
        part=part,
        decode_threads=arguments.decode_threads,
        metrics_port=arguments.metrics_port,
        progress=not arguments.json,
    )
    lines = [
        f"{arguments.output}: {summary.described} of {summary.images} images described"
        + (f", {summary.reused} of them by an earlier run" if summary.reused else ""),
        f"{summary.images_per_second:.1f} images/s; {summary.said()}",
        said(summary.backend),
        f"padded pixels {summary.padded_share:.0%}",
        f"space {embedder.space}",
    ]
    if embedder.card.resize is not None:
        lines.append(f"images reduced to {embedder.card.resize} px by the model")
    translated_by = embedder.translated_by
    if translated_by is not None:
        lines.append(
            f"images translated by {translated_by['name']} first; as queries they are compared with maps of "
            f"{embedder.untranslated_space}"
        )
    if summary.failed:
        lines.append(f"{summary.failed} images failed; the reasons are in {arguments.output / 'failures.csv'}")
    if not summary.complete:
        lines.append("the store is not complete: shards of other tasks are missing; failures.csv is written at its end")
    data = asdict(summary) | {
        "images_per_second": summary.images_per_second,
        "idle_share": summary.idle_share,
        "store": str(arguments.output),
        "space": embedder.space,
        "fingerprint": embedder.fingerprint,
        "translate": None if translated_by is None else translated_by["name"],
    }
    return Report(data, "\n".join(lines + _write_others(arguments, embedder.card.name)))


def _finish(arguments: argparse.Namespace) -> Report:
    """Complete a store that several tasks have written."""
    from gloam.runtime.ort import read_card
    from gloam.runtime.store import ShardWriter

    writer = ShardWriter.reopen(arguments.output)
    failed = writer.finish()
    data = {
        "store": str(arguments.output),
        "images": writer.job.images,
        "described": writer.job.images - failed,
        "failed": failed,
        "complete": True,
        "space": writer.job.space,
        "fingerprint": writer.job.fingerprint,
    }
    name = read_card(arguments.model).name if arguments.kapture else ""
    text = f"{arguments.output}: complete, {data['described']} of {writer.job.images} images described"
    return Report(data, "\n".join([text, *_write_others(arguments, name)]))


def _write_others(arguments: argparse.Namespace, model: str) -> list[str]:
    """The formats of other programs that were asked for, and a line for each."""
    lines: list[str] = []
    if arguments.kapture or arguments.hloc:
        from gloam.runtime.store import DescriptorStore
        from gloam.runtime.writers import write_hloc, write_kapture

        store = DescriptorStore.open(arguments.output)
        if arguments.kapture:
            write_kapture(store, arguments.kapture, arguments.feature_type or model)
            lines.append(f"kapture features in {arguments.kapture}")
        if arguments.hloc:
            write_hloc(store, arguments.hloc)
            lines.append(f"hloc features in {arguments.hloc}")
    return lines


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(item) for item in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, e.g. 416x320") from None
    return width, height
