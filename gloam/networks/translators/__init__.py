"""Generators and discriminators that gloam trains, imports and exports; a new one is a file and a line in a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from gloam.networks.registry import build
from gloam.networks.translators.adain import AdainGenerator
from gloam.networks.translators.base import DomainTranslator, TranslatorNetwork
from gloam.networks.translators.cyeda import CyedaGenerator
from gloam.networks.translators.discriminators import PatchDiscriminator, PlainDiscriminator
from gloam.networks.translators.drit import DritGenerator
from gloam.networks.translators.encoder_decoder import EncoderDecoder
from gloam.networks.translators.ganimation import GanimationGenerator, StarDiscriminator
from gloam.networks.translators.init import INIT_KINDS, init_weights
from gloam.networks.translators.mduit import MduitGenerator
from gloam.networks.translators.patch_sampler import PatchSampler
from gloam.networks.translators.resnet import ResnetGenerator
from gloam.networks.translators.spade import SpadeGenerator, WeaklyPairedGenerator
from gloam.networks.translators.todaygan import TodayganGenerator
from gloam.networks.translators.two_stream import TwoStreamDiscriminator
from gloam.networks.translators.unet import UnetGenerator

GENERATORS: dict[str, Callable[..., TranslatorNetwork]] = {
    ResnetGenerator.name: ResnetGenerator,
    UnetGenerator.name: UnetGenerator,
    EncoderDecoder.name: EncoderDecoder,
    CyedaGenerator.name: CyedaGenerator,
    TodayganGenerator.name: TodayganGenerator,  # for imported weights; gloam has no trainer of it
    DritGenerator.name: DritGenerator,  # likewise
    WeaklyPairedGenerator.name: WeaklyPairedGenerator,
    SpadeGenerator.name: SpadeGenerator,
    GanimationGenerator.name: GanimationGenerator,
    MduitGenerator.name: MduitGenerator,
    AdainGenerator.name: AdainGenerator,
}
DISCRIMINATORS: dict[str, Callable[..., nn.Module]] = {
    PatchDiscriminator.name: PatchDiscriminator,
    PlainDiscriminator.name: PlainDiscriminator,
    TwoStreamDiscriminator.name: TwoStreamDiscriminator,
    StarDiscriminator.name: StarDiscriminator,
}

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "INIT_KINDS",
    "DomainTranslator",
    "PatchSampler",
    "TranslatorNetwork",
    "create_discriminator",
    "create_generator",
    "init_weights",
]


def create_generator(name: str, **options: Any) -> TranslatorNetwork:
    """Build a generator with torch's default random weights; :func:`init_weights` draws the papers'.

    Args:
        name: one of :data:`GENERATORS`.
        options: of its class, e.g. ``width=32, blocks=6`` (resnet).

    Raises:
        ModelError: unknown name (the nearest is named) or option.
    """
    return build(GENERATORS, "generator", name, options)


def create_discriminator(name: str, **options: Any) -> nn.Module:
    """Build a discriminator with torch's default random weights.

    Args:
        name: one of :data:`DISCRIMINATORS`.
        options: of its class, e.g. ``layers=2`` (patch) or ``size=32`` (plain).

    Raises:
        ModelError: unknown name (the nearest is named) or option.
    """
    return build(DISCRIMINATORS, "discriminator", name, options)
