"""Light: sun and sky by day, a violet sky at dusk, lamps, lit windows and signs by night.

Irradiance is computed once per street and condition on a grid over every surface (a light map), with shadows, and
looked up per pixel. Units are arbitrary but linear and the same for all conditions: full sunlight is about 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gloam.data.town.raycast import gable_cut
from gloam.data.town.surfaces import Float32, Lamp, Plan, Surface

CELL = 0.4  # size of a light map's cells, metres


@dataclass(frozen=True)
class Hour:
    """The light and the camera of one condition; colours are linear RGB.

    Attributes:
        sun, sky: irradiance of the sun, and of an open sky.
        lamps: factor on the lamps' power; 0 is off.
        emission: radiance of the brightest lit window or sign.
        zenith, horizon: radiance of the sky; clouds: contrast of its clouds.
        exposure: factor before the tone curve.
        read_noise, shot_noise: sensor noise relative to full scale: constant part, and part that grows with the signal.
        glow: share of the light above full scale that the lens spreads.
        haze: share of the horizon's colour mixed in per metre.
        wet: whether the ground reflects.
        shine: factor on what the ground reflects; streaks: on the brightness of falling drops.
        damp: factor on what surfaces reflect, for walls that rain has darkened.
        snow: depth of the snow that lies on what faces up, metres; it falls too.
        cell: size of the light map's cells, metres; shadows are as sharp.
    """

    sun: tuple[float, float, float]
    sky: tuple[float, float, float]
    lamps: float
    emission: float
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    clouds: float
    exposure: float
    read_noise: float
    shot_noise: float
    glow: float
    haze: float
    wet: bool
    shine: float = 1.0
    streaks: float = 1.0
    damp: float = 1.0
    snow: float = 0.0
    cell: float = CELL


HOURS = {
    "day": Hour(
        sun=(2.4, 2.2, 1.9),
        sky=(0.85, 0.95, 1.1),
        lamps=0,
        emission=0,
        zenith=(0.55, 0.85, 1.5),
        horizon=(1.3, 1.45, 1.6),
        clouds=0.5,
        exposure=0.62,
        read_noise=0.004,
        shot_noise=0.006,
        glow=0.0,
        haze=0.0008,
        wet=False,
    ),
    "dusk": Hour(
        sun=(0, 0, 0),
        sky=(0.075, 0.075, 0.12),
        lamps=0.16,
        emission=0.32,
        zenith=(0.035, 0.05, 0.13),
        horizon=(0.3, 0.17, 0.14),
        clouds=0.4,
        exposure=6.0,
        read_noise=0.01,
        shot_noise=0.016,
        glow=0.1,
        haze=0.0015,
        wet=False,
    ),
    "night": Hour(
        sun=(0, 0, 0),
        sky=(0.0022, 0.0026, 0.0045),
        lamps=0.16,
        emission=0.36,
        zenith=(0.0012, 0.0016, 0.0035),
        horizon=(0.008, 0.006, 0.005),
        clouds=0.5,
        exposure=8.0,
        read_noise=0.016,
        shot_noise=0.028,
        glow=0.14,
        haze=0.0005,
        wet=False,
    ),
    "night-rain": Hour(
        sun=(0, 0, 0),
        sky=(0.003, 0.0034, 0.0048),
        lamps=0.15,
        emission=0.36,
        zenith=(0.003, 0.003, 0.004),
        horizon=(0.016, 0.013, 0.011),
        clouds=0.2,
        exposure=7.5,
        read_noise=0.018,
        shot_noise=0.032,
        glow=0.3,
        haze=0.008,
        wet=True,
    ),
}


class LightMap:
    """Irradiance on a grid over each surface, RGB."""

    def __init__(self, plan: Plan, hour: Hour, sun: Float32) -> None:
        self.columns = np.zeros(len(plan.surfaces), np.int32)
        self.rows = np.zeros(len(plan.surfaces), np.int32)
        self.start = np.zeros(len(plan.surfaces), np.int32)
        self.size = np.array([s.size for s in plan.surfaces], np.float32)
        points, normals = [], []
        total = 0
        for index, surface in enumerate(plan.surfaces):
            columns, rows = (max(int(np.ceil(extent / hour.cell)), 2) for extent in surface.size)
            self.columns[index], self.rows[index], self.start[index] = columns, rows, total
            left = (np.arange(columns) + 0.5) / columns * surface.size[0]
            top = (np.arange(rows) + 0.5) / rows * surface.size[1]
            points.append((surface.world(left[None, :], top[:, None]) + surface.normal() * 0.02).reshape(-1, 3))
            normals.append(np.broadcast_to(surface.normal(), (rows * columns, 3)))
            total += rows * columns
        where, facing = np.concatenate(points), np.concatenate(normals)
        self.light = irradiance(plan, hour, sun, where, facing)

    def sample(self, index: npt.NDArray[np.int32], left: Float32, top: Float32) -> Float32:
        """Bilinear look-up at local coordinates in metres: irradiance float32 ``[3, n]``."""
        columns, rows, start = self.columns[index], self.rows[index], self.start[index]
        x = np.clip(left / self.size[index, 0] * columns - 0.5, 0, columns - 1.001)
        y = np.clip(top / self.size[index, 1] * rows - 0.5, 0, rows - 1.001)
        x0, y0 = x.astype(np.int32), y.astype(np.int32)
        fx, fy = (x - x0).astype(np.float32), (y - y0).astype(np.float32)
        corner = start + y0 * columns + x0
        result = np.zeros((3, index.size), np.float32)
        for cell, weight in (
            (corner, (1 - fx) * (1 - fy)),
            (corner + 1, fx * (1 - fy)),
            (corner + columns, (1 - fx) * fy),
            (corner + columns + 1, fx * fy),
        ):
            for channel in range(3):
                result[channel] += self.light[channel][cell] * weight
        return result


def irradiance(plan: Plan, hour: Hour, sun: Float32, points: Float32, normals: Float32) -> Float32:
    """Light that reaches points ``[n, 3]`` with unit ``normals``: float32 ``[3, n]``.

    Args:
        sun: unit vector towards the sun.
    """
    # The share of open sky grows with height between the houses; what is missing comes back from their walls.
    share = np.clip(0.35 + points[:, 2] / 18, 0.35, 0.9) * np.where(normals[:, 2] > 0.5, 1.25, 1.0)
    corner = np.clip(0.55 + points[:, 2] / 1.2, 0.55, 1.0)  # where wall and pavement meet
    light = np.asarray(hour.sky, np.float32)[:, None] * (share * np.where(normals[:, 2] > 0.5, 1.0, corner)).astype(
        np.float32
    )
    if any(hour.sun):
        cosine = np.clip(dot(normals, sun), 0, None)
        lit = np.flatnonzero(cosine > 0)
        cosine[lit] *= ~blocked(plan.surfaces, points[lit], points[lit] + sun * 80)
        light += np.asarray(hour.sun, np.float32)[:, None] * cosine.astype(np.float32)
    if hour.lamps:
        for lamp in plan.lamps:
            light += lamplight(plan, lamp, points, normals) * np.float32(hour.lamps)
    return np.asarray(light, np.float32)


def lamplight(plan: Plan, lamp: Lamp, points: Float32, normals: Float32) -> Float32:
    """Irradiance of one lamp, float32 ``[3, n]``: inverse square of the distance, cosine, shadows."""
    result = np.zeros((3, len(points)), np.float32)
    ray = np.asarray(lamp.position, np.float32) - points
    square = dot(ray, ray)
    near = np.flatnonzero(square < 30.0**2)
    distance = np.sqrt(square[near])
    cosine = np.clip(dot(ray[near], normals[near]) / distance, 0, None)
    # A shade keeps most of the light from going up.
    downward = np.clip(0.35 + 0.65 * ray[near, 2] / distance, 0.12, 1) if lamp.shadows else np.float32(1)
    strength = lamp.power * cosine * downward / np.maximum(square[near], 0.3)
    if lamp.shadows:
        bright = np.flatnonzero(strength > 0.004)
        end = np.asarray(lamp.position, np.float32)
        large = [s for s in plan.surfaces if s.size[0] * s.size[1] > 6.0 and s.axis != 2]
        strength[bright] *= ~blocked(large, points[near[bright]], np.broadcast_to(end, (bright.size, 3)))
    result[:, near] = np.asarray(lamp.colour, np.float32)[:, None] * strength
    return result


def dot(first: Float32, second: Float32) -> Float32:
    """Scalar products over the last axis, of 3, summed in one order on every processor."""
    product = first * second
    return np.asarray(product[..., 0] + product[..., 1] + product[..., 2], np.float32)


def blocked(surfaces: Sequence[Surface], start: Float32, end: Float32) -> npt.NDArray[np.bool_]:
    """Whether a surface lies between each ``start`` and ``end``, both ``[n, 3]``; bool ``[n]``."""
    hidden = np.zeros(len(start), bool)
    way = end - start
    for surface in surfaces:
        if surface.axis == 2:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (surface.offset - start[:, surface.axis]) / way[:, surface.axis]
            across = start[:, surface.u_axis] + t * way[:, surface.u_axis]
            along = start[:, 2] + t * way[:, 2]
            hit = (
                (t > 1e-4)
                & (t < 0.999)
                & (across > surface.low[0])
                & (across < surface.high[0])
                & (along < surface.high[1])
            )
            hit &= along > surface.low[1]
        if surface.gable:
            hit &= surface.high[1] - along >= gable_cut(surface, across)
        hidden |= hit
    return hidden
