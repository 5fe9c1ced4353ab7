"""Found images in the order of the matches that a two-view geometry confirms, as ``gloam match --verify`` wrote them.

This package finds no matches: it counts those of a file, or whatever counts them, so that a search needs neither local
features nor a solver of geometries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gloam.data.hloc_io import SUFFIXES, HlocMatchFile
from gloam.data.kapture_matches import KaptureMatchFolder
from gloam.errors import DataError, IncompatibleError, UsageError
from gloam.files import read_sealed, sha256_file
from gloam.record import Written, fill_dataclass

RAW = "raw"  # how the record of matches calls those that no geometry has confirmed
HOW = "match with `gloam match --verify`"


class Found(NamedTuple):
    """An image that a search found: its name, its score, and its verified matches with the query."""

    image: str
    score: float
    inliers: int


@dataclass(frozen=True)
class MatchKind(Written):
    """How matches were made; counts of two kinds do not mean the same.

    Attributes:
        features, dimension: name of the local features, and values of a descriptor.
        matcher: its identity, with its threshold or ratio.
        verification: solver of the two-view geometry, its release and its trials.
    """

    features: str
    dimension: int
    matcher: str
    verification: str


class VerifiedMatches:
    """Verified matches of pairs, as ``gloam match --verify`` wrote them.

    Attributes:
        path: hloc's ``.h5`` file, or a folder of kapture's.
        kind: what the record beside them says of them.
    """

    def __init__(self, path: Path, kind: MatchKind) -> None:
        self.path, self.kind = path, kind
        self._source = HlocMatchFile(path) if path.suffix in SUFFIXES else KaptureMatchFolder(path)

    @classmethod
    def open(cls, path: str | Path, *, trust: bool = False) -> VerifiedMatches:
        """Open matches and the record that ``gloam match`` wrote with them.

        Args:
            path: ``.h5`` file, or the folder ``reconstruction/matches/TYPE`` of a kapture dataset.
            trust: do not compare an ``.h5`` file with its checksum.

        Raises:
            DataError: they cannot be read, have no record, or are another file than the record is of.
            UsageError: matches that no geometry has confirmed.
        """
        place = Path(path)
        hloc = place.suffix in SUFFIXES
        if not place.exists():
            raise DataError(f"{place}: no matches there; {HOW}")
        record = Path(f"{place}.json") if hloc else place / "gloam.json"
        try:
            stated = read_sealed(record)
            _, features, dimension, matcher, verification = stated["source"]
            checksum = stated["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{place}: no record of gloam's says how these matches were verified; {HOW}") from error
        if verification == RAW:
            raise UsageError(f"{place}: its matches are not verified; {HOW}")
        if hloc and not trust and sha256_file(place) != checksum:
            raise DataError(f"{place}: is not the file that {record.name} describes; match again")
        solver = verification[1] if isinstance(verification, list) and len(verification) == 2 else None  # behind a seed
        facts = {"features": features, "dimension": dimension, "matcher": matcher, "verification": solver}
        try:
            return cls(place, fill_dataclass(MatchKind, facts, str(record)))
        except UsageError as error:
            raise DataError(f"{error}; match again") from error

    def count(self, query: str, image: str) -> int:
        """Number of verified matches of a pair.

        Raises:
            DataError: the pair was not matched, or its matches are damaged.
        """
        rows, _ = self._source.read(query, image)
        return len(rows)


def rerank(
    results: Mapping[str, Sequence[tuple[str, float]]], count: Callable[[str, str], int]
) -> dict[str, list[Found]]:
    """Each query's images by their verified matches with it, most first; ties stay as they were found.

    Args:
        results: by query, images and their scores, the best first.
        count: verified matches of a query and an image, as :meth:`VerifiedMatches.count`.
    """
    return {
        query: sorted(
            (Found(image, score, count(query, image)) for image, score in found), key=lambda each: -each.inliers
        )
        for query, found in results.items()
    }


def expect_kind(expected: MatchKind, found: MatchKind, where: str, what: str) -> None:
    """Refuse matches of another kind.

    Args:
        expected: what is needed; found: what is there.
        where: the file of the found ones; what: needs them, for the message.

    Raises:
        IncompatibleError: naming the first difference.
    """
    for name, needed in vars(expected).items():
        given = getattr(found, name)
        if given != needed:
            raise IncompatibleError(
                f"{where}: {name} {given!r}, but {what} is of {needed!r}; match alike, or learn anew"
            )
