"""Which tables are of localization, on which benchmarks, and what is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from gloam.data.localization_sets.dataset import SetName
from gloam.runtime.backends.placement import Placement
from gloam.workflows.reproduce.localization.protocol import Protocol
from gloam.workflows.reproduce.localization.runner import Group

MAX_SIDE = 1024  # of the embedders' test protocol, pixels
SETS = Path("localization")  # of the benchmarks, under the data folder


@dataclass(frozen=True)
class SetOfTable:
    """A benchmark of a table.

    Attributes:
        prefix: of its rows' names; "" where the table has one benchmark.
        names: of the sets that it may be, the paper's first.
    """

    prefix: str
    names: tuple[SetName, ...]

    def of(self, row: str) -> str:
        """A row's name without the benchmark's before it."""
        return row.removeprefix(f"{self.prefix} ")

    @property
    def single(self) -> bool:
        """Whether it has one condition by day and one by night."""
        return self.names[0].startswith("aachen")


AACHEN = SetOfTable("Aachen", ("aachen-v1.1",))
ROBOTCAR = SetOfTable("RobotCar", ("robotcar-v1", "robotcar-v2"))
BY_NIGHT = (Group("top-1", "top-1", "night"), Group("2a", "2a", "night"), Group("2b", "2b", "night"))
LOCALIZED: dict[tuple[str, str], tuple[tuple[SetOfTable, ...], tuple[Group, ...]]] = {
    ("dark-side", "3"): ((AACHEN, ROBOTCAR), BY_NIGHT),
    ("mduit", "1"): (
        (replace(ROBOTCAR, prefix=""),),
        (Group("Day-All", "top-1", "day"), Group("Night-All", "top-1", "night")),
    ),
}


@dataclass(frozen=True)
class TableRequest:
    """What to reproduce, and with what.

    Attributes:
        paper, table: of :data:`LOCALIZED`.
        data: folder with weights in the layout of cirtorch, and the benchmarks in ``localization/NAME``.
        output: for models, stores, features, matches, maps, poses and the servers' files; the same call carries on.
        rows: some rows; all by default.
        weights: embedders by row, in place of the known ones; a name without its benchmark is of both.
        sets: folders of benchmarks by name, wherever they lie.
        truth: kapture datasets with the queries' true poses, by name of the benchmark: of a look-alike.
        protocol: see :class:`Protocol`.
        features, matcher, max_keypoints, photometric, pixel_shift: local features, as ``gloam localize`` has them; a
            shift of None is told by principal points, where they tell.
        placement: where models run.
        max_side: longer side of the images that an embedder describes, pixels.
        scores: a server's answers, see :mod:`gloam.eval.localization.server_scores`.
        train: train recipes whose weights are missing.
    """

    paper: str
    table: str
    data: Path
    output: Path
    rows: Sequence[str] = ()
    weights: Mapping[str, Path] = field(default_factory=dict)
    sets: Mapping[str, Path] = field(default_factory=dict)
    truth: Mapping[str, Path] = field(default_factory=dict)
    protocol: Protocol = field(default_factory=Protocol)
    features: str = "sift"
    matcher: str = "mutual"
    max_keypoints: int = 4096
    photometric: Literal["none", "clahe"] | None = None
    pixel_shift: float | None = None
    placement: Placement = field(default_factory=Placement)
    max_side: int = MAX_SIDE
    scores: Path | None = None
    train: bool = False
