"""``gloam index``: a store of descriptors to a FAISS index or a collection of Milvus; indexes that grow."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.milvus_options import add_milvus, milvus_name
from gloam.cli.shared.report import Report
from gloam.cli.shared.request import filled
from gloam.cli.shared.store_options import add_trust
from gloam.cli.shared.unread import refuse_others
from gloam.cli.shared.values import INDEX_DEVICES, nbytes, seed
from gloam.errors import UsageError

HELP = "build a FAISS index from a store of descriptors, add to one, or merge several; or fill a collection of Milvus"
KINDS = ("auto", "flat", "ivfpq", "hnsw", "compact", "sq8", "rabitq")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("store", type=Path, nargs="?", help="folder written by `gloam extract`")
    parser.add_argument("-o", "--output", type=Path, help="folder of the index")
    parser.add_argument("--add", type=Path, metavar="STORE", help="add this store to the index that is there")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="INDEX", help="join these indexes into a new one")
    add_milvus(parser, "send the store to this server instead; the same command carries on after a kill")
    add_trust(parser)
    kind = parser.add_argument_group("the kind of index")
    kind.add_argument(
        "--kind",
        choices=KINDS,
        help="auto is exact below 200 000 images, else fast-scan codes with re-ranking, else what compact chooses by "
        "predicted recall: sq8 (int8) or rabitq codes, re-ranked by the vectors of STORE on disk (default: auto)",
    )
    kind.add_argument(
        "--memory", type=nbytes, metavar="SIZE", help="that the index may take when searched, e.g. 8GB (default: any)"
    )
    kind.add_argument("--factory", help="FAISS factory string, instead of --kind and --memory")
    kind.add_argument(
        "--rerank", action="store_true", help="with --factory: re-rank by the vectors of STORE, which stay on disk"
    )
    kind.add_argument("--shards", type=int, default=1, help="files to write, one of which is in memory at a time")
    kind.add_argument("--recall", type=float, default=0.95, help="of the 10 nearest, that search settings are to reach")
    kind.add_argument(
        "--train-samples", type=int, help="vectors to train with (default: 100 000, or 39 a cell where that is more)"
    )
    kind.add_argument("--seed", type=seed, default=0, help="of the draw of those vectors")
    kind.add_argument(
        "--device", choices=INDEX_DEVICES, default="cpu", help="where k-means runs; auto: on GPUs if FAISS can"
    )


def run(arguments: argparse.Namespace) -> Report:
    """Build, add to, merge, or send."""
    if arguments.milvus is not None:
        refuse_others(arguments, ("store", "milvus", "collection", "trust"), "is of an index of FAISS; leave it out")
        if arguments.store is None:
            raise UsageError("--milvus takes a STORE to send; give one")
        from gloam.runtime.search.milvus import MilvusRequest, send_store

        request = filled(MilvusRequest, arguments, collection=milvus_name(arguments))
        sent = send_store(request, progress=not arguments.json)
        return Report(sent.to_dict(), str(sent))
    milvus_name(arguments)
    if arguments.output is None:
        raise UsageError("say where the index goes: -o FOLDER, or --milvus URI")
    from gloam.runtime.search.index.make import IndexRequest, make_index

    made = make_index(filled(IndexRequest, arguments), progress=not arguments.json)
    return Report(made.to_dict(), str(made))
