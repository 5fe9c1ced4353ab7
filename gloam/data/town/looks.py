"""The looks of the town: the street that each is made of."""

from __future__ import annotations

from collections.abc import Iterable

from gloam.data.town.config import LOOKS, Optics
from gloam.data.town.look2.street import NightStreet
from gloam.data.town.street import Street
from gloam.errors import UsageError


def street_names(seeds: Iterable[int], look: int = 1) -> str:
    """Streets in words, for what is made of their images."""
    return f"procedural streets {', '.join(map(str, seeds))}" + ("" if look == 1 else f", look {look}")


def open_street(
    seed: int, length: float = 60.0, texels: int = 64, look: int = 1, optics: Optics | None = None
) -> Street:
    """A street of one seed in one look.

    Args:
        seed, length, texels: see :class:`Street`.
        look: 1 or 2; each renders the same pixels for ever.
        optics: of the second look's camera; its own where None.

    Raises:
        UsageError: an unknown look.
    """
    if look not in LOOKS:
        raise UsageError(f"look {look}: choose from {', '.join(map(str, LOOKS))}")
    return Street(seed, length, texels) if look == 1 else NightStreet(seed, length, texels, optics)
