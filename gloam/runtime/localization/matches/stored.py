"""Matches that are stored, as kapture's or hloc's files, in the place of a matcher."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from gloam.data.hloc_io import SUFFIXES, HlocMatchFile
from gloam.data.kapture_matches import EXTENSION, KaptureMatchFolder
from gloam.errors import DataError
from gloam.files import sha256_file, sha256_json
from gloam.runtime.models.local_features import LocalFeatures
from gloam.runtime.models.matcher import Matched

TAR = ".tar"


class StoredMatches:
    """Matches by pair; they are of the features that they were made from, and of no others.

    Args:
        path: hloc's ``.h5`` file, or a folder of kapture's.

    Raises:
        DataError: they cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._source = HlocMatchFile(path) if path.suffix in SUFFIXES else KaptureMatchFolder(path)

    @cached_property
    def key(self) -> str:
        """Identity, for caches: of all the matches."""
        if self.path.is_file():
            return sha256_file(self.path)
        files = sorted(path for path in self.path.rglob("*") if path.suffix in (EXTENSION, TAR))
        return sha256_json([[path.relative_to(self.path).as_posix(), sha256_file(path)] for path in files])

    def match(self, pair: tuple[str, str], both: Sequence[LocalFeatures]) -> Matched:
        """Matches of a pair of images.

        Args:
            pair: their names.
            both: their features.

        Returns:
            uint32 ``[m, 2]`` of rows, ascending in the first, and float32 ``[m]`` scores.

        Raises:
            DataError: the pair is not there, or its matches are of other features.
        """
        rows, scores = self._source.read(*pair)
        order = np.argsort(rows[:, 0], kind="stable")
        for column, (name, features) in enumerate(zip(pair, both, strict=True)):
            most = int(rows[:, column].max(initial=0))
            if len(rows) and most >= len(features):
                raise DataError(
                    f"{self.path}: the matches of {pair[0]!r} and {pair[1]!r} go to keypoint {most} of {name!r}, which "
                    f"has {len(features)}; give the features that were matched, or match again"
                )
        return rows[order], scores[order]
