"""What a verb returns: the same facts for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Report:
    """``text`` for people, ``data`` (JSON-ready) for ``--json``, ``exit_code`` 1 where a check failed."""

    data: dict[str, Any]
    text: str
    exit_code: int = 0
