"""Session: one loaded model on one backend, numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

from gloam.artifact import ModelCard


class Session(Protocol):
    """What every backend offers.

    Attributes:
        card: what the model says of itself.
        fingerprint: identity of the file, for caches and resume.
        backend: ``backend``, ``providers``, ``device``, ``threads``, ``precision`` as they really are; ``why`` this
            device was chosen, where :func:`gloam.runtime.sessions.open_session` chose it.
    """

    card: ModelCard
    fingerprint: str
    backend: dict[str, Any]

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the graph once; names, dtypes and shapes are the card's."""
        ...
