"""What differs between two visits of a street: parked cars, people, bins, posters, and shutters that close by night."""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass

import numpy as np

from gloam.data.town.layout import KERB, MARGIN, Builder
from gloam.data.town.look2.cars import parked_car
from gloam.data.town.look2.people import person
from gloam.data.town.surfaces import Float32, Lamp, Opening, Plan, Surface, Texture
from gloam.data.town.textures import Rng, blocks, colour, lettering, noise, pack, panel

SLOT = 6.2  # metres of kerb a parked car takes
DRAWN_AS = {"sun": "day", "overcast": "day", "snow": "night", "rain": "night-rain"}  # so many people and cars
HOURS_OF_SHOPS = {"sun": "day", "overcast": "day", "snow": "day", "rain": "day"}
PARKED = {"day": 0.4, "dusk": 0.5, "night": 0.55, "night-rain": 0.5}  # share of the slots with a car
SHUT = {"day": 0.1, "dusk": 0.35, "night": 0.75, "night-rain": 0.75}  # share of the shop windows with a closed shutter
WALKING = {"day": 0.16, "dusk": 0.14, "night": 0.07, "night-rain": 0.04}  # people per metre of street
AHEAD, DRIVING, LANE = 9.0, 0.3, 1.0  # metres of lane for a car, share of them with one, and metres to mid-road
BINS, POSTERS = 0.12, 0.35  # per metre of street; per metre of front
AWAY = 0.03  # posters and shutters hang so far before the wall, metres


@dataclass(frozen=True)
class Visit:
    """What stands about at one visit.

    Attributes:
        surfaces: of what was not there, or elsewhere, at other visits.
        lamps: the street's, without those behind closed shutters.
    """

    surfaces: list[Surface]
    lamps: list[Lamp]


def plan_visit(plan: Plan, seed: int, condition: str, visit: str, texels: int, traffic: int = 0) -> Visit:
    """Draw one visit.

    Args:
        plan: the street.
        seed: of the street; condition, visit: equal ones give equal visits.
        texels: per metre.
        traffic: 1 for cars that drive on the left of the road, seen along it, -1 on its right, 0 for none.
    """
    rng = np.random.default_rng([seed, 707, zlib.crc32(f"{condition}/{visit}".encode())])
    builder = Builder(rng, texels, plan.alphabet, [])
    surfaces = builder.surfaces
    like = DRAWN_AS.get(condition, condition)
    park(surfaces, rng, plan, PARKED[like])
    walk(surfaces, rng, plan, WALKING[like])
    put_bins(builder, plan)
    shut: list[Surface] = []
    shut_share = SHUT[HOURS_OF_SHOPS.get(condition, condition)]
    for front in fronts(plan):
        if rng.random() < shut_share and shutter(builder, front):
            shut.append(front)
        bill(builder, front)
    if traffic:
        drive(surfaces, rng, plan, traffic)
    lamps = [lamp for lamp in plan.lamps if lamp.shadows or not any(before(lamp, front) for front in shut)]
    return Visit(surfaces, lamps)


def open_kerb(plan: Plan, low: float, high: float) -> bool:
    """Whether a stretch along the street keeps clear of the side street."""
    return high < plan.crossing[0] - 0.5 or low > plan.crossing[1] + 0.5


def park(surfaces: list[Surface], rng: Rng, plan: Plan, share: float) -> None:
    """Cars half on the pavement, along both kerbs; lamp posts stand behind them."""
    for row in (1, -1):
        for slot in np.arange(-MARGIN + 4, plan.length + MARGIN - 4, SLOT):
            taken, shift, aside = rng.random() < share, float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.05, 0.05))
            own = rng.spawn(1)[0]
            x = float(slot) + shift
            if taken and open_kerb(plan, x - 2.8, x + 2.8):
                forward = bool(own.random() < (0.9 if row < 0 else 0.1))
                surfaces += parked_car(own, x, row * (plan.kerb - 0.65 + aside), forward)


def drive(surfaces: list[Surface], rng: Rng, plan: Plan, row: int) -> None:
    """Cars on the lane of one side of the road."""
    for slot in np.arange(0, plan.length, AHEAD):
        taken, x, own = rng.random() < DRIVING, float(slot + rng.uniform(0, AHEAD - 5.5)), rng.spawn(1)[0]
        if taken:
            surfaces += parked_car(own, x, row * LANE, row < 0)


