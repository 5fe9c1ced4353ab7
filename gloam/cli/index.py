"""``gloam index``: a store of descriptors to a FAISS index; indexes that grow."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.cli.shared.store_options import add_trust
from gloam.cli.shared.values import INDEX_DEVICES, nbytes
from gloam.errors import UsageError

HELP = "build a FAISS index from a store of descriptors, add to one, or merge several"
KINDS = ("auto", "flat", "ivfpq", "hnsw")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("store", type=Path, nargs="?", help="folder written by `gloam extract`")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the index")
    parser.add_argument("--add", type=Path, metavar="STORE", help="add this store to the index that is there")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="INDEX", help="join these indexes into a new one")
    add_trust(parser)
    kind = parser.add_argument_group("the kind of index")
    kind.add_argument(
        "--kind",
        choices=KINDS,
        help="auto is exact below 200 000 images, else fast-scan codes with re-ranking (default: auto)",
    )
    kind.add_argument(
        "--memory", type=nbytes, metavar="SIZE", help="that the index may take when searched, e.g. 8GB (default: any)"
    )
    kind.add_argument("--factory", help="FAISS factory string, instead of --kind and --memory")
    kind.add_argument("--shards", type=int, default=1, help="files to write, one of which is in memory at a time")
    kind.add_argument("--recall", type=float, default=0.95, help="of the 10 nearest, that search settings are to reach")
    kind.add_argument(
        "--train-samples", type=int, help="vectors to train with (default: 100 000, or 39 a cell where that is more)"
    )
    kind.add_argument("--seed", type=int, default=0, help="of the draw of those vectors")
    kind.add_argument(
        "--device", choices=INDEX_DEVICES, default="cpu", help="where k-means runs; auto: on GPUs if FAISS can"
    )


def run(arguments: argparse.Namespace) -> Report:
    """Build, add to, or merge."""
    if sum(value is not None for value in (arguments.store, arguments.add, arguments.merge)) != 1:
        raise UsageError("give a STORE to index, or --add STORE, or --merge INDEX INDEX ...: one of the three")
    built = (arguments.kind, arguments.memory, arguments.factory, arguments.train_samples)
    if arguments.store is None and (arguments.shards != 1 or any(value is not None for value in built)):
        raise UsageError("an index that grows keeps its kind: leave out the options of the kind of index")
    if arguments.factory is not None and (arguments.memory is not None or arguments.kind is not None):
        raise UsageError("--factory says which index to build; leave out --memory and --kind")
    from gloam.runtime.descriptors.store import DescriptorStore
    from gloam.runtime.search.index import add_to_index, build_index, merge_indexes, plan_index
    from gloam.runtime.search.index.recall import said

    lines: list[str] = []
    if arguments.merge is not None:
        card = merge_indexes(arguments.merge, arguments.output)
    elif arguments.add is not None:
        card = add_to_index(DescriptorStore.open(arguments.add, trust=arguments.trust), arguments.output)
    else:
        store = DescriptorStore.open(arguments.store, trust=arguments.trust)
        factory = arguments.factory
        if factory is None:
            plan = plan_index(len(store), store.dimension, kind=arguments.kind or "auto", memory=arguments.memory)
            factory = plan.factory
            lines.append(f"chosen: {plan}")
        card = build_index(
            store,
            arguments.output,
            factory,
            train_samples=arguments.train_samples,
            seed=arguments.seed,
            shards=arguments.shards,
            recall=arguments.recall,
            device=arguments.device,
        )
    text = f"{arguments.output}: {card.count} vectors of {card.dimension} values, {card.factory}\nspace {card.space}"
    return Report({"index": str(arguments.output), **asdict(card)}, "\n".join([text, *lines, *said(card)]))
