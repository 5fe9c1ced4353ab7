"""PaddingProfile: which image shapes a model accepts, and how a smaller image is placed in one of them.

``dynamic`` models take any size and have no masks. ``fixed`` models take heights and widths that are multiples
of 256 (one TensorRT optimisation profile per shape) together with each image's valid size, and are
padding-exact: what lies beyond the valid size changes nothing. Of a vision transformer padded and valid sides are
multiples of its patch instead. ``square`` models take one size alone, and have no masks either.

Translators follow a rule of their own, part of their definition: the image is continued by reflection, half on each
side with the extra pixel right and bottom, to exactly the next multiple; the result is cropped back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gloam.errors import ImageError, ModelError, UsageError
from gloam.record import Written, sparse

MULTIPLE = 256  # the field's tile for engines of fixed shape
LARGEST_SIDE = 1 << 16  # pixels
MOST_IMAGES = 1 << 16  # of a batch
DEFAULT_SIDES = (256, 512, 768, 1024)  # covers the 1024-pixel protocols of retrieval


@dataclass(frozen=True)
class PaddingProfile(Written):
    """The shapes of a model's image input.

    Attributes:
        kind: ``dynamic`` (native sizes, no masks), ``fixed`` (padded sizes, valid sizes given) or ``square`` (images of
            one size, which is part of the network).
        multiple: heights and widths of a fixed or reflecting profile are multiples of this many pixels.
        heights, widths: allowed padded sides in pixels, ascending; empty for ``dynamic``, except of an engine, which
            takes no other size; the one side for ``square``.
        batch: smallest and largest batch.
        pad_mode: content of the padding, ``zero`` or ``reflect``; an embedder of a fixed profile ignores it.
        anchor: place of the image in the padded shape, ``top-left`` or ``center`` (extra pixel right/bottom).
        minimum: smallest padded side of a reflecting or next-only profile, itself a multiple; of any other, smallest
            image side.
        next_only: a fixed profile runs an image at the next multiple of its sides alone and never at a larger shape,
            because what is inside the graph reflects the image into the whole of it (a fused translator).
        cell: sides of an image, unpadded, are multiples of this many pixels, a patch of a vision transformer.
    """

    kind: Literal["dynamic", "fixed", "square"] = "dynamic"
    multiple: int = MULTIPLE
    heights: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    batch: tuple[int, int] = (1, 64)
    pad_mode: Literal["zero", "reflect"] = "zero"
    anchor: Literal["top-left", "center"] = "top-left"
    # Stated only where they say something, so that the identities of earlier files stay.
    minimum: int = sparse(1)
    next_only: bool = sparse(False)
    cell: int = sparse(1)

    def __post_init__(self) -> None:
        if self.kind not in ("dynamic", "fixed", "square"):
            raise ModelError(f"padding profile: unknown kind {self.kind!r}; choose dynamic or fixed")
        if self.kind == "square" and not (
            self.heights == self.widths and len(self.heights) == 1 and self.heights[0] > 0
        ):
            raise ModelError(f"padding profile: square, with heights {self.heights} and widths {self.widths}")
        if not 1 <= self.batch[0] <= self.batch[1]:
            raise ModelError(f"padding profile: batch range {self.batch} is not ascending from 1")
        if self.batch[1] > MOST_IMAGES:
            raise ModelError(f"padding profile: a batch of {self.batch[1]} images; at most {MOST_IMAGES} are possible")
        if not (1 <= self.multiple <= LARGEST_SIDE and 1 <= self.minimum <= LARGEST_SIDE):
            raise ModelError(
                f"padding profile: multiple {self.multiple} and minimum {self.minimum} must be 1 to {LARGEST_SIDE} px"
            )
        if not 1 <= self.cell <= LARGEST_SIDE or (self.kind == "fixed" and self.multiple % self.cell):
            raise ModelError(f"padding profile: sides in cells of {self.cell} px, in multiples of {self.multiple} px")
        if max((*self.heights, *self.widths), default=0) > LARGEST_SIDE:
            raise ModelError(f"padding profile: a side above {LARGEST_SIDE} pixels")
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
        cell: int = 1,
    ) -> PaddingProfile:
        """A profile of padded shapes, every height with every width; with a cell, both are multiples of that."""
        multiple = MULTIPLE if cell == 1 else cell
        return cls("fixed", multiple, tuple(heights), tuple(widths), batch, cell=cell)

    @classmethod
    def square(cls, side: int, batch: tuple[int, int] = (1, 64)) -> PaddingProfile:
        """A profile of one size, side by side in pixels."""
        return cls("square", heights=(side,), widths=(side,), batch=batch)

    def of_cell(self, cell: int) -> PaddingProfile:
        """The same kind, sides and batch for images whose sides are multiples of a cell.

        Raises:
            ModelError: the sides of a fixed profile are no multiples of it.
        """
        return replace(self, multiple=cell if self.kind == "fixed" else self.multiple, cell=cell)

    @property
    def reflects(self) -> bool:
        """Whether images are continued by reflection to the next multiple, as translators are fed."""
        return self.pad_mode == "reflect"

    def reflecting(self, multiple: int, minimum: int = 1) -> PaddingProfile:
        """The same kind, sides and batch under the translators' rule.

        Args:
            multiple: of the network; a fixed profile takes the least common multiple with 256.
            minimum: smallest side of the network.

        Raises:
            ModelError: the sides of a fixed profile are no multiples of it.
        """
        if self.kind == "fixed":
            multiple = math.lcm(MULTIPLE, multiple)
        return replace(
            self, multiple=multiple, minimum=next_multiple(minimum, multiple), pad_mode="reflect", anchor="center"
        )

    def shape_for(self, height: int, width: int) -> tuple[int, int]:
        """The padded (H, W) that holds an image; its own size for ``dynamic`` without reflection.

        Raises:
            ImageError: the image is smaller than the smallest side or larger than the largest shape, or a reflecting
                or next-only profile lacks the next multiple.
        """
        if self.reflects or self.next_only:
            return self._next_shape(height, width)
        if self.kind == "square":
            if (height, width) != (self.heights[0], self.widths[0]):
                raise ImageError(
                    f"{width}x{height} is not the one size of this model, {self.widths[0]}x{self.heights[0]}; resize "
                    "images by its input rule"
                )
            return height, width
        if min(height, width) < self.minimum:
            raise ImageError(f"{width}x{height} is too small for this model; {self.minimum} px a side at least")
        if height % self.cell or width % self.cell:
            raise ImageError(
                f"{width}x{height} has a side that is no multiple of {self.cell} px, the model's patch; resize images "
                "by its input rule"
            )
        if self.kind == "dynamic":
            if self.heights and not (height in self.heights and width in self.widths):
                raise ImageError(f"{width}x{height} {self._not_built()}")
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

    def _next_shape(self, height: int, width: int) -> tuple[int, int]:
        shape = (
            next_multiple(max(height, self.minimum), self.multiple),
            next_multiple(max(width, self.minimum), self.multiple),
        )
        if self.heights and not (shape[0] in self.heights and shape[1] in self.widths):
            if self.kind == "dynamic":
                raise ImageError(f"{width}x{height} needs the shape {shape[1]}x{shape[0]}, which {self._not_built()}")
            raise ImageError(
                f"{width}x{height} needs the shape {shape[1]}x{shape[0]}, which the model's fixed profile lacks "
                f"(widths {_listed(self.widths)}; heights {_listed(self.heights)}); use a smaller --max-side, "
                "or export with these --sides"
            )
        return shape

    def _not_built(self) -> str:
        return (
            f"is none of the sizes that this engine was built for (widths {_listed(self.widths)}; heights "
            f"{_listed(self.heights)}); build one with it by `gloam engine`"
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
            raise UsageError("only top-left zero padding can be batched; use reflect_to image by image")
        batch = np.zeros((len(images), *shape, 3), np.uint8)
        sizes = np.empty((len(images), 2), np.int32)
        for row, image in enumerate(images):
            height, width = image.shape[:2]
            if height > shape[0] or width > shape[1]:
                raise UsageError(f"an image of {width}x{height} does not fit the shape {shape[1]}x{shape[0]}")
            batch[row, :height, :width] = image
            sizes[row] = height, width
        return batch, sizes


def next_multiple(side: int, multiple: int) -> int:
    """The smallest multiple that is at least ``side``."""
    return -(-side // multiple) * multiple


def reflect_pad(
    image: npt.NDArray[np.uint8], multiple: int, minimum: int = 1
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """Continue an image by reflection to the next multiple of both sides, half on each side.

    Args:
        image: uint8 ``[h, w, C]`` or ``[h, w]``, not empty.
        multiple: of the padded sides, pixels.
        minimum: smallest padded side.

    Returns:
        the padded image, and the (top, left) at which the image stands in it; where an odd number of pixels is
        added, the extra one is right or bottom.
    """
    height, width = image.shape[:2]
    return reflect_to(
        image, (next_multiple(max(height, minimum), multiple), next_multiple(max(width, minimum), multiple))
    )


def reflect_to(image: npt.NDArray[Any], shape: tuple[int, int]) -> tuple[npt.NDArray[Any], tuple[int, int]]:
    """:func:`reflect_pad` to a given (H, W), of any values. The edge pixel is not doubled (reflect-101); the
    reflection is repeated where the image is smaller than its padding, and a side of one pixel is repeated.

    Raises:
        UsageError: the image is empty or larger than the shape.
    """
    height, width = image.shape[:2]
    if not (0 < height <= shape[0] and 0 < width <= shape[1]):
        raise UsageError(f"an image of {width}x{height} cannot be padded to {shape[1]}x{shape[0]}")
    if (height, width) == shape:
        return image, (0, 0)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    rows = _reflected(np.arange(-top, shape[0] - top), height)
    columns = _reflected(np.arange(-left, shape[1] - left), width)
    return image[rows[:, None], columns[None, :]], (top, left)


def crop_back(padded: npt.NDArray[Any], corner: tuple[int, int], size: tuple[int, int]) -> npt.NDArray[Any]:
    """The part of ``padded`` ``[H, W, ...]`` that an image of ``size`` (h, w) at ``corner`` (top, left) took."""
    top, left = corner
    return padded[top : top + size[0], left : left + size[1]]


def _reflected(index: npt.NDArray[np.int64], side: int) -> npt.NDArray[np.int64]:
    """Where an index beyond 0..side - 1 lands after as many reflections as it needs."""
    period = max(2 * (side - 1), 1)
    folded = index % period
    landed: npt.NDArray[np.int64] = np.minimum(folded, period - folded) if side > 1 else np.zeros_like(index)
    return landed


def _listed(sides: Sequence[int]) -> str:
    return ", ".join(map(str, sides))
