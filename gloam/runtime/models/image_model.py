"""What translators and edge detectors share: pad images of any size, run them, crop the maps that come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import cv2
import numpy as np
import numpy.typing as npt

from gloam.errors import GloamError, ImageError, ModelError
from gloam.padding import crop_back, reflect_to
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import open_tested
from gloam.runtime.backends.session import Session, run_together
from gloam.runtime.models.conditions import Conditions

Pixels = npt.NDArray[np.uint8]
GPU_BATCH = 8  # generators hold large activations; larger batches gain little


class ImageOperation(Protocol):
    """Images in, pictures of the same sizes out: what a bulk run needs.

    Attributes:
        name: for people.
        fingerprint: identity, hex sha256; equal ones give equal pictures.
        batch_size: images worth giving at once.
        backend: what runs it, as it is at the moment.
    """

    name: str
    fingerprint: str
    batch_size: int

    @property
    def backend(self) -> BackendFacts:
        """See above."""
        ...

    def check(self, image: Pixels) -> None:
        """Raise ImageError where the image cannot be run."""
        ...

    def shape_for(self, image: Pixels) -> tuple[int, int]:
        """The (H, W) that an image is run at; images of one shape can share a batch."""
        ...

    def __call__(self, images: Sequence[Pixels]) -> list[Pixels]:
        """uint8 ``[h, w, 3]`` each, of any sizes, to uint8 ``[h, w, 3]`` or ``[h, w]`` each."""
        ...


class ImageModel:
    """An exported model of a reflecting profile.

    Args:
        session: a loaded model; one image input, one output of the input's height and width.

    Attributes:
        session, card: of the model.
        channels: of the input, 3 or 1.
        batch_size: images per run: 1 on a CPU, where batching gains nothing.
        conditions: what the inputs behind the images are fed; the card's defaults at first.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.card = session.card
        if not self.card.profile.reflects:
            raise ModelError(f"{self.card.name}: the model card does not state the padding rule; export it again")
        self.channels = int(self.card.inputs[0].shape[3])
        self.conditions = Conditions(self.card.inputs[1:])
        self.batch_size = min(1 if session.backend.on_cpu else GPU_BATCH, self.card.profile.batch[1])

    def check(self, image: Pixels) -> None:
        """Whether an image can be run.

        Raises:
            ImageError: not uint8 ``[h, w, 1 or 3]``, empty, or too large for a fixed profile.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
            raise ImageError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
        self.card.profile.shape_for(image.shape[0], image.shape[1])

    def shape_for(self, image: Pixels) -> tuple[int, int]:
        """The (H, W) of the profile that an image is padded to."""
        return self.card.profile.shape_for(image.shape[0], image.shape[1])

    def maps(self, images: Sequence[Pixels]) -> list[npt.NDArray[np.float32]]:
        """Run images of any sizes.

        Args:
            images: uint8 ``[h, w, 3]`` or ``[h, w, 1]`` each; colour is turned to grey for a one-channel model, and
                grey repeated for a colour model.

        Returns:
            float32 ``[h, w, ...]`` each, as the graph gives it without the padding.

        Raises:
            ImageError: see :meth:`check`; or the image does not fit into memory.
        """
        for image in images:
            self.check(image)
        prepared = [_with_channels(image, self.channels) for image in images]
        found: dict[int, npt.NDArray[np.float32]] = {}
        buckets: dict[tuple[int, int], list[int]] = {}
        for row, image in enumerate(prepared):
            buckets.setdefault(self.shape_for(image), []).append(row)
        size = self.batch_size
        parts = [rows[at : at + size] for rows in buckets.values() for at in range(0, len(rows), size)]

        def run(part: list[int]) -> None:
            anchor = self.card.profile.anchor
            padded = [reflect_to(prepared[row], self.shape_for(prepared[row]), anchor) for row in part]
            output = self._run(np.stack([pixels for pixels, _ in padded]), [images[row] for row in part])
            for row, (_, corner), whole in zip(part, padded, output, strict=True):
                found[row] = crop_back(whole, corner, (images[row].shape[0], images[row].shape[1]))

        run_together(run, parts, self.session.backend)
        return [found[row] for row in range(len(images))]

    def _run(self, batch: Pixels, images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        given = self.conditions.filled(images, (batch.shape[1], batch.shape[2]), self.card.profile.anchor)
        output = run_images(self.session, {self.card.inputs[0].name: batch, **given})[self.card.outputs[0].name]
        maps: npt.NDArray[np.float32] = output.astype(np.float32, copy=False)
        return maps


def run_images(session: Session, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Run a model on a batch of images, its first input, uint8 ``[B, H, W, C]``.

    Raises:
        ImageError: the images do not fit into memory. ModelError: the model failed.
    """
    try:
        return session.run(inputs)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        _, height, width, _ = next(iter(inputs.values())).shape
        size = f"{width}x{height}"
        if isinstance(error, MemoryError) or "alloc" in reason.lower():
            raise ImageError(f"{size} does not fit into memory; use a smaller --max-side") from error
        if isinstance(error, GloamError):
            raise
        raise ModelError(f"{session.card.name}: the model failed on {size} ({reason})") from error


def to_uint8(values: npt.NDArray[np.floating[Any]]) -> Pixels:
    """Values on 0..255 to the nearest uint8.

    Raises:
        ModelError: a value is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise ModelError("the model gave values that are not finite; run `gloam check` on it")
    rounded: Pixels = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded


def one_by_one(images: Sequence[Pixels], turn: Callable[[Pixels], Pixels]) -> list[Pixels]:
    """``turn`` on each image; refuses what is no image."""
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ImageError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    return [turn(image) for image in images]


def _with_channels(image: Pixels, channels: int) -> Pixels:
    if image.shape[2] == channels:
        return image
    if channels == 1:
        grey: Pixels = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return grey[..., None]
    return np.repeat(image, 3, axis=2)


class LoadedModel:
    """An exported model of one kind; subclasses say of which, and what they do with it.

    Args:
        session: a loaded model of that kind.

    Attributes:
        kind: of the model's card.
        session, card, fingerprint: of the model.
    """

    kind: ClassVar[str]

    def __init__(self, session: Session) -> None:
        session.card.expect_kind(self.kind, session.card.name)
        self.session, self.card, self.fingerprint = session, session.card, session.fingerprint

    @property
    def backend(self) -> BackendFacts:
        """What runs it, as it is at the moment."""
        return self.session.backend

    @classmethod
    def load(cls, path: str | Path, placement: Placement | None = None) -> Self:
        """Load an ``.onnx`` file or a TensorRT engine.

        Args:
            path: the model.
            placement: where and how it runs; on the CPU by default.

        Raises:
            ModelError: unreadable, of another kind, or its self-test fails here.
        """
        return cls(open_tested(path, placement, lambda card, where: card.expect_kind(cls.kind, where)))


class ModelOperation(LoadedModel):
    """An exported model as an :class:`ImageOperation`; subclasses say of which kind, and what its maps become.

    Attributes:
        name: of the model.
        batch_size: see :class:`ImageOperation`.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._model = ImageModel(session)
        self.name = session.card.name
        self.batch_size = self._model.batch_size

    def check(self, image: Pixels) -> None:
        """Raise ImageError where an image cannot be run (no image, or too large for a fixed profile)."""
        self._model.check(image)

    def shape_for(self, image: Pixels) -> tuple[int, int]:
        """See :class:`ImageOperation`."""
        return self._model.shape_for(image)
