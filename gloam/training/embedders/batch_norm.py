"""Running statistics of batch norm: kept as they are, or settled on images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from gloam.networks.embedders import EmbedderNetwork

SETTLE_BATCH = 32


def freeze_batch_norm(model: nn.Module) -> None:
    """Keep running statistics as they are; scale and shift still learn."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@torch.no_grad()
def settle_batch_norm(model: EmbedderNetwork, images: npt.NDArray[np.uint8]) -> None:
    """Replace running statistics by those of images; weights stay, the model ends in eval mode.

    A network of random weights with the initial statistics (mean 0, variance 1) can shrink its signal to nothing and
    give one descriptor for all images. With settled statistics it describes as well as random weights can, which is
    the control that a trained network has to beat.

    Args:
        model: an embedder.
        images: uint8 RGB ``[n, H, W, 3]``.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # a plain average over batches
    model.train()
    for start in range(0, len(images), SETTLE_BATCH):
        model.describe_uint8(torch.from_numpy(np.ascontiguousarray(images[start : start + SETTLE_BATCH])))
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
    model.eval()
