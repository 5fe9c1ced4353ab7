"""Shared by the benchmarks on real day and night photographs: the six pairs of WxBS, and their epipolar geometry.

Not a benchmark of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.shared.result import data_pack
from gloam.data.images import decode_image

NAMES = ("berlin", "charlottenburg", "church", "maidan", "ministry", "silasveta2")
SIDE = 640  # pixels, that the longer side of a photograph is reduced to


@dataclass(frozen=True, eq=False)
class Pair:
    """Two photographs of one place, and the fundamental matrix of hand-made correspondences.

    Attributes:
        name: of the pair.
        images: uint8 ``[H, W, 3]`` RGB each.
        fundamental: float64 ``[3, 3]``, of pixels whose first centre is 0.
    """

    name: str
    images: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
    fundamental: npt.NDArray[np.float64]

    def distances(self, first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """The larger of the distances in pixels, ``[m]``, of points ``[m, 2]`` to each other's epipolar lines."""
        points = [np.concatenate((each, np.ones((len(each), 1))), 1).astype(np.float64) for each in (first, second)]
        in_second, in_first = points[0] @ self.fundamental.T, points[1] @ self.fundamental
        off = np.abs((points[1] * in_second).sum(1))
        found: npt.NDArray[np.float64] = np.maximum(
            *(off / np.maximum(np.linalg.norm(line[:, :2], axis=1), 1e-12) for line in (in_second, in_first))
        )
        return found


def wxbs_pairs() -> list[Pair]:
    """The six pairs in which light changes and the viewpoint, reduced."""
    pairs = []
    for name in NAMES:
        folder = data_pack("wxbs_daynight") / "WGLBS" / name
        marks = np.loadtxt(folder / "corrs.txt").reshape(-1, 2, 2)
        images = []
        for at, file in enumerate(("01.png", "02.png")):
            image = decode_image(folder / file)
            height, width = image.shape[:2]
            scale = min(SIDE / max(height, width), 1.0)
            size = (round(width * scale), round(height * scale))
            if scale < 1:
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            marks[:, at] = (marks[:, at] + 0.5) * (size[0] / width, size[1] / height) - 0.5
            images.append(image)
        fundamental, _ = cv2.findFundamentalMat(marks[:, 0], marks[:, 1], cv2.FM_8POINT)
        pairs.append(Pair(name, (images[0], images[1]), fundamental))
    return pairs
