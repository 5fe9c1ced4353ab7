"""Snow that lies and falls, and walls that rain has darkened."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.town.facades import GRID
from gloam.data.town.layout import KERB
from gloam.data.town.lighting import Hour
from gloam.data.town.raycast import Hits
from gloam.data.town.scenery import Scenery, Textures
from gloam.data.town.surfaces import Float32, Plan

SNOW = (0.86, 0.89, 0.94)  # reflectance of fresh snow
TRACKS, TRACK = (0.5, 1.9), 0.24  # of wheels, from the middle of the road, and half their width, metres
ROAD = 0.005  # what lies no higher is road, and what lies between it and the kerb's height the shade below a car


class WeatheredScenery(Scenery):
    """A street of the second look under its weather.

    Args:
        plan, atlas, sun: as of :class:`Scenery`.
        drifts: noise of unit deviation that is as large as a tile of 16 m, float32 ``[512, 512]``.
    """

    def __init__(self, plan: Plan, atlas: Textures, sun: Float32, drifts: Float32) -> None:
        super().__init__(plan, atlas, sun)
        self.drifts = drifts
        surfaces = plan.surfaces
        self.gable = np.array([surface.gable for surface in surfaces], np.float32)
        self.stepped = np.array([surface.gable_shape == "steps" for surface in surfaces])
        # What stands on the ground and is no car's side and no person: walls, bins, posts.
        self.standing = np.array([s.axis != 2 and s.cutout is None and s.low[1] <= KERB + 0.01 for s in surfaces])

    def _covered(self, albedo: Float32, index: npt.NDArray[np.int32], hits: Hits, hour: Hour) -> Float32:
        if hour.damp != 1:
            albedo = albedo * np.float32(hour.damp)
        if hour.snow:
            share = self._snow(index, hits, hour.snow)
            albedo = albedo * (1 - share) + np.asarray(SNOW, np.float32)[:, None] * share
        return np.asarray(albedo, np.float32)

    def _snow(self, index: npt.NDArray[np.int32], hits: Hits, depth: float) -> Float32:
        """Share of each pixel that snow covers, float32 ``[n]``."""
        caster = self.caster
        flipped = caster.flipped[index]
        along = np.where(flipped, caster.high[index, 0] - hits.left, caster.low[index, 0] + hits.left)
        share = np.zeros(index.size, np.float32)
        flat = np.flatnonzero(caster.axis[index] == 2)
        x, y, height = along[flat], caster.high[index[flat], 1] - hits.top[flat], caster.offset[index[flat]]
        share[flat] = self._on_ground(x, y, height)
        upright = np.flatnonzero(self.standing[index])
        share[upright] = self._on_ledges(index[upright], along[upright], hits.top[upright], depth)
        glass = np.flatnonzero(hits.recessed & ~hits.reveal)
        share[glass] = np.maximum(share[glass], self._on_sills(index[glass], hits.left[glass], hits.top[glass], depth))
        return share

    def _drift(self, x: Float32, y: Float32, scale: float) -> Float32:
        """Noise at places in metres, ``scale`` of its rows a metre."""
        size = self.drifts.shape[0]
        rows, columns = ((v * np.float32(scale)).astype(np.int32) % size for v in (y, x))
        return np.asarray(self.drifts[rows, columns], np.float32)

    def _on_ground(self, x: Float32, y: Float32, height: Float32) -> Float32:
        """On the road with wheel tracks, on pavements with trodden places; all over what lies higher."""
        broad, fine = self._drift(x, y, 24.0), self._drift(x, y, 110.0)
        apart = np.min([np.abs(np.abs(y) - track) for track in TRACKS], axis=0)
        track = np.clip(1.6 - apart / TRACK, 0, 1)
        road = 0.96 - track * (0.62 + 0.2 * broad) + 0.06 * fine
        pavement = 0.95 - 0.35 * np.clip(fine - 1.1, 0, 1) + 0.05 * broad
        low = np.where(height < ROAD, road, np.where(height < KERB - ROAD, 0.0, pavement))
        return np.asarray(np.clip(np.where(height > KERB + ROAD, 0.97, low), 0, 1), np.float32)

    def _on_ledges(self, index: npt.NDArray[np.int32], along: Float32, top: Float32, depth: float) -> Float32:
        """On the upper edge of walls, along gables too, and where walls meet the ground."""
        low, high = self.caster.low[index], self.caster.high[index]
        width, height = high[:, 0] - low[:, 0], high[:, 1] - low[:, 1]
        slope = np.clip(np.abs(along - (low[:, 0] + high[:, 0]) / 2) / (width / 2), 0, 1)
        slope = np.where(self.stepped[index], np.clip(np.ceil(slope * 4 - 0.5) / 4, 0, 1), slope)
        uneven = 1 + 0.35 * self._drift(along, low[:, 1] + index, 32.0)
        below = top - slope * self.gable[index]
        lies = np.minimum(2.2 * depth, height * 0.15) * uneven
        foot = (height - top) < depth * np.clip(uneven, 0.4, 1.6)
        return np.where((below < lies) | foot, np.float32(0.96), np.float32(0))

    def _on_sills(self, index: npt.NDArray[np.int32], left: Float32, top: Float32, depth: float) -> Float32:
        """On the lower edge of windows."""
        caster = self.caster
        cell = caster.cell_start[index] + (top / GRID).astype(np.int32) * caster.cell_width[index]
        opening = caster.openings[caster.cells[cell + (left / GRID).astype(np.int32)]]
        return np.where(opening[:, 3] - top < depth, np.float32(0.95), np.float32(0))


def snowed(rng: np.random.Generator, light: Float32) -> Float32:
    """Falling flakes: many small ones, some near and blurred, that are as bright as the sky behind them."""
    height, width = light.shape[:2]
    flakes = np.zeros((height, width), np.float32)
    slant, sixteenth = float(rng.normal(0, 0.5)), 16
    for _ in range(int(width * height / 260)):
        near = float(rng.uniform(0, 1)) ** 6
        size = (0.0022 + 0.010 * near) * width
        x, y = float(rng.uniform(0, width)), float(rng.uniform(0, height))
        fall = size * float(rng.uniform(0.4, 1.4))
        start, end = ((round(v * sixteenth) for v in at) for at in ((x, y), (x + slant * fall, y + fall)))
        shade = float(rng.uniform(0.35, 0.8)) * (1 - 0.6 * near)
        cv2.line(flakes, tuple(start), tuple(end), shade, max(round(size), 1), cv2.LINE_AA, 4)
    flakes = cv2.GaussianBlur(flakes, (0, 0), max(0.5, width / 500))[..., None]
    green = light[..., 1].ravel()
    rank = green.size - 1 - green.size // 20
    bright = np.clip(np.partition(green, rank)[rank], 0.3, 1.0)  # an order statistic: exact on any processor
    return np.asarray(light * (1 - flakes) + bright * flakes, np.float32)
