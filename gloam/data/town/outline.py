"""A street of the town seen from above."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from gloam.data.town.layout import KERB, Builder, plan_street
from gloam.data.town.look2.builder import RepeatingBuilder
from gloam.data.town.surfaces import Plan

TALL = 3.0  # metres; a wall of less is none of a house's
DEEP = 9.0  # metres that houses are drawn deep
LAMP = 0.35  # metres that lamps are drawn wide
TEXELS = 2  # a metre; textures are not looked at, and the layout does not depend on them
BUILDERS = {1: Builder, 2: RepeatingBuilder}


def street_outline(seed: int, length: float, look: int = 2) -> Mapping[str, npt.NDArray[np.float64]]:
    """What stands along a street, as rectangles seen from above.

    Args:
        seed, length: of the street.
        look: of the town.

    Returns:
        ``road``, ``pavement``, ``house`` and ``lamp``, to be drawn in this order: float64 ``[n, 4]``, x and y of two
        corners, metres.
    """
    return outline_of(plan_street(seed, length, TEXELS, BUILDERS[look]))


def outline_of(plan: Plan) -> Mapping[str, npt.NDArray[np.float64]]:
    """:func:`street_outline` of a plan."""
    found: dict[str, list[tuple[float, float, float, float]]] = {"road": [], "pavement": [], "house": [], "lamp": []}
    for surface in plan.surfaces:
        (u, v), (u_end, v_end) = surface.low, surface.high
        if surface.axis == 2 and surface.facing > 0 and min(surface.size) >= 1.0 and surface.offset <= KERB:
            found["pavement" if surface.offset else "road"].append((u, v, u_end, v_end))
        elif surface.axis != 2 and v_end - v >= TALL and u_end - u >= 1.0:
            back = surface.offset - surface.facing * DEEP  # a front faces the street, and its house lies behind it
            house = (u, surface.offset, u_end, back) if surface.axis == 1 else (surface.offset, u, back, u_end)
            if surface.openings or surface.axis == 1:
                found["house"].append(house)
    half = LAMP / 2
    posts = (lamp.position for lamp in plan.lamps if lamp.shadows)  # others are the light of shops
    found["lamp"] = [(x - half, y - half, x + half, y + half) for x, y, _ in posts]
    return {kind: np.array(rectangles, np.float64).reshape(-1, 4) for kind, rectangles in found.items()}
