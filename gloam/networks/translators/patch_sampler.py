"""CUT's projection head (Park et al. 2020, section 3): features at random places, through a small MLP, to unit
vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gloam.errors import ModelError


class PatchSampler(nn.Module):
    """One MLP per tapped layer, ``mlp_0`` ...; built here, so that optimisers and checkpoints see all parameters.

    Args:
        channels: of each tapped layer, as ``ResnetGenerator.feature_channels(layers)`` says.
        width: of the hidden layer and of the output.
    """

    name: ClassVar[str] = "patch_sampler"

    def __init__(self, channels: Sequence[int], width: int = 256) -> None:
        super().__init__()
        self.options: dict[str, Any] = {"channels": list(channels), "width": width}
        for index, count in enumerate(channels):
            self.add_module(f"mlp_{index}", nn.Sequential(nn.Linear(count, width), nn.ReLU(), nn.Linear(width, width)))

    def forward(
        self,
        features: Sequence[Tensor],
        patches: int = 256,
        positions: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Sample and project.

        Args:
            features: one ``[B, C_i, H_i, W_i]`` per layer.
            patches: places per layer; all where a map has fewer cells.
            positions: places to use again: int64 ``[P_i]`` per layer, as returned by an earlier call. None draws new
                ones, without repeats, the same for every image of the batch.
            generator: on the CPU; owner of the randomness, None for torch's own.

        Returns:
            ``[B * P_i, width]`` unit rows per layer, image by image, and the positions.
        """
        expected = len(self.options["channels"])
        if len(features) != expected or (positions is not None and len(positions) != expected):
            raise ModelError(f"the patch sampler was built for {expected} layers and got {len(features)}")
        rows: list[Tensor] = []
        used: list[Tensor] = []
        for index, feature in enumerate(features):
            cells = feature.shape[2] * feature.shape[3]
            if positions is None:
                drawn = torch.randperm(cells, generator=generator)[: min(patches, cells)]
                place = drawn.to(feature.device, non_blocking=True)
            else:
                place = positions[index]
            # Gathered before the transpose: P cells are copied and not the whole map.
            sampled = feature.flatten(2).index_select(2, place).permute(0, 2, 1).flatten(0, 1)
            projected: Tensor = self.get_submodule(f"mlp_{index}")(sampled)
            norm = torch.linalg.vector_norm(projected, dim=1, keepdim=True)
            rows.append(projected / (norm + 1e-7))
            used.append(place)
        return rows, used
