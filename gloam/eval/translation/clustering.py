"""k-means in numpy: the histogram bins of PRD.

faiss belongs to the runtime's extras, scikit-learn is no dependency, and twenty clusters need little: a matrix product
and a mean. Centres are fitted to a random draw of at most 200 points for each, which takes seconds where all of 20 000
would take minutes, and then every point is assigned. PRD's own code fits its centres to mini-batches for the same
reason, and PRD averages over clusterings.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.floating]  # [n, D]
CANDIDATES = 4  # drawn for each new centre, the best is kept (greedy k-means++)
FITTED = 200  # points for each centre; all of them where there are no more
STEPS = 50
SETTLED = 1e-3  # share of the points that may still change cluster


def cluster(points: Points, clusters: int, draw: np.random.Generator) -> npt.NDArray[np.int64]:
    """Clusters of points: k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's steps until they settle.

    Args:
        points: ``[n, D]``, n >= clusters; computed in their own type.
        clusters: k; fewer are used where there are fewer distinct points.
        draw: of the first centres.

    Returns:
        int64 ``[n]``, 0 to k - 1.
    """
    few = min(len(points), FITTED * clusters)
    centres = _fit(points[np.sort(draw.choice(len(points), few, replace=False))], clusters, draw)
    return _nearest(points, _squares(points), centres)


def _fit(points: Points, clusters: int, draw: np.random.Generator) -> Points:
    """Centres ``[k, D]``."""
    squares = _squares(points)
    centres = _first_centres(points, squares, clusters, draw)
    labels = np.full(len(points), -1)
    for _ in range(STEPS):
        found = _nearest(points, squares, centres)
        changed = np.count_nonzero(found != labels)
        labels = found
        if changed <= SETTLED * len(points):
            break
        for each in np.unique(labels):  # an empty cluster keeps its centre
            centres[each] = points[labels == each].mean(axis=0)
    return centres


def _first_centres(
    points: Points, squares: npt.NDArray[np.floating], clusters: int, draw: np.random.Generator
) -> Points:
    chosen = [int(draw.integers(len(points)))]
    nearest = _squared_distances(points, squares, points[chosen])[:, 0]
    while len(chosen) < clusters:
        reach = np.cumsum(nearest, dtype=np.float64)
        if reach[-1] <= 0:  # every point is a centre already
            break
        tried = np.searchsorted(reach, draw.random(CANDIDATES) * reach[-1], side="right").clip(max=len(points) - 1)
        left = np.minimum(nearest[:, None], _squared_distances(points, squares, points[tried]))
        best = int(np.argmin(left.sum(axis=0)))
        chosen.append(int(tried[best]))
        nearest = left[:, best]
    return points[chosen].copy()


def _nearest(points: Points, squares: npt.NDArray[np.floating], centres: Points) -> npt.NDArray[np.int64]:
    return np.asarray(np.argmin(_squared_distances(points, squares, centres), axis=1), np.int64)


def _squared_distances(points: Points, squares: npt.NDArray[np.floating], centres: Points) -> npt.NDArray[np.floating]:
    """``[n, k]``."""
    distances = points @ centres.T
    distances *= -2
    distances += squares[:, None]
    distances += _squares(centres)
    return np.maximum(distances, 0, out=distances)


def _squares(points: Points) -> npt.NDArray[np.floating]:
    squares: npt.NDArray[np.floating] = np.einsum("nd,nd->n", points, points)
    return squares
