"""Richer convolutional features for edges (Liu et al. 2017): every convolution of VGG16 votes, stage by stage.

Written from the paper and the key list of the public BSDS500 weights.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gloam.networks.edges.base import EdgeDetectorNetwork

STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # multiple of the width, convolutions
VOTES = 21  # channels of each convolution's vote
UPSAMPLING = (None, (4, 2, 1), (8, 4, 2), (16, 8, 4), (16, 8, 0))  # kernel, stride, first row kept, per stage


class RCF(EdgeDetectorNetwork):
    """Each convolution is projected to 21 channels; the sum of a stage is scored, upsampled by fixed bilinear
    transposed convolutions, and the five maps are fused. Stage 5 is dilated instead of strided.

    14 803 781 parameters in 64 tensors at the paper's width.

    Args:
        width: channels of the first stage; 64 in the paper.
        input_scale: 255 for the public weights, 1 for training from scratch.
    """

    name: ClassVar[str] = "rcf"
    minimum: ClassVar[int] = 16  # the pooling of stride 1 needs two cells at an eighth of the size

    def __init__(self, width: int = 64, input_scale: float = 1.0) -> None:
        super().__init__({"width": width, "input_scale": float(input_scale)}, input_scale)
        channels = 3
        for stage, (multiple, count) in enumerate(STAGES, 1):
            dilation = 2 if stage == 5 else 1
            for index in range(1, count + 1):
                out = width * multiple
                self.add_module(
                    f"conv{stage}_{index}", nn.Conv2d(channels, out, 3, padding=dilation, dilation=dilation)
                )
                channels = out
        for stage, (multiple, count) in enumerate(STAGES, 1):
            for index in range(1, count + 1):
                self.add_module(f"conv{stage}_{index}_down", nn.Conv2d(width * multiple, VOTES, 1))
        for stage in range(1, len(STAGES) + 1):
            self.add_module(f"score_dsn{stage}", nn.Conv2d(VOTES, 1, 1))
        self.score_fuse = nn.Conv2d(len(STAGES), 1, 1)
        for kernel in (4, 8, 16):
            self.register_buffer(f"_bilinear{kernel}", _bilinear(kernel), persistent=False)
        self._draw()

    def _draw(self) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.startswith("conv") and "down" not in name:
                nn.init.kaiming_normal_(parameter)
        nn.init.constant_(self.score_fuse.weight, 1.0 / len(STAGES))

    def side_logits(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The five side maps and the fused one, before the sigmoid.

        Args:
            x: float ``[B, 3, H, W]`` RGB in [-1, 1], sides of at least 16.

        Returns:
            five ``[B, 1, H, W]``, fine to coarse, and the fused ``[B, 1, H, W]``.
        """
        self.check_size(x)
        height, width = x.shape[2], x.shape[3]
        x = self.normalize(x)
        sides: list[Tensor] = []
        for stage, (_, count) in enumerate(STAGES, 1):
            if stage > 1:
                # Ceil-mode pooling: a zero behind the last row and column is neutral after a ReLU. Written so, because
                # an exporter takes the parity of its example's sides for that of every image under ceil_mode.
                x = F.max_pool2d(x, 2, 1) if stage == 5 else F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 2)
            votes: list[Tensor] = []
            for index in range(1, count + 1):
                x = F.relu(self.get_submodule(f"conv{stage}_{index}")(x))
                votes.append(self.get_submodule(f"conv{stage}_{index}_down")(x))
            score: Tensor = self.get_submodule(f"score_dsn{stage}")(sum(votes[1:], votes[0]))
            upsampling = UPSAMPLING[stage - 1]
            if upsampling is not None:
                kernel, stride, first = upsampling
                score = F.conv_transpose2d(score, self.get_buffer(f"_bilinear{kernel}"), stride=stride)
                score = score[:, :, first : first + height, first : first + width]
            sides.append(score)
        fused: Tensor = self.score_fuse(torch.cat(sides, 1))
        return sides, fused


def _bilinear(kernel: int) -> Tensor:
    """Bilinear upsampling kernel ``[1, 1, kernel, kernel]``; 4 gives the taps .25 .75 .75 .25."""
    half = kernel // 2
    row = 1.0 - (torch.arange(kernel) - (half - 0.5)).abs() / half
    return torch.outer(row, row)[None, None]
