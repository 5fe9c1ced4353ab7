"""Descriptors in a collection of Milvus, where an index is more than one machine's.

The server keeps the vectors, shares them out and searches them; gloam sends a store, and keeps beside the vectors, as
the collection's properties, what an index's card says: space, fingerprint, dimension, metric, how the images were read.
The same calls reach a cluster and a file of Milvus Lite (``PATH.db``), which is for one machine and for tests.

The collection is searched exactly (``FLAT``, inner products). Another index of Milvus may take its place, by Milvus's
own tools; a search then says which.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from gloam.errors import ClusterError, DataError, IncompatibleError, MissingExtraError, StoreError, UsageError, require
from gloam.files import sha256_file
from gloam.heartbeat import progress_bar
from gloam.model_card import expect_same_space
from gloam.runtime.descriptors.reading import marked, stated_rule
from gloam.runtime.descriptors.source import finite_blocks
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.output_folder import MANIFEST
from gloam.runtime.search.index.build import stated_options
from gloam.runtime.search.index.card import IndexCard, expect_same_reading

COLLECTION = "gloam"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
IMAGE, ROW, DESCRIPTOR = "image", "row", "descriptor"  # fields
LONGEST = 65535  # bytes of a VARCHAR, Milvus's own bound
MOST_VALUES, MOST_FOUND = 32768, 16384  # of a vector, of a search: Milvus's own bounds
MESSAGE, ROWS = 16 << 20, 4096  # bytes and rows of one request; a server takes 64 MB
SCHEMA = "1"
OURS = "gloam."  # what our properties begin with
TOKEN = "MILVUS_TOKEN"  # of the environment: a key, or user:password
STRONG = "Strong"  # what was written is seen, whichever node answers


@dataclass(frozen=True)
class MilvusRequest:
    """A store to be sent.

    Attributes:
        store: folder written by ``gloam extract``.
        milvus: URI of the server, ``http://host:19530``, or ``PATH.db`` of Milvus Lite.
        collection: its name there: letters, digits and underscores.
        trust: see :meth:`gloam.runtime.descriptors.store.DescriptorStore.open`.

    Raises:
        UsageError: a name that Milvus does not take.
    """

    store: Path
    milvus: str
    collection: str = COLLECTION
    trust: bool = False

    def __post_init__(self) -> None:
        expect_name(self.collection)


@dataclass(frozen=True)
class MilvusCollection:
    """A collection that is whole.

    Attributes:
        milvus: URI of the server, without a password.
        collection: its name.
        card: what its properties say, as an index's card.
        sent: vectors that this call sent; the others were there.
    """

    milvus: str
    collection: str
    card: IndexCard
    sent: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"milvus": self.milvus, "collection": self.collection, **stated(self.card), "sent": self.sent}

    def __str__(self) -> str:
        """Lines for people."""
        card = self.card
        there = f", {card.count - self.sent} of them were there" if self.sent < card.count else ""
        return (
            f"{self.milvus}, collection {self.collection}: {card.count} vectors of {card.dimension} values, "
            f"{card.factory}{there}\nspace {card.space}"
        )


def send_store(request: MilvusRequest, progress: bool = False) -> MilvusCollection:
    """Write a store into a collection, made where it is not there; a killed call is carried on by the same.

    Names are the keys, so that nothing is in it twice; what is there is not sent again. The collection is marked as
    whole at the end, and not searched before.

    Args:
        request: what, and where to.
        progress: say how far it is, on stderr.

    Raises:
        ClusterError: no server answers.
        IncompatibleError: the collection is of another space, fingerprint, dimension or reading of images.
        StoreError: a collection that gloam did not make, or one of another store; or the server fails.
        DataError: no descriptors, an image twice, or a descriptor that is not finite.
        MissingExtraError: pymilvus is not installed, or Milvus Lite for a file.
    """
    store = DescriptorStore.open(request.store, trust=request.trust)
    count = len(store)
    if not count:
        raise DataError(f"{request.store}: the store holds no descriptors, there is nothing to index")
    if store.metric != "cosine":
        raise IncompatibleError(f"{request.store}: descriptors of metric {store.metric!r}; an index needs cosine")
    if store.dimension > MOST_VALUES:
        raise UsageError(
            f"{request.store}: descriptors of {store.dimension} values, Milvus takes {MOST_VALUES}; "
            "make them smaller with `gloam whiten --dimension`"
        )
    if len(set(store.names)) < count:
        raise DataError(f"{request.store}: an image is in the store twice; extract again with names that differ")
    if longest := next((name for name in store.names if len(name.encode()) > LONGEST), None):
        raise DataError(f"{request.store}: image name {longest[:40]!r}... is longer than {LONGEST} bytes; rename it")
    with _Server(request.milvus) as server:
        where = f"{server.uri}, collection {request.collection}"
        wanted = _properties(store)
        found = server.properties(request.collection)
        if found is None:
            server.create(request.collection, store.dimension, wanted)
        else:
            _expect_same(found, wanted, store, where)
            server.load(request.collection)
            if found.get(OURS + "complete") == "true":
                card = _card(found, where)
                server.expect_count(request.collection, count, where)
                return MilvusCollection(server.uri, request.collection, card, 0)
        rows = max(1, min(ROWS, MESSAGE // (4 * store.dimension + 1024)))
        start = sent = 0
        with progress_bar(count, "sending", "vectors", shown=progress) as bar:
            for names, block in finite_blocks(store, rows):
                there = set() if found is None else server.rows(request.collection, start, start + len(names))
                missing = [place for place in range(len(names)) if start + place not in there]
                server.upsert(
                    request.collection,
                    [{IMAGE: names[item], ROW: start + item, DESCRIPTOR: block[item]} for item in missing],
                )
                start += len(names)
                sent += len(missing)
                bar.update(len(names))
        server.expect_count(request.collection, count, where)
        server.finish(request.collection)
        found = server.properties(request.collection) or {}
        return MilvusCollection(server.uri, request.collection, _card(found, where), sent)


class MilvusIndex:
    """A collection that is ready to search; see :class:`gloam.runtime.search.index.DescriptorIndex`.

    Attributes:
        card: what its properties say; ``factory`` is the type of Milvus's index.
        where: server and collection, in words.
        device: the server and its version, in words.
    """

    def __init__(self, server: _Server, collection: str) -> None:
        self._server, self.collection = server, collection
        self.where = f"{server.uri}, collection {collection}"
        found = server.properties(collection)
        if found is None:
            raise StoreError(f"{self.where}: is not there; send a store with `gloam index STORE --milvus`")
        self.card = _card(found, self.where, server.kind(collection))
        server.load(collection)
        server.expect_count(collection, self.card.count, self.where)
        self.device = f"Milvus {server.version()}"

    @classmethod
    def open(cls, milvus: str, collection: str = COLLECTION) -> MilvusIndex:
        """Open a collection that :func:`send_store` wrote.

        Args:
            milvus: URI of the server, or ``PATH.db``.
            collection: its name there.

        Raises:
            ClusterError: no server answers.
            StoreError: no such collection, one that is not whole or that gloam did not make; or the server fails.
            MissingExtraError: pymilvus is not installed, or Milvus Lite for a file.
        """
        expect_name(collection)
        if milvus.endswith(".db") and not Path(milvus).exists():  # Milvus Lite would make one
            raise StoreError(f"{milvus}: is not there; send a store with `gloam index STORE --milvus`")
        server = _Server(milvus)
        try:
            return cls(server, collection)
        except BaseException:
            server.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    def search(
        self,
        descriptors: npt.NDArray[np.float32],
        k: int = 10,
        *,
        space: str,
        nprobe: int | None = None,
        batch: int = 1024,
    ) -> tuple[list[list[str]], npt.NDArray[np.float32]]:
        """The k most similar images of each query, see :meth:`gloam.runtime.search.index.DescriptorIndex.search`.

        Args:
            descriptors: float32 ``[q, D]``, unit length.
            k: results per query, at most 16 384.
            space: of the queries; descriptors of another space are refused.
            nprobe: none; Milvus's index is set by its own tools.
            batch: queries at a time, fewer where they are long.

        Returns:
            names, q lists of k, best first, and cosines float32 ``[q, k]``; names are empty and scores ``-inf`` where
            Milvus finds fewer.

        Raises:
            IncompatibleError: another space or dimension.
            UsageError: ``k`` out of range, or ``nprobe``.
            StoreError: the server fails.
        """
        expect_same_space(self.card.space, space, self.where)
        if descriptors.ndim != 2 or descriptors.shape[1] != self.card.dimension:
            raise IncompatibleError(
                f"{self.where}: queries of shape {list(descriptors.shape)}, [q, {self.card.dimension}] is needed"
            )
        if not 1 <= k <= MOST_FOUND:
            raise UsageError(f"results per query must be from 1 to {MOST_FOUND} of a collection of Milvus, not {k}")
        if nprobe is not None:
            raise UsageError("nprobe is of an index of FAISS; that of Milvus is set by its own tools")
        k = min(k, self.card.count)
        batch = max(1, min(batch, MESSAGE // (4 * self.card.dimension)))
        names: list[list[str]] = []
        scores = np.full((len(descriptors), k), -np.inf, np.float32)
        for start in range(0, len(descriptors), batch):
            rows = np.ascontiguousarray(descriptors[start : start + batch], np.float32)
            for number, hits in enumerate(self._server.search(self.collection, rows, k), start):
                # Equal scores in the order of the store, as an exact index has them.
                best = sorted(hits, key=lambda hit: (-hit[1], hit[2]))[:k]
                scores[number, : len(best)] = [score for _, score, _ in best]
                names.append([name for name, _, _ in best] + [""] * (k - len(best)))
        return names, scores


def expect_name(collection: str) -> None:
    """Refuse a name that Milvus does not take.

    Raises:
        UsageError: other characters than letters, digits and underscores, or none.
    """
    if not NAME.fullmatch(collection):
        raise UsageError(
            f"--collection {collection!r}: letters, digits and underscores, no digit first and 255 at most, make a name"
        )


def without_password(uri: str) -> str:
    """A URI that may be shown."""
    parts = urlsplit(uri)
    return uri if "@" not in parts.netloc else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def stated(card: IndexCard) -> dict[str, Any]:
    """What a collection states of itself, JSON-ready; it has no files."""
    said = ("space", "fingerprint", "dimension", "metric", "factory", "count", "options", "versions")
    return {key: value for key, value in asdict(card).items() if key in said}


class _Server:
    """A connection. Every call is one of pymilvus's, whose own log is silent and whose errors are one line of ours."""

    def __init__(self, uri: str) -> None:
        self.uri = without_password(uri)
        self._milvus = require("pymilvus", "milvus", "use a collection of Milvus")
        if uri.endswith(".db") and "://" not in uri:
            try:
                require("milvus_lite", "milvus", "keep a collection in a file")
            except MissingExtraError as error:
                raise MissingExtraError(f"{str(error).partition(';')[0]}; pip install milvus-lite") from error
        with self._told(connecting=True):
            self._client = self._milvus.MilvusClient(uri, token=os.environ.get(TOKEN, ""))

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a file of Milvus Lite is let go when the process ends."""
        with self._told():
            self._client.close()

    def version(self) -> str:
        """The server's, as it says it."""
        with self._told():
            return str(self._client.get_server_version())

    def properties(self, collection: str) -> dict[str, str] | None:
        """Those of a collection; None where there is none of that name."""
        with self._told():
            if not self._client.has_collection(collection):
                return None
            found = self._client.describe_collection(collection).get("properties", {})
        return {str(key): str(value) for key, value in dict(found).items()}

    def create(self, collection: str, dimension: int, properties: Mapping[str, str]) -> None:
        """Make a collection, empty, searched exactly."""
        types = self._milvus.DataType
        with self._told():
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field(IMAGE, types.VARCHAR, is_primary=True, max_length=LONGEST)
            schema.add_field(ROW, types.INT64)
            schema.add_field(DESCRIPTOR, types.FLOAT_VECTOR, dim=dimension)
            index = self._client.prepare_index_params()
            index.add_index(DESCRIPTOR, index_type="FLAT", metric_type="IP")
            self._client.create_collection(
                collection,
                schema=schema,
                index_params=index,
                properties=dict(properties),
                consistency_level=STRONG,
            )

    def rows(self, collection: str, start: int, end: int) -> set[int]:
        """Which of the rows from ``start`` to ``end`` are there."""
        with self._told():
            found = self._client.query(
                collection,
                filter=f"{ROW} >= {start} and {ROW} < {end}",
                output_fields=[ROW],
                consistency_level=STRONG,
                limit=end - start,
            )
            return {int(item[ROW]) for item in found}

    def upsert(self, collection: str, rows: list[dict[str, Any]]) -> None:
        """Write rows, by their keys."""
        if rows:
            with self._told():
                self._client.upsert(collection, rows)

    def expect_count(self, collection: str, count: int, where: str) -> None:
        """Refuse a collection that holds another number of vectors.

        Raises:
            StoreError: says how many.
        """
        with self._told():
            answer = self._client.query(collection, filter="", output_fields=["count(*)"], consistency_level=STRONG)
            found = int(answer[0]["count(*)"])
        if found != count:
            raise StoreError(f"{where}: {found} vectors where {count} are stated; drop it and send the store again")

    def finish(self, collection: str) -> None:
        """Have what was sent on the server's disk, and mark the collection as whole."""
        with self._told():
            self._client.flush(collection)
            self._client.alter_collection_properties(collection, {OURS + "complete": "true"})

    def load(self, collection: str) -> None:
        """Have the collection in the servers' memory, where it is not."""
        with self._told():
            if "Loaded" not in str(self._client.get_load_state(collection).get("state")):
                self._client.load_collection(collection)

    def kind(self, collection: str) -> str:
        """The type of the index of the descriptors."""
        with self._told():
            names = self._client.list_indexes(collection, field_name=DESCRIPTOR)
            return str(self._client.describe_index(collection, names[0])["index_type"]) if names else "none"

    def search(
        self, collection: str, queries: npt.NDArray[np.float32], k: int
    ) -> Iterator[list[tuple[str, float, int]]]:
        """Name, inner product and row of what is found, by query."""
        with self._told():
            found = self._client.search(
                collection,
                data=list(queries),
                anns_field=DESCRIPTOR,
                limit=k,
                search_params={"metric_type": "IP"},
                output_fields=[ROW],
                consistency_level=STRONG,
            )
            answers = [
                [(str(hit[IMAGE]), float(hit["distance"]), int(hit["entity"][ROW])) for hit in hits] for hits in found
            ]
        if len(answers) != len(queries):
            raise StoreError(f"{self.uri}: {len(answers)} answers to {len(queries)} queries")
        yield from answers

    @contextlib.contextmanager
    def _told(self, connecting: bool = False) -> Iterator[None]:
        """Turn pymilvus's errors into one line each."""
        with _silent():
            try:
                yield
            except self._milvus.exceptions.ConnectionConfigException as error:
                raise UsageError(
                    f"--milvus {self.uri}: {_reason(error)}; give http://HOST:19530, or PATH.db for Milvus Lite"
                ) from error
            except self._milvus.MilvusException as error:
                if connecting:
                    raise ClusterError(
                        f"{self.uri}: no Milvus answers ({_reason(error)}); start it, or check the URI and {TOKEN}"
                    ) from error
                raise StoreError(f"{self.uri}: Milvus fails ({_reason(error)})") from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep pymilvus and Milvus Lite from writing tracebacks of what is said in one line."""
    loggers = [logging.getLogger(name) for name in ("pymilvus", "pymilvus.milvus_client", "milvus_lite", "grpc")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: Exception) -> str:
    """The first line of what pymilvus says."""
    said = str(getattr(error, "message", "") or error).strip().splitlines()
    return (said or [type(error).__name__])[0][:200]


def _properties(store: DescriptorStore) -> dict[str, str]:
    """What a collection says of itself before it is whole."""
    own = {
        "schema": SCHEMA,
        "space": store.space,
        "fingerprint": store.fingerprint,
        "dimension": str(store.dimension),
        "metric": store.metric,
        "count": str(len(store)),
        "options": json.dumps(stated_options(store), sort_keys=True),
        "store": sha256_file(store.folder / MANIFEST),
        "version": metadata.version("gloam"),
        "complete": "false",
    }
    return {OURS + key: value for key, value in own.items()}


def _expect_same(found: Mapping[str, str], wanted: Mapping[str, str], store: DescriptorStore, where: str) -> None:
    """Refuse to write into a collection of anything but this store."""
    card = _card(found, where, partial=True)
    rules = stated_rule(card.options), store.input_rule
    expect_same_space(card.space, store.space, f"{store.folder} for {where}", rules)
    if card.fingerprint != store.fingerprint:
        raise IncompatibleError(
            f"{where}: descriptors of fingerprint {card.fingerprint[:12]}, the store's is {store.fingerprint[:12]}: "
            "another file of the same model; give --collection another name"
        )
    if card.dimension != store.dimension:
        raise IncompatibleError(f"{where}: vectors of {card.dimension} values, the store's have {store.dimension}")
    expect_same_reading(card.options, stated_options(store), str(store.folder))
    if found.get(OURS + "store") != wanted[OURS + "store"]:
        raise StoreError(
            f"{where}: holds another store of this space; give --collection another name, or drop it with Milvus's "
            "own tools"
        )


def _card(found: Mapping[str, str], where: str, factory: str = "FLAT", partial: bool = False) -> IndexCard:
    """The properties of a collection, as an index's card.

    Raises:
        StoreError: none of gloam's, of another schema, damaged, or not whole.
    """
    own = {key.removeprefix(OURS): value for key, value in found.items() if key.startswith(OURS)}
    if "schema" not in own:
        raise StoreError(f"{where}: gloam did not make this collection; give --collection another name")
    if own["schema"] != SCHEMA:
        raise StoreError(f"{where}: a collection of schema {own['schema']!r}, this gloam reads {SCHEMA}; send it again")
    if own.get("complete") != "true" and not partial:
        raise StoreError(f"{where}: was not finished; run the same `gloam index --milvus` again")
    try:
        options = marked(json.loads(own["options"]))
        card = IndexCard(
            space=own["space"],
            fingerprint=own["fingerprint"],
            dimension=int(own["dimension"]),
            metric=own["metric"],
            factory=factory,
            count=int(own["count"]),
            options=options,
            versions={"gloam": own["version"]},
            sha256={},
            files=[],
            names="",
        )
        if card.metric != "cosine" or card.count < 1 or card.dimension < 1:
            raise ValueError(f"{card.count} vectors of {card.dimension} values by {card.metric!r}")
        return card
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{where}: its properties are damaged ({error}); drop it and send the store again") from error
