"""kapture's matches: ``A.overlapping/B.matches`` of every pair, A before B, loose or in one tar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from gloam.data.kapture_io import tar_contents
from gloam.data.sources.files import local_files
from gloam.errors import DataError, ImageError
from gloam.files import inside, read_file

EXTENSION = ".matches"
COLUMNS = 3  # row of A, row of B, score; float64, little-endian

Rows = npt.NDArray[np.uint32]
Scores = npt.NDArray[np.float32]


def match_file(first: str, second: str) -> str:
    """Where a pair lies in the folder of its type; the names are in order."""
    return f"{first}.overlapping/{second}{EXTENSION}"


def encoded(rows: Rows, scores: Scores) -> bytes:
    """Matches ``[m, 2]`` and their scores ``[m]`` as kapture stores them."""
    return np.column_stack((rows, scores)).astype("<f8").tobytes()


class KaptureMatchFolder:
    """The matches of one type of features.

    Args:
        folder: ``reconstruction/matches/TYPE`` of a dataset, or wherever they are.

    Raises:
        DataError: there is no such folder, or its tar is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder)
        if not self.path.is_dir():
            raise DataError(f"{self.path}: no folder of matches")
        tar = self.path / "matches.tar"
        self._members = tar_contents(tar, EXTENSION) if tar.is_file() else None

    def read(self, first: str, second: str) -> tuple[Rows, Scores]:
        """Matches of a pair.

        Returns:
            uint32 ``[m, 2]`` of rows, the first column of ``first``; float32 ``[m]`` scores.

        Raises:
            DataError: the pair is not there, or its file is damaged.
        """
        name = match_file(min(first, second), max(first, second))
        try:
            if self._members is None:
                content = read_file(inside(self.path, name))
            else:
                content = local_files.read(str(self.path / "matches.tar"), *self._members[name])
        except (OSError, KeyError, ImageError) as error:
            raise DataError(
                f"{self.path}: has no matches of {first!r} and {second!r}; match with this list of pairs"
            ) from error
        if len(content) % (8 * COLUMNS):
            raise DataError(f"{self.path / name}: length is not a multiple of {COLUMNS} values; match again")
        values = np.frombuffer(content, "<f8").reshape(-1, COLUMNS)
        rows = values[:, :2]
        if not np.isfinite(values).all() or ((rows < 0) | (rows % 1 != 0) | (rows >= 1 << 32)).any():
            raise DataError(f"{self.path / name}: its rows are no numbers of keypoints; match again")
        pairs = rows.astype(np.uint32)
        return (pairs if first < second else pairs[:, ::-1]), values[:, 2].astype(np.float32)
