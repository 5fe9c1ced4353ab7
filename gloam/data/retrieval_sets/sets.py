"""Sets for metric learning: images, what they show (clusters), and pairs of a query and its positive.

The schema is that of Retrieval-SfM (Radenović et al. 2019, section 4): a cluster is one 3D model or one place, and
negatives of a query come from other clusters. The readers of each source are in ``gloam.data.retrieval_sets``.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.data.sources import ImageItem
from gloam.errors import DataError, ImageError, UsageError
from gloam.files import canonical_json, sha256_bytes

Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]

# Kind of source: module of gloam.data.retrieval_sets, its function.
READERS = {
    "json": ("native", "read_native"),
    "sfm": ("sfm", "read_sfm"),
    "nd": ("sfm", "read_sfm"),
    "gld_csv": ("landmarks", "read_landmarks"),
    "kapture": ("posed", "read_kapture"),
    "town": ("streets", "read_town"),
    "folder": ("places", "read_places"),
    "csv": ("places", "read_cluster_csv"),
    "pairs": ("places", "read_pair_list"),
    "weak_pairs": ("weak", "read_weak_pairs"),
}


@dataclass(frozen=True, eq=False)
class RetrievalSet:
    """Images with clusters and pairs of a query and its positive.

    Attributes:
        images: in a fixed order; all indices count in it.
        clusters: label of each image, int64 ``[n]``; images of equal labels are never negatives of each other.
        queries: index of each pair's query, int64 ``[q]``; an image may be the query of several pairs.
        positives: index of each pair's positive, int64 ``[q]``.
        conditions: of each image, such as ``day``; None where the source does not say.
        pixels: decoded images, uint8 RGB ``[h, w, 3]`` each, where they are in memory; None where they are in files.
        left_out: how much of the source is no part of the set, by the reason; for reports.

    Raises:
        DataError: lengths that differ, indices out of range, or values that are not whole numbers.
    """

    images: tuple[ImageItem, ...]
    clusters: Indices
    queries: Indices
    positives: Indices
    conditions: tuple[str, ...] | None = None
    pixels: tuple[Pixels, ...] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.images)
        for name in ("clusters", "queries", "positives"):
            object.__setattr__(self, name, whole_numbers(getattr(self, name), name))
        if len(self.clusters) != count:
            raise DataError(f"retrieval set: {len(self.clusters)} cluster labels for {count} images; give one each")
        if len(self.queries) != len(self.positives):
            raise DataError(
                f"retrieval set: {len(self.queries)} queries and {len(self.positives)} positives; give one each"
            )
        for name, indices in (("queries", self.queries), ("positives", self.positives)):
            outside = np.flatnonzero((indices < 0) | (indices >= count))
            if len(outside):
                raise DataError(
                    f"retrieval set: {name}[{outside[0]}] is {indices[outside[0]]}, outside 0..{count - 1} "
                    f"({len(outside)} such); correct the pairs"
                )
        for name, values in (("conditions", self.conditions), ("pixels", self.pixels)):
            if values is not None and len(values) != count:
                raise DataError(f"retrieval set: {len(values)} {name} for {count} images; give one each")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def names(self) -> list[str]:
        """Names of the images."""
        return [item.name for item in self.images]

    def image(self, index: int, max_side: int | None = None) -> Pixels:
        """One image, uint8 RGB ``[h, w, 3]``.

        Args:
            index: of the image.
            max_side: longer side of images in files after a LANCZOS reduction, pixels; those in memory are as they are.

        Raises:
            DataError: the file is missing or does not decode; it is named.
        """
        if self.pixels is not None:
            return self.pixels[index]
        item = self.images[index]
        if item.problem:
            raise DataError(f"{item.name}: {item.problem}; correct the set")
        try:
            return decode_image(item.path, max_side=max_side)
        except ImageError as error:
            raise DataError(f"{item.path}: {error}; `gloam dataset check` lists all such images") from error

    def part(self, rows: npt.ArrayLike) -> RetrievalSet:
        """Some of the images, in the order given, with the pairs whose two images are among them."""
        chosen = whole_numbers(rows, "rows")
        place = np.full(len(self.images), -1, np.int64)
        place[chosen] = np.arange(len(chosen))
        kept = (place[self.queries] >= 0) & (place[self.positives] >= 0)
        return RetrievalSet(
            tuple(self.images[row] for row in chosen),
            self.clusters[chosen],
            place[self.queries[kept]],
            place[self.positives[kept]],
            None if self.conditions is None else tuple(self.conditions[row] for row in chosen),
            None if self.pixels is None else tuple(self.pixels[row] for row in chosen),
        )

    def identity(self) -> dict[str, Any]:
        """JSON-ready: counts, and a hash over names, clusters, pairs, conditions and pixels in memory."""
        parts = [canonical_json([self.names, self.conditions]).encode("utf-8", "backslashreplace")]
        parts += [np.ascontiguousarray(array).tobytes() for array in (self.clusters, self.queries, self.positives)]
        parts += [repr(image.shape).encode() + np.ascontiguousarray(image).tobytes() for image in self.pixels or ()]
        digest = sha256_bytes("".join(sha256_bytes(part) for part in parts).encode())
        return {"images": len(self), "clusters": self.cluster_count, "pairs": len(self.queries), "sha256": digest}

    @property
    def cluster_count(self) -> int:
        """Number of different clusters."""
        return len(np.unique(self.clusters))


def read_retrieval_set(kind: str, **paths: Any) -> RetrievalSet:
    """Read a set.

    Args:
        kind: one of :data:`READERS`: ``json`` (native), ``sfm`` and ``nd`` (pickles of Retrieval-SfM's schema),
            ``gld_csv`` (Google Landmarks), ``kapture`` (poses), ``town``, ``folder`` (a folder a place), ``csv``
            (image, cluster), ``pairs`` (lists of pairs), ``weak_pairs`` (of ``gloam pair``).
        paths: of the reader, see its function; e.g. ``path=``, ``images=``, ``set_name=``.

    Raises:
        UsageError: unknown kind, or arguments that its reader does not take.
        DataError: what the reader finds wrong.
    """
    if kind not in READERS:
        nearest = difflib.get_close_matches(kind, READERS, 1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ";"
        raise UsageError(f"unknown kind of retrieval set {kind!r}{hint} choose one of {', '.join(READERS)}")
    module, function = READERS[kind]
    reader = getattr(importlib.import_module(f"gloam.data.retrieval_sets.{module}"), function)
    _check_arguments(kind, reader, paths)
    found: RetrievalSet = reader(**paths)
    return found


def join_sets(sets: Sequence[RetrievalSet]) -> RetrievalSet:
    """Several sets as one; clusters of different sets stay different.

    Raises:
        DataError: no sets, or some in memory and some in files.
    """
    if not sets:
        raise DataError("retrieval set: nothing to join; name at least one set")
    if len({part.pixels is None for part in sets}) > 1:
        raise DataError("retrieval set: sets in memory and sets in files cannot be joined; write the former to files")
    starts = np.cumsum([0, *(len(part) for part in sets)])
    clusters, first = [], 0
    for part in sets:
        labels = np.unique(part.clusters, return_inverse=True)[1].astype(np.int64)
        clusters.append(labels + first)
        first += int(labels.max(initial=-1)) + 1
    known = all(part.conditions is not None for part in sets)
    return RetrievalSet(
        tuple(item for part in sets for item in part.images),
        np.concatenate(clusters),
        np.concatenate([part.queries + start for part, start in zip(sets, starts, strict=False)]),
        np.concatenate([part.positives + start for part, start in zip(sets, starts, strict=False)]),
        tuple(condition for part in sets for condition in part.conditions or ()) if known else None,
        None if sets[0].pixels is None else tuple(image for part in sets for image in part.pixels or ()),
    )


def whole_numbers(values: Any, name: str) -> Indices:
    """``values`` as int64 ``[n]``.

    Raises:
        DataError: not a list of whole numbers; NaN is none. The first wrong one is named.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{name} is not a list of whole numbers ({error})") from error
    if array.ndim != 1:
        raise DataError(f"{name} is not a list of whole numbers but of shape {array.shape}")
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind == "f":
        wrong = np.flatnonzero(~(np.abs(array) < 2**53) | (array != np.floor(array)))
        if len(wrong):
            raise DataError(f"{name}[{wrong[0]}] is {array[wrong[0]]}, not a whole number ({len(wrong)} such)")
    elif array.dtype.kind not in "iu":
        raise DataError(f"{name} is not a list of whole numbers; its first is {array[0]!r}")
    return array.astype(np.int64)


def _check_arguments(kind: str, reader: Any, paths: Mapping[str, Any]) -> None:
    import inspect

    try:
        inspect.signature(reader).bind(**paths)
    except TypeError as error:
        known = ", ".join(inspect.signature(reader).parameters)
        raise UsageError(f"retrieval set of kind {kind}: {error}; it takes {known}") from error
