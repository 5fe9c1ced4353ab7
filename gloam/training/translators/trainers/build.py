"""Networks of a trainer from its options: each of its own seed, untouched by torch's global generator."""

from __future__ import annotations

import torch
from torch import nn

from gloam.networks.translators import TranslatorNetwork, create_discriminator, create_generator, init_weights
from gloam.training.translators.trainers.base import TrainerOptions


def new_generator(options: TrainerOptions, seed: int, *, to_day: bool = False) -> TranslatorNetwork:
    """The generator that the options name, with initial weights of a seed; noise is for nights, ``to_day`` has none."""
    arguments = {key: value for key, value in options.generator_options.items() if not (to_day and key == "noise")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = create_generator(options.generator, channels=options.channels, **arguments)
        init_weights(network, options.init, options.init_gain, seed)
    return network


def new_discriminator(options: TrainerOptions, seed: int, images: int = 1) -> nn.Module:
    """The discriminator that the options name, with initial weights of a seed.

    Args:
        options: name and arguments.
        seed: of the weights.
        images: how many images it sees at once, side by side in the channels.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels = images * options.channels
        network = create_discriminator(options.discriminator, channels=channels, **options.discriminator_options)
        init_weights(network, options.init, options.init_gain, seed)
    return network


def network_seeds(options: TrainerOptions, seed: int, count: int) -> list[int]:
    """A seed for each network of a run; the same one for all where ``twin_seeds`` asks for it."""
    if options.twin_seeds:
        return [seed] * count
    return [1000 * seed + index for index in range(count)]
