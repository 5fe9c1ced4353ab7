"""``gloam extract``: images to a store of descriptors."""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gloam.cli.shared.backend_options import add_backend, placement
from gloam.cli.shared.image_runs import add_metrics_port, add_source
from gloam.cli.shared.report import Report
from gloam.errors import UsageError

if TYPE_CHECKING:
    from gloam.model_card import ModelCard
    from gloam.runtime.backends.placement import Placement
    from gloam.runtime.bulk.extract import ExtractOptions, ExtractSummary
    from gloam.runtime.models.embedder import Embedder

ON_GPU = ("cuda", "tensorrt")
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
    cluster = parser.add_argument_group(
        "on a Ray cluster",
        "run on one of its nodes. Workers write whole shards, of the same bytes as without Ray; one that dies is "
        "replaced. Images, model and output must lie on storage that every node sees under the same path",
    )
    cluster.add_argument(
        "--on", choices=("local", "ray"), default="local", help="this process, or workers that Ray schedules"
    )
    cluster.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="head of a running cluster, or auto (default: $RAY_ADDRESS, else a Ray of this machine's own)",
    )
    cluster.add_argument("--workers", type=int, metavar="N", help="number of workers (default: as many as fit)")
    cluster.add_argument(
        "--cpus-per-worker",
        type=int,
        metavar="C",
        help="cores that a worker takes, and --threads and --decode-threads unless given (default: 1)",
    )
    cluster.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="G",
        help="GPUs that a worker takes, e.g. 0.5 for two workers on each (default: 1 with a GPU's --device, else 0)",
    )
    add_backend(parser)
    parser.add_argument("--decode-threads", type=int, help="threads that decode images (default: all cores)")
    add_metrics_port(parser)
    parser.add_argument("--kapture", type=Path, metavar="DIR", help="also write .gfeat files into this kapture dataset")
    parser.add_argument("--feature-type", help="kapture's name for these features (default: the model's name)")
    parser.add_argument("--hloc", type=Path, metavar="FILE", help="also write hloc's .h5 file")


def run(arguments: argparse.Namespace) -> Report:
    """Find the images, describe them, write what else was asked for."""
    from gloam.runtime.bulk.extract import ExtractOptions

    default = ExtractOptions.max_side if arguments.max_side is None else arguments.max_side
    options = ExtractOptions(
        max_side=None if arguments.stretch or default == 0 else default,
        stretch=arguments.stretch,
        dtype=arguments.dtype,
        shard_size=arguments.shard_size,
        fast_decode=arguments.fast_decode,
    )
    _refuse_combinations(arguments)
    if arguments.finish:
        return _finish(arguments)
    done = _on_ray(arguments, options) if arguments.on == "ray" else _here(arguments, options)
    summary = done.summary
    lines = [
        f"{arguments.output}: {summary.described} of {summary.images} images described"
        + (f", {summary.reused} of them by an earlier run" if summary.reused else ""),
        f"{summary.images_per_second:.1f} images/s{done.by}; {summary.said()}",
        str(summary.backend),
        f"padded pixels {summary.padded_share:.0%}",
        f"space {done.space}",
    ]
    if done.resize is not None:
        lines.append(f"images reduced to {done.resize} px by the model")
    if done.translator is not None:
        lines.append(
            f"images translated by {done.translator} first; as queries they are compared with maps of "
            f"{done.untranslated_space}"
        )
    if summary.failed:
        lines.append(f"{summary.failed} images failed; the reasons are in {arguments.output / 'failures.csv'}")
    if not summary.complete:
        lines.append("the store is not complete: shards of other tasks are missing; failures.csv is written at its end")
    data = summary.to_dict() | {
        "store": str(arguments.output),
        "space": done.space,
        "fingerprint": done.fingerprint,
        "translate": done.translator,
    }
    return Report(data, "\n".join(lines + _write_others(arguments, done.model)))


@dataclass(frozen=True)
class _Done:
    """A run and the model that it was made with; ``by`` says who made it, where that was not this process."""

    summary: ExtractSummary
    model: str
    space: str
    untranslated_space: str | None
    fingerprint: str
    translator: str | None
    resize: int | None
    by: str = ""


