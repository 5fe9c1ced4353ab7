"""Several embedders as one: their descriptors concatenated and L2-normalised (Dark Side, table 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.model_card import InputRule
from gloam.networks.embedders.base import EmbedderNetwork, l2_normalize
from gloam.networks.masks import Masks


def description(model: EmbedderNetwork) -> dict[str, Any]:
    """What builds a member or an inner embedder again, JSON-ready."""
    return {"name": model.name, "options": model.options, "mean": list(model.mean), "std": list(model.std)}


def from_description(value: Mapping[str, Any], create: Callable[..., EmbedderNetwork]) -> EmbedderNetwork:
    """The embedder of a :func:`description`; mean and std may be missing.

    Raises:
        ModelError: no such description.
    """
    if not isinstance(value, Mapping) or not {"name"} <= set(value) <= {"name", "options", "mean", "std"}:
        raise ModelError(
            f'an embedder inside another is described as {{"name": ..., "options": {{...}}}}, not {value!r}'
        )
    return create(value["name"], mean=value.get("mean"), std=value.get("std"), **value.get("options", {}))


class Ensemble(EmbedderNetwork):
    """All members see the same image, each with its own normalisation.

    Args:
        members: two or more, of any families. A pipeline among them keeps its own scales and whitening, but the light
            of all is normalised by a pipeline around the ensemble.
        mean, std: 0 and 1; other values are refused.

    Raises:
        ModelError: fewer than two members, or one with CLAHE of its own.
    """

    def __init__(
        self,
        members: Sequence[EmbedderNetwork],
        *,
        mean: tuple[float, ...] = (0.0, 0.0, 0.0),
        std: tuple[float, ...] = (1.0, 1.0, 1.0),
    ) -> None:
        if any(mean) or set(std) != {1.0}:
            raise ModelError("an ensemble has no mean and std of its own; state those of its members")
        if len(members) < 2:
            raise ModelError("an ensemble has two or more members")
        if len({member.square for member in members} - {None}) > 1:
            raise ModelError("members that take images of different sizes alone cannot see the same image")
        for member in members:
            if member.photometric.baked:
                raise ModelError(f"{member.name}: CLAHE belongs around the ensemble, not into a member")
        super().__init__(
            "ensemble",
            {"members": [description(member) for member in members]},
            dimension=sum(member.dimension for member in members),
            mean=mean,
            std=std,
        )
        self.members = nn.ModuleList(members)

    @property
    def smallest_side(self) -> int:
        """Of the member that needs most."""
        return max(member.smallest_side for member in self._all())

    @property
    def square(self) -> int | None:
        """That of a member that has one."""
        return next((member.square for member in self._all() if member.square is not None), None)

    @property
    def input_rule(self) -> InputRule:
        """Of a member that takes one size alone, or the usual."""
        alone = (member.input_rule for member in self._all() if member.square is not None)
        return next(alone, super().input_rule)

    @property
    def cell(self) -> int:
        """The least common multiple of the members'."""
        return math.lcm(*(member.cell for member in self._all()))

    @property
    def padding_exact(self) -> bool:
        """Whether every member is."""
        return all(member.padding_exact for member in self._all())

    @property
    def pooling(self) -> dict[str, Any]:
        """Those of the members."""
        return {"name": "concatenate", "members": [member.pooling for member in self._all()]}

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Float RGB images ``[B, 3, H, W]`` in [0, 1] to unit descriptors ``[B, D]``."""
        rows = [member(member.normalize(images.permute(0, 2, 3, 1) * 255.0), masks) for member in self._all()]
        return l2_normalize(torch.cat(rows, 1))

    def _all(self) -> list[EmbedderNetwork]:
        return [member for member in self.members if isinstance(member, EmbedderNetwork)]
