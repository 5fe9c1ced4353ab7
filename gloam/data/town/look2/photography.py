"""From radiance to a photograph, as a camera's own processing makes one.

Light is metered, blurred by motion and defocus, scattered in the lens, and clipped where the sensor is full. Noise is
drawn in linear light and blurred as demosaicing and denoising blur it, its colour more than its brightness; then come
the tone curve, with black below what the lens veils, and a little sharpening.

Powers are computed in float64 and sums in a stated order, so that processors agree; see
:mod:`gloam.data.town.photography`.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.town.config import Optics
from gloam.data.town.lighting import Hour
from gloam.data.town.look2.weather import snowed
from gloam.data.town.photography import GAMMA, hazed, streaks
from gloam.data.town.surfaces import Float32

LUMINANCE = (0.2126, 0.7152, 0.0722)
METERED, MIDDLE, ADAPTS = 0.8, 0.16, 0.5  # quantile of the luminance that is brought to MIDDLE, and by how much
VIGNETTING = 0.35  # share of light lost in the corners
BLACK = 0.03  # share of full scale, after the tone curve, that is cut off as black
CONTRAST = 0.35  # weight of the S in the tone curve
SHARPENING = 0.5
GRAIN, BLOTCH = 0.85, 2.0  # standard deviations of what blurs the noise's brightness and its colour, pixels
SHORT = {
    "day": 0.0,
    "sun": 0.0,
    "overcast": 0.0,
    "snow": 0.0,
    "rain": 0.2,
    "dusk": 0.5,
}  # share of a night's exposure time


def develop(
    radiance: Float32, depth: Float32, hour: Hour, shutter: float, optics: Optics, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """The photograph.

    Args:
        radiance: linear ``[h, w, 3]``.
        depth: metres ``[h, w]``; 0 for sky.
        shutter: exposure time as a share of a night's.
        optics: of the camera.
        rng: exposure error, direction of motion, rain and noise.

    Returns:
        uint8 RGB ``[h, w, 3]``.
    """
    light = hazed(radiance, depth, hour)
    light *= np.float32(exposure(light, hour, float(rng.normal(0, 0.08))))
    turn = float(rng.uniform(0, np.pi))
    light = moved(defocused(light, optics.defocus), optics.motion_blur * shutter, turn)
    light = scattered(light, hour.glow)
    if hour.wet:
        light = rained(rng, light, hour.streaks)
    if hour.snow:
        light = snowed(rng, light)
    light *= vignette(*light.shape[:2])[..., None]
    signal = noisy(denoised(light), hour, optics.noise, rng)
    return toned(signal)


def exposure(light: Float32, hour: Hour, error: float) -> float:
    """The factor that brings a bright part of the picture half way to a middle grey.

    Args:
        error: of the metering, as a logarithm.
    """
    luminance = weighted(light)[::2, ::2].ravel()
    rank = int(METERED * (luminance.size - 1))
    level = float(np.partition(luminance, rank)[rank]) * hour.exposure  # an order statistic: exact on any processor
    metered = float(np.clip((MIDDLE / max(level, 1e-6)) ** ADAPTS, 0.3, 3.0))
    return round(hour.exposure * metered * float(np.exp(error)), 9)


def weighted(light: Float32) -> Float32:
    """Luminance float32 ``[h, w]``, summed in one order."""
    red, green, blue = (np.float32(weight) for weight in LUMINANCE)
    return np.asarray(light[..., 0] * red + light[..., 1] * green + light[..., 2] * blue, np.float32)


def defocused(light: Float32, diameter: float) -> Float32:
    """Light spread over discs of a diameter in pixels."""
    if diameter < 1:
        return light
    reach = int(np.ceil(diameter / 2))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(diameter / 2 + 0.5 - np.sqrt(x * x + y * y), 0, 1).astype(np.float32)
    return np.asarray(cv2.filter2D(light, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT), np.float32)


def moved(light: Float32, length: float, turn: float) -> Float32:
    """Light spread over streaks of a length in pixels, ``turn`` radians from the horizontal."""
    if length < 0.5:
        return light
    steps = 2 * int(np.ceil(length)) + 1
    total = np.zeros_like(light)
    for share in np.linspace(-0.5, 0.5, steps):
        shift = np.array([[1, 0, share * length * np.cos(turn)], [0, 1, share * length * np.sin(turn)]], np.float64)
        total += cv2.warpAffine(
            light, shift, (light.shape[1], light.shape[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
    return np.asarray(total / np.float32(steps), np.float32)


def scattered(light: Float32, share: float) -> Float32:
    """Light that the lens scatters: a bloom around what is bright, a halo, and a veil over the whole picture."""
    height, width = light.shape[:2]
    small = cv2.resize(light, (max(width // 4, 1), max(height // 4, 1)), interpolation=cv2.INTER_AREA)
    halo = np.zeros_like(small)
    for part, divisor in ((0.5, 130), (0.3, 45), (0.2, 12)):
        halo += np.float32(part) * cv2.GaussianBlur(small, (0, 0), max(width / 4 / divisor, 0.3))
    wide = cv2.resize(halo, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(light * np.float32(1 - share) + np.float32(share) * wide, np.float32)


def rained(rng: np.random.Generator, light: Float32, strength: float) -> Float32:
    """Falling drops that catch the light behind them; they veil less than those of the first look."""
    height, width = light.shape[:2]
    small = cv2.resize(light, (max(width // 8, 1), max(height // 8, 1)), interpolation=cv2.INTER_AREA)
    behind = cv2.resize(cv2.GaussianBlur(np.minimum(small, 3), (0, 0), 2.5), (width, height))
    drops = streaks(rng, height, width)[..., None] * np.float32(strength)
    return np.asarray(light * 0.96 + behind * 0.04 + drops * (0.004 + behind * 0.5), np.float32)


def vignette(height: int, width: int) -> Float32:
    """Share of the light that arrives, float32 ``[h, w]``: 1 in the middle."""
    y, x = (np.arange(height) + 0.5) / height - 0.5, (np.arange(width) + 0.5) / width - 0.5
    return (1 - VIGNETTING * 2 * (np.square(y)[:, None] + np.square(x)[None, :])).astype(np.float32)


def denoised(light: Float32) -> Float32:
    """What the camera's smoothing leaves: in the dark, fine texture goes."""
    smooth = cv2.GaussianBlur(light, (0, 0), 1.4)
    keep = np.clip(weighted(smooth) * np.float32(12) + np.float32(0.15), 0, 1)[..., None]
    return np.asarray(smooth + (light - smooth) * keep, np.float32)


