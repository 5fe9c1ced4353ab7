"""Translator: images in, images of the same sizes out; and the one way from a name or a file to a translator."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gloam.data.images import decode_image
from gloam.errors import ImageError, ModelError, UsageError
from gloam.model_card import LITERATURE, TensorSpec
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.session import Session
from gloam.runtime.models.appearance import Appearance, Filters
from gloam.runtime.models.conditions import APPEARANCE, LABEL, Conditions
from gloam.runtime.models.formulas import CLASSIC, create_classic
from gloam.runtime.models.image_model import ImageOperation, ModelOperation, Pixels, to_uint8


class Translator(ModelOperation):
    """An exported image-to-image network: uint8 ``[h, w, 3]`` RGB images in, pictures of the same sizes out.

    Attributes:
        card: what the file says of itself, its padding rule among it.
        domain: that it translates into, where the file has several; else None.
        name: of the network, and of the domain.
        fingerprint: of the file, hex sha256; another where another domain than the card's, or noise, is asked for.

    Raises:
        ModelError: the file is of another kind, or refuses an image's size.
    """

    kind = "translator"

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains that the model translates into, or keeps filters of; empty for a model of one domain."""
        spec = self._appearance()
        known = self.card.network.get("domains") if spec is None else spec.choices
        return tuple(map(str, known or ()))

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._become(self._model.conditions)

    @property
    def told(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs behind the images, each with the default that holds."""
        return self._model.conditions.specs

    @property
    def noisy(self) -> bool:
        """Whether any of them is noise."""
        return self._model.conditions.noisy

    def towards(self, domain: str) -> Translator:
        """The same model, translating into another of its domains.

        Returns:
            a translator of a fingerprint of its own, unless it is the domain of the model's card.

        Raises:
            UsageError: the model has no such domain; its domains are listed.
        """
        if domain not in self.domains:
            known = f"its domains are {', '.join(self.domains)}" if self.domains else "it translates into one alone"
            raise UsageError(f"{self.card.name}: unknown domain {domain!r}; {known}")
        other = Translator(self.session)
        told_by = LABEL if self._appearance() is None else APPEARANCE
        other._become(self._model.conditions.told(told_by, self._codes()[self.domains.index(domain)]))
        return other

    def with_appearance(self, appearance: Filters) -> Translator:
        """The same model, translating into the appearance of a filter.

        Args:
            appearance: ``[size]``, what an :class:`Appearance` of the same weights gives, or a mean of several.

        Returns:
            a translator of a fingerprint of its own.

        Raises:
            UsageError: the model takes no filter, or one of another size; or a number is not finite.
        """
        spec = self._appearance()
        if spec is None:
            raise UsageError(f"{self.card.name}: takes no filter of an example's appearance; a model of mduit does")
        values = np.asarray(appearance, np.float32)
        if values.shape != (spec.shape[-1],) or not np.isfinite(values).all():
            raise UsageError(
                f"{self.card.name}: takes a filter of {spec.shape[-1]} finite numbers, not of {list(values.shape)}"
            )
        other = Translator(self.session)
        other._become(self._model.conditions.told(APPEARANCE, tuple(map(float, values))))
        return other

    def like(self, examples: Sequence[Pixels], encoder: Appearance) -> Translator:
        """The same model, translating into the appearance of example images: the mean of their filters.

        Args:
            examples: uint8 ``[h, w, 3]`` RGB each, at least one.
            encoder: exported from the same weights.

        Raises:
            UsageError: no example, or the model takes no filter.
            ModelError: the encoder is of other weights.
        """
        if not examples:
            raise UsageError(f"{self.card.name}: no example image is given; give one at least")
        own, other = (card.provenance.get("weights_sha256") for card in (self.card, encoder.card))
        if self._appearance() is not None and own != other:
            raise ModelError(
                f"{encoder.card.name}: the appearance encoder is of other weights than the translator; export both "
                "from one checkpoint"
            )
        return self.with_appearance(encoder(examples).mean(0))

    def drawing(self, seed: int | None) -> Translator:
        """The same model with noise, which its training gave it, instead of zeros.

        The noise of an image is a matter of the seed and of its pixels: equal images give equal pictures, in any batch
        and under any name.

        Args:
            seed: 0 or more; None for zeros.

        Returns:
            a translator of a fingerprint of its own.

        Raises:
            UsageError: the model takes no noise.
        """
        conditions = self._model.conditions
        if seed is not None and not conditions.noisy:
            raise UsageError(f"{self.card.name}: takes no noise; leave out the seed of it")
        other = Translator(self.session)
        other._become(dataclasses.replace(conditions, seed=seed))
        return other

    def _codes(self) -> list[tuple[float, ...]]:
        """Of the domains, in their order: of their labels, or their filters."""
        spec = self._appearance()
        if spec is not None:
            return [tuple(map(float, row)) for row in (spec.choices or {}).values()]
        count = len(self.domains)
        table = self.card.network.get("codes") or [[float(at == row) for row in range(count)] for at in range(count)]
        return [tuple(map(float, row)) for row in table]

    def _appearance(self) -> TensorSpec | None:
        """The input that is a filter, as the card states it."""
        return next((spec for spec in self.card.inputs[1:] if spec.name == APPEARANCE), None)

    def _become(self, conditions: Conditions) -> None:
        self._model.conditions = conditions
        code = next((spec.default for spec in conditions.specs if spec.name in (LABEL, APPEARANCE)), None)
        codes = self._codes()
        self.domain = self.domains[codes.index(code)] if code in codes else None
        self.name = self.card.name if self.domain is None else f"{self.card.name} to {self.domain}"
        self.fingerprint = conditions.identity(self.session.fingerprint, self.card.inputs[1:])

    def __call__(self, images: Sequence[Pixels]) -> list[Pixels]:
        """Translate images.

        Args:
            images: uint8 ``[h, w, 3]`` RGB each, of any sizes from one pixel on; ``[h, w, 1]`` is grey.

        Returns:
            uint8 of the same shapes, in the order given.

        Raises:
            ImageError: not such an array, or larger than a fixed profile or the memory.
            ModelError: the model gives values that are not finite.
        """
        translated = [to_uint8((values + 1) * np.float32(127.5)) for values in self._model.maps(images)]
        return [_like(image, found) for image, found in zip(images, translated, strict=True)]


def load_translator(
    spec: str | Path,
    placement: Placement | None = None,
    domain: str | None = None,
    noise: int | None = None,
    like: Sequence[str | Path] = (),
    encoder: str | Path | None = None,
) -> ImageOperation:
    """A translator by the path of an exported model, or one of the classic ones by name.

    Args:
        spec: ``.onnx`` file, or ``none``, ``lab-inversion``, ``gamma``, ``gamma:MEAN``, ``clahe``.
        placement: where and how an exported model runs; on the CPU by default.
        domain: of a model of several, the one to translate into; the card's by default.
        noise: seed of the noise that a model takes, see :meth:`Translator.drawing`; zeros by default.
        like: files of example images, in whose appearance to translate, see :meth:`Translator.like`; larger ones are
            reduced to 1024 px.
        encoder: file of the appearance encoder that reads it off them.

    Raises:
        UsageError: an unknown name; the nearest is named. A domain that the model does not have (its own are listed),
            or noise for one that takes none. Examples without an encoder, or beside a domain.
        ImageError: an example cannot be read.
        ModelError: unreadable, of another kind, or an encoder of other weights.
    """
    text = str(spec)
    if bool(like) != (encoder is not None):
        raise UsageError("--like IMAGE and --appearance MODEL go together: the encoder reads the image's appearance")
    if like and domain is not None:
        raise UsageError(f"--like and --to {domain}: an example or a domain's name says where to; give one of the two")
    classic = create_classic(text)
    if classic is not None:
        if domain is not None or noise is not None or like:
            raise UsageError(f"{text}: a formula has no domains and takes no noise and no example; leave them out")
        return classic
    path = Path(text)
    if not path.suffix and len(path.parts) == 1 and not path.exists():
        nearest = difflib.get_close_matches(text, CLASSIC, 1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ";"
        raise UsageError(f"unknown translator {text!r}{hint} give an .onnx file or one of {', '.join(CLASSIC)}")
    translator = Translator.load(path, placement)
    if encoder is not None:
        translator = translator.like([_example(file) for file in like], Appearance.load(encoder, placement))
    return (translator if domain is None else translator.towards(domain)).drawing(noise)


def _example(file: str | Path) -> Pixels:
    try:
        return decode_image(file, max_side=LITERATURE.max_side)
    except ImageError as error:
        raise ImageError(f"{file}: {error}; give another example") from error


def _like(image: Pixels, translated: Pixels) -> Pixels:
    """Grey results of colour images are repeated, colour results of grey ones averaged."""
    if translated.shape == image.shape:
        return translated
    if image.shape[2] == 3:
        return np.repeat(translated, 3, axis=2)
    grey: Pixels = np.rint(translated.mean(2, keepdims=True)).astype(np.uint8)
    return grey
