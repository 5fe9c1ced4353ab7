"""Layers that generators and discriminators share: norms by name, blur-pooling, blur-upsampling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._jit_internal import is_scripting

from gloam.errors import ModelError

NORMS = ("instance", "batch", "none")
LAYER_EPSILON = 1e-5


class InstanceNorm2d(nn.InstanceNorm2d):
    """torch's, whose gradient is right however it arrives.

    On a CPU, for a batch of one, torch 2.13 reads a gradient that lies channels last as if it lay channels first, and
    gives another gradient without a word. Convolutions give such ones where maps lie channels last, and so does
    whatever transposes a map, as the sampler of CUT's own code does.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        # torch's own forward without its checks: TorchScript knows no super().
        normed = F.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            eps=self.eps,
        )
        if not is_scripting() and normed.requires_grad:
            _hook(normed)
        return normed


def _hook(normed: Tensor) -> None:
    normed.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]  # torch leaves it untyped


class LayerNorm2d(nn.Module):
    """Each image's maps to mean 0 and deviation 1 over channels and cells together; without parameters.

    Means are taken of rows, then of columns, then of channels: a runtime may add up hundreds of millions of cells of a
    photograph one after the other, in float32.
    """

    def forward(self, y: Tensor) -> Tensor:
        """``[B, C, h, w]`` to the same shape."""
        centred = y - _mean(y)
        return centred * torch.rsqrt(_mean(centred.square()) + LAYER_EPSILON)


def _mean(y: Tensor) -> Tensor:
    for axis in (3, 2, 1):
        y = y.mean(axis, keepdim=True)
    return y


def norm_layer(norm: str, channels: int, track_running_stats: bool = True) -> nn.Module:
    """A norm of 2-D maps by name.

    Args:
        norm: ``instance`` (no affine, no running statistics), ``batch`` (affine) or ``none``.
        channels: of the map.
        track_running_stats: of the batch norm.
    """
    if norm == "instance":
        return InstanceNorm2d(channels, affine=False, track_running_stats=False)
    if norm == "batch":
        return nn.BatchNorm2d(channels, affine=True, track_running_stats=track_running_stats)
    if norm == "none":
        return nn.Identity()
    raise ModelError(f"unknown norm {norm!r}; choose one of {', '.join(NORMS)}")


def reference_bias(norm: str) -> bool:
    """Whether a convolution in front of a norm has a bias: with instance norm alone, in every public checkpoint of the
    CycleGAN family. With ``none`` there is no bias either, which is the reference's oddity."""
    return norm == "instance"


def pad_layer(padding: str, size: int) -> nn.Module:
    """``reflect`` or ``replicate`` padding of ``size`` cells on every side."""
    if padding == "reflect":
        return nn.ReflectionPad2d(size)
    if padding == "replicate":
        return nn.ReplicationPad2d(size)
    raise ModelError(f"unknown padding {padding!r}; choose reflect, replicate or zero")


class Wrapped(nn.Module):
    """A Sequential called ``model``, which gives the keys of public files."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """What the layers give, one after the other."""
        y: Tensor = self.model(x)
        return y


class BlurDownsample(nn.Module):
    """Binomial [1, 2, 1] blur with reflect padding, every second cell kept (Zhang 2019). The kernel is the buffer
    ``filt`` ``[C, 1, 3, 3]``, part of public checkpoints."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad2d(1)
        self.register_buffer("filt", _kernel((1.0, 2.0, 1.0), channels))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C, ceil(H / 2), ceil(W / 2)]``."""
        return F.conv2d(self.pad(x), self.get_buffer("filt"), stride=2, groups=x.shape[1])


class BlurUpsample(nn.Module):
    """Twice the size by a transposed blur [1, 3, 3, 1] with replicate padding. The kernel is the buffer ``filt``
    ``[C, 1, 4, 4]``, its sum 4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pad = nn.ReplicationPad2d(1)
        self.register_buffer("filt", 4.0 * _kernel((1.0, 3.0, 3.0, 1.0), channels))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C, 2 H, 2 W]``."""
        return F.conv_transpose2d(self.pad(x), self.get_buffer("filt"), stride=2, padding=3, groups=x.shape[1])


class PixelNoise(nn.Module):
    """White noise to give nights their sensor noise, in as many channels as the image has.

    The noise is a hash of each pixel's place and 8-bit value: it differs from image to image, and yet one image always
    gets the same, in any batch, process and backend, so that training resumes exactly and exports can be compared.
    Integers alone, because a backend may round a float otherwise.
    """

    PRIME = 2147483647  # below 2**31: a square fits into 64 bits
    PLACE, VALUE, CHANNEL = (73856093, 19349663), 83492791, 50331653  # spread each over the range
    PART = 1024  # a hash holds three numbers of this many values, whose sum is nearly normal

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, C, H, W]`` in [-1, 1] to noise of the same shape: mean 0, variance 1, within [-3, 3]."""
        rows = torch.arange(x.shape[2], device=x.device)[:, None] * self.PLACE[0]
        columns = torch.arange(x.shape[3], device=x.device)[None] * self.PLACE[1]
        channels = torch.arange(x.shape[1], device=x.device)[:, None, None] * self.CHANNEL
        pixel = ((x.detach().float() + 1.0) * 127.5).round().to(torch.int64)
        value = torch.zeros_like(pixel[:, :1])
        for channel in range(x.shape[1]):
            value = value * 256 + pixel[:, channel : channel + 1]
        mixed = (rows + columns + channels + (value + 1) * self.VALUE) % self.PRIME
        for _ in range(3):  # squaring hides the lattice of the linear start
            mixed = (mixed * mixed + self.VALUE) % self.PRIME
        parts = mixed % self.PART + mixed // self.PART % self.PART + mixed // self.PART**2 % self.PART
        noise = (parts * 2 - 3 * (self.PART - 1)).to(x.dtype)
        return noise / self.PART  # each part has variance 1/12 of its range's square: three parts, doubled, have 1


def _kernel(taps: tuple[float, ...], channels: int) -> Tensor:
    row = torch.tensor(taps)
    kernel = torch.outer(row, row)
    return (kernel / kernel.sum())[None, None].repeat(channels, 1, 1, 1)
