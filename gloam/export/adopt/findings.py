"""What is wrong with a foreign file or with what is said of it, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from gloam.errors import ModelError

Mistake = Literal[
    "normalisation",
    "channel_order",
    "layout",
    "range",
    "baked_size",
    "batch_coupling",
    "no_l2",
    "double_l2",
    "silent_stretch",
    "frozen_tokens",
    "half_overflow",
    "dropout",
    "not_finite",
    "not_reproduced",
]
# What each is called in a sentence.
CALLED: dict[Mistake, str] = {
    "normalisation": "wrong normalisation",
    "channel_order": "wrong channel order",
    "layout": "wrong layout",
    "range": "wrong range",
    "baked_size": "baked size",
    "batch_coupling": "batch coupling",
    "no_l2": "no L2",
    "double_l2": "double L2",
    "silent_stretch": "silent stretch",
    "frozen_tokens": "frozen token count",
    "half_overflow": "fp16 overflow",
    "dropout": "dropout left on",
    "not_finite": "values that are not finite",
    "not_reproduced": "reference not reproduced",
}


@dataclass(frozen=True)
class Finding:
    """One mistake.

    Attributes:
        name: which.
        outcome: ``refused``; ``repaired`` in the written file; or ``noted``, where it changes nothing.
        text: what was seen, and what to do.
    """

    name: Mistake
    outcome: Literal["refused", "repaired", "noted"]
    text: str

    def to_dict(self) -> dict[str, str]:
        """Plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{CALLED[self.name]}: {self.text}"


class NotAdoptedError(ModelError):
    """A file that is refused for mistakes in it or in what was stated of it.

    Args:
        path: of the file.
        findings: at least one that is refused.

    Attributes:
        findings: all.
    """

    def __init__(self, path: Path, findings: Sequence[Finding]) -> None:
        told = "; ".join(str(finding) for finding in findings if finding.outcome == "refused")
        super().__init__(f"{path}: not adopted for {told}")
        self.findings = tuple(findings)


def refusal(path: Path, name: Mistake, text: str) -> NotAdoptedError:
    """The error of one mistake."""
    return NotAdoptedError(path, [Finding(name, "refused", text)])
