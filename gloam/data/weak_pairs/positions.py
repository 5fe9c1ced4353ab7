"""Where images were taken and which way they look, whatever stated it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.data.weak_pairs.geodesy import to_metres, zone_of
from gloam.errors import DataError, ImageError

Array = npt.NDArray[np.float64]
DEGREES, PLANE, SPACE, UTM = "latitude and longitude", "x, y", "x, y, z", "UTM zone "
NO_FILE = "no image file"
SMALL = 64  # pixels of the longer side, enough for a mean


@dataclass(frozen=True, eq=False)
class Positions:
    """Images of one source, in its order.

    Attributes:
        where: the source, for messages.
        paths: of the image files.
        centers: float64 ``[n, 3]``, metres; of a frame without a third axis that is 0. Latitude, longitude and 0 of
            :data:`DEGREES`.
        directions: unit vectors, float64 ``[n, 3]``; NaN where no heading is known.
        frame: what the axes are: :data:`DEGREES`, :data:`PLANE`, :data:`SPACE`, or :data:`UTM` and a zone.
        left_out: images of the source without a usable position, by the reason.
        notes: what a person should know of the source.
    """

    where: str
    paths: tuple[Path, ...]
    centers: Array
    directions: Array
    frame: str
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def part(self, rows: npt.NDArray[np.int64], reason: str) -> Positions:
        """Some of the images, in the order given; how many the others are is added to ``left_out``."""
        gone = len(self) - len(rows)
        left_out = {**self.left_out, **({reason: self.left_out.get(reason, 0) + gone} if gone else {})}
        paths = tuple(self.paths[row] for row in rows)
        return replace(
            self, paths=paths, centers=self.centers[rows], directions=self.directions[rows], left_out=left_out
        )


def of_yaw(yaw: Array) -> Array:
    """Unit vectors ``[n, 3]`` in the plane, of angles ``[n]`` in radians; NaN stays NaN."""
    found: Array = np.stack([np.cos(yaw), np.sin(yaw), np.where(np.isnan(yaw), np.nan, 0.0)], axis=1)
    return found


def thinned(found: Positions, spacing: float) -> Positions:
    """Without the images that are nearer than ``spacing`` metres to the last one that is kept: a car that stands."""
    kept: list[int] = []
    for row, center in enumerate(found.centers):
        if not kept or np.linalg.norm(center - found.centers[kept[-1]]) >= spacing:
            kept.append(row)
    return found.part(np.array(kept, np.int64), f"nearer than {spacing:g} m to the image before")


def without_extremes(found: Positions, share: float) -> Positions:
    """Without a share of the darkest and of the brightest images, and without those that do not decode."""
    means, decoded = [], []
    for row, path in enumerate(found.paths):
        try:
            means.append(float(decode_image(path, max_side=SMALL).mean()))
            decoded.append(row)
        except ImageError:
            continue
    found = found.part(np.array(decoded, np.int64), "does not decode")
    cut = int(share * len(found))
    order = np.argsort(np.array(means), kind="stable")
    return found.part(np.sort(order[cut : len(found) - cut]).astype(np.int64), "darkest or brightest of its traversal")


def in_one_frame(sources: Sequence[Positions]) -> list[Positions]:
    """The same sources, those of latitude and longitude in metres: of the zone that others are in, or else of the zone
    of the first position.

    Raises:
        DataError: sources of different frames, whose positions cannot be compared; two are named.
    """
    zones = [found.frame.removeprefix(UTM) for found in sources if found.frame.startswith(UTM)]
    zones += [zone_of(*found.centers[0, :2]) for found in sources if found.frame == DEGREES and len(found)]
    moved = []
    for found in sources:
        if found.frame == DEGREES and zones:
            plane = to_metres(found.centers[:, :2], zones[0], found.where)
            centers = np.concatenate([plane, np.zeros((len(found), 1))], axis=1)
            found = replace(found, centers=centers, frame=f"{UTM}{zones[0]}")
        moved.append(found)
    for found in moved:
        if found.frame != moved[0].frame:
            raise DataError(
                f"{found.where} has positions of {found.frame} and {moved[0].where} of {moved[0].frame}; only "
                "positions of one frame can be compared"
            )
    return moved


def plane_axes(centers: Array) -> tuple[int, int]:
    """The two axes of a map: those along which positions ``[n, 3]`` spread most, in their order."""
    first, second = sorted(np.argsort(-np.ptp(centers, axis=0), kind="stable")[:2].tolist())
    return int(first), int(second)
