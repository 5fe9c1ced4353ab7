"""The norm of one image that DISK and XFeat have."""

from __future__ import annotations

from torch import Tensor, nn

EPSILON = 1e-5


class InstanceNorm(nn.Module):
    """Each channel of each image to mean 0 and deviation 1, by means alone."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same."""
        centred = x - _mean(x)
        return centred / (_mean(centred.square()) + EPSILON).sqrt()


def _mean(x: Tensor) -> Tensor:
    """Axis by axis, because ONNX Runtime adds many float32 values one by one and rounds each."""
    return x.mean(3, keepdim=True).mean(2, keepdim=True)
