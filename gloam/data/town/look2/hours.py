"""The light of each condition in the second look; units as in :mod:`gloam.data.town.lighting`.

Lamps are far brighter than what they light, and what no lamp reaches is near black.
"""

from __future__ import annotations

import dataclasses

from gloam.data.town.lighting import HOURS as FIRST

LANTERN = 60.0  # radiance of a lantern over that of the brightest window

HOURS = {
    "day": dataclasses.replace(FIRST["day"], exposure=2.0, read_noise=0.001, shot_noise=0.006, glow=0.015),
    "dusk": dataclasses.replace(
        FIRST["dusk"],
        sky=(0.03, 0.032, 0.055),
        lamps=0.2,
        emission=0.2,
        zenith=(0.012, 0.018, 0.05),
        horizon=(0.1, 0.06, 0.055),
        exposure=5.0,
        read_noise=0.0012,
        shot_noise=0.012,
        glow=0.03,
    ),
    "night": dataclasses.replace(
        FIRST["night"],
        sky=(0.0009, 0.0010, 0.0016),
        lamps=0.3,
        emission=0.3,
        zenith=(0.0006, 0.0007, 0.0012),
        horizon=(0.005, 0.004, 0.003),
        exposure=5.0,
        read_noise=0.0016,
        shot_noise=0.018,
        glow=0.04,
    ),
    "night-rain": dataclasses.replace(
        FIRST["night-rain"],
        sky=(0.0008, 0.0009, 0.0012),
        lamps=0.3,
        emission=0.3,
        zenith=(0.0009, 0.0009, 0.001),
        horizon=(0.005, 0.0041, 0.0036),
        exposure=5.2,
        read_noise=0.002,
        shot_noise=0.02,
        glow=0.065,
        haze=0.004,
    ),
}
HOURS |= {
    "sun": dataclasses.replace(
        HOURS["day"],
        sun=(5.2, 4.1, 2.5),
        sky=(0.42, 0.56, 0.86),
        zenith=(0.2, 0.48, 1.25),
        horizon=(0.75, 1.0, 1.5),
        clouds=0.12,
        exposure=1.9,
        cell=0.2,
    ),
    "overcast": dataclasses.replace(
        HOURS["day"],
        sun=(0, 0, 0),
        sky=(1.5, 1.56, 1.62),
        zenith=(1.2, 1.25, 1.3),
        horizon=(1.35, 1.4, 1.44),
        clouds=0.4,
        exposure=1.5,
        haze=0.003,
    ),
    "snow": dataclasses.replace(
        HOURS["day"],
        sun=(0, 0, 0),
        sky=(1.3, 1.36, 1.44),
        zenith=(1.32, 1.35, 1.38),
        horizon=(1.38, 1.4, 1.43),
        clouds=0.05,
        exposure=1.9,
        haze=0.011,
        snow=0.11,
    ),
    "rain": dataclasses.replace(
        HOURS["day"],
        sun=(0, 0, 0),
        sky=(0.6, 0.64, 0.7),
        lamps=0.12,
        emission=0.25,
        zenith=(0.42, 0.45, 0.5),
        horizon=(0.58, 0.6, 0.64),
        clouds=0.5,
        exposure=1.6,
        read_noise=0.0015,
        shot_noise=0.009,
        glow=0.05,
        haze=0.009,
        wet=True,
        shine=2.6,
        streaks=2.4,
        damp=0.62,
    ),
}
