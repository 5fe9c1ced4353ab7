"""Latitude and longitude as metres: UTM, which RobotCar's northing and easting are of, too."""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError

Array = npt.NDArray[np.float64]

# WGS 84, and Krüger's series in the third flattening up to its fourth power: micrometres within a zone.
AXIS, FLATTENING, SCALE = 6378137.0, 1 / 298.257223563, 0.9996
THIRD = FLATTENING / (2 - FLATTENING)
RADIUS = AXIS / (1 + THIRD) * (1 + THIRD**2 / 4 + THIRD**4 / 64)
ALPHA = (
    THIRD / 2 - 2 / 3 * THIRD**2 + 5 / 16 * THIRD**3 + 41 / 180 * THIRD**4,
    13 / 48 * THIRD**2 - 3 / 5 * THIRD**3 + 557 / 1440 * THIRD**4,
    61 / 240 * THIRD**3 - 103 / 140 * THIRD**4,
    49561 / 161280 * THIRD**4,
)
ZONE = re.compile(r"\s*0*([1-9]|[1-5]\d|60)\s*([C-HJ-NP-X])\s*", re.IGNORECASE)
MOST_LATITUDE, WIDEST = 84.0, 12.0  # degrees: where UTM ends, and how far from a zone's middle metres are still metres


def zone_of(latitude: float, longitude: float) -> str:
    """UTM zone of a position, ``30 north``."""
    number = min(int((longitude + 180) // 6) + 1, 60)
    return f"{number} {'north' if latitude >= 0 else 'south'}"


def zone_named(text: str) -> str:
    """UTM zone as :func:`zone_of` spells it, of a number and the letter of a band: ``30U``.

    Raises:
        ValueError: no zone.
    """
    found = ZONE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:20]!r} is no UTM zone; expected a number and the letter of a band, as 30U")
    return f"{int(found[1])} {'north' if found[2].upper() >= 'N' else 'south'}"


def degrees_problem(latitude: float, longitude: float) -> str | None:
    """Why two numbers are no position that UTM holds, or None."""
    if not -90 <= latitude <= 90:
        return f"latitude {latitude:g} is outside -90 to 90 degrees"
    if not -180 <= longitude <= 180:
        return f"longitude {longitude:g} is outside -180 to 180 degrees"
    if abs(latitude) > MOST_LATITUDE:
        return f"latitude {latitude:g} is nearer to a pole than {MOST_LATITUDE:g} degrees, where UTM ends"
    return None


def to_metres(degrees: Array, zone: str, where: str) -> Array:
    """Easting and northing in one zone, float64 ``[n, 2]`` in metres, also of positions somewhat beyond its border.

    Args:
        degrees: latitude and longitude, float64 ``[n, 2]``, in the ranges of :func:`degrees_problem`.
        zone: as :func:`zone_of` spells it.
        where: they come from, for the message.

    Raises:
        DataError: positions too far from the zone for its metres to mean anything.
    """
    number, half = zone.split()
    middle = int(number) * 6 - 183
    away = (degrees[:, 1] - middle + 180) % 360 - 180
    if len(away) and np.abs(away).max() > WIDEST:
        raise DataError(
            f"{where}: a position lies {np.abs(away).max():.0f} degrees of longitude from the middle of UTM zone "
            f"{zone}, which the others are in; pair places that far apart by themselves"
        )
    latitude, across = np.radians(degrees[:, 0]), np.radians(away)
    eccentricity = 2 * math.sqrt(THIRD) / (1 + THIRD)
    sine = np.sin(latitude)
    tangent = np.sinh(np.arctanh(sine) - eccentricity * np.arctanh(eccentricity * sine))
    xi, eta = np.arctan2(tangent, np.cos(across)), np.arctanh(np.sin(across) / np.sqrt(1 + tangent**2))
    north, east = xi.copy(), eta.copy()
    for order, factor in enumerate(ALPHA, 1):
        north += factor * np.sin(2 * order * xi) * np.cosh(2 * order * eta)
        east += factor * np.cos(2 * order * xi) * np.sinh(2 * order * eta)
    shift = 0.0 if half == "north" else 1e7
    found: Array = np.stack([500000 + SCALE * RADIUS * east, shift + SCALE * RADIUS * north], axis=1)
    return found
