"""The pairs of images that a localization matches, known before it begins: for a plan, and for shards of the work."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gloam.runtime.localization.colmap import Triangulation
from gloam.runtime.localization.maps.colmap_model import ColmapModel
from gloam.runtime.localization.maps.map_pairs import MapPairs, choose_pairs
from gloam.runtime.localization.maps.mapping import PairMatcher, own_points
from gloam.runtime.localization.matches.pair_stage import Pair


@dataclass(frozen=True)
class PairsOfRun:
    """Pairs, sorted, the names of each in order.

    Attributes:
        of_query: of a query and a map image.
        of_world: that the map of 2b is triangulated from; empty where it has its own points.
        of_map: those, and of 2a the pairs of map images that a query retrieved.
    """

    of_query: list[Pair]
    of_world: list[Pair]
    of_map: list[Pair]

    @cached_property
    def every(self) -> list[Pair]:
        """All of them."""
        return sorted({*self.of_query, *self.of_map})

    @cached_property
    def images(self) -> list[str]:
        """Of all pairs, sorted."""
        return sorted({name for pair in self.every for name in pair})


def pairs_of_run(
    matcher: PairMatcher,
    retrieved: Mapping[str, Sequence[str]],
    methods: Sequence[str],
    map_pairs: MapPairs | Sequence[Pair] | None,
    model: ColmapModel | None,
) -> PairsOfRun:
    """What :func:`gloam.eval.localization.benchmark.run_localization`, whose arguments these are, will match.

    Args:
        matcher: of the datasets.
    """
    of_query = {_ordered(name, other) for name, others in retrieved.items() for other in others}
    of_world, local = set(), set()
    if "2b" in methods and points_of_model(matcher, map_pairs, model) is None:
        of_world = {_ordered(*pair) for pair in choose_pairs(map_pairs, matcher.mapping, model)[0]}
    if "2a" in methods:
        local = {_ordered(*pair) for others in retrieved.values() for pair in itertools.combinations(others, 2)}
    found = (sorted(pair for pair in pairs if pair[0] != pair[1]) for pairs in (of_query, of_world, of_world | local))
    return PairsOfRun(*found)


def points_of_model(
    matcher: PairMatcher, map_pairs: MapPairs | Sequence[Pair] | None, model: ColmapModel | None
) -> Triangulation | None:
    """A COLMAP model's own points, where they are the map's: no pairs were asked for, and the features are its own."""
    return own_points(matcher, model) if model is not None and map_pairs in (None, MapPairs()) else None


def _ordered(first: str, second: str) -> Pair:
    return min(first, second), max(first, second)
