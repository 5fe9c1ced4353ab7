"""What every image-to-image network of gloam promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.model_card import TensorSpec
from gloam.padding import Anchor


class TranslatorNetwork(nn.Module):
    """An image-to-image network: float32 ``[B, C, H, W]`` RGB in [-1, 1] to the same shape and range.

    Attributes:
        name: its name in ``GENERATORS``.
        options: all options of the constructor, defaults included, JSON-ready; stored in checkpoints and cards.
        multiple: input sides must be multiples of it; others come out larger or fail, so callers pad and crop.
        minimum: smallest input side, itself a multiple; below it a layer would see a map of one cell.
        anchor: where a smaller image stands in its padding. ``top-left`` for networks whose authors run them on images
            of any size: their strides begin at the image's own corner.
        channels: C of the input and of the output; 3 (RGB) or 1 (grey digits).
        conditions: what the network takes beside the images, in the order of its arguments, each with a default.
    """

    name: ClassVar[str] = ""
    anchor: ClassVar[Anchor] = "center"

    def __init__(self, options: dict[str, Any], *, channels: int, multiple: int, minimum: int) -> None:
        super().__init__()
        self.options = options
        self.channels = channels
        self.multiple = multiple
        self.minimum = minimum
        self.conditions: tuple[TensorSpec, ...] = ()

    def towards(self, domain: str) -> tuple[TensorSpec, ...]:
        """:attr:`conditions` whose defaults are those of a domain.

        Raises:
            ModelError: the network has no such domain.
        """
        raise ModelError(f"{self.name} translates into one domain alone; leave out {domain!r}")

    def forward(self, x: Tensor) -> Tensor:
        """Float ``[B, C, H, W]`` in [-1, 1] to the same shape and range, for sides that are multiples."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def translate_uint8(self, images: Tensor, *conditions: Tensor) -> Tensor:
        """The exported graph.

        Args:
            images: uint8 ``[B, H, W, C]`` RGB, sides multiples of :attr:`multiple`.
            conditions: of :attr:`conditions`, in their order; those left out are at their defaults.

        Returns:
            float32 ``[B, H, W, C]`` in [-1, 1].
        """
        x = images.to(torch.float32).permute(0, 3, 1, 2) / 127.5 - 1.0
        translated: Tensor = self(x, *conditions)
        return translated.permute(0, 2, 3, 1)


class DomainTranslator(TranslatorNetwork):
    """A network that translates into any of several domains, told by a code for each image.

    Attributes:
        domains: their names, in the order of the codes.
        codes: numbers that stand for each domain: one-hot, or a table of attributes.
        target: index of the domain that is meant where no code is given.

    Args:
        domains: names, at least two, no two alike.
        codes: a row of numbers for each domain, all rows of one length; None for one-hot codes.
        target: name of the domain that is meant where no code is given; None for the last.
        options: of the subclass.

    Raises:
        ModelError: too few domains, two of one name, a table of another length, or an unknown target.
    """

    def __init__(
        self,
        options: dict[str, Any],
        domains: Sequence[str],
        codes: Sequence[Sequence[float]] | None,
        target: str | None,
        *,
        channels: int,
        multiple: int,
        minimum: int,
    ) -> None:
        names = [str(name) for name in domains]
        if len(names) < 2 or len(set(names)) != len(names):
            raise ModelError(f"domains {', '.join(names) or 'none'}: at least two are needed, each once")
        rows = [[float(value) for value in row] for row in codes] if codes is not None else None
        if rows is not None and (len(rows) != len(names) or len({len(row) for row in rows}) != 1 or not rows[0]):
            lengths = sorted({len(row) for row in rows})
            raise ModelError(
                f"codes: {len(rows)} rows of {lengths} numbers for {len(names)} domains ({', '.join(names)}); one row "
                "for each domain is needed, all of one length"
            )
        kept = {"domains": names, "codes": rows, "target": target}
        super().__init__({**options, **kept}, channels=channels, multiple=multiple, minimum=minimum)
        self.domains = tuple(names)
        one_hot = [[float(row == column) for column in range(len(names))] for row in range(len(names))]
        self.codes = tuple(map(tuple, rows if rows is not None else one_hot))
        self.target = len(names) - 1 if target is None else self.domain(target)
        coding = "one-hot" if rows is None else "code"
        self.conditions = (
            TensorSpec(
                "label",
                "float32",
                ("batch", len(self.codes[0])),
                f"{coding} of the domain to translate into: {', '.join(names)}",
                default=self.codes[self.target],
            ),
        )

    def domain(self, name: str) -> int:
        """Index of a domain.

        Raises:
            ModelError: unknown; the known ones are listed.
        """
        if name not in self.domains:
            raise ModelError(f"unknown domain {name!r}; the model knows {', '.join(self.domains)}")
        return self.domains.index(name)

    def towards(self, domain: str) -> tuple[TensorSpec, ...]:
        """See :meth:`TranslatorNetwork.towards`: the code of the domain is the label's default.

        Raises:
            ModelError: an unknown domain.
        """
        label, *others = self.conditions
        return (replace(label, default=self.codes[self.domain(domain)]), *others)

    def label(self, domains: Tensor, like: Tensor) -> Tensor:
        """Codes ``[B, K]`` of the indices ``[B]`` of domains, of the number format and device of ``like``."""
        return torch.tensor(self.codes, dtype=like.dtype, device=like.device)[domains]

    def _default(self, name: str, x: Tensor) -> Tensor:
        """The condition of a name at its default, for images ``x``."""
        spec = next(item for item in self.conditions if item.name == name)
        shape = spec.sized(x.shape[0], x.shape[2], x.shape[3], name)
        return torch.tensor(spec.default, dtype=x.dtype, device=x.device).expand(shape)
