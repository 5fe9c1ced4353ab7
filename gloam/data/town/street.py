"""Street: a procedural street that can be photographed from any pose, by day, dusk, night and night-rain."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.plain_opencv import plain_opencv
from gloam.data.scene import Camera, Pose
from gloam.data.town.atlas import Atlas
from gloam.data.town.layout import Builder, plan_street
from gloam.data.town.lighting import HOURS, Hour
from gloam.data.town.photography import develop
from gloam.data.town.raycast import Hits, ray_directions
from gloam.data.town.scenery import Scenery
from gloam.data.town.surfaces import Float32
from gloam.data.town.textures import noise
from gloam.errors import UsageError

MOST_COLUMNS = 512  # of a map for cv2.remap, which takes no more than 32766


@dataclass(frozen=True)
class RenderedView:
    """A photograph with its depth.

    Attributes:
        image: uint8 RGB ``[h, w, 3]``.
        depth: float32 ``[h, w]``, metres along the optical axis; 0 where there is only sky. Pixel (column, row) is
            the ray through (column + 0.5, row + 0.5) in COLMAP's pixel coordinates.
    """

    image: npt.NDArray[np.uint8]
    depth: Float32


def pinhole(width: int = 512, height: int = 384, focal: float | None = None) -> Camera:
    """A PINHOLE camera with its principal point in the middle; ``focal`` in pixels, by default 420 per 512 of width."""
    f = 420.0 * width / 512 if focal is None else float(focal)
    return Camera("PINHOLE", width, height, (f, f, width / 2, height / 2))


class Street:
    """A street of one seed, in the first look: the same at every hour and every visit.

    Args:
        seed: of layout, textures, signs, lamps and weather; streets of other seeds share nothing.
        length: of the surveyed part, metres; the street runs along +x from x = 0, z is up.
        texels: texels per metre of the finest textures. 64 suits 512 pixels of width, 32 suits 256.
    """

    hours = HOURS
    mirrored = 1.5  # wet ground mirrors no more radiance than this
    builder: type[Builder] = Builder

    @plain_opencv()
    def __init__(self, seed: int, length: float = 60.0, texels: int = 64) -> None:
        self.seed, self.length, self.texels = seed, length, texels
        self.plan = plan_street(seed, length, texels, self.builder)
        self.atlas = Atlas([surface.texture for surface in self.plan.surfaces])
        rng = np.random.default_rng([seed, 202])
        azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(35, 55))
        flat = np.cos(elevation)
        self.sun = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], np.float32)
        clouds, fade = noise(rng, 256, 1280, 200, 6), np.linspace(0, 1, 256, dtype=np.float32)
        clouds[:, :256] = clouds[:, :256] * fade + clouds[:, 1024:] * (1 - fade)  # the sky closes on itself
        self.clouds = np.ascontiguousarray(clouds[:, :1024])
        self.puddles = noise(rng, 512, 512, 60, 5)
        self.ripples = np.stack([noise(rng, 256, 256, 10, 3) for _ in range(2)])
        self._scenery = Scenery(self.plan, self.atlas, self.sun)

    def scenery(self, condition: str, visit: str = "") -> Scenery:
        """What stands there when a photograph is taken."""
        return self._scenery

    def lasting(self, surface: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Whether surfaces, by their index in a scenery, are there at every visit; sky, -1, is."""
        return np.ones(surface.shape, bool)

    @plain_opencv()
    def render(
        self, pose: Pose, condition: str = "day", camera: Camera | None = None, noise_seed: int = 0, visit: str = ""
    ) -> RenderedView:
        """Take a photograph.

        Args:
            pose: world to camera (x right, y down, z forward).
            condition: of :func:`gloam.data.town.config.conditions_of` the look.
            camera: PINHOLE; 512x384 with f = 420 px where None.
            noise_seed: of exposure error, rain and sensor noise.
            visit: photographs of one condition and visit show the same cars, people and bins; in the first look all do.

        Raises:
            UsageError: an unknown condition, or a camera that is not PINHOLE.
        """
        camera = camera or pinhole()
        if condition not in self.hours:
            raise UsageError(f"condition {condition!r} is unknown; choose from {', '.join(self.hours)}")
        if camera.model != "PINHOLE":
            raise UsageError(f"camera model {camera.model!r}: the town renders PINHOLE only")
        radiance, depth = self.radiance(pose, condition, camera, visit)
        rng = np.random.default_rng([self.seed, zlib.crc32(condition.encode()), noise_seed])
        return RenderedView(self._develop(radiance, depth, condition, rng), depth)

    def depth(self, pose: Pose, camera: Camera | None = None, condition: str = "day", visit: str = "") -> Float32:
        """Depth alone, float32 ``[h, w]``, as in :class:`RenderedView`."""
        return self.scenery(condition, visit).caster.cast(camera or pinhole(), pose).depth

    def radiance(self, pose: Pose, condition: str, camera: Camera, visit: str = "") -> tuple[Float32, Float32]:
        """Linear radiance ``[h, w, 3]`` and depth ``[h, w]`` before the camera adds anything of its own."""
        hour, scenery = self.hours[condition], self.scenery(condition, visit)
        hits = scenery.caster.cast(camera, pose)
        picture = self._sky(ray_directions(camera, pose), hour)
        mirror = self._mirror(pose, hour, camera, scenery) if hour.wet else None
        picture.reshape(-1, 3)[hits.pixels] = self._shade(hits, hour, camera, scenery, mirror, hits.pixels).T
        return picture, hits.depth

    def _develop(
        self, radiance: Float32, depth: Float32, condition: str, rng: np.random.Generator
    ) -> npt.NDArray[np.uint8]:
        return develop(radiance, depth, self.hours[condition], rng)

    def _shade(
        self,
        hits: Hits,
        hour: Hour,
        camera: Camera,
        scenery: Scenery,
        mirror: Float32 | None,
        pixels: npt.NDArray[np.int64],
    ) -> Float32:
        """Radiance of the rays that hit something, float32 ``[3, n]``; wet ground shows what ``mirror`` shows.

        Args:
            pixels: of the camera, flat indices ``[n]``, that the rays are of.
        """
        shaded = scenery.shade(hits, hour)
        if mirror is not None:
            self._reflect(shaded, hits, camera, scenery, mirror, pixels, hour.shine)
        return shaded

    def _sky(self, rays: Float32, hour: Hour) -> Float32:
        """Radiance of the sky, float32 ``[h, w, 3]``."""
        slope = rays[2] / np.sqrt(np.square(rays[0]) + np.square(rays[1]))
        height = np.clip(slope, 0, None)
        share = (height / (height + 0.45))[..., None]
        colour = np.asarray(hour.horizon, np.float32) * (1 - share) + np.asarray(hour.zenith, np.float32) * share
        turn = np.arctan2(rays[1], rays[0], dtype=np.float64)  # float32's last bits are each processor's own
        around = ((turn / (2 * np.pi)) % 1.0 * 1024).astype(np.float32)
        cover = cv2.remap(
            self.clouds,
            around,
            (height / (height + 0.7) * 255).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        cover = np.clip(cover * 0.5 + 0.3, 0, 1)[..., None] * hour.clouds
        lit = np.asarray(hour.horizon, np.float32) * 0.6 + np.asarray(hour.zenith, np.float32) * 0.4
        return np.asarray(colour * (1 - cover) + lit.mean() * 1.15 * cover, np.float32)

    def _mirror(self, pose: Pose, hour: Hour, camera: Camera, scenery: Scenery) -> Float32:
        """What wet ground mirrors, drawn out downwards, float32 at half the camera's resolution."""
        width, height = max(camera.width // 2, 8), max(camera.height // 2, 8)
        ratio = np.array([width / camera.width, height / camera.height] * 2)
        half = Camera("PINHOLE", width, height, tuple(np.array(camera.params) * ratio))
        image = self._sky(ray_directions(half, pose) * np.array([1, 1, -1], np.float32)[:, None, None], hour)
        mirrored = scenery.caster.cast(half, pose, mirrored=True)
        image.reshape(-1, 3)[mirrored.pixels] = scenery.shade(mirrored, hour).T
        smooth = cv2.GaussianBlur(np.minimum(image, self.mirrored), (0, 0), sigmaX=width / 250, sigmaY=height / 32)
        return np.asarray(smooth, np.float32)

    def _reflect(
        self,
        shaded: Float32,
        hits: Hits,
        camera: Camera,
        scenery: Scenery,
        image: Float32,
        pixels: npt.NDArray[np.int64],
        shine: float,
    ) -> None:
        """Add to wet ground what it mirrors, torn by ripples; changes ``shaded``."""
        index = hits.surface.ravel()[hits.pixels]
        wet = np.flatnonzero(scenery.ground[index])
        if not wet.size:
            return
        ratio = image.shape[1] / camera.width, image.shape[0] / camera.height
        rows, columns = np.divmod(pixels[wet], camera.width)
        left, top = hits.left[wet], hits.top[wet]
        ripple = self.ripples[:, (top * 60).astype(int) % 256, (left * 60).astype(int) % 256] * np.float32(
            image.shape[1] / 200
        )
        x, y = np.zeros((2, -(-wet.size // MOST_COLUMNS) * MOST_COLUMNS), np.float32)
        x[: wet.size] = columns * ratio[0] + ripple[0]
        y[: wet.size] = rows * ratio[1] + ripple[1] * 2
        shape = (-1, MOST_COLUMNS)
        found = cv2.remap(image, x.reshape(shape), y.reshape(shape), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        seen = found.reshape(-1, 3)[: wet.size]
        puddle = self.puddles[(top * 32).astype(int) % 512, (left * 32).astype(int) % 512]
        puddle = np.clip(0.5 + 0.5 * puddle, 0.12, 1)
        rays = hits.rays[:, wet]
        grazing = 1 - np.abs(rays[2]) / np.linalg.norm(rays, axis=0)
        mirror = np.minimum(puddle * (0.06 + 0.8 * np.square(np.square(grazing))) * np.float32(shine), np.float32(0.9))
        shaded[:, wet] = shaded[:, wet] * (1 - mirror) * np.float32(0.5) + seen.T * mirror
