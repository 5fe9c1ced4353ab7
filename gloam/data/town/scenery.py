"""What stands in a street, ready to be looked at: geometry, textures and the light of each hour."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from gloam.data.town.lighting import Hour, LightMap
from gloam.data.town.raycast import Caster, Hits
from gloam.data.town.surfaces import Float32, Plan


class Textures(Protocol):
    """The textures of a plan's surfaces, as :class:`gloam.data.town.atlas.Atlas` has them."""

    def sample(self, index: npt.NDArray[np.int32], across: Float32, down: Float32, blur: Float32) -> Float32:
        """Look texels up; see :meth:`gloam.data.town.atlas.Atlas.sample`."""
        ...


class Scenery:
    """Tables of a plan.

    Args:
        plan: what stands there.
        atlas: its surfaces' textures, in their order.
        sun: unit vector towards the sun.
    """

    def __init__(self, plan: Plan, atlas: Textures, sun: Float32) -> None:
        self.plan, self.atlas, self.sun = plan, atlas, sun
        self.caster = Caster(plan.surfaces)
        self.tint = np.array([surface.tint for surface in plan.surfaces], np.float32).T
        self.ground = np.array([surface.axis == 2 and surface.offset < 0.3 for surface in plan.surfaces])
        self.resolution = np.array(
            [(s.texture.shape[1] / s.size[0], s.texture.shape[0] / s.size[1]) for s in plan.surfaces], np.float32
        ).T
        self._light: dict[Hour, LightMap] = {}

    def shade(self, hits: Hits, hour: Hour) -> Float32:
        """Radiance of the pixels that hit something, float32 ``[3, n]``."""
        if hour not in self._light:
            self._light[hour] = LightMap(self.plan, hour, self.sun)
        index = hits.surface.ravel()[hits.pixels]
        size = self.caster.size[index].T
        blur = hits.footprint * self.resolution[:, index]
        texel = self.atlas.sample(index, hits.left / size[0], hits.top / size[1], blur) / np.float32(255)
        light = self._light[hour].sample(index, hits.left, hits.top)
        light *= np.where(hits.reveal, np.float32(0.5), np.where(hits.recessed, np.float32(0.8), np.float32(1)))
        albedo = self._covered(np.square(texel[:3]), index, hits, hour)
        radiance = albedo * light
        if hour.emission:
            emitted = np.square(texel[3]) * np.float32(hour.emission)
            radiance += self.tint[:, index] * emitted * (np.float32(0.12) + albedo)
        return np.asarray(radiance, np.float32)

    def _covered(self, albedo: Float32, index: npt.NDArray[np.int32], hits: Hits, hour: Hour) -> Float32:
        """What the pixels reflect ``[3, n]``, once the weather lies on it; in the first look none does."""
        return albedo
