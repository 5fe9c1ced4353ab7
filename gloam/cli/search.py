"""``gloam search``: the most similar images of an index, for a store of queries or for images."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from gloam.cli.shared.backend_options import add_cpu, placement
from gloam.cli.shared.milvus_options import add_milvus, milvus_name
from gloam.cli.shared.report import Report
from gloam.cli.shared.store_options import add_trust
from gloam.cli.shared.unread import refuse
from gloam.cli.shared.values import INDEX_DEVICES
from gloam.errors import UsageError

HELP = "search an index with a store of queries, or with images and a model"
OF_MODEL = ("threads", "backend", "cpu_precision")
OF_FAISS = ("nprobe", "mmap", "exact", "device")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("index", type=Path, nargs="?", help="folder written by `gloam index`")
    add_milvus(parser, "search a collection on this server instead of an index")
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
        "--exact",
        type=Path,
        nargs="+",
        metavar="STORE",
        help="of an index that is re-ranked from its store: where that is now, where it was moved",
    )
    parser.add_argument(
        "--matches",
        type=Path,
        metavar="MATCHES",
        help="put each query's images in the order of their verified matches with it: what `gloam match --verify` "
        "wrote of these pairs, an .h5 file or a folder of kapture's matches",
    )
    parser.add_argument(
        "--calibrated",
        type=Path,
        metavar="FILE",
        help="say how probably the first image of each query is right, by `gloam train calibration`; needs --matches",
    )
    add_trust(parser, "the index, the queries' store and the matches")
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
    if arguments.store is not None:
        refuse(arguments, OF_MODEL, "is of the model that describes --images; leave it out")
    name = milvus_name(arguments)
    if (arguments.index is None) == (arguments.milvus is None):
        raise UsageError("give an INDEX to search, or --milvus URI: one of the two")
    if arguments.milvus is not None:
        refuse(arguments, OF_FAISS, "is of an index of FAISS; leave it out with --milvus")
    if arguments.calibrated is not None and arguments.matches is None:
        raise UsageError("--calibrated counts verified matches; add --matches, which `gloam match --verify` writes")
    from gloam.runtime.search.calibration import Verification
    from gloam.runtime.search.queries import Searchable, answer, describe_queries, read_queries

    index: Searchable
    if arguments.milvus is not None:
        from gloam.runtime.search.milvus import MilvusIndex

        index = MilvusIndex.open(arguments.milvus, name)
    else:
        from gloam.runtime.search.index import DescriptorIndex

        index = DescriptorIndex.open(
            arguments.index, mmap=arguments.mmap, device=arguments.device, trust=arguments.trust, exact=arguments.exact
        )
    verification = Verification.open(
        arguments.matches, arguments.calibrated, index.card.space, arguments.k, trust=arguments.trust
    )
    if arguments.store is not None:
        queries = read_queries(arguments.store, index.card, trust=arguments.trust)
    else:
        on_cpu = replace(placement(arguments), device="cpu")  # --device is FAISS's
        queries = describe_queries(arguments.images, arguments.model, index.card, on_cpu, progress=not arguments.json)
    found = answer(index, queries, arguments.k, arguments.nprobe)
    if verification is not None:
        found = verification.apply(found)
    return Report(found.to_dict(), str(found))
