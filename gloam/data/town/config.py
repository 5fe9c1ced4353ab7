"""What a town is made from: one typed record, hashed into the dataset that it describes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from gloam.errors import UsageError
from gloam.files import sha256_json

CONDITIONS = ("day", "dusk", "night", "night-rain")
WEATHER = ("sun", "overcast", "dusk", "snow", "rain", "night", "night-rain")  # of drives, by the second look
LOOKS = (1, 2)  # how a town is built and photographed; each renders the same bytes for ever
# Raised whenever the same config renders other pixels, so that old folders are refused, not mixed.
REVISION = 2
REVISIONS = {1: REVISION, 2: 3}  # by look


def conditions_of(look: int) -> tuple[str, ...]:
    """Conditions that a look renders."""
    return CONDITIONS if look == 1 else tuple(dict.fromkeys((*CONDITIONS, *WEATHER)))


@dataclass(frozen=True)
class Optics:
    """What the camera does beyond the look's own.

    Attributes:
        noise: factor on the standard deviation of the sensor's noise; 0 for none.
        motion_blur: length of the streak that a point leaves by night, pixels, in a direction of each photograph's
            own; half of it at dusk, none by day.
        defocus: diameter of the disc that a point becomes, pixels.
    """

    noise: float = 1.0
    motion_blur: float = 0.0
    defocus: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no camera does.

        Raises:
            UsageError: naming the value.
        """
        for name, value, most in (
            ("noise", self.noise, 100.0),
            ("motion_blur", self.motion_blur, 100.0),
            ("defocus", self.defocus, 50.0),
        ):
            if not 0 <= value <= most:
                raise UsageError(f"{name} {value}: must be 0 to {most:g}")


@dataclass(frozen=True)
class TownConfig:
    """Sizes and seeds of one town.

    Attributes:
        seed: decides layout, textures, signs, lamps, weather and noise; two seeds share nothing.
        length: length of the main street, metres; at least 30.
        width, height: image size, pixels.
        focal: focal length, pixels, for the given width; 420 at 512 px is a field of view of 63 degrees.
        spacing: distance between mapping views along one lane, metres; at least 2.
        queries: query poses per condition; the same poses for every condition.
        conditions: subset of what the look renders, see :func:`conditions_of`.
        texels: texture resolution, texels per metre; 64 is one texel per pixel at 6.6 m.
        depth: also write a depth map beside each image.
        jpeg_quality: 1 to 100.
        look: one of :data:`LOOKS`. The second changes between visits and is photographed as cameras do.
        noise, motion_blur, defocus: of the camera, see :class:`Optics`; the second look's alone.
    """

    seed: int = 7
    length: float = 60.0
    width: int = 512
    height: int = 384
    focal: float = 420.0
    spacing: float = 2.5
    queries: int = 24
    conditions: tuple[str, ...] = CONDITIONS
    texels: int = 64
    depth: bool = False
    jpeg_quality: int = 95
    look: int = 1
    noise: float = 1.0
    motion_blur: float = 0.0
    defocus: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that give no town.

        Raises:
            UsageError: naming the value and what it may be.
        """
        checks = (
            (self.look in LOOKS, f"look {self.look}: choose from {', '.join(map(str, LOOKS))}"),
            (self.seed >= 0, f"seed {self.seed}: must be 0 or larger"),
            (30 <= self.length <= 1000, f"length {self.length}: must be 30 to 1000 metres"),
            (
                32 <= self.width <= 4096 and 32 <= self.height <= 4096,
                f"size {self.width}x{self.height}: 32 to 4096 pixels a side",
            ),
            (self.focal > 0, f"focal {self.focal}: must be positive"),
            (self.spacing >= 2, f"spacing {self.spacing}: mapping views are at least 2 metres apart"),
            (self.queries >= 1, f"queries {self.queries}: must be at least 1"),
            (8 <= self.texels <= 128, f"texels {self.texels}: must be 8 to 128 per metre"),
            (1 <= self.jpeg_quality <= 100, f"jpeg_quality {self.jpeg_quality}: must be 1 to 100"),
            (
                bool(self.conditions) and len(set(self.conditions)) == len(self.conditions),
                "conditions: at least one, each once",
            ),
        )
        for fine, message in checks:
            if not fine:
                raise UsageError(message)
        if self.optics != Optics() and self.look == 1:
            raise UsageError("noise, motion_blur and defocus are the second look's: give look 2")
        known = conditions_of(self.look)
        for condition in self.conditions:
            if condition in WEATHER and condition not in known:
                raise UsageError(
                    f"condition {condition!r} is of look 2; give look 2, or choose from {', '.join(known)}"
                )
            if condition not in known:
                raise UsageError(f"condition {condition!r} is unknown; choose from {', '.join(known)}")

    @property
    def optics(self) -> Optics:
        """What the camera does."""
        return Optics(self.noise, self.motion_blur, self.defocus)

    def as_json(self) -> dict[str, Any]:
        """The config as JSON values."""
        return {**dataclasses.asdict(self), "conditions": list(self.conditions)}

    def content_hash(self) -> str:
        """Hex sha256 over the config and the renderer's revision: equal hashes, equal pixels."""
        config = self.as_json()
        if self.look == 1:
            for name in ("look", "noise", "motion_blur", "defocus"):  # folders from before there were looks stay valid
                del config[name]
        return sha256_json({"config": config, "revision": REVISIONS[self.look]})
