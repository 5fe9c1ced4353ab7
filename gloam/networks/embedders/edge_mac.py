"""EdgeMAC and its learned kin: an edge map, a filter of its values, VGG16 on one channel, MAC (Radenović et al. 2018).

With HED, RCF or their night-robust students (HED^N, RCF^N: the same networks with other weights) in front it is the
HEDMAC, HED^N-MAC and RCF^N-MAC of the Dark Side paper's table 4. EdgeMAC's own detector, structured forests (Dollár &
Zitnick 2013), is no network and cannot stand in a graph, so it is not supported: ``edgemac_vgg16`` has Sobel instead.
Keys: ``detector.*``, ``filter.*``, ``features.*``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.errors import ModelError
from gloam.networks.edges import create_detector
from gloam.networks.embedders.base import FastModule
from gloam.networks.embedders.gem import PooledEmbedder
from gloam.networks.embedders.vgg import STAGES, VGG16
from gloam.networks.masks import Masks

HALF = (0.5, 0.5, 0.5)  # detectors take RGB in [-1, 1]
LUMA = (0.299, 0.587, 0.114)
EDGE_MACS = {"edgemac_vgg16": None, "hedmac_vgg16": "hed", "rcfmac_vgg16": "rcf"}  # families, and their detectors
FIRST = "features.0.weight"
SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))


class SobelEdges(nn.Module):
    """Magnitude of the Sobel gradient of the luma, a full step being 1: edges without weights."""

    def __init__(self) -> None:
        super().__init__()
        sobel = torch.tensor(SOBEL) / 4.0
        self.register_buffer("_kernels", torch.stack((sobel, sobel.T))[:, None], persistent=False)
        self.register_buffer("_luma", torch.tensor(LUMA).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Float RGB ``[B, 3, H, W]`` in [-1, 1] to edges ``[B, 1, H, W]`` in [0, 1]."""
        luma = functional.conv2d(x * 0.5 + 0.5, self.get_buffer("_luma"))
        gradients = functional.conv2d(functional.pad(luma, (1, 1, 1, 1), mode="replicate"), self.get_buffer("_kernels"))
        return (gradients.square().sum(1, keepdim=True) + 1e-12).sqrt().clamp(max=1.0)


class EdgeFilter(FastModule):
    """``w max(x, eps)^p / (1 + exp(min(50, -beta (x - tau))))``: weak edges to nothing, the rest levelled out.

    Args:
        weight: w.
        p: initial power, learned.
        beta: steepness of the threshold.
        tau: initial threshold, learned, held in 0.01..0.9.
        eps: smallest value that is raised to the power.
    """

    def __init__(
        self, weight: float = 10.0, p: float = 0.5, beta: float = 500.0, tau: float = 0.1, eps: float = 1e-6
    ) -> None:
        super().__init__()
        self.weight, self.beta, self.eps = weight, beta, eps
        self.p = nn.Parameter(torch.full((1,), p))
        self.tau = nn.Parameter(torch.full((1,), tau))

    def forward(self, x: Tensor) -> Tensor:
        """Edges in [0, 1] to filtered edges, same shape."""
        exponent = (-self.beta * (x - self.tau.clamp(0.01, 0.9))).clamp(max=50.0)
        return self.weight * x.clamp(min=self.eps).pow(self.p) / (1.0 + exponent.exp())


class EdgeMAC(PooledEmbedder):
    """An image described by its edges alone. ``dynamic`` only: detectors resize their maps to the image.

    The detector is frozen, as the paper has it; the filter and VGG16 learn.

    Args:
        name: in ``EMBEDDERS``.
        detector: name in ``DETECTORS``, or None for Sobel.
        detector_options: of its class.
        stages: of VGG16.
        mean, std: 0.5; other values are refused, since the detector's own normalisation follows.
    """

    def __init__(
        self,
        name: str,
        detector: str | None,
        *,
        detector_options: Mapping[str, Any] | None = None,
        stages: Sequence[Sequence[int]] = STAGES,
        mean: tuple[float, ...] = HALF,
        std: tuple[float, ...] = HALF,
    ) -> None:
        if tuple(mean) != HALF or tuple(std) != HALF:
            raise ModelError(f"{name}: its edge detector takes images of mean and std 0.5; drop --mean and --std")
        super().__init__(name, VGG16(stages, channels=1), mean=mean, std=std, pooling="mac")
        if detector is None:
            if detector_options:
                raise ModelError(f"{name}: Sobel edges have no options, but got {', '.join(detector_options)}")
            self.detector: nn.Module = SobelEdges()
        else:
            found = create_detector(detector, **(detector_options or {}))
            self.options["detector_options"] = found.options
            self.detector = found.requires_grad_(False)
        self.filter = EdgeFilter()

    @property
    def padding_exact(self) -> bool:
        """The border of the padding is an edge."""
        return False

    def of_grey(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a VGG16 on RGB as weights on one channel: the first convolution is summed over red, green and
        blue, so that it gives for an edge map what it gave for a grey image of it. Others are left as they are.
        """
        first = state.get(FIRST)
        rgb = first is not None and first.dim() == 4 and first.shape[1] == 3
        return {**state, **({FIRST: first.sum(1, keepdim=True)} if first is not None and rgb else {})}

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Float RGB images ``[B, 3, H, W]`` in [-1, 1] to unit descriptors ``[B, D]``."""
        return super().forward(self.filter(self.detector(images)), masks)
