"""Initial weights of an edge detector that learns from nothing: a VGG16 without batch norm hardly starts otherwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gloam.networks.edges import EdgeDetectorNetwork

CONTRAST_SHARE = 0.75  # of the first layer's filters, that see differences alone; the others see colour too


@torch.no_grad()
def settle_detector(model: EdgeDetectorNetwork, images: Tensor) -> None:
    """Scale the random weights to the data, layer by layer.

    Most filters of the first layer lose their spatial mean, so that they answer to contrast and not to brightness.
    Then each 3x3 convolution is scaled and shifted until its output on ``images`` has mean 0 and standard deviation 1
    (Mishkin & Matas 2016, here with the mean as well).

    Args:
        model: with random weights; changed in place.
        images: float32 ``[B, 3, H, W]`` in [-1, 1], some training images.
    """
    layers = backbone(model)
    first = layers[0].weight
    count = round(CONTRAST_SHARE * len(first))
    first[:count] -= first[:count].mean((2, 3), keepdim=True)

    def settle(layer: nn.Module, _: Any, output: Tensor) -> Tensor:
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        mean = output.mean((0, 2, 3))
        centred = output - mean.view(1, -1, 1, 1)
        scale = centred.std().clamp(min=1e-6)
        layer.weight /= scale
        layer.bias.copy_((layer.bias - mean) / scale)
        return centred / scale

    handles = [layer.register_forward_hook(settle) for layer in layers]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()


def backbone(model: nn.Module) -> list[nn.Conv2d]:
    """The 3x3 convolutions, in the order of the forward pass; what is 1x1 scores, votes or fuses."""
    return [module for module in model.modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)]


def parameter_groups(model: nn.Module, lr: float, head_factor: float) -> list[dict[str, Any]]:
    """Two groups for an optimiser: the 3x3 convolutions, and all else at ``head_factor`` times the rate."""
    convolutions = [parameter for layer in backbone(model) for parameter in layer.parameters()]
    known = {id(parameter) for parameter in convolutions}
    heads = [parameter for parameter in model.parameters() if id(parameter) not in known]
    return [{"params": convolutions, "lr": lr, "factor": 1.0}, {"params": heads, "lr": lr, "factor": head_factor}]
