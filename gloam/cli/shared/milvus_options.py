"""What the verbs that reach a collection of Milvus share."""

from __future__ import annotations

import argparse

from gloam.errors import UsageError

COLLECTION = "gloam"


def add_milvus(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--milvus`` and ``--collection``; ``what`` is done with it."""
    group = parser.add_argument_group("a collection of Milvus")
    group.add_argument(
        "--milvus",
        metavar="URI",
        help=f"{what}: http://HOST:19530, or PATH.db for Milvus Lite; a key or user:password is read from MILVUS_TOKEN",
    )
    group.add_argument("--collection", metavar="NAME", help=f"its name there (default: {COLLECTION})")


def milvus_name(arguments: argparse.Namespace) -> str:
    """The name of the collection.

    Raises:
        UsageError: a name without a server.
    """
    if arguments.collection is not None and arguments.milvus is None:
        raise UsageError("--collection is of Milvus; add --milvus URI")
    return COLLECTION if arguments.collection is None else str(arguments.collection)
