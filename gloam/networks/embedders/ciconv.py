"""CIConv: a colour-invariant layer of learned scale in front of a ResNet (Lengyel et al. 2021).

RGB is replaced by one map of edges that a change of the illumination's intensity leaves alone. Keys: ``ciconv.scale``
and those of the ResNet, whose first convolution has one input channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.errors import ModelError
from gloam.networks.embedders.gem import PooledEmbedder
from gloam.networks.masks import Masks

# RGB to the Gaussian colour model: intensity and its first and second derivative by the wavelength
COLOUR_MODEL = ((0.06, 0.63, 0.27), (0.30, 0.04, -0.35), (0.34, -0.60, 0.17))
SCALE_LIMIT = 2.5  # of |s|: kernels of 3 to 37 px
EPS = 1e-5
INVARIANTS = ("W", "E", "C", "N", "H")


class CIConv(nn.Module):
    """A colour invariant at scale ``2^s``, its logarithm, instance-normalised.

    The size of the kernels follows s, which no exported graph can do; in eval mode they are therefore kept as constants
    and a graph takes those. In torch they always follow s.

    Args:
        invariant: ``W`` (intensity and its spectral derivatives over the intensity; the paper's best), ``E``, ``C``,
            ``N`` or ``H``.
        scale: initial s.
    """

    def __init__(self, invariant: str = "W", scale: float = 0.0) -> None:
        if invariant not in INVARIANTS:
            raise ValueError(f"invariant {invariant!r}: choose one of {', '.join(INVARIANTS)}")
        super().__init__()
        self.invariant = invariant
        self.scale = nn.Parameter(torch.tensor([float(scale)]))
        self.register_buffer("_colours", torch.tensor(COLOUR_MODEL).view(3, 3, 1, 1), persistent=False)
        self.register_buffer("_kernels", self.kernels().detach(), persistent=False)

    def kernels(self) -> Tensor:
        """``[3, 1, k, k]``: a Gaussian of sum 1 and its derivatives along rows and columns, whose absolute values have
        the sum 1; ``k = 2 ceil(3 * 2^s + 0.5) + 1``."""
        sigma = 2.0 ** self.scale.clamp(-SCALE_LIMIT, SCALE_LIMIT)
        half = math.ceil(3.0 * float(sigma.detach()) + 0.5)
        at = torch.arange(-half, half + 1, dtype=self.scale.dtype, device=self.scale.device)
        bell = torch.exp(-0.5 * (at / sigma) ** 2)
        smooth = bell / bell.sum()
        slope = -at * bell
        slope = slope / slope.abs().sum()
        return torch.stack((torch.outer(smooth, smooth), torch.outer(slope, smooth), torch.outer(smooth, slope)))[
            :, None
        ]

    def train(self, mode: bool = True) -> Self:
        """Switch the mode; eval mode takes over the kernels of the present s for graphs."""
        super().train(mode)
        if not mode:
            self._kernels = self.kernels().detach()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Float RGB ``[B, 3, H, W]`` in [0, 1] to ``[B, 1, H, W]`` of mean 0 and variance 1 per image."""
        kernels = self.get_buffer("_kernels") if torch.compiler.is_compiling() else self.kernels()
        colours = functional.conv2d(images, self.get_buffer("_colours"))
        # One kernel size for all: nine maps [B, 9, H, W], the three of each spectral order together.
        maps = functional.conv2d(colours, kernels.repeat(3, 1, 1, 1), padding=kernels.shape[-1] // 2, groups=3)
        found = torch.log(_invariant(self.invariant, maps) + EPS)
        centred = found - found.mean((2, 3), keepdim=True)
        return centred * torch.rsqrt(centred.square().mean((2, 3), keepdim=True) + EPS)


def _invariant(kind: str, maps: Tensor) -> Tensor:
    """Squared magnitude of an invariant of Geusebroek et al. 2001.

    Args:
        kind: one of :data:`INVARIANTS`.
        maps: ``[B, 9, H, W]``: the smoothed intensity and its derivatives by rows and by columns, then the same of the
            first and of the second spectral derivative.

    Returns:
        ``[B, 1, H, W]``.
    """
    e, e_y, e_x, s, s_y, s_x, ss, ss_y, ss_x = (maps[:, index : index + 1] for index in range(9))
    if kind == "E":
        terms = [e_y, e_x, s_y, s_x, ss_y, ss_x]
    elif kind == "W":
        terms = [term / (e + EPS) for term in (e_y, e_x, s_y, s_x, ss_y, ss_x)]
    elif kind == "H":
        terms = [(ss * s_d - s * ss_d) / (s**2 + ss**2 + EPS) for s_d, ss_d in ((s_y, ss_y), (s_x, ss_x))]
    else:
        terms = []
        for e_d, s_d, ss_d in ((e_y, s_y, ss_y), (e_x, s_x, ss_x)):
            terms.append((s_d * e - s * e_d) / (e**2 + EPS))
            if kind == "C":
                terms.append((ss_d * e - ss * e_d) / (e**2 + EPS))
            else:
                third = ss_d * e**2 - ss * e_d * e - 2 * s_d * s * e + 2 * s**2 * e_d
                terms.append(third / (e**3 + EPS))
    squares = [term.square() for term in terms]
    return sum(squares[1:], squares[0])


class CIConvEmbedder(PooledEmbedder):
    """CIConv, a ResNet of one input channel, GeM, L2. ``dynamic`` only: its statistics are those of the whole image.

    Args:
        name: in ``EMBEDDERS``.
        backbone: constructor of a ResNet; gets ``options`` and ``channels=1``.
        invariant: of CIConv.
        p: initial power of GeM.
        mean, std: of the weights. The layer wants RGB in [0, 1], so nothing is subtracted by default.
    """

    def __init__(
        self,
        name: str,
        backbone: Callable[..., nn.Module],
        *,
        invariant: str = "W",
        p: float = 3.0,
        mean: tuple[float, ...] = (0.0, 0.0, 0.0),
        std: tuple[float, ...] = (1.0, 1.0, 1.0),
        **options: Any,
    ) -> None:
        if any(value > 0 for value in mean):
            raise ModelError(f"{name}: colour invariants divide by the intensity, so no mean {mean} may be subtracted")
        super().__init__(name, backbone(**options, channels=1), p=p, mean=mean, std=std)
        self.options["invariant"] = invariant
        self.ciconv = CIConv(invariant)

    @property
    def padding_exact(self) -> bool:
        """The instance norm sees every pixel."""
        return False

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Float RGB images ``[B, 3, H, W]`` in [0, 1] to unit descriptors ``[B, D]``."""
        return super().forward(self.ciconv(images), masks)
