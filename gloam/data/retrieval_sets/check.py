"""What is wrong with a retrieval set, before hours of training find it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.day_night.read import image_problem
from gloam.data.retrieval_sets.native import read_native, set_names
from gloam.data.retrieval_sets.pairing import SHOWN
from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.errors import UsageError


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


@dataclass(frozen=True)
class CheckedSets:
    """Findings of every set of a file: name -> facts and findings."""

    sets: Mapping[str, tuple[Mapping[str, Any], Sequence[Finding]]]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong that would spoil a training."""
        return not any(finding.fatal for _, findings in self.sets.values() for finding in findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; of each finding the first five rows."""
        sets = {}
        for name, (facts, findings) in self.sets.items():
            shown = [
                {"what": item.what, "count": len(item.rows), "first": list(item.rows[:5]), "fatal": item.fatal}
                for item in findings
            ]
            sets[name] = {**facts, "findings": shown}
        return {"sets": sets, "passed": self.passed}

    def to_text(self) -> str:
        """Counts and findings."""
        lines = []
        for name, (facts, findings) in self.sets.items():
            lines.append(counts(name, facts))
            lines += [f"  {'WRONG' if finding.fatal else 'note '} {finding}" for finding in findings]
        lines.append("nothing wrong" if self.passed else "correct what is WRONG and check again")
        return "\n".join(lines)


def check_file(
    path: Path,
    set_name: str | None = None,
    images: Path | None = None,
    *,
    decode: bool = False,
    contents: bool = False,
    negatives: int = 5,
) -> CheckedSets:
    """Check the sets of a ``set.json``.

    Args:
        path: the file.
        set_name: of the one set to check; all by default.
        images: the images' folder, in place of the file's.
        decode, contents, negatives: see :func:`check_set`.

    Raises:
        DataError: the file cannot be read as a retrieval set.
        UsageError: ``negatives`` is below 1.
    """
    if negatives < 1:
        raise UsageError(f"--negatives {negatives}: a tuple has 1 or more")
    names = [set_name] if set_name else set_names(path)
    found = {}
    for name in names:
        whole = read_native(path, name, images)
        findings = check_set(whole, decode=decode, contents=contents, negatives=negatives)
        found[name or "set"] = describe_set(whole), findings
    return CheckedSets(found)


def counts(name: str, facts: Mapping[str, Any]) -> str:
    """One line about a set, from :func:`describe_set`."""
    low, high = facts["images_per_cluster"]
    text = (
        f"{name}: {facts['images']} images in {facts['clusters']} clusters of {low} to {high}, {facts['pairs']} pairs "
        f"of {facts['queries']} queries"
    )
    if "conditions" in facts:
        text += f"; {', '.join(f'{count} {label}' for label, count in facts['conditions'].items())}"
    return text
