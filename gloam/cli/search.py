"""``gloam search``: the most similar images of an index, for a store of queries or for images."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gloam.cli.shared.backend_options import add_cpu, placement
from gloam.cli.shared.report import Report
from gloam.cli.shared.values import INDEX_DEVICES
from gloam.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gloam.runtime.search.index import IndexCard

HELP = "search an index with a store of queries, or with images and a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("index", type=Path, help="folder written by `gloam index`")
    queries = parser.add_mutually_exclusive_group(required=True)
    queries.add_argument("--store", type=Path, help="store of query descriptors")
    queries.add_argument("--images", type=Path, help="folder, text list or kapture dataset of queries; needs --model")
    parser.add_argument("--model", type=Path, help=".onnx embedder for --images, the one that described the index")
    parser.add_argument("-k", type=int, default=10, help="results per query")
    parser.add_argument("--nprobe", type=int, help="cells visited of an inverted file (default: measured at build)")
    parser.add_argument(
        "--mmap",
        action="store_true",
        help="leave the vectors on the disk; only the sizes of the index files are then checked, not their checksums",
    )
    parser.add_argument(
        "--device",
        choices=INDEX_DEVICES,
        default="cpu",
        help="where the index is searched; auto: on GPUs where FAISS can",
    )
    add_cpu(parser)


def run(arguments: argparse.Namespace) -> Report:
    """Describe the queries where they are images, and search."""
    if (arguments.images is None) != (arguments.model is None):
        raise UsageError("--images and --model go together")
    from gloam.runtime.search.index import DescriptorIndex

    index = DescriptorIndex.open(arguments.index, mmap=arguments.mmap, device=arguments.device)
    failures: dict[str, str] = {}
    if arguments.store is not None:
        from gloam.runtime.descriptors.source import search_space
        from gloam.runtime.descriptors.store import DescriptorStore

        store = DescriptorStore.open(arguments.store)
        queries, descriptors, space = store.names, store.load(), search_space(index.card.space, store)
    else:
        queries, descriptors, space, failures = _describe(arguments, index.card)
    names, scores = index.search(descriptors, arguments.k, space=space, nprobe=arguments.nprobe)
    results: dict[str, list[dict[str, Any]]] = {}
    lines = []
    for query, row, values in zip(queries, names, scores.tolist(), strict=True):
        # An approximate index may find fewer than k.
        found = [(name, score) for name, score in zip(row, values, strict=True) if name]
        results[query] = [{"image": name, "score": score} for name, score in found]
        lines += [query, *(f"  {score:.4f}  {name}" for name, score in found)]
    lines += [f"{name}: left out, {reason}" for name, reason in failures.items()]
    data = {
        "index": str(arguments.index),
        "space": space,
        "searched_on": index.device,
        "settings": index.card.search | ({} if arguments.nprobe is None else {"nprobe": arguments.nprobe}),
        "recall": index.card.recall,
        "results": results,
        "failures": failures,
    }
    return Report(data, "\n".join(lines))


def _describe(
    arguments: argparse.Namespace, card: IndexCard
) -> tuple[list[str], npt.NDArray[np.float32], str, dict[str, str]]:
    """Descriptors of images that are read exactly as those of the index were."""
    import numpy as np

    from gloam.data.images import decode_image
    from gloam.data.sources import find_images
    from gloam.errors import ImageError
    from gloam.model_card import Photometric, expect_same_space
    from gloam.runtime.models.embedder import Embedder

    photometric = card.options.get("photometric")
    embedder = Embedder.load(
        arguments.model,
        # --device is FAISS's; an image at a time, as fast as it can be
        replace(placement(arguments), device="cpu", requests=1),
        photometric=Photometric(**photometric) if photometric else None,
    )
    expect_same_space(card.space, embedder.space, str(arguments.model))
    stretch = card.options.get("stretch")
    names, rows, failures = [], [], {}
    for item in find_images(arguments.images):
        try:
            if item.problem:
                raise ImageError(item.problem)
            image = decode_image(
                item.read(),
                max_side=card.options.get("max_side"),
                stretch=(int(stretch[0]), int(stretch[1])) if stretch else None,
                fast=bool(card.options.get("fast_decode")),
            )
            rows.append(embedder([image])[0])
            names.append(item.name)
        except ImageError as error:
            failures[item.name] = str(error)
    descriptors = np.stack(rows) if rows else np.empty((0, embedder.dimension), np.float32)
    return names, descriptors, embedder.space, failures
