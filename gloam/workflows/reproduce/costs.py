"""How many parameters the generators' recipes train, counted from the networks themselves."""

from __future__ import annotations

from torch import nn

from gloam.networks.edges import create_detector
from gloam.networks.translators import PatchSampler, create_discriminator, create_generator
from gloam.networks.translators.resnet import ResnetGenerator
from gloam.training.translators.trainers.cyeda import CyEDAOptions

TAPS = (4, 8, 12, 16)  # of CUT, as the shipped configuration has them
DETECTORS = {"HEDNGAN": "hed", "RCFNGAN": "rcf"}  # trained as students; HEDGAN's stays frozen


def training_parameters() -> dict[str, int]:
    """Trained parameters of generators, discriminators, heads and students, by row of the paper's Table 8."""
    counts = {"CycleGAN": 2 * (_generator("instance") + _discriminator("instance"))}
    head = PatchSampler(ResnetGenerator(norm="instance").feature_channels(TAPS))
    counts["CUT"] = _generator("instance") + _discriminator("instance") + _count(head)
    pair = _generator("batch") + _discriminator("batch")
    counts["HEDGAN"] = pair
    cyeda = CyEDAOptions()
    generator = create_generator(cyeda.generator, **cyeda.generator_options)
    counts["CyEDA"] = 2 * (_count(generator) + _count(create_discriminator("patch", **cyeda.discriminator_options)))
    counts |= {row: pair + _count(create_detector(detector)) for row, detector in DETECTORS.items()}
    return counts


def _generator(norm: str) -> int:
    return _count(create_generator("resnet", norm=norm, blocks=9))


def _discriminator(norm: str) -> int:
    return _count(create_discriminator("patch", norm=norm))


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