def noisy(light: Float32, hour: Hour, factor: float, rng: np.random.Generator) -> Float32:
    """Add the sensor's noise in linear light, correlated between neighbours and less in colour than in brightness.

    Args:
        light: full scale is 1.
        hour: its ``read_noise`` and ``shot_noise`` are standard deviations after denoising, the second at full scale.
        factor: on both.
    """
    if factor == 0:
        return light
    grey = blurred_noise(rng, light.shape[:2], GRAIN)
    colours = np.stack([blurred_noise(rng, light.shape[:2], BLOTCH) for _ in range(3)], axis=-1)
    spread = np.sqrt(np.float32(hour.read_noise**2) + np.float32(hour.shot_noise**2) * np.clip(light, 0, 1))
    return np.asarray(light + np.float32(factor) * spread * (grey[..., None] + np.float32(0.3) * colours), np.float32)


def blurred_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Float32:
    """Gaussian noise of standard deviation 1 after a blur by ``sigma`` pixels, float32 ``[h, w]``."""
    white = rng.standard_normal(shape, np.float32)
    return np.asarray(cv2.GaussianBlur(white, (0, 0), sigma) * np.float32(2 * np.sqrt(np.pi) * sigma), np.float32)


def toned(signal: Float32) -> npt.NDArray[np.uint8]:
    """Tone curve, sharpening and rounding: uint8 ``[h, w, 3]``."""
    # What is negative stays so, mirrored, until black is cut: half of the noise would else brighten the dark.
    curve = np.sign(signal) * np.power(np.abs(np.clip(signal, -1, 1)), GAMMA, dtype=np.float64)
    curve += CONTRAST * (curve * curve * (3 - 2 * curve) - curve) * (curve > 0)
    picture = ((curve - BLACK) / (1 - BLACK)).astype(np.float32)
    picture += SHARPENING * (picture - cv2.GaussianBlur(picture, (0, 0), 1.0))
    return np.asarray(np.clip(picture, 0, 1) * np.float32(255) + np.float32(0.5), np.uint8)
