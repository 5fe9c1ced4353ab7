"""Pairs to leave out by what is known of the images: rules, and the masks that they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gloam.data.groups import cameras, group_numbers, position_rows, positions, read_groups
from gloam.data.kapture_io import read_scene
from gloam.errors import DataError, UsageError
from gloam.runtime.search.pair_masks import DistanceMask, GroupMask, PairMask


@dataclass(frozen=True)
class PairRules:
    """What is not to be paired.

    Attributes:
        exclude_same: columns whose equal values are not paired.
        only_same: columns whose equal values alone are paired.
        groups: CSV with a header ``image,COLUMN,...``.
        kapture: datasets of the queries and the map, which know cameras and poses.
        min_distance: metres; what was taken nearer is not paired.

    Raises:
        UsageError: a rule without the file that it needs.
    """

    exclude_same: Sequence[str] = ()
    only_same: Sequence[str] = ()
    groups: Path | None = None
    kapture: Sequence[Path] = ()
    min_distance: float | None = None

    def __post_init__(self) -> None:
        for column in (*self.exclude_same, *self.only_same):
            if self.groups is None and not (column == "camera" and self.kapture):
                hint = "--groups FILE or --kapture DATASET" if column == "camera" else "--groups FILE"
                raise UsageError(f"a rule by {column!r} needs {hint}")
        if self.min_distance is not None and not self.kapture:
            raise UsageError("--min-distance needs the poses of --kapture DATASET")

    def masks(self, queries: Sequence[str], images: Sequence[str]) -> tuple[list[PairMask], dict[str, int]]:
        """The masks for the images of two stores.

        Args:
            queries, images: names, in the order of the stores.

        Returns:
            the masks, and how many images of the two sides are not known to each, by its column or ``pose``.

        Raises:
            DataError: a file cannot be read, or knows none of the images.
        """
        scenes = [read_scene(root) for root in self.kapture]
        masks: list[PairMask] = []
        unknown: dict[str, int] = {}
        for columns, only in ((self.exclude_same, False), (self.only_same, True)):
            for column in columns:
                groups = cameras(scenes) if self.groups is None else read_groups(self.groups, column)
                first, second = group_numbers(groups, queries, images)
                masks.append(GroupMask(first, second, only))
                unknown[column] = int((first < 0).sum() + (second < 0).sum())
        if self.min_distance is not None:
            found = positions(scenes)
            rows = [position_rows(found, names) for names in (queries, images)]
            masks.append(DistanceMask(rows[0], rows[1], self.min_distance))
            unknown["pose"] = sum(name not in found for names in (queries, images) for name in names)
        for what, number in unknown.items():
            if number == len(queries) + len(images):
                sources = " or ".join(str(path) for path in (self.groups, *self.kapture) if path is not None)
                raise DataError(f"none of the images has a {what}: their names are not those of {sources}")
        return masks, unknown
