"""Embedder: images in, unit descriptors out, whatever the profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.images import MIN_SIDE, fitted, resize_image
from gloam.data.photometric import apply_photometric
from gloam.errors import ImageError, ModelError
from gloam.model_card import InputRule, ModelCard, Photometric
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import open_tested
from gloam.runtime.backends.session import Session, run_together
from gloam.runtime.descriptors.reading import stated_rule
from gloam.runtime.models.image_model import GPU_BATCH as TRANSLATOR_BATCH
from gloam.runtime.models.image_model import ImageOperation

Images = Sequence[npt.NDArray[np.uint8]]
GPU_BATCH = 16


class Embedder:
    """An exported embedder, alone or fused with a translator.

    A fused model has the space of the same embedder with ``translator`` the very file that was fused into it, and gives
    its descriptors but for rounding: pixels that lie between two levels may be rounded the other way. The same
    translator exported otherwise (another profile, another version) is another file and so another space, as it is
    without fusing; ``untranslated_space`` is the same in every case.

    Args:
        session: a loaded model of kind ``embedder`` or ``fused``.
        photometric: normalisation to apply instead of the card's; the descriptors are then of another space.
        translator: every image passes it first, before the normalisation; again another space. Not in front of a graph
            that translates or resizes images itself.
        input_rule: sizes that images are brought to first instead of the card's; again another space. Not for a graph
            that resizes images itself.

    Attributes:
        card: the model's card, with the input rule, normalisation and translation that are really applied.
        input_rule: the sizes that images are brought to first.
        dimension, space, fingerprint: of the descriptors.
        untranslated_space: the space without the translation, in which translated queries are searched for.
        translated_by: name and fingerprint of the translator, in the graph or in front of it; None without one.
        batch_size: images per run: 1 for native sizes on a CPU, where batching gains nothing.
    """

    def __init__(
        self,
        session: Session,
        photometric: Photometric | None = None,
        translator: ImageOperation | None = None,
        input_rule: InputRule | None = None,
    ) -> None:
        _expect_embedder(session.card, session.card.name)
        self.session = session
        self.translator = translator
        self.card: ModelCard = session.card if photometric is None else session.card.with_photometric(photometric)
        if input_rule is not None:
            self.card = self.card.with_input_rule(input_rule)
        self.input_rule = self.card.reads
        self.untranslated_space = self.card.with_translate(None).space()
        self.translated_by = _fused_translator(self.card)
        if translator is not None:
            self.card = self.card.with_translate(translator.fingerprint)
            self.translated_by = {"name": translator.name, "fingerprint": translator.fingerprint}
        self.dimension = int(self.card.dimension or 0)
        self.space = self.card.space()
        # What is done to images before the graph changes the descriptors, so it must change what resume compares.
        same = self.space == session.card.space()
        self.fingerprint = session.fingerprint if same else self.card.fingerprint(session.fingerprint)
        on_cpu = session.backend.on_cpu
        fused = self.card.kind == "fused"
        alone = on_cpu and (fused or self.card.profile.kind == "dynamic")
        wanted = 1 if alone else TRANSLATOR_BATCH if fused else GPU_BATCH
        self.batch_size = min(wanted, self.card.profile.batch[1])

    @classmethod
    def load(
        cls,
        path: str | Path,
        placement: Placement | None = None,
        *,
        photometric: Photometric | None = None,
        translator: ImageOperation | None = None,
        input_rule: InputRule | None = None,
    ) -> Embedder:
        """Load an ``.onnx`` file or a TensorRT engine.

        Args:
            path: the model.
            placement: where and how it runs; on the CPU by default.
            photometric: normalisation to apply instead of the card's.
            translator: applied to every image first.
            input_rule: sizes instead of the card's.

        Raises:
            ModelError: unreadable, of another kind, or its self-test fails here.
            UsageError: an input rule for a model that resizes images itself.
        """
        return cls(open_tested(path, placement, _expect_embedder), photometric, translator, input_rule)

    def reading_as(self, options: Mapping[str, Any]) -> Embedder:
        """The same embedder for images that are read as those of a store or an index were read.

        Args:
            options: of the store or index.

        Raises:
            ModelError: another normalisation, where the graph does its own.
        """
        light, rule = options.get("photometric"), stated_rule(options)
        photometric = Photometric(**light) if light else self.card.photometric
        own = self
        if photometric != self.card.photometric:
            own = type(self)(self.session, photometric, self.translator, self.input_rule)
        return own if rule is None or own.card.resize is not None else own.reading(rule)

    def reading(self, rule: InputRule) -> Embedder:
        """The same embedder for images of other sizes: another space, unless the rule is the one that holds.

        Raises:
            UsageError: any size for a model that resizes images itself.
        """
        if rule == self.input_rule:
            return self
        return type(self)(self.session, self.card.photometric, self.translator, rule)

    def __call__(self, images: Images) -> npt.NDArray[np.float32]:
        """Describe images, brought to the sizes of the model's input rule as decoding would.

        Args:
            images: uint8 ``[H, W, 3]`` RGB each, upright, of any sizes.

        Returns:
            float32 ``[n, D]``, unit length, in the order given.

        Raises:
            ImageError: not such an array, a side under 32 px, or larger than a fixed profile.
        """
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ImageError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
            if min(image.shape[:2]) < MIN_SIDE:
                raise ImageError(f"{image.shape[1]}x{image.shape[0]} is too small; {MIN_SIDE} px a side at least")
        prepared = [self.prepare(image) for image in images]
        descriptors = np.empty((len(images), self.dimension), np.float32)
        buckets: dict[tuple[int, int], list[int]] = {}
        for row, image in enumerate(prepared):
            buckets.setdefault(self.shape_for(image), []).append(row)
        size = self.batch_size
        batches = [rows[at : at + size] for rows in buckets.values() for at in range(0, len(rows), size)]
        found = run_together(
            lambda batch: self.run_batch([prepared[row] for row in batch]), batches, self.session.backend
        )
        for batch, described in zip(batches, found, strict=True):
            descriptors[batch] = described
        return descriptors

    describe = __call__

    def prepare(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """What happens to a decoded image before the graph: the input rule, which leaves alone what has its size
        already, translation, then photometric normalisation.

        Args:
            image: uint8 ``[H, W, 3]`` RGB.

        Returns:
            uint8 ``[h, w, 3]``.

        Raises:
            ImageError: a side is too short once it is reduced, or the translator cannot take the image.
        """
        image = resize_image(image, self.input_rule)
        if self.translator is not None:
            self.translator.check(image)
            image = self.translator([image])[0]
        return apply_photometric(image, self.card.photometric)

    def shape_for(self, image: npt.NDArray[np.uint8]) -> tuple[int, int]:
        """The (H, W) that the graph takes an image at; images of one shape can share a batch.

        Raises:
            ImageError: the image does not fit the profile, or is too narrow once the graph has resized it.
        """
        height, width = image.shape[:2]
        limit = self.card.resize
        if limit is not None and max(height, width) > limit:
            least = max(MIN_SIDE, self.card.profile.minimum)
            if min(fitted((width, height), limit)) < least:
                raise ImageError(
                    f"{width}x{height}: the model reduces it to {limit} px, which leaves a side under {least} px"
                )
        return self.card.profile.shape_for(height, width)

    def run_batch(self, images: Images) -> npt.NDArray[np.float32]:
        """Describe images of one shape that are already prepared; at most ``batch_size`` of them.

        Raises:
            ModelError: the graph gives other values than its card says.
        """
        shape = self.shape_for(images[0])
        if self.card.profile.kind != "fixed":
            inputs: dict[str, npt.NDArray[Any]] = {"images": np.stack(images)}
        else:
            batch, sizes = self.card.profile.pad(images, shape)
            inputs = {"images": batch, "sizes": sizes}
        output = self.session.run(inputs)[self.card.outputs[0].name]
        descriptors: npt.NDArray[np.float32] = output.astype(np.float32, copy=False)
        if descriptors.shape != (len(images), self.dimension):
            raise ModelError(
                f"{self.card.name}: gave values of shape {list(descriptors.shape)} for {len(images)} images, its card "
                f"says {self.dimension} of each; export the model again"
            )
        return descriptors


def _expect_embedder(card: ModelCard, where: str) -> None:
    if not card.embeds:
        card.expect_kind("embedder", where)


def _fused_translator(card: ModelCard) -> dict[str, str] | None:
    """Name and fingerprint of the translator inside a fused model."""
    if card.translate is None:
        return None
    return {"name": str(card.provenance.get("translator", {}).get("name")), "fingerprint": card.translate}
