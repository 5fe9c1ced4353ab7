"""From radiance to a photograph: haze, glow, rain, exposure, tone curve, sensor noise.

Powers and exponentials are computed in float64: those of float32 differ in their last bits between processors, which
would move pixels; float64's differ far below what a pixel shows.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.town.lighting import Hour
from gloam.data.town.surfaces import Float32

GAMMA = 1 / 2.2


def hazed(radiance: Float32, depth: Float32, hour: Hour) -> Float32:
    """Mix the horizon's light into what is far; both ``[h, w]``-shaped, radiance with 3 channels last."""
    share = (1 - np.exp(-hour.haze * depth, dtype=np.float64)).astype(np.float32)[..., None]
    return np.asarray(radiance * (1 - share) + np.asarray(hour.horizon, np.float32) * share, np.float32)


def glow(exposed: Float32, strength: float) -> Float32:
    """Light above full scale spreads in the lens: added at two radii, float32 ``[h, w, 3]``."""
    if strength <= 0:
        return exposed
    height, width = exposed.shape[:2]
    bright = np.clip(exposed - 0.9, 0, 10)
    small = cv2.resize(bright, (max(width // 4, 1), max(height // 4, 1)), interpolation=cv2.INTER_AREA)
    near = cv2.GaussianBlur(small, (0, 0), width / 4 / 90)
    far = cv2.GaussianBlur(small, (0, 0), width / 4 / 18)
    halo = cv2.resize(near * 0.8 + far * 0.6, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(exposed + strength * halo, np.float32)


def streaks(rng: np.random.Generator, height: int, width: int) -> Float32:
    """Drops as they fall, short and slanted, float32 ``[h, w]`` in [0, 1]."""
    drops = np.zeros((height, width), np.float32)
    slant = rng.normal(0, 0.12)
    for _ in range(int(width * height / 900)):
        x, y = rng.uniform(0, width), rng.uniform(-10, height)
        length = rng.uniform(0.01, 0.05) * height
        end = (int(x + slant * length), int(y + length))
        cv2.line(drops, (int(x), int(y)), end, float(rng.uniform(0.1, 0.6)), 1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(drops, (0, 0), 0.7), np.float32)


def rain(rng: np.random.Generator, exposed: Float32) -> Float32:
    """Falling drops: short slanted streaks that catch the light behind them, and a veil that lowers contrast."""
    height, width = exposed.shape[:2]
    drops = streaks(rng, height, width)[..., None]
    small = cv2.resize(exposed, (max(width // 8, 1), max(height // 8, 1)), interpolation=cv2.INTER_AREA)
    behind = cv2.resize(cv2.GaussianBlur(np.minimum(small, 3), (0, 0), 2.5), (width, height))
    soft = cv2.GaussianBlur(exposed, (0, 0), width / 640)
    return np.asarray(soft * 0.92 + behind * 0.10 + drops * (0.05 + behind * 0.7), np.float32)


def develop(radiance: Float32, depth: Float32, hour: Hour, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The photograph.

    Args:
        radiance: linear ``[h, w, 3]``.
        depth: metres ``[h, w]``; 0 for sky.
        rng: exposure error, rain and sensor noise.

    Returns:
        uint8 RGB ``[h, w, 3]``.
    """
    exposure = hour.exposure * float(np.exp(rng.normal(0, 0.06)))
    exposed = glow(hazed(radiance, depth, hour) * np.float32(exposure), hour.glow)
    if hour.wet:
        exposed = rain(rng, exposed)
    signal = (1 - np.exp(-exposed, dtype=np.float64)).astype(np.float32)
    spread = np.sqrt(hour.read_noise**2 + hour.shot_noise**2 * signal)
    signal += spread * rng.standard_normal(signal.shape, np.float32)
    # Black sits above zero as in any camera's curve, so that noise in the dark is visible on both sides.
    lifted = np.clip(signal * 0.985 + 0.004, 0, 1)
    return np.asarray(np.power(lifted, GAMMA, dtype=np.float64) * 255 + 0.5, np.uint8)