def walk(surfaces: list[Surface], rng: Rng, plan: Plan, share: float) -> None:
    """People on the pavements."""
    pavement = plan.half_width - plan.kerb
    for _ in range(int(rng.poisson(share * plan.length))):
        x, row = float(rng.uniform(-8, plan.length + 8)), int(rng.choice((-1, 1)))
        y = row * (plan.kerb + pavement * float(rng.uniform(0.5, 0.75)))
        own = rng.spawn(1)[0]
        if open_kerb(plan, x, x):
            surfaces += person(own, x, y, KERB)


def put_bins(builder: Builder, plan: Plan) -> None:
    """Wheeled bins by the houses: a body and a lid."""
    rng = builder.rng
    for _ in range(int(rng.poisson(BINS * plan.length))):
        x, row = float(rng.uniform(-8, plan.length + 8)), int(rng.choice((-1, 1)))
        height, y = float(rng.uniform(0.9, 1.15)), row * (plan.half_width - 0.45)
        if open_kerb(plan, x, x + 0.6):
            builder.box((x, y - 0.28, KERB), (x + 0.56, y + 0.28, KERB + height))
            lid = KERB + height
            builder.box((x - 0.03, y - 0.31, lid), (x + 0.59, y + 0.31, lid + 0.06))


def fronts(plan: Plan) -> list[Surface]:
    """The fronts along the main street."""
    return [s for s in plan.surfaces if s.axis == 1 and s.openings and abs(s.offset) < plan.half_width + 2]


def before(lamp: Lamp, front: Surface) -> bool:
    """Whether a lamp is the light of a front's own shop."""
    middle = (front.low[0] + front.high[0]) / 2
    return abs(lamp.position[0] - middle) < 1e-6 and lamp.position[1] * front.offset > 0


def hang(builder: Builder, front: Surface, where: Opening, texture: Texture) -> None:
    """Put a rectangle of a front's local coordinates a little before it."""
    points = front.world([where.left, where.right], [where.bottom, where.top])
    low, high = points.min(axis=0), points.max(axis=0)
    builder.surfaces.append(
        Surface(
            1,
            front.offset + front.facing * AWAY,
            front.facing,
            (float(low[0]), float(low[2])),
            (float(high[0]), float(high[2])),
            texture,
        )
    )


def shutter(builder: Builder, front: Surface) -> bool:
    """Close the shop windows of a front; False where it has none."""
    height = front.size[1]
    windows = [o for o in front.openings if height - o.bottom < 1.0 and o.bottom - o.top > 1.7 and o.recess < 0.35]
    windows = [o for o in windows if o.right - o.left > 0.9]
    tone = colour(builder.rng, (0.0, 0.35), (0.3, 0.7))
    for window in windows:
        margin = dataclasses.replace(window, left=window.left - 0.06, right=window.right + 0.06, top=window.top - 0.08)
        hang(builder, front, margin, paint_shutter(builder, margin, tone))
    return bool(windows)


def paint_shutter(builder: Builder, where: Opening, tone: Float32) -> Texture:
    """Steel slats, at times sprayed over."""
    rng, texels = builder.paint(), builder.texels
    rows, columns = (max(round(v * texels), 4) for v in (where.bottom - where.top, where.right - where.left))
    canvas = blocks(rng, rows, columns, texels, (9.0, 0.09), tone, 0.012, 0.02)
    canvas += noise(rng, rows, columns, texels, 4)[..., None] * np.float32(0.02)
    if rng.random() < 0.6 and min(rows, columns) > 24:
        high = int(rows * rng.uniform(0.2, 0.4))
        top, ink = int(rng.integers(0, rows - high)), colour(rng, (0.2, 0.9), (0.1, 0.9))
        mask = lettering(rng, builder.alphabet, high, columns)[..., None]
        canvas[top : top + high] = canvas[top : top + high] * (1 - mask) + ink * mask
    return pack(canvas)


def bill(builder: Builder, front: Surface) -> None:
    """Hang this visit's posters between the openings of a front."""
    rng, (width, height) = builder.rng, front.size
    for _ in range(int(rng.poisson(POSTERS * width))):
        w, h = float(rng.uniform(0.4, 0.9)), float(rng.uniform(0.55, 1.2))
        left, top = float(rng.uniform(0.1, width - 1.0)), height - float(rng.uniform(1.4, 2.4))
        where = Opening(left, top, left + w, top + h, 0.0)
        own = builder.paint()
        if all(
            where.left >= o.right + 0.08
            or where.right <= o.left - 0.08
            or where.top >= o.bottom
            or where.bottom <= o.top
            for o in front.openings
        ):
            rows, columns = (max(round(v * builder.texels), 4) for v in (h, w))
            hang(builder, front, where, pack(panel(own, builder.alphabet, rows, columns)))
