"""What drives are made from: one typed record, hashed into the folder that it describes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from gloam.data.town.config import REVISIONS, WEATHER, Optics, conditions_of
from gloam.errors import UsageError
from gloam.files import sha256_json

LOOK = 2
REVISION = 1  # of poses and traffic; raised whenever the same config gives other pixels
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class DrivesConfig:
    """Streets, conditions and the camera; of the second look.

    Attributes:
        domains: conditions, the order of the labels.
        train, val, test: seeds of the streets of each part; a street is of one alone.
        length: of every street, metres; spacing: between photographs of a lane, metres.
        width, height, focal: of the camera, pixels; a focal length of 0 is 420 per 512 of width.
        distance: metres that the images of a pair are apart at most; heading: degrees between their directions.
        noise, motion_blur, defocus: see :class:`Optics`.
        jpeg_quality: 1 to 100.
    """

    domains: tuple[str, ...] = WEATHER
    train: tuple[int, ...] = (101, 102, 103, 104)
    val: tuple[int, ...] = (201,)
    test: tuple[int, ...] = (71, 83)
    length: float = 60.0
    spacing: float = 2.0
    width: int = 256
    height: int = 192
    focal: float = 0.0
    distance: float = 3.0
    heading: float = 15.0
    noise: float = 1.0
    motion_blur: float = 0.0
    defocus: float = 0.0
    jpeg_quality: int = 95

    def __post_init__(self) -> None:
        """Refuse what gives no weak pairs.

        Raises:
            UsageError: naming the value and what it may be.
        """
        known = conditions_of(LOOK)
        for domain in self.domains:
            if domain not in known:
                raise UsageError(f"domain {domain!r} is unknown; choose from {', '.join(known)}")
        streets = (*self.train, *self.val, *self.test)
        twice = next((seed for place, seed in enumerate(streets) if seed in streets[:place]), None)
        checks = (
            (
                len(self.domains) >= 2 and len(set(self.domains)) == len(self.domains),
                "domains: at least two, each once",
            ),
            (twice is None, f"street {twice} is named twice; a street is of one part, and there once"),
            (bool(streets) and min(streets) >= 0, "streets: at least one, each a seed from 0 on"),
            (30 <= self.length <= 1000, f"length {self.length}: must be 30 to 1000 metres"),
            (0.5 <= self.spacing <= 10, f"spacing {self.spacing}: photographs of a drive are 0.5 to 10 metres apart"),
            (
                32 <= self.width <= 4096 and 32 <= self.height <= 4096,
                f"size {self.width}x{self.height}: 32 to 4096 pixels a side",
            ),
            (self.focal >= 0, f"focal {self.focal}: must be positive, or 0 for the town's"),
            (1 <= self.jpeg_quality <= 100, f"jpeg_quality {self.jpeg_quality}: must be 1 to 100"),
        )
        for fine, message in checks:
            if not fine:
                raise UsageError(message)
        for name in ("distance", "heading"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise UsageError(f"{name} {getattr(self, name):g}: must be a number above 0")
        _ = self.optics

    @property
    def optics(self) -> Optics:
        """What the camera does."""
        return Optics(self.noise, self.motion_blur, self.defocus)

    def streets(self) -> list[tuple[str, int]]:
        """Part and seed of every street, in the order of the parts."""
        return [(part, seed) for part in PARTS for seed in getattr(self, part)]

    def as_json(self) -> dict[str, Any]:
        """The config as JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}

    def content_hash(self) -> str:
        """Hex sha256 over the config and the renderer's revisions: equal hashes, equal pixels and pairs."""
        return sha256_json({"drives": self.as_json(), "revisions": [REVISION, REVISIONS[LOOK]]})
