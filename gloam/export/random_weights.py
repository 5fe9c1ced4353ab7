"""Random weights that are a fair control: a network that has seen nothing still tells images apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gloam.data.images import resize_image
from gloam.data.town import render_training_views
from gloam.networks.embedders import EmbedderNetwork
from gloam.networks.matchers import LightGlue, MatcherNetwork
from gloam.networks.matchers.lightglue import Assignment, Layer

STREET = 907  # that the statistics come from; reserved, like those of the miniature and the demo
ROOM = 1e-5  # of batch norm, for channels that are constant
LIKENESS = 30.0  # of equal descriptors, as the exponent of a random matcher's assignment
SURE = 5.0  # matchability of every keypoint there, before the sigmoid


def settle_random_weights(model: EmbedderNetwork, images: npt.NDArray[np.uint8] | None = None) -> None:
    """Give each convolution and linear layer an output of mean 0 and variance 1, in place; the model ends in eval mode.

    torch's own random weights shrink the signal from layer to layer until biases, or batch norm's initial statistics,
    decide, and every image gets one descriptor. Here a layer's statistics over a few images become batch norm's, or
    are divided out of the convolution's weights and taken off its bias (layer-sequential unit variance, Mishkin & Matas
    2016), one layer after the other in a single forward.

    Args:
        model: an embedder of random weights.
        images: uint8 RGB ``[n, H, W, 3]``, sides of at least 96 pixels and the network's smallest; a street by all
            hours where None.
    """
    if images is None:
        size = max(128, model.smallest_side), max(96, model.smallest_side)
        images = np.stack(render_training_views(STREET, places=8, views_per_place=2, size=size).images)
    images = np.stack([resize_image(image, model.input_rule) for image in images])
    hooks = []
    for module in model.modules():
        weighted = isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None
        if isinstance(module, nn.BatchNorm2d) or weighted:
            hooks.append(module.register_forward_hook(_settle_once()))
    try:
        with torch.no_grad():
            model.eval().describe_uint8(torch.from_numpy(np.ascontiguousarray(images)))
    finally:
        for hook in hooks:
            hook.remove()


def settle_random_matcher(model: MatcherNetwork) -> None:
    """Make a LightGlue of random weights match what is alike, in place: its attention moves states a little, and its
    last assignment compares them as descriptors are compared.

    Args:
        model: a matcher of random weights; another than LightGlue is left as it is.
    """
    if not isinstance(model, LightGlue):
        return
    last = model.log_assignment[-1]
    assert isinstance(last, Assignment)  # and so below: a ModuleList does not say what it holds
    with torch.no_grad():
        if isinstance(model.input_proj, nn.Linear):
            nn.init.orthogonal_(model.input_proj.weight)
            nn.init.zeros_(model.input_proj.bias)
        for layer in model.transformers:
            assert isinstance(layer, Layer)
            for attention in (layer.self_attn, layer.cross_attn):
                for values in attention.ffn[3].parameters():
                    values.mul_(0.02)
        nn.init.orthogonal_(last.final_proj.weight, (LIKENESS * last.final_proj.in_features**0.5) ** 0.5)
        nn.init.zeros_(last.final_proj.bias)
        nn.init.zeros_(last.matchability.weight)
        nn.init.constant_(last.matchability.bias, SURE)


def _settle_once() -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
    """A forward hook that settles its module the first time that it runs."""
    done = False

    def settle(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        nonlocal done
        if done:
            return None
        done = True
        if isinstance(module, nn.BatchNorm2d):
            variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
            assert module.running_mean is not None  # batch norm of an embedder tracks them
            assert module.running_var is not None
            module.running_mean.copy_(mean)
            module.running_var.copy_(variance)
        elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            channels = 1 if isinstance(module, nn.Conv2d) else output.ndim - 1
            variance, mean = torch.var_mean(output, dim=[axis for axis in range(output.ndim) if axis != channels])
            scale = (variance + ROOM).rsqrt()
            module.weight.mul_(scale.view(-1, *[1] * (module.weight.ndim - 1)))
            module.bias.copy_((module.bias - mean) * scale)
        settled: Tensor = module.forward(inputs[0])
        return settled

    return settle
