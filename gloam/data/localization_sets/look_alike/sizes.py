"""How many images of which kind a look-alike has: few, or as many as the benchmark itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gloam.data.localization_sets.dataset import SetName
from gloam.data.localization_sets.robotcar import DAYS, NIGHTS, REFERENCE
from gloam.errors import UsageError

SizeName = Literal["toy", "real"]
PICTURES = (32, 2048)  # pixels of the longer side


@dataclass(frozen=True)
class LookAlikeSize:
    """Counts of a look-alike.

    Attributes:
        picture: longer side of its largest image, pixels; the intrinsics follow.
        streets: of the town that are photographed, RobotCar's locations; images are spread evenly over them.
        mapping: images by folder (Aachen), or shots of the three cameras (RobotCar).
        queries: images by folder, or shots by condition.
        training: shots of v2's training images, by condition.
    """

    picture: int
    streets: int
    mapping: Mapping[str, int]
    queries: Mapping[str, int]
    training: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what gives no look-alike.

        Raises:
            UsageError: naming the value.
        """
        if not PICTURES[0] <= self.picture <= PICTURES[1]:
            raise UsageError(f"picture {self.picture}: must be {PICTURES[0]} to {PICTURES[1]} pixels")
        if not 1 <= self.streets <= 99:
            raise UsageError(f"streets {self.streets}: must be 1 to 99")
        for counts in (self.mapping, self.queries, self.training):
            wrong = [kind for kind, count in counts.items() if count < 0]
            if wrong:
                raise UsageError(f"{wrong[0]}: {counts[wrong[0]]} images; must be 0 or more")
        if not sum(self.mapping.values()) or not sum(self.queries.values()):
            raise UsageError("a look-alike has at least one map image and one query")


# Images of the benchmark's own lists, by folder.
_AACHEN_MAP = {
    "db": 4328,
    "sequences/gopro3_undistorted": 1044,
    **{
        f"sequences/nexus4_sequences/sequence_{number}": count
        for number, count in enumerate((171, 43, 17, 494, 203, 84, 242, 71), start=1)
    },
}
_AACHEN_QUERIES = {
    "query/day/milestone": 354,
    "query/day/nexus4": 445,
    "query/day/nexus5x": 25,
    "query/night/nexus5x": 98,
    "query/night/nexus5x_additional_night": 93,
}
# Shots of three cameras: the paper's table counts 20,862 map images and 11,934 queries (Sattler et al., CVPR 2018).
_ROBOTCAR_MAP = {REFERENCE: 6954}
_ROBOTCAR_QUERIES = {
    "dawn": 483,
    "dusk": 394,
    "night": 438,
    "night-rain": 440,
    "overcast-summer": 463,
    "overcast-winter": 390,
    "rain": 421,
    "snow": 489,
    "sun": 460,
}
V2_TRAINING, V2_TEST = 1906, 1872  # lines of robotcar_v2_train.txt and robotcar_v2_test.txt


def shared_out(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """A total in whole parts that are proportional to weights; what rounding leaves goes to the largest remainders."""
    whole = sum(weights.values())
    exact = {kind: total * weight / whole for kind, weight in weights.items()}
    parts = {kind: int(value) for kind, value in exact.items()}
    ranked = sorted(exact, key=lambda kind: (parts[kind] - exact[kind], kind))
    for kind in ranked[: total - sum(parts.values())]:
        parts[kind] += 1
    return parts


# How v2's images are spread over the conditions is not stated with its lists: as v1's are.
SIZES: dict[SetName, dict[SizeName, LookAlikeSize]] = {
    "aachen-v1.1": {
        "toy": LookAlikeSize(
            240,
            2,
            {"db": 32, "sequences/gopro3_undistorted": 4, "sequences/nexus4_sequences/sequence_1": 4},
            {
                "query/day/milestone": 4,
                "query/day/nexus4": 4,
                "query/day/nexus5x": 2,
                "query/night/milestone": 1,
                "query/night/nexus5x": 4,
                "query/night/nexus5x_additional_night": 3,
            },
        ),
        "real": LookAlikeSize(160, 80, _AACHEN_MAP, _AACHEN_QUERIES),
    },
    "robotcar-v1": {
        "toy": LookAlikeSize(192, 2, {REFERENCE: 16}, dict.fromkeys(DAYS, 1) | dict.fromkeys(NIGHTS, 2)),
        "real": LookAlikeSize(160, 49, _ROBOTCAR_MAP, _ROBOTCAR_QUERIES),
    },
    "robotcar-v2": {
        "toy": LookAlikeSize(
            192, 3, {REFERENCE: 18}, dict.fromkeys((*DAYS, *NIGHTS), 1), {"dusk": 1, "night": 2, "night-rain": 1}
        ),
        "real": LookAlikeSize(
            160,
            49,
            _ROBOTCAR_MAP,
            shared_out(V2_TEST, _ROBOTCAR_QUERIES),
            shared_out(V2_TRAINING, _ROBOTCAR_QUERIES),
        ),
    },
}