def _refuse_combinations(arguments: argparse.Namespace) -> None:
    if (arguments.shard_index is None) != (arguments.num_shards is None):
        raise UsageError("--shard-index and --num-shards go together")
    if arguments.shard_index is not None and (arguments.kapture or arguments.hloc):
        raise UsageError("--kapture and --hloc need the whole store; give them to `gloam extract --finish`")
    of_ray = [name for name in ("address", "workers", "cpus_per_worker", "gpus_per_worker") if _given(arguments, name)]
    if arguments.on != "ray":
        if of_ray:
            raise UsageError(f"--{of_ray[0].replace('_', '-')} goes with --on ray")
        return
    if arguments.shard_index is not None or arguments.finish:
        raise UsageError(
            "--on ray shares out the shards and finishes the store itself; leave out --shard-index, --finish"
        )
    if arguments.device in ON_GPU and arguments.gpus_per_worker == 0:
        raise UsageError(f"--device {arguments.device} needs a GPU in every worker; leave out --gpus-per-worker 0")


def _given(arguments: argparse.Namespace, name: str) -> bool:
    return getattr(arguments, name) is not None


def _here(arguments: argparse.Namespace, options: ExtractOptions) -> _Done:
    """In this process."""
    from gloam.data.sources import find_images
    from gloam.runtime.bulk.extract import WHOLE, Part, extract

    part = WHOLE if arguments.shard_index is None else Part(arguments.shard_index, arguments.num_shards)
    items = find_images(arguments.source, arguments.root)
    embedder = _load(arguments)()
    options = _sized(arguments, options, embedder.card)
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
    translated_by = embedder.translated_by
    return _Done(
        summary,
        embedder.card.name,
        embedder.space,
        embedder.untranslated_space,
        embedder.fingerprint,
        None if translated_by is None else translated_by["name"],
        embedder.card.resize,
    )


def _on_ray(arguments: argparse.Namespace, options: ExtractOptions) -> _Done:
    """In workers that Ray schedules."""
    from gloam.data.sources import find_images
    from gloam.runtime.backends.onnx_file import read_card
    from gloam.runtime.bulk.ray_cluster import Cluster, import_ray
    from gloam.runtime.bulk.ray_run import extract_on_ray

    gpus = arguments.gpus_per_worker
    cluster = Cluster(
        address=arguments.address,
        workers=arguments.workers,
        cpus_per_worker=1 if arguments.cpus_per_worker is None else arguments.cpus_per_worker,
        gpus_per_worker=float(arguments.device in ON_GPU) if gpus is None else gpus,
        debug=arguments.debug,
    )
    import_ray()  # before a source is listed for nothing
    items = find_images(arguments.source, arguments.root)
    if arguments.model.suffix == ".onnx":  # an engine has sizes of its own and resizes nothing
        options = _sized(arguments, options, read_card(arguments.model))
    with contextlib.redirect_stdout(sys.stderr):  # where Ray says that a worker died; stdout is the report's
        run = extract_on_ray(
            items,
            _load(arguments, threads=arguments.threads or cluster.cpus_per_worker),
            arguments.output,
            options,
            cluster=cluster,
            decode_threads=arguments.decode_threads,
            metrics_port=arguments.metrics_port,
            progress=not arguments.json,
        )
    job, workers = run.job, run.summary.workers
    translator = job.options.get("translate")
    return _Done(
        run.summary,
        run.model,
        job.space,
        job.untranslated_space,
        job.fingerprint,
        None if translator is None else translator["name"],
        job.options.get("resize"),
        f" by {workers} Ray worker{'s' * (workers != 1)}",
    )


def _sized(arguments: argparse.Namespace, options: ExtractOptions, card: ModelCard) -> ExtractOptions:
    """Native sizes for a model that reduces images itself, unless a size was asked for, which is then refused."""
    if card.resize is not None and arguments.max_side is None and not arguments.stretch:
        return replace(options, max_side=None)
    return options


def _load(arguments: argparse.Namespace, threads: int | None = None) -> partial[Embedder]:
    """What gives the embedder, here or in another process."""
    where = placement(arguments)
    where = where if threads is None else replace(where, threads=threads)
    return partial(_load_embedder, arguments.model, arguments.photometric, arguments.translate, where)


def _load_embedder(
    model: Path, photometric: Literal["none", "clahe"] | None, translate: str | None, where: Placement
) -> Embedder:
    from gloam.model_card import Photometric
    from gloam.runtime.models.embedder import Embedder
    from gloam.runtime.models.translator import load_translator

    return Embedder.load(
        model,
        where,
        photometric=Photometric(photometric) if photometric else None,
        # Images pass a translator one by one.
        translator=None if translate is None else load_translator(translate, replace(where, requests=1)),
    )


def _finish(arguments: argparse.Namespace) -> Report:
    """Complete a store that several tasks have written."""
    from gloam.runtime.backends.onnx_file import read_card
    from gloam.runtime.descriptors.store import ShardWriter

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
        from gloam.runtime.descriptors.store import DescriptorStore
        from gloam.runtime.descriptors.writers import write_hloc, write_kapture

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
