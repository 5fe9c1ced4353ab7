"""What whoever feeds a model does to an image: how it is decoded, resized, and normalised in its light."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from gloam.errors import UsageError
from gloam.padding import LARGEST_SIDE
from gloam.record import Written, sparse

SMALLEST_SIDE = 32  # pixels; below this a stride-32 network has no cell left
MOST_STRETCHED = 120_000_000  # pixels, as many as an image may have
MOST_CLIP, MOST_TILES = 1e4, 256  # of CLAHE; more tiles take more memory than the image
JPEG = "libjpeg-turbo's own settings: accurate integer inverse DCT, smooth ('fancy') upsampling of the chroma"
NOTE = (
    "values as the file stores them: no ICC profile is applied, transparency is dropped, 16 bits become 8. Another "
    "decoder moves pixels by some levels and the descriptor with them; the self-test is of pixels and does not see it"
)


@dataclass(frozen=True)
class InputRule(Written):
    """How whoever feeds a model brings a decoded image to the size that the model sees; by default as the literature.

    Attributes:
        max_side: longer side in pixels that larger images are reduced to; None for no limit.
        stretch: exact (width, height) in pixels, whatever the aspect; excludes ``max_side``.
        filter: of the resizing: ``lanczos`` (Pillow's, of three lobes and antialiased) for ``max_side``, ``area``
            (OpenCV's INTER_AREA) for ``stretch``, ``none`` for native sizes. Or what a network's authors resize by:
            ``bilinear`` or ``bicubic``, Pillow's, antialiased too.
        enlarge: whether smaller images are enlarged: only by ``stretch``.
        multiple: behind ``max_side`` both sides become the nearest multiple of this many pixels (a half goes to the
            even number of them; at least one, and none above ``max_side``), by the same one resizing; a patch of a
            vision transformer.

    Raises:
        UsageError: values that do not belong together, or that this gloam cannot follow.
    """

    max_side: int | None = 1024
    stretch: tuple[int, int] | None = None
    filter: Literal["lanczos", "area", "none", "bilinear", "bicubic"] = "lanczos"
    enlarge: bool = False
    multiple: int = sparse(1)

    def __post_init__(self) -> None:
        if self.max_side is not None and self.stretch is not None:
            raise UsageError("--stretch and --max-side exclude each other")
        if not 1 <= self.multiple <= LARGEST_SIDE or (self.stretch is not None and self.multiple > 1):
            raise UsageError(
                f"input rule: sides that are multiples of {self.multiple} px, where they are {self._size()}"
            )
        sides = [side for side in (self.max_side, *(self.stretch or ())) if side is not None]
        if any(side < SMALLEST_SIDE for side in sides):
            raise UsageError(f"image sides must be {SMALLEST_SIDE} pixels or more")
        if self.stretch and self.stretch[0] * self.stretch[1] > MOST_STRETCHED:
            raise UsageError(f"{self._size()} is more than {MOST_STRETCHED} pixels; choose fewer")
        native = self.max_side is None and self.multiple == 1
        fits = ("area", True) if self.stretch else ("none" if native else "lanczos", False)
        others = () if native and not self.stretch else ("bilinear", "bicubic")
        if (self.filter, self.enlarge) != fits and (self.filter not in others or self.enlarge != fits[1]):
            raise UsageError(
                f"input rule: filter {self.filter!r} with enlarge {self.enlarge} where {self._size()} takes "
                f"{fits[0]!r} with {fits[1]}"
            )

    @classmethod
    def of(cls, max_side: int | None = None, stretch: tuple[int, int] | None = None) -> InputRule:
        """The rule of a longer side or of an exact (width, height), in pixels; of native sizes without either."""
        if stretch is not None:
            return cls(max_side, stretch, "area", True)
        return cls(max_side) if max_side else NATIVE

    def in_cells(self, cell: int) -> InputRule:
        """The same rule for a model whose images have sides that are multiples of a cell, pixels."""
        if self.stretch is not None or self.multiple % cell == 0:
            return self
        return replace(self, multiple=cell, filter="lanczos" if self.filter == "none" else self.filter)

    @property
    def of_pillow(self) -> bool:
        """Whether it asks for more than a longer side by LANCZOS or a stretch by area."""
        return self.multiple > 1 or self.filter in ("bilinear", "bicubic")

    def __str__(self) -> str:
        return f"{self._size()} ({self.filter}, {'enlarges' if self.enlarge else 'never enlarges'})"

    def _size(self) -> str:
        if self.stretch is not None:
            return f"exactly {self.stretch[0]}x{self.stretch[1]} px"
        size = "native sizes" if self.max_side is None else f"longer side of at most {self.max_side} px"
        return size if self.multiple == 1 else f"{size}, both to the nearest multiple of {self.multiple} px"


LITERATURE = InputRule()
NATIVE = InputRule(None, None, "none")


@dataclass(frozen=True)
class Photometric:
    """Normalisation of an image's light before the network.

    Attributes:
        name: ``none`` or ``clahe`` (CLAHE on the L channel of Lab).
        clip, grid: CLAHE's clip limit and tiles per side.
        baked: True where the graph does it; False where the caller does, on the decoded image.
    """

    name: Literal["none", "clahe"] = "none"
    clip: float | int = 1.0  # the Dark Side paper's embedders; an int stays one, for the space is of what is written
    grid: int = 8
    baked: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.clip <= MOST_CLIP and 1 <= self.grid <= MOST_TILES):
            raise UsageError(
                f"CLAHE with clip limit {self.clip:g} and {self.grid} tiles a side; a limit of 0 to {MOST_CLIP:g} and "
                f"1 to {MOST_TILES} tiles are possible"
            )


@dataclass(frozen=True)
class Decoding(Written):
    """How an image file becomes the pixels that a model sees: 8 bits of RGB, or of grey where it takes one channel.

    Attributes:
        orientation: ``upright``: turned as the file's EXIF orientation says; ``stored``: left as the file has them, for
            what stands beside intrinsics.
        jpeg: how JPEGs are unpacked.
        note: what else a foreign caller has to know, in words.
    """

    orientation: Literal["upright", "stored"] = "upright"
    jpeg: str = JPEG
    note: str = NOTE
