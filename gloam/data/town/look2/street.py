"""Street of the second look: photographed as cameras do, by several rays a pixel where an edge is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gloam.data.plain_opencv import plain_opencv
from gloam.data.scene import Camera, Pose
from gloam.data.town.atlas import Atlas
from gloam.data.town.config import Optics
from gloam.data.town.look2.builder import RepeatingBuilder
from gloam.data.town.look2.changes import plan_visit
from gloam.data.town.look2.hours import HOURS
from gloam.data.town.look2.photography import SHORT, develop
from gloam.data.town.look2.weather import WeatheredScenery
from gloam.data.town.raycast import Hits, ray_directions
from gloam.data.town.scenery import Scenery
from gloam.data.town.street import Street
from gloam.data.town.surfaces import Float32

RAYS = ((0.375, 0.125), (0.125, -0.375), (-0.375, -0.125), (-0.125, 0.375))  # of a pixel on an edge, from its centre


class NightStreet(Street):
    """A street of one seed in the second look.

    Args:
        seed, length, texels: as of :class:`Street`; the houses are those of no street of the first look.
        optics: noise, motion blur and defocus of the camera.
    """

    hours = HOURS
    builder = RepeatingBuilder
    mirrored = 12.0

    @plain_opencv()
    def __init__(self, seed: int, length: float = 60.0, texels: int = 64, optics: Optics | None = None) -> None:
        super().__init__(seed, length, texels)
        self.optics = optics or Optics()
        rng = np.random.default_rng([seed, 808])
        azimuth = np.radians(90.0 * rng.choice((-1, 1)) + rng.choice((-1, 1)) * rng.uniform(35, 60))
        elevation = np.radians(rng.uniform(40, 48))  # high enough to light a side of the street and part of its ground
        flat = np.cos(elevation)
        self.low_sun = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], np.float32)
        self._visits: dict[tuple[str, str], Scenery] = {}

    def scenery(self, condition: str, visit: str = "") -> Scenery:
        """The street at one visit, drawn when it is first asked for; its own surfaces follow the street's."""
        return self._visits.get((condition, visit)) or self.open_visit(condition, visit)

    def open_visit(self, condition: str, visit: str, traffic: int = 0) -> Scenery:
        """Draw a visit; photographs of it show what is drawn here.

        Args:
            condition, visit: of the photographs.
            traffic: side of the road on which cars drive, see :func:`gloam.data.town.look2.changes.plan_visit`.
        """
        with plain_opencv():
            drawn = plan_visit(self.plan, self.seed, condition, visit, self.texels, traffic)
            plan = replace(self.plan, surfaces=[*self.plan.surfaces, *drawn.surfaces], lamps=drawn.lamps)
            own = Atlas([surface.texture for surface in drawn.surfaces])
            sun = self.low_sun if condition == "sun" else self.sun
            found = WeatheredScenery(plan, TwoAtlases(self.atlas, own), sun, self.puddles)
        self._visits[condition, visit] = found
        return found

    def close_visits(self) -> None:
        """Forget all visits that were drawn, and their memory."""
        self._visits.clear()

    def lasting(self, surface: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """As of :class:`Street`."""
        return surface < len(self.plan.surfaces)

    def radiance(self, pose: Pose, condition: str, camera: Camera, visit: str = "") -> tuple[Float32, Float32]:
        """As of :class:`Street`; a pixel on an edge is the mean of several rays, its depth that of its centre's."""
        hour, scenery = self.hours[condition], self.scenery(condition, visit)
        sky = self._sky(ray_directions(camera, pose), hour)
        mirror = self._mirror(pose, hour, camera, scenery) if hour.wet else None
        hits = scenery.caster.cast(camera, pose)
        picture = sky.copy()
        picture.reshape(-1, 3)[hits.pixels] = self._shade(hits, hour, camera, scenery, mirror, hits.pixels).T
        edge = np.flatnonzero(on_edge(hits))
        rays = scenery.caster.cast_beside(camera, pose, edge, RAYS)
        beside = np.repeat(sky.reshape(-1, 3)[edge], len(RAYS), axis=0)
        beside[rays.pixels] = self._shade(rays, hour, camera, scenery, mirror, edge[rays.pixels // len(RAYS)]).T
        total = beside.reshape(-1, len(RAYS), 3)
        picture.reshape(-1, 3)[edge] = (total[:, 0] + total[:, 1] + total[:, 2] + total[:, 3]) / np.float32(len(RAYS))
        return picture, hits.depth

    def _develop(
        self, radiance: Float32, depth: Float32, condition: str, rng: np.random.Generator
    ) -> npt.NDArray[np.uint8]:
        return develop(radiance, depth, self.hours[condition], SHORT.get(condition, 1.0), self.optics, rng)


class TwoAtlases:
    """The textures of the street, which all visits share, and after them those of one visit."""

    def __init__(self, shared: Atlas, own: Atlas) -> None:
        self.shared, self.own = shared, own

    def sample(self, index: npt.NDArray[np.int32], across: Float32, down: Float32, blur: Float32) -> Float32:
        """As :meth:`Atlas.sample`."""
        result = np.zeros((4, index.size), np.float32)
        count = len(self.shared.width)
        for atlas, first, mask in ((self.shared, 0, index < count), (self.own, count, index >= count)):
            chosen = np.flatnonzero(mask)
            if chosen.size:
                result[:, chosen] = atlas.sample(index[chosen] - first, across[chosen], down[chosen], blur[:, chosen])
        return result


def on_edge(hits: Hits) -> npt.NDArray[np.bool_]:
    """Pixels beside which another surface, or another part of an opening, begins; bool ``[h, w]``."""
    parts = hits.parts()
    edge = np.zeros(parts.shape, bool)
    across, down = parts[:, 1:] != parts[:, :-1], parts[1:] != parts[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge
