"""TensorSpec: one input or output of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import ModelError
from gloam.record import Written, sparse


@dataclass(frozen=True)
class TensorSpec(Written):
    """One input or output. ``shape`` mixes ints and names of free axes, e.g. ``("batch", "height", "width", 3)``; a
    matcher's are ``keypoints0`` and ``keypoints1``, whose padded numbers stand where sizes of images have height and
    width.

    ``default`` is of an input that whoever runs the model may leave to it: the values of its last axis, or one for all
    of them. ``choices`` are others by name, such as those of the domains that a translator goes towards.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str
    default: tuple[float, ...] | None = sparse(None)
    choices: Mapping[str, Sequence[float]] | None = sparse(None)

    def filled(self, batch: int, height: int, width: int) -> npt.NDArray[Any]:
        """The default at one batch and size.

        Raises:
            ModelError: there is none.
        """
        if self.default is None:
            raise ModelError(f"the input {self.name!r} has no default; give it")
        shape = self.sized(batch, height, width, "model card")
        return np.broadcast_to(np.asarray(self.default, self.dtype), shape).copy()

    def sized(self, batch: int, height: int, width: int, where: str) -> tuple[int, ...]:
        """The shape at one batch and size.

        Raises:
            ModelError: a free axis of another name; ``where`` begins the message.
        """
        axes = {"batch": batch, "height": height, "width": width, "keypoints0": height, "keypoints1": width}
        for axis in self.shape:
            if isinstance(axis, str) and axis not in axes:
                raise ModelError(f"{where}: the axis {axis!r} of {self.name!r} has no place in an engine's shapes")
        return tuple(axes[axis] if isinstance(axis, str) else int(axis) for axis in self.shape)
