"""Retrieved images in the order of the matches that a two-view geometry with the query confirms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.localization.matches.pair_stage import mapped


def rerank(
    matcher: PairMatcher, retrieved: Mapping[str, Sequence[str]], keep: int, pool: ThreadPoolExecutor
) -> dict[str, list[tuple[str, int]]]:
    """Order each query's map images by their verified matches with it, most first; ties stay as they were retrieved.

    Args:
        matcher: of the datasets.
        retrieved: map images per query, best first.
        keep: images per query, at most.
        pool: that matches and verifies.

    Returns:
        map images per query with the number of verified matches.
    """
    pairs = [(query, image) for query, images in retrieved.items() for image in dict.fromkeys(images)]
    matcher.match_all(pairs, pool)
    counts = dict(zip(pairs, mapped(pool, lambda pair: matcher.count_verified(*pair), pairs), strict=True))
    return {
        query: sorted(((image, counts[query, image]) for image in dict.fromkeys(images)), key=lambda found: -found[1])[
            :keep
        ]
        for query, images in retrieved.items()
    }
