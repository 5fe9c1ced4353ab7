"""What is wrong with a retrieval set, before hours of training find it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.day_night.read import image_problem
from gloam.data.retrieval_sets.pairing import SHOWN
from gloam.data.retrieval_sets.sets import RetrievalSet


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Attributes:
        what: in words.
        rows: what is affected, in order; a message shows the first.
        fatal: training cannot go on; else it can, and the finding is a count worth knowing.
    """

    what: str
    rows: tuple[str, ...]
    fatal: bool = True

    def __str__(self) -> str:
        more = f", and {len(self.rows) - SHOWN} more" if len(self.rows) > SHOWN else ""
        return f"{len(self.rows)} {self.what}: {', '.join(self.rows[:SHOWN])}{more}"


def check_set(
    whole: RetrievalSet, *, decode: bool = False, contents: bool = False, negatives: int = 5
) -> list[Finding]:
    """All faults of a set; none of them raises.

    Args:
        whole: the set.
        decode: unpack every image; else only its header is read, which is quick and misses truncated files.
        contents: also compare the bytes of all files, so that copies under several names are found.
        negatives: of a tuple, each from another cluster than the query's.

    Returns:
        findings, fatal ones first.
    """
    names = whole.names
    found = [
        Finding("images cannot be read", _unreadable(whole, decode)),
        Finding("images are listed more than once", _repeated(names, [item.path for item in whole.images])),
        Finding("clusters have one image, so no positive", _singles(whole), fatal=False),
        Finding("pairs join two clusters", _across(whole)),
        Finding("pairs are of an image with itself (q == p)", _selves(whole), fatal=False),
        Finding("pairs are listed more than once", _repeated_pairs(whole), fatal=False),
    ]
    if not len(whole.queries):
        found.append(Finding("set without pairs", ("queries and positives are empty",)))
    if whole.cluster_count <= negatives:
        what = f"set with too few clusters for {negatives} negatives of different clusters"
        found.append(Finding(what, (f"{whole.cluster_count} clusters, {negatives + 1} are needed",)))
    if contents and whole.pixels is None:
        same = _copies(whole)
        found += [
            Finding("copies of an image are in different clusters", tuple(row for row, apart in same if apart)),
            Finding("copies of an image are in one cluster", tuple(row for row, apart in same if not apart), False),
        ]
    return sorted((finding for finding in found if finding.rows), key=lambda finding: not finding.fatal)


def describe_set(whole: RetrievalSet) -> dict[str, Any]:
    """JSON-ready counts: images, clusters, pairs, queries, images per cluster, conditions, pairs by conditions."""
    sizes = np.unique(whole.clusters, return_counts=True)[1]
    facts: dict[str, Any] = {
        "images": len(whole),
        "clusters": whole.cluster_count,
        "pairs": len(whole.queries),
        "queries": len(np.unique(whole.queries)),
        "images_per_cluster": [int(sizes.min()), int(sizes.max())] if len(sizes) else [0, 0],
    }
    if whole.conditions is not None:
        labels = np.array(whole.conditions)
        facts["conditions"] = _counted(list(whole.conditions))
        facts["pairs_by_condition"] = _counted(
            [f"{q} to {p}" for q, p in zip(labels[whole.queries], labels[whole.positives], strict=True)]
        )
    return facts


def _unreadable(whole: RetrievalSet, decode: bool) -> tuple[str, ...]:
    if whole.pixels is not None:
        return ()
    reasons = ((item, item.problem or image_problem(item.path, 1, None, decode)) for item in whole.images)
    return tuple(f"{item.name}: {reason}" for item, reason in reasons if reason)


def _repeated(names: Sequence[str], paths: Sequence[Path]) -> tuple[str, ...]:
    first: dict[Path, int] = {}
    return tuple(
        f"{names[row]} (rows {first[path]} and {row})"
        for row, path in enumerate(paths)
        if first.setdefault(path, row) != row
    )


def _singles(whole: RetrievalSet) -> tuple[str, ...]:
    labels, first, sizes = np.unique(whole.clusters, return_index=True, return_counts=True)
    return tuple(
        f"{label} ({whole.images[row].name})" for label, row in zip(labels[sizes == 1], first[sizes == 1], strict=True)
    )


def _across(whole: RetrievalSet) -> tuple[str, ...]:
    return _pairs(whole, whole.clusters[whole.queries] != whole.clusters[whole.positives])


def _selves(whole: RetrievalSet) -> tuple[str, ...]:
    return _pairs(whole, whole.queries == whole.positives)


def _repeated_pairs(whole: RetrievalSet) -> tuple[str, ...]:
    keys = whole.queries * max(len(whole), 1) + whole.positives
    again = np.ones(len(keys), bool)
    again[np.unique(keys, return_index=True)[1]] = False
    return _pairs(whole, again)


def _pairs(whole: RetrievalSet, chosen: Any) -> tuple[str, ...]:
    names = whole.names
    return tuple(
        f"pair {row} ({names[whole.queries[row]]}, {names[whole.positives[row]]})" for row in np.flatnonzero(chosen)
    )


def _copies(whole: RetrievalSet) -> list[tuple[str, bool]]:
    """Later copies of a file, and whether they are in another cluster than the first."""
    by_size: dict[int, list[int]] = {}
    for row, item in enumerate(whole.images):
        if item.path.is_file():
            by_size.setdefault(item.path.stat().st_size, []).append(row)
    found, first = [], dict[bytes, int]()
    for row in sorted(row for rows in by_size.values() if len(rows) > 1 for row in rows):
        path = whole.images[row].path
        with open(path, "rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").digest()
        earlier = first.setdefault(digest, row)
        if earlier != row and whole.images[earlier].path != path:
            apart = bool(whole.clusters[earlier] != whole.clusters[row])
            found.append((f"{whole.images[row].name} (as {whole.images[earlier].name})", apart))
    return found


def _counted(labels: list[str]) -> dict[str, int]:
    return {label: labels.count(label) for label in sorted(set(labels))}
