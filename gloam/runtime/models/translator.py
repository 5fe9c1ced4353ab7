"""Translator: images in, images of the same sizes out; and the one way from a name or a file to a translator."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gloam.errors import UsageError
from gloam.files import sha256_json
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.formulas import CLASSIC, create_classic
from gloam.runtime.models.image_model import ImageOperation, ModelOperation, Pixels, to_uint8


class Translator(ModelOperation):
    """An exported image-to-image network: uint8 ``[h, w, 3]`` RGB images in, pictures of the same sizes out.

    Attributes:
        card: what the file says of itself, its padding rule among it.
        fingerprint: of the file, hex sha256.

    Raises:
        ModelError: the file is of another kind, or refuses an image's size.
    """

    kind = "translator"

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains that the model translates into; empty for a model of one domain."""
        return tuple(map(str, self.card.network.get("domains") or ()))

    def towards(self, domain: str) -> Translator:
        """The same model, translating into another of its domains.

        Returns:
            a translator of a fingerprint of its own, unless it is the domain of the model's card.

        Raises:
            UsageError: the model has no such domain; its domains are listed.
        """
        if domain not in self.domains:
            known = f"its domains are {', '.join(self.domains)}" if self.domains else "it translates into one alone"
            raise UsageError(f"{self.name}: unknown domain {domain!r}; {known}")
        at = self.domains.index(domain)
        table = self.card.network.get("codes")
        code = tuple(map(float, table[at])) if table else tuple(float(at == row) for row in range(len(self.domains)))
        label = next(spec for spec in self.card.inputs if spec.name == "label")
        other = Translator(self.session)
        if code != label.default:
            other._model.conditions["label"] = replace(label, default=code)
            other.fingerprint = sha256_json([self.session.fingerprint, code])
        return other

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


def load_translator(spec: str | Path, placement: Placement | None = None) -> ImageOperation:
    """A translator by the path of an exported model, or one of the classic ones by name.

    Args:
        spec: ``.onnx`` file, or ``none``, ``lab-inversion``, ``gamma``, ``gamma:MEAN``, ``clahe``.
        placement: where and how an exported model runs; on the CPU by default.

    Raises:
        UsageError: an unknown name; the nearest is named.
        ModelError: unreadable, or of another kind.
    """
    text = str(spec)
    classic = create_classic(text)
    if classic is not None:
        return classic
    path = Path(text)
    if not path.suffix and len(path.parts) == 1 and not path.exists():
        nearest = difflib.get_close_matches(text, CLASSIC, 1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ";"
        raise UsageError(f"unknown translator {text!r}{hint} give an .onnx file or one of {', '.join(CLASSIC)}")
    return Translator.load(path, placement)


def _like(image: Pixels, translated: Pixels) -> Pixels:
    """Grey results of colour images are repeated, colour results of grey ones averaged."""
    if translated.shape == image.shape:
        return translated
    if image.shape[2] == 3:
        return np.repeat(translated, 3, axis=2)
    grey: Pixels = np.rint(translated.mean(2, keepdims=True)).astype(np.uint8)
    return grey
