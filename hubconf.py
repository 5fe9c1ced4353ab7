"""The six ``torch.hub`` names of Dark Side Augmentation, for batches and images of any size.

``torch.hub.load(REPOSITORY, "gem_vgg16_hedngan")`` gives a module; ``module(module.prepare(pictures))`` describes, or
translates, PIL images or uint8 arrays. ``folder`` and ``mirror`` say where the weights are kept and fetched from.
"""

from __future__ import annotations

from typing import Any

dependencies = ["torch", "numpy", "PIL", "cv2", "safetensors"]


def gem_vgg16_cyclegan(pretrained: bool = True, device: Any = None, **where: Any) -> Any:
    """GeM VGG16 trained with CycleGAN's nights; 512-D."""
    return _network("gem_vgg16_cyclegan", pretrained, device, **where)


def gem_vgg16_hedngan(pretrained: bool = True, device: Any = None, **where: Any) -> Any:
    """GeM VGG16 trained with HED^N GAN's nights; 512-D."""
    return _network("gem_vgg16_hedngan", pretrained, device, **where)


def gem_resnet101_cyclegan(pretrained: bool = True, device: Any = None, **where: Any) -> Any:
    """GeM ResNet-101 trained with CycleGAN's nights; 2048-D."""
    return _network("gem_resnet101_cyclegan", pretrained, device, **where)


def gem_resnet101_hedngan(pretrained: bool = True, device: Any = None, **where: Any) -> Any:
    """GeM ResNet-101 trained with HED^N GAN's nights; 2048-D."""
    return _network("gem_resnet101_hedngan", pretrained, device, **where)


def cyclegan(pretrained: bool = True, device: Any = None, **where: Any) -> Any:
    """Day to night generator of CycleGAN."""
    return _network("cyclegan", pretrained, device, **where)


def hedngan(pretrained: bool = True, device: Any = None, **where: Any) -> Any:
    """Day to night generator of HED^N GAN."""
    return _network("hedngan", pretrained, device, **where)


def _network(name: str, pretrained: bool, device: Any, **where: Any) -> Any:
    from gloam.networks.hub import hub_network

    return hub_network(name, pretrained, device, **where)
