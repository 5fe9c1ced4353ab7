"""Where the photographs of drives are taken: there and back on the right of the road, jittered from drive to drive."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np

from gloam.data.scene import Pose
from gloam.data.town.drives.config import DrivesConfig
from gloam.data.town.sampling import camera_pose

WAYS = (("there", 0.0), ("back", 180.0))  # and the heading along the street, degrees
LANE, WANDER = 1.0, 0.4  # metres from the middle of the road, and how far a drive strays from there
GLANCE, PERIOD = 14.0, 17.0  # the road's windings: degrees to either side, and metres from one to the next
JITTER, TURN = 0.8, 4.0  # metres along the road, and degrees of heading, by which drives differ
APART = 1000.0  # metres between streets, so that no two images of different ones are near


@dataclass(frozen=True)
class DriveShot:
    """One photograph.

    Attributes:
        part, domain: of the image; street: its seed; way: ``there`` or ``back``.
        name: below the folder of the drives; equal but for the domain's folder where two show one place.
        pose: in the street's own frame.
        x, y: metres, in the frame of all streets; yaw: degrees from +x, to the left.
        seed: of its noise.
    """

    part: str
    domain: str
    street: int
    way: str
    name: str
    pose: Pose
    x: float
    y: float
    yaw: float
    seed: int


def plan_drives(config: DrivesConfig) -> list[DriveShot]:
    """Every photograph: street by street, domain by domain, there and back."""
    shots = []
    for place, (part, street) in enumerate(config.streets()):
        phase = float(np.random.default_rng([street, 909]).uniform(0, 2 * math.pi))
        for domain in config.domains:
            rng = np.random.default_rng([street, 910, zlib.crc32(domain.encode())])
            for way, heading in WAYS:
                side = -1.0 if heading == 0 else 1.0
                for step, middle in enumerate(np.arange(config.spacing / 2, config.length, config.spacing)):
                    x, y, z = middle + rng.uniform(-JITTER, JITTER), side * (LANE + rng.uniform(-WANDER, WANDER)), 1.6
                    winding = GLANCE * math.sin(2 * math.pi * float(middle) / PERIOD + phase)
                    yaw = float(heading + winding + rng.uniform(-TURN, TURN))
                    z, pitch, roll = z + rng.uniform(-0.1, 0.1), 3 + rng.uniform(-1.5, 1.5), rng.normal(0, 1)
                    pose = camera_pose(float(x), float(y), float(z), yaw, float(pitch), float(roll))
                    name = f"{part}/{domain}/{street}/{way}-{step:04d}.jpg"
                    here = (round(float(x), 3), round(float(y) + APART * place, 3), round((yaw + 180) % 360 - 180, 3))
                    shots.append(DriveShot(part, domain, street, way, name, pose, *here, step))
    return shots
