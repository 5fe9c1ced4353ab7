"""Training and test images by where they were taken: regions for the test, and a gap around them that nobody has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from gloam.data.yaml_text import read_mapping
from gloam.errors import DataError, UsageError
from gloam.files import load_json, read_file
from gloam.record import fill_named

Array = npt.NDArray[np.float64]
Part = Literal["train", "test", "gap"]
PARTS: tuple[Part, ...] = ("train", "test", "gap")
FARTHEST = 1e12  # metres
LEAST_AREA = 1e-6  # square metres


@dataclass(frozen=True)
class Region:
    """A part of the map, its border included, in metres along the map's two axes; one of the two is given.

    Attributes:
        rectangle: two opposite corners, ``x, y, x, y``.
        polygon: corners in turn, at least three.
    """

    rectangle: tuple[float, ...] = ()
    polygon: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if bool(self.rectangle) == bool(self.polygon):
            raise UsageError("a region is a rectangle or a polygon; give one of the two")
        if self.rectangle and len(self.rectangle) != 4:
            raise UsageError(f"a rectangle of {len(self.rectangle)} numbers; it has 4: x, y, x, y of opposite corners")
        corners = self.corners
        if not np.isfinite(corners).all() or np.abs(corners).max() > FARTHEST:
            raise UsageError("a region has a corner that is not finite")
        if len(corners) < 3 or _area(corners) < LEAST_AREA:
            raise UsageError("a region without an area; its corners lie on one line")

    @property
    def corners(self) -> Array:
        """Corners in turn, float64 ``[c, 2]``."""
        if self.rectangle:
            left, low, right, high = self.rectangle
            return np.array([(left, low), (right, low), (right, high), (left, high)])
        return np.array(self.polygon, np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class Regions:
    """Where test images come from.

    Attributes:
        test: regions, which may overlap.
    """

    test: tuple[Region, ...]


def read_regions(path: Path) -> Regions:
    """Test regions of a YAML or JSON file: ``test: [{rectangle: [0, 0, 50, 40]}, {polygon: [[0, 0], [9, 0], [0, 9]]}]``

    Raises:
        UsageError: unreadable, no regions, or one that is none.
    """
    if path.suffix == ".json":
        try:
            stated = load_json(read_file(path))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: not readable as JSON ({error})") from error
    else:
        stated = read_mapping(path, "read test regions")
    regions = fill_named(Regions, stated, str(path))
    if not regions.test:
        raise UsageError(f"{path}: names no test regions")
    return regions


def block_regions(plane: Array, side: float, share: float, seed: int = 0) -> Regions:
    """Squares of a grid, drawn until they hold a share of the images.

    Args:
        plane: positions along the map's two axes, float64 ``[n, 2]``, metres.
        side: of a square, metres.
        share: of the images, in (0, 1).
        seed: of the draw.

    Raises:
        DataError: all images lie in one square.
    """
    origin = plane.min(axis=0)
    cells, counts = np.unique(np.floor((plane - origin) / side), axis=0, return_counts=True)
    if len(cells) < 2:
        raise DataError(f"all {len(plane)} images lie in one block of {side:g} m; give smaller --blocks")
    order = np.random.default_rng([seed, 818]).permutation(len(cells))
    wanted = int(np.searchsorted(np.cumsum(counts[order]), share * len(plane))) + 1
    drawn = sorted(order[: min(wanted, len(cells) - 1)].tolist())
    corners = [(origin + cells[cell] * side, origin + (cells[cell] + 1) * side) for cell in drawn]
    return Regions(tuple(Region(rectangle=(*low.tolist(), *high.tolist())) for low, high in corners))


def split(plane: Array, regions: Sequence[Region], gap: float) -> npt.NDArray[np.int64]:
    """Place in :data:`PARTS` of each position, int64 ``[n]``: test in a region or on its border, gap outside but within
    ``gap`` metres of one, train elsewhere, so that training and test images are more than ``gap`` metres apart.

    Args:
        plane: positions along the map's two axes, float64 ``[n, 2]``, metres.
        regions: of the test.
        gap: metres.
    """
    away = np.full(len(plane), np.inf)
    for region in regions:
        reach = gap + 1e-6  # of rounding; the distance decides
        low, high = region.corners.min(axis=0) - reach, region.corners.max(axis=0) + reach
        x, y = plane[:, 0], plane[:, 1]
        close = np.flatnonzero((x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1]))
        away[close] = np.minimum(away[close], distances(plane[close], region.corners))
    found: npt.NDArray[np.int64] = np.where(away <= 0, 1, np.where(away <= gap, 2, 0)).astype(np.int64)
    return found


def distances(plane: Array, corners: Array) -> Array:
    """Metres from each position ``[n, 2]`` to a polygon ``[c, 2]``; 0 inside and on the border, float64 ``[n]``."""
    inside = np.zeros(len(plane), np.bool_)
    squared = np.full(len(plane), np.inf)
    for begin, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        edge = end - begin
        length = float(edge @ edge)
        share = np.clip((plane - begin) @ edge / length, 0, 1) if length > 0 else np.zeros(len(plane))
        squared = np.minimum(squared, ((plane - begin - share[:, None] * edge) ** 2).sum(axis=1))
        crosses = (begin[1] > plane[:, 1]) != (end[1] > plane[:, 1])
        if crosses.any():
            at = begin[0] + (plane[:, 1] - begin[1]) / (end[1] - begin[1]) * edge[0]
            inside ^= crosses & (plane[:, 0] < at)
    found: Array = np.where(inside, 0.0, np.sqrt(squared))
    return found


def _area(corners: Array) -> float:
    """Square metres inside the corners in turn."""
    near = corners - corners[0]
    following = np.roll(near, -1, axis=0)
    return abs(float((near[:, 0] * following[:, 1] - near[:, 1] * following[:, 0]).sum())) / 2
