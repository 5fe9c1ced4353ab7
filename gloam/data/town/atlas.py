"""All textures of a street in one array, area-averaged at every scale of each axis, so that far ones do not alias."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.town.surfaces import Float32, Texture

LEVELS = 6  # each axis is halved up to five times: 64 texels a metre down to 2


class Atlas:
    """Textures ``[h, w, 4]`` with their reductions by 2**i across and 2**j down (a "ripmap").

    Street scenes are seen at grazing angles, where a square reduction (a mipmap) would blur the axis that is not
    foreshortened; both axes of a facade are those of its texture, so separate levels fit exactly.
    """

    def __init__(self, textures: Sequence[Texture]) -> None:
        count = len(textures)
        self.width = np.zeros((count, LEVELS), np.int32)
        self.height = np.zeros((count, LEVELS), np.int32)
        self.start = np.zeros((count, LEVELS, LEVELS), np.int32)
        parts: list[npt.NDArray[np.uint32]] = []
        total = 0
        known: dict[int, int] = {}
        for index, texture in enumerate(textures):
            first = known.setdefault(id(texture), index)
            if first != index:  # the same picture hangs in several places
                for table in (self.width, self.height, self.start):
                    table[index] = table[first]
                continue
            narrow = texture
            for across in range(LEVELS):
                narrow = narrow if across == 0 else halved(narrow, 1)
                self.width[index, across] = narrow.shape[1]
                reduced = narrow
                for down in range(LEVELS):
                    reduced = narrow if down == 0 else halved(reduced, 0)
                    self.height[index, down] = reduced.shape[0]
                    self.start[index, across, down] = total
                    parts.append(np.ascontiguousarray(reduced).view(np.uint32).ravel())
                    total += parts[-1].size
        self.texels = np.concatenate(parts)

    def sample(self, index: npt.NDArray[np.int32], across: Float32, down: Float32, blur: Float32) -> Float32:
        """Bilinear look-up.

        Args:
            index: texture of each pixel ``[n]``.
            across, down: position in [0, 1] ``[n]`` each.
            blur: size of the pixel's footprint in texels of the finest level, along both axes ``[2, n]``.

        Returns:
            float32 ``[4, n]`` in 0..255.
        """
        # Half a level sharper than the footprint asks for: bilinear weights blur by about as much again.
        level = np.clip(np.frexp(blur * np.float32(2**0.25))[1] - 1, 0, LEVELS - 1)  # the floor of log2, exactly
        width, height = self.width[index, level[0]], self.height[index, level[1]]
        start = self.start[index, level[0], level[1]]
        x, y = across * width - 0.5, down * height - 0.5
        x0, y0 = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
        fx, fy = (x - x0).astype(np.float32), (y - y0).astype(np.float32)
        left, right = np.clip(x0, 0, width - 1), np.clip(x0 + 1, 0, width - 1)
        top, bottom = start + np.clip(y0, 0, height - 1) * width, start + np.clip(y0 + 1, 0, height - 1) * width
        result = np.zeros((4, index.size), np.float32)
        for row, column, weight in (
            (top, left, (1 - fx) * (1 - fy)),
            (top, right, fx * (1 - fy)),
            (bottom, left, (1 - fx) * fy),
            (bottom, right, fx * fy),
        ):
            packed = self.texels[row + column]
            for channel in range(4):
                result[channel] += ((packed >> np.uint32(8 * channel)) & np.uint32(255)).astype(np.float32) * weight
        return result


def halved(texture: Texture, axis: int) -> Texture:
    """``texture`` reduced to half along one axis (0 down, 1 across) by area, at least one texel."""
    h, w = texture.shape[:2]
    size = (max(w // 2, 1), h) if axis == 1 else (w, max(h // 2, 1))
    return np.asarray(cv2.resize(texture, size, interpolation=cv2.INTER_AREA), np.uint8)
