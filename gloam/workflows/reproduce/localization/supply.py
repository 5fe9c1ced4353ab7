"""Where the embedder of a row comes from: weights that are there or are trained, or nowhere, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gloam.errors import DataError
from gloam.heartbeat import Say
from gloam.workflows.reproduce.rows import Missing, row_source
from gloam.workflows.reproduce.table import members_of
from gloam.workflows.reproduce.trainings import Trainings


@dataclass(frozen=True)
class Weights:
    """Files of an embedder, perhaps a whitening behind it, and where they are from in words."""

    files: Sequence[Path]
    origin: str


class Supply(Protocol):
    """Gives the weights of a table's rows."""

    def lacking(self, row: str) -> list[Missing]:
        """Files that a row needs and that are not there."""
        ...

    def weights(self, row: str) -> Weights:
        """Of a row; a GloamError says why there are none."""
        ...


@dataclass
class PublishedSupply:
    """Public weights, those of trained recipes, or what was given.

    Attributes:
        paper, table: of the rows.
        data: folder in the layout of cirtorch.
        given: embedders by row, in place of the known ones.
        train: train recipes whose weights are missing.
        say: gets one line per step.
    """

    paper: str
    table: str
    data: Path
    given: Mapping[str, Path] = field(default_factory=dict)
    train: bool = False
    say: Say = print

    def lacking(self, row: str) -> list[Missing]:
        """See :class:`Supply`."""
        absent = members_of(self.paper, self.table, row, self.data, self.given, None, self.say)[1]
        return [item for item in absent if item.path != Path(row)]  # a row that nobody has weights of is no file

    def weights(self, row: str) -> Weights:
        """See :class:`Supply`."""
        trainings = Trainings(self.data, self.say) if self.train else None
        members, absent = members_of(self.paper, self.table, row, self.data, self.given, trainings, self.say)
        if absent:
            known = absent[0].path != Path(row)
            raise DataError(f"{absent[0].path}: is not there; {absent[0].where}" if known else absent[0].where)
        source = row_source(self.paper, self.table, row)
        return Weights(members[0], "given with --weights" if row in self.given else source.published or source.recipe)
