"""The pairs of a map as a text file, for `gloam match` and for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.data.pairs import Pair, PairFormat, write_pairs
from gloam.errors import UsageError
from gloam.runtime.localization.maps.datasets import read_map
from gloam.runtime.localization.maps.map_pairs import MapPairs, Rule, choose_pairs


@dataclass(frozen=True)
class MapPairsRequest:
    """Pairs of which map, and where to.

    Attributes:
        mapping: kapture dataset with poses, or folder of a COLMAP model.
        output: text file.
        map_pairs: see :class:`gloam.runtime.localization.maps.map_pairs.MapPairs`, also for the next three.
        map_neighbours: of an image.
        map_distance: in the map's unit.
        map_angle: degrees.
        format: kapture's or hloc's text. The pairs have no scores; kapture's states 0.

    Raises:
        UsageError: an option that its rule does not have, or an output inside the map.
    """

    mapping: Path
    output: Path
    map_pairs: Rule | None = None
    map_neighbours: int | None = None
    map_distance: float | None = None
    map_angle: float | None = None
    format: PairFormat = "kapture"

    def __post_init__(self) -> None:
        if self.output.resolve().is_relative_to(self.mapping.resolve()):
            raise UsageError(f"{self.output}: lies inside {self.mapping}; choose another folder for the list")
        _ = self.rule

    @property
    def rule(self) -> MapPairs:
        """How the pairs are chosen."""
        return MapPairs(self.map_pairs, self.map_neighbours, self.map_distance, self.map_angle)


@dataclass(frozen=True)
class MapPairList:
    """A list that was written.

    Attributes:
        output: the file.
        pairs, images: numbers of them.
        alone: images that are in no pair.
        rule: how the pairs were chosen, in words.
    """

    output: Path
    pairs: int
    images: int
    alone: int
    rule: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**vars(self), "output": str(self.output)}

    def __str__(self) -> str:
        """A line for people."""
        alone = f"; {self.alone} images are in none" if self.alone else ""
        return f"{self.output}: {self.pairs} pairs of {self.images} images of the map by {self.rule}{alone}"


def list_map_pairs(request: MapPairsRequest) -> MapPairList:
    """Choose the pairs of a map and write them, sorted.

    Raises:
        DataError: a map that cannot be read, covisibility of one without points, or no pair at all.
        MissingExtraError: pycolmap is not installed, for a COLMAP model.
    """
    scene, model = read_map(request.mapping)
    pairs, how = choose_pairs(request.rule, scene, model)
    count = write_pairs(request.output, (Pair(*pair) for pair in pairs), request.format)
    paired = {name for pair in pairs for name in pair}
    return MapPairList(request.output, count, len(scene.records), len(scene.records.keys() - paired), how)
