"""Which images of a tuple become night.

Three rules of the papers: **deterministic** (ICCV 2023 as its code does it: an anchor is night by a hash of its name,
for the whole training and in validation), **per_epoch** (as its text says: a share of the anchors, drawn anew each
epoch) and **per_image** (the thesis, 3.4: each image of each tuple by itself, with probability p).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt

from gloam.errors import UsageError

Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Role = Literal["anchor", "positive", "negative"]
ROLES: tuple[Role, ...] = ("anchor", "positive", "negative")


@dataclass(frozen=True)
class NightRule:
    """Which images are made night.

    Attributes:
        mode: ``none``; ``deterministic`` (by the name, always the same); ``per_epoch`` (drawn anew each epoch, the same
            for every use of an image in one role); ``per_image`` (drawn for every image of every tuple).
        share: of the images in the chosen roles; 0 to 1.
        roles: which images of a tuple may be made night.
    """

    mode: Literal["none", "deterministic", "per_epoch", "per_image"] = "none"
    share: float = 0.25  # the paper's; 0.15 in the thesis
    roles: tuple[Role, ...] = ("anchor",)  # the paper's; all three in the thesis

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:  # NaN included
            raise UsageError(f"night share {self.share}: is a probability; give a number from 0 to 1")
        unknown = [role for role in self.roles if role not in ROLES]
        if unknown or not self.roles or len(set(self.roles)) < len(self.roles):
            raise UsageError(f"night roles {list(self.roles)}: give one or more of {', '.join(ROLES)}, each once")

    @property
    def active(self) -> bool:
        """Whether any image is made night."""
        return self.mode != "none" and self.share > 0

    def of_images(self, names: Sequence[str], role: Role, seed: int, epoch: int) -> Flags:
        """Which images are night wherever they appear in one role; what mining sees.

        Nights that are drawn tuple by tuple are no property of an image: mining sees the image as it is.

        Args:
            names: of the images.
            role: in which they appear.
            seed, epoch: of the run.

        Returns:
            bool ``[n]``.
        """
        if not self.active or role not in self.roles or self.mode == "per_image":
            return np.zeros(len(names), bool)
        if self.mode == "deterministic":
            return np.array([name_fraction(name) < self.share for name in names], bool)
        random = np.random.default_rng([seed, epoch, ROLES.index(role), 7])
        return random.random(len(names)) < self.share

    def of_tuples(self, names: Sequence[str], tuples: Rows, seed: int, epoch: int) -> Flags:
        """Which images of each tuple are night in training.

        Args:
            names: of all images.
            tuples: indices of anchor, positive and negatives, int64 ``[T, 2 + N]``.
            seed, epoch: of the run.

        Returns:
            bool ``[T, 2 + N]``.
        """
        night = np.zeros(tuples.shape, bool)
        drawn = np.random.default_rng([seed, epoch, 8]).random(tuples.shape) < self.share
        for role, columns in zip(ROLES, (slice(0, 1), slice(1, 2), slice(2, None)), strict=True):
            if not self.active or role not in self.roles:
                continue
            if self.mode == "per_image":
                night[:, columns] = drawn[:, columns]
            else:
                night[:, columns] = self.of_images(names, role, seed, epoch)[tuples[:, columns]]
        return night

    def in_validation(self) -> NightRule:
        """The rule that validation keeps: by the name, so that every epoch is judged on the same images."""
        return NightRule("deterministic", self.share, self.roles) if self.active else NightRule()


def name_fraction(name: str) -> float:
    """A number in [0, 1) from the MD5 of an image's name without folders and suffix: its last four hex digits."""
    stem = PurePosixPath(name).stem
    digest = hashlib.md5(stem.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
    return int(digest[-4:], 16) / 65536
