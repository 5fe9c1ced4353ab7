"""Masks that make padding exact: valid sizes carried through a network, one mask per stage.

A padded batch ``[B, C, H, W]`` holds images of valid sizes ``(h, w)`` in its top-left corner. Re-zeroing everything
beyond the valid size before each kernel larger than 1 gives every valid cell the same neighbourhood as at native size,
because a convolution's own padding is zero too. In front of a max-pool zero is right only after a ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Masks:
    """Valid sizes of one stage and the masks they give.

    Attributes:
        heights, widths: valid sizes, int64 ``[B]``.
        rows: 1.0 inside, float ``[B, 1, H, 1]``.
        columns: 1.0 inside, float ``[B, 1, 1, W]``.
        inside: the product of both, float ``[B, 1, H, W]``, made once: a layer is then multiplied once and not twice.
    """

    heights: Tensor
    widths: Tensor
    rows: Tensor
    columns: Tensor
    inside: Tensor

    @classmethod
    def of(cls, heights: Tensor, widths: Tensor, like: Tensor) -> Masks:
        """Masks for a batch shaped as ``like`` ``[B, C, H, W]``."""
        y = torch.arange(like.shape[2], device=like.device)
        x = torch.arange(like.shape[3], device=like.device)
        rows = (y[None] < heights[:, None]).to(like.dtype)[:, None, :, None]
        columns = (x[None] < widths[:, None]).to(like.dtype)[:, None, None, :]
        return cls(heights, widths, rows, columns, rows * columns)

    def after(self, like: Tensor, kernel: int, stride: int, padding: int) -> Masks:
        """Masks behind a layer, by the layer's own arithmetic.

        Args:
            like: the layer's output ``[B, C, H', W']``.
            kernel, stride: of the layer.
            padding: zeros added to a side's length in total, both ends together.
        """

        def shrink(size: Tensor) -> Tensor:
            # Truncating division is one node in the exported graph; // would be a chain of Mod and Sub.
            return torch.div(size + (padding - kernel), stride, rounding_mode="trunc") + 1

        return Masks.of(shrink(self.heights), shrink(self.widths), like)


def sides(like: Tensor, masks: Masks | None) -> tuple[Tensor, Tensor]:
    """Valid heights and widths of a stage, int64 ``[B]``; of one element, those of ``like`` ``[B, C, H, W]``, where
    there are no masks. Counted then, not numbered, so that an exporter keeps the sizes free."""
    if masks is not None:
        return masks.heights, masks.widths
    height, width = (torch.arange(1, side + 1, device=like.device)[-1:] for side in like.shape[2:])
    return height, width


def zero_beyond(x: Tensor, masks: Masks | None) -> Tensor:
    """``x`` with zeros beyond the valid sizes; unchanged where there are no masks."""
    return x if masks is None else x * masks.inside


def after(masks: Masks | None, like: Tensor, kernel: int, stride: int, padding: int) -> Masks | None:
    """:meth:`Masks.after`, or None where there are no masks."""
    return None if masks is None else masks.after(like, kernel, stride, padding)
