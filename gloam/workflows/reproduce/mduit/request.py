"""What of mduit's figures is reproduced, and with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gloam.errors import UsageError
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.rows import Missing

PAPER = "mduit"
PAIRS = Path("mduit/pairs.json")  # under the data folder
# Methods of Figure 3 by the recipes that train them, and those that no recipe trains, with the reason.
TRANSLATORS = {"AdaIN": "adain", "MDUIT w/o L_NCE": "mduit_no_nce", "MDUIT": "mduit"}
MUNIT = "MUNIT"
ABSENT = {
    MUNIT: "not trained here (its code is under CC BY-NC-SA 4.0); --weights MUNIT=FILE.onnx shows a generator that you "
    "have exported yourself, see docs/translators.md",
    "PhotoWCT": "not part of gloam: its code is under CC BY-NC-SA 4.0, and its decomposed matrices and remembered "
    "places of pooling are no graph for ONNX",
    "CD-GAN": "no code of it was found",
}
COLUMNS = ("AdaIN", *ABSENT, "MDUIT w/o L_NCE", "MDUIT")
ROWS = {"figure3": COLUMNS, "figure4": tuple(published(PAPER, "1").rows)}
REFERENCE = {False: "overcast-reference", True: "overcast"}  # of RobotCar Seasons, and of the town


@dataclass(frozen=True)
class MduitRequest:
    """A figure and what it is made from.

    Attributes:
        table: ``figure3`` or ``figure4``.
        data: folder with :data:`PAIRS`, the weights of VGG16, VGG19 and NetVLAD, and trained runs.
        output: for what is made on the way, and the results; the same call carries on.
        rows: some methods; all by default.
        weights: by method, in place of the known ones. Of Figure 3 translators: a native checkpoint or the folder of a
            run, which go by the example, or an exported file, which goes by the domain's name. Of Figure 4 embedders.
        train: train recipes whose weights are missing.
        references: the one domain of Figure 3's sources, or of Figure 4's map; the paper's reference by default.
        device: where models run.
        seed: of trainings, and of the images that are shown.

    Raises:
        UsageError: no such figure, method or device; weights of a method that cannot be run; two domains.
    """

    table: str
    data: Path
    output: Path
    rows: Sequence[str] = ()
    weights: Mapping[str, Path] = field(default_factory=dict)
    train: bool = False
    references: Sequence[str] = ()
    device: Literal["cpu", "cuda"] = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        published(PAPER, self.table)
        if self.table not in ROWS:
            raise UsageError(f"{PAPER}, {self.table}: is no figure; choose one of {', '.join(ROWS)}")
        if self.device not in ("cpu", "cuda"):
            raise UsageError(f"{PAPER}, {self.table} runs on cpu or cuda, not on {self.device}")
        known = ROWS[self.table]
        for row in (*self.rows, *self.weights):
            if row not in known:
                raise UsageError(f"{PAPER}, {self.table}: no row {row!r}; choose one of {', '.join(known)}")
        for row in self.weights:
            if row in ABSENT and row != MUNIT:
                raise UsageError(f"{PAPER}, {self.table}: no weights of {row} can be run, {ABSENT[row]}")
        if len(self.references) > 1:
            raise UsageError(f"{PAPER}, {self.table}: --references takes one domain, not {', '.join(self.references)}")

    @property
    def asked(self) -> Sequence[str]:
        """Methods, in the order of the columns."""
        return [row for row in ROWS[self.table] if row in (self.rows or ROWS[self.table])]

    def reference(self, known: Sequence[str], town: bool) -> str:
        """The reference domain.

        Args:
            known: domains of the pairs.
            town: whether they are the town's.

        Raises:
            UsageError: the pairs do not have it, or it alone.
        """
        wanted = next(iter(self.references), REFERENCE[town])
        if wanted not in known:
            raise UsageError(f"no reference {wanted!r} among the pairs; give --references one of {', '.join(known)}")
        if len(known) < 2:
            raise UsageError(f"the pairs have no domain but {wanted}; a figure is of two at least")
        return wanted


def missing_pairs(request: MduitRequest) -> list[Missing]:
    """The pair file, where it is not there."""
    file = request.data / PAIRS
    how = "gloam pair on images of the conditions whose poses are known, see docs/weak_pairs.md"
    return [] if file.is_file() else [Missing(file, how)]
