"""Which images of two domains are pairs: the nearest to each other that look the same way."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from gloam.data.retrieval_sets.pairing import Indices, neighbours

Array = npt.NDArray[np.float64]
Rule = Literal["mutual", "nearest"]
SLACK = 1e-9  # of rounding, metres and degrees


def match(
    first: tuple[Array, Array], second: tuple[Array, Array], distance: float, heading: float, rule: Rule = "mutual"
) -> tuple[Indices, Indices, Array, Array]:
    """Pairs of the images of two domains.

    An image's partner is the nearest of the other domain that lies within both thresholds; of equally near ones the
    first.

    Args:
        first, second: of the images of a domain, in the order of their names: centres ``[n, 3]`` in metres and unit
            directions ``[n, 3]``, float64.
        distance: metres.
        heading: degrees between the directions; 180 and more asks for none, and directions may then be NaN.
        rule: ``mutual``: images that are each other's partners, so that an image is in one pair at most; ``nearest``:
            every image with its partner, whichever domain it is of, each pair once.

    Returns:
        rows of the first and the second domain, int64 ``[q]``, ascending; distances in metres and angles in degrees,
        float64 ``[q]``, the latter NaN where a direction is.
    """
    parts = [_within(first, second, part, heading) for part in neighbours(first[0], second[0], distance + SLACK)]
    if not parts:
        nothing = np.empty(0, np.int64)
        return nothing, nothing, np.empty(0), np.empty(0)
    rows, columns = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    metres, degrees = (np.concatenate([part[place] for part in parts]) for place in (2, 3))
    of_first, of_second = _best(rows, columns, metres), _best(columns, rows, metres)
    kept = of_first & of_second if rule == "mutual" else of_first | of_second
    return rows[kept], columns[kept], metres[kept], degrees[kept]


def _within(
    first: tuple[Array, Array], second: tuple[Array, Array], part: tuple[Indices, Indices], heading: float
) -> tuple[Indices, Indices, Array, Array]:
    rows, columns = part
    metres = np.sqrt(((first[0][rows] - second[0][columns]) ** 2).sum(axis=1))
    degrees = angles(first[1][rows], second[1][columns])
    kept = (degrees <= heading + SLACK) | (heading >= 180)
    return rows[kept], columns[kept], metres[kept], degrees[kept]


def angles(first: Array, second: Array) -> Array:
    """Degrees between unit vectors ``[q, 3]``, float64 ``[q]``; NaN where one is."""
    apart, along = np.linalg.norm(first - second, axis=1), np.linalg.norm(first + second, axis=1)
    found: Array = np.degrees(2 * np.arctan2(apart, along))
    return found


def _best(rows: Indices, columns: Indices, metres: Array) -> npt.NDArray[np.bool_]:
    """Which candidates are the nearest of their row, of equally near ones that of the first column."""
    order = np.lexsort((columns, metres, rows))
    first = np.ones(len(rows), np.bool_)
    first[1:] = rows[order][1:] != rows[order][:-1]
    found = np.zeros(len(rows), np.bool_)
    found[order[first]] = True
    return found
