"""Spectral norm (Miyato et al. 2018) while a network learns, folded into its weights when it is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from gloam.networks.translators.base import TranslatorNetwork

Network = TypeVar("Network", bound=TranslatorNetwork)


def add_spectral_norm(convolutions: Iterable[nn.Module]) -> None:
    """Divide the weights of each by their largest singular value, followed by one power iteration a forward in
    training; the first estimate is drawn from torch's global generator."""
    for convolution in convolutions:
        parametrizations.spectral_norm(convolution)


def folded(network: Network) -> Network:
    """A copy whose weights are those that the network computes with in evaluation, without any spectral norm."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()  # no power iteration
    bounded = {f"{name}.weight": part for name, part in network.named_modules() if parametrize.is_parametrized(part)}
    state: dict[str, Any] = {
        key: value for key, value in network.state_dict().items() if ".parametrizations." not in key
    }
    state |= {key: part.weight.detach().clone() for key, part in bounded.items()}
    for module, training in modes:
        module.training = training
    with torch.random.fork_rng(devices=[]):
        plain = type(network)(**network.options)  # a copy of a parametrised module shares its class, and its fate
    first = next(iter(state.values()))
    plain.to(first.device, first.dtype).load_state_dict(state)
    return plain.eval()
