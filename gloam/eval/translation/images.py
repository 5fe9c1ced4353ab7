"""Sets of images to be judged, read in one stated way, and matched by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.data.sources import ImageItem, find_images
from gloam.errors import DataError, ImageError

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Resize:
    """How images are read; a metric has a meaning only beside it.

    Attributes:
        max_side: longer side after a Lanczos reduction, pixels; None keeps it.
        stretch: exact (width, height) by area interpolation, whatever the aspect; excludes ``max_side``.
    """

    max_side: int | None = None
    stretch: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.stretch is not None:
            return f"{self.stretch[0]}x{self.stretch[1]} by area"
        return "native sizes" if self.max_side is None else f"longer side <= {self.max_side} by Lanczos"


@dataclass(frozen=True)
class ImageSet:
    """Images under one name, e.g. ``real``, ``fake`` or a control."""

    name: str
    items: tuple[ImageItem, ...]
    resize: Resize

    @classmethod
    def open(cls, name: str, source: str | Path, resize: Resize) -> ImageSet:
        """A folder, a list or a kapture dataset.

        Raises:
            DataError: absent or without images.
        """
        return cls(name, tuple(find_images(source)), resize)

    def __len__(self) -> int:
        return len(self.items)

    def read(self, row: int) -> Pixels:
        """Image ``row`` as uint8 ``[H, W, 3]`` RGB.

        Raises:
            ImageError: it cannot be decoded. A figure over part of a set would not be the set's.
        """
        item = self.items[row]
        try:
            if item.problem is not None:
                raise ImageError(item.problem)
            return decode_image(item.read(), max_side=self.resize.max_side, stretch=self.resize.stretch)
        except ImageError as error:
            raise ImageError(f"{item.path}: {error}; mend it or take it out of the set '{self.name}'") from error

    def batches(self, size: int = 16) -> Iterator[list[Pixels]]:
        """All images, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield [self.read(row) for row in range(start, min(start + size, len(self)))]

    def pairs(self, other: ImageSet) -> list[tuple[int, int]]:
        """Rows of images that have one name, suffix aside, in this set and in another.

        Raises:
            DataError: no name in common, or two images of one set with one name.
        """
        mine, theirs = self._rows(), other._rows()
        found = [(row, theirs[name]) for name, row in mine.items() if name in theirs]
        if not found:
            raise DataError(f"'{self.name}' and '{other.name}' have no image name in common; pairs go by name")
        return found

    def _rows(self) -> dict[str, int]:
        rows: dict[str, int] = {}
        for row, item in enumerate(self.items):
            name = PurePosixPath(item.name).with_suffix("").as_posix()
            if name in rows:
                raise DataError(f"{item.path}: another image of '{self.name}' has this name but for its suffix")
            rows[name] = row
        return rows
