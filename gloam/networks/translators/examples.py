"""What translators by an example promise: an image's appearance as numbers, and any other image in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gloam.errors import ModelError
from gloam.model_card import TensorSpec
from gloam.networks.translators.base import TranslatorNetwork


class ExampleTranslator(TranslatorNetwork):
    """A network that reads the appearance of an example, a row of numbers, and gives it to other images.

    Args:
        options: of the subclass.
        domains: names of the domains whose appearance the network keeps, for those who have no example.
        target: name of the domain that is meant where no appearance is given; None for ``default``.
        size: numbers of an appearance.
        meaning: of them, for the card.
        default: every number where neither an appearance nor a target is given.

    Attributes:
        domains, target: as given.
        least_example: smallest side of an example, pixels.
        bank: an appearance for each domain ``[domains, size]``; of zeros where none is kept yet.

    Raises:
        ModelError: two domains of one name, or an unknown target.
    """

    least_example = 16

    def __init__(
        self,
        options: dict[str, Any],
        domains: Sequence[str],
        target: str | None,
        *,
        channels: int,
        multiple: int,
        minimum: int,
        size: int,
        meaning: str,
        default: float,
    ) -> None:
        names = tuple(str(name) for name in domains)
        if len(set(names)) != len(names):
            raise ModelError(f"domains {', '.join(names)}: one is named twice; name each once")
        whole = {"domains": list(names), "target": target, **options}
        super().__init__(whole, channels=channels, multiple=multiple, minimum=minimum)
        self.domains, self.target = names, target
        self.conditions = (TensorSpec("appearance", "float32", ("batch", size), meaning, default=(default,)),)
        if target is not None:
            self._row(target)
        self.register_buffer("bank", torch.zeros(len(names), size))
        self.register_load_state_dict_post_hook(_restate)  # type: ignore[no-untyped-call]  # torch's

    def dressed(self, x: Tensor, appearance: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` in [-1, 1] in appearances ``[B, size]``."""
        raise TypeError(f"{type(self).__name__} defines no dressed")

    def worn(self, x: Tensor) -> Tensor:
        """Appearances ``[B, size]`` of images ``[B, C, H, W]`` in [-1, 1], sides of at least :attr:`least_example`."""
        raise TypeError(f"{type(self).__name__} defines no worn")

    def keep(self, bank: Tensor) -> None:
        """Keep an appearance for each domain, ``[domains, size]``."""
        self.get_buffer("bank").copy_(bank)
        _restate(self)

    def towards(self, domain: str) -> tuple[TensorSpec, ...]:
        """See :meth:`TranslatorNetwork.towards`.

        Raises:
            ModelError: no appearance of such a domain is kept.
        """
        row = self._row(domain)
        (spec,) = self.conditions
        if spec.choices is None:
            raise ModelError(f"{self.name} keeps no filters of its domains yet; a finished run of training gives them")
        return (replace(spec, default=tuple(spec.choices[self.domains[row]])),)

    def forward(self, x: Tensor, appearance: Tensor | None = None) -> Tensor:
        """Translate.

        Args:
            x: float ``[B, C, H, W]`` in [-1, 1], sides multiples of :attr:`multiple`.
            appearance: ``[B, size]``; the target's, or the network's default, where it is left out.

        Returns:
            the shape and range of ``x``.
        """
        if appearance is None:
            appearance = torch.tensor(self.conditions[0].filled(len(x), 0, 0), dtype=x.dtype, device=x.device)
        return self.dressed(x, appearance)

    def appearance_uint8(self, images: Tensor) -> Tensor:
        """The exported graph of the appearance.

        Args:
            images: uint8 ``[B, H, W, C]`` RGB, sides of at least :attr:`least_example`.

        Returns:
            float32 ``[B, size]``.
        """
        return self.worn(images.to(torch.float32).permute(0, 3, 1, 2) / 127.5 - 1.0)

    def _row(self, domain: str) -> int:
        if domain not in self.domains:
            known = f"the model knows {', '.join(self.domains)}" if self.domains else "it keeps no filter of any"
            raise ModelError(f"unknown domain {domain!r}; {known}")
        return self.domains.index(domain)


def _restate(network: Any, _: Any = None) -> None:
    """State the appearances that a network keeps in what it takes beside the images."""
    bank = network.get_buffer("bank")
    if bank.is_meta or not bool(bank.any()):
        return
    rows = [[float(f"{value:.9g}") for value in row] for row in bank.float().cpu().tolist()]
    kept = dict(zip(network.domains, rows, strict=True))
    (spec,) = network.conditions
    own = spec.default if network.target is None else tuple(kept[network.target])
    network.conditions = (replace(spec, default=own, choices=kept),)
