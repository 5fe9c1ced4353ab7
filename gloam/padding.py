"""PaddingProfile: which image shapes a model accepts, and how a smaller image is placed in one of them.

``dynamic`` models take any size and have no masks. ``fixed`` models take heights and widths that are multiples
of 256 (one TensorRT optimisation profile per shape) together with each image's valid size, and are
padding-exact: what lies beyond the valid size changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gloam.errors import ImageError, ModelError, UsageError

MULTIPLE = 256  # the field's tile for engines of fixed shape
DEFAULT_SIDES = (256, 512, 768, 1024)  # covers the 1024-pixel protocols of retrieval


@dataclass(frozen=True)
class PaddingProfile:
    """The shapes of a model's image input.

    Attributes:
        kind: ``dynamic`` (native sizes, no masks) or ``fixed`` (padded sizes, valid sizes given).
        multiple: heights and widths of a fixed profile are multiples of this many pixels.
        heights, widths: allowed padded sides in pixels, ascending; empty for ``dynamic``.
        batch: smallest and largest batch.
        pad_mode: content of the padding, ``zero`` or ``reflect``; an embedder of a fixed profile ignores it.
        anchor: place of the image in the padded shape, ``top-left`` or ``center`` (extra pixel right/bottom).
    """

    kind: Literal["dynamic", "fixed"] = "dynamic"
    multiple: int = MULTIPLE
    heights: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    batch: tuple[int, int] = (1, 64)
    pad_mode: Literal["zero", "reflect"] = "zero"
    anchor: Literal["top-left", "center"] = "top-left"

    def __post_init__(self) -> None:
        if self.kind not in ("dynamic", "fixed"):
            raise ModelError(f"padding profile: unknown kind {self.kind!r}; choose dynamic or fixed")
        if not 1 <= self.batch[0] <= self.batch[1]:
            raise ModelError(f"padding profile: batch range {self.batch} is not ascending from 1")
        if self.kind == "fixed":
            for sides, label in ((self.heights, "heights"), (self.widths, "widths")):
                if not sides or any(side <= 0 or side % self.multiple for side in sides):
                    raise ModelError(f"padding profile: {label} {sides} must be positive multiples of {self.multiple}")
                if list(sides) != sorted(set(sides)):
                    raise ModelError(f"padding profile: {label} {sides} must ascend without repeats")

    @classmethod
    def dynamic(cls, batch: tuple[int, int] = (1, 64)) -> PaddingProfile:
        """A profile of native sizes."""
        return cls("dynamic", batch=batch)

    @classmethod
    def fixed(
        cls,
        heights: Sequence[int] = DEFAULT_SIDES,
        widths: Sequence[int] = DEFAULT_SIDES,
        batch: tuple[int, int] = (1, 64),
    ) -> PaddingProfile:
        """A profile of padded shapes, every height with every width."""
        return cls("fixed", heights=tuple(heights), widths=tuple(widths), batch=batch)

    def shape_for(self, height: int, width: int) -> tuple[int, int]:
        """The padded (H, W) that holds an image; its own size for ``dynamic``.

        Raises:
            ImageError: the image is larger than the largest shape.
        """
        if self.kind == "dynamic":
            return height, width
        if height > self.heights[-1] or width > self.widths[-1]:
            raise ImageError(
                f"{width}x{height} is larger than the model's largest shape {self.widths[-1]}x{self.heights[-1]}; "
                "extract with a smaller --max-side or export a larger profile"
            )
        return (
            next(side for side in self.heights if side >= height),
            next(side for side in self.widths if side >= width),
        )

    def pad(
        self, images: Sequence[npt.NDArray[np.uint8]], shape: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Put images of mixed sizes into one batch.

        Args:
            images: uint8 ``[h, w, 3]`` each.
            shape: padded (H, W), at least as large as every image.

        Returns:
            batch uint8 ``[B, H, W, 3]`` and valid sizes int32 ``[B, 2]`` as (h, w).
        """
        if self.anchor != "top-left" or self.pad_mode != "zero":
            raise UsageError("only top-left zero padding can be batched; translators pad image by image")
        batch = np.zeros((len(images), *shape, 3), np.uint8)
        sizes = np.empty((len(images), 2), np.int32)
        for row, image in enumerate(images):
            height, width = image.shape[:2]
            if height > shape[0] or width > shape[1]:
                raise UsageError(f"an image of {width}x{height} does not fit the shape {shape[1]}x{shape[0]}")
            batch[row, :height, :width] = image
            sizes[row] = height, width
        return batch, sizes

    def to_dict(self) -> dict[str, Any]:
        """JSON form, read back by :meth:`from_dict`."""
        return {
            "kind": self.kind,
            "multiple": self.multiple,
            "heights": list(self.heights),
            "widths": list(self.widths),
            "batch": list(self.batch),
            "pad_mode": self.pad_mode,
            "anchor": self.anchor,
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> PaddingProfile:
        """Read the JSON form; a bad value is a ModelError."""
        try:
            return cls(
                kind=value["kind"],
                multiple=int(value["multiple"]),
                heights=tuple(int(side) for side in value["heights"]),
                widths=tuple(int(side) for side in value["widths"]),
                batch=(int(value["batch"][0]), int(value["batch"][1])),
                pad_mode=value["pad_mode"],
                anchor=value["anchor"],
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ModelError(f"the model card has a malformed padding profile ({error!r}); export again") from error
