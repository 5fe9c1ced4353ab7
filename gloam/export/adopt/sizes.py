"""The layout, sizes and batches that a foreign graph takes, found by running it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gloam.data.images import MIN_SIDE
from gloam.errors import ModelError, UsageError
from gloam.export.adopt.feeding import BYTE, IMAGENET, ZERO, Feeding, Layout
from gloam.export.adopt.findings import refusal
from gloam.export.adopt.foreign import Foreign
from gloam.export.adopt.probe import Runner, patch_of, position_tokens
from gloam.padding import PaddingProfile, next_multiple

# (height, width) that a graph of any size takes, in two sizes: some networks have no cell left of the smaller ones.
TRIALS = (((97, 131), (128, 96), (64, 160)), ((224, 288), (353, 259), (256, 448)))
LARGE = (
    462,
    616,
)  # (height, width) that it must take, too, and see all of: some pool by a kernel of their example's size
CELLS = (1, 14, 16, 32)  # multiples of sides that are tried, where no patch says which
LEAST = (MIN_SIDE, 48, 64, 96, 128, 160, 192, 224)  # shortest sides that are tried
# (height, width) that a graph may be baked to; the commonest of retrieval first.
BAKED = (
    *((side, side) for side in (224, 320, 322, 256, 384, 336, 448, 512, 518, 504, 299, 288, 196, 192, 160, 128, 112)),
    *((480, 640), (640, 480), (640, 640), (768, 1024), (1024, 1024), (96, 96), (64, 64)),
)
EDGE = 4  # of an image's sides, that part is looked at
UNSEEN = 1e-6  # of a descriptor's largest value: what no pixel makes
LARGEST_BATCH = 64
COMPANIONS = 3  # images of the batch that is tried
NOT_PATCHES = (0, 1, 2, 5)  # tokens of a transformer that stand for no patch: of the class, of registers


@dataclass(frozen=True)
class Sizes:
    """What a graph takes.

    Attributes:
        only: (height, width) in pixels of a graph of one size; None of others.
        cell: sides are multiples of so many pixels.
        minimum: shortest side.
        batch: smallest and largest batch.
    """

    only: tuple[int, int] | None
    cell: int = 1
    minimum: int = 1
    batch: tuple[int, int] = (1, LARGEST_BATCH)

    def near(self, height: int, width: int) -> tuple[int, int]:
        """The size next above that it takes."""
        if self.only is not None:
            return self.only
        return next_multiple(max(height, self.minimum), self.cell), next_multiple(max(width, self.minimum), self.cell)

    @property
    def profile(self) -> PaddingProfile:
        """As a card states it."""
        if self.only is None:
            profile = PaddingProfile.dynamic(self.batch).of_cell(self.cell)
            return replace(profile, minimum=self.minimum) if self.minimum > MIN_SIDE else profile
        height, width = self.only
        if height == width:
            return PaddingProfile.square(height, self.batch)
        return PaddingProfile("dynamic", heights=(height,), widths=(width,), batch=self.batch)


def find_layout(runner: Runner, stated: Layout | None) -> Layout:
    """Where the channels stand: by the input's shape where that tells, else by running both.

    Raises:
        NotAdoptedError: another one is stated.
        UsageError: both run and none is stated.
        ModelError: neither runs, or the graph takes grey images.
    """
    port = runner.foreign.images
    found = _shaped(port.shape, runner.foreign)
    if found is None:
        whole = [(224, 224), (97, 131), *BAKED[1:4]]
        runs: list[Layout] = [
            layout for layout in _LAYOUTS if any(_runs(runner, layout, height, width) for height, width in whole)
        ]
        if not runs:
            reason = runner.runs(_noise(runner.foreign, "nchw", 224, 224))
            raise ModelError(f"{reason}; nor with channels last, nor at other sizes")
        if len(runs) > 1 and stated is None:
            raise UsageError(f"{runner.foreign.path}: runs with channels first and last; state --layout nchw or nhwc")
        found = stated if stated in runs else runs[0]
    if stated is not None and stated != found:
        raise refusal(
            runner.foreign.path,
            "layout",
            f"--layout {stated} is stated, but the graph takes {port}, which is {found}; leave it out",
        )
    return found


_LAYOUTS: tuple[Layout, ...] = ("nchw", "nhwc")


def _shaped(shape: tuple[int | None, ...], foreign: Foreign) -> Layout | None:
    if shape[0] is not None and shape[0] > 1:
        raise ModelError(
            f"{foreign.path}: takes batches of {shape[0]} images alone ({foreign.images}); export it with a free "
            "batch, or one of 1"
        )
    ends = shape[1], shape[3]
    if 3 in ends and ends.count(3) == 1:
        return "nchw" if ends[0] == 3 else "nhwc"
    if 1 in ends or (None not in ends and ends.count(3) == 0):
        raise ModelError(f"{foreign.path}: takes {foreign.images}, and no images of three channels")
    return None


def find_sizes(runner: Runner, layout: Layout, stretch: tuple[int, int] | None) -> Sizes:
    """Which sizes and batches run.

    Args:
        runner: of the graph.
        layout: that it takes.
        stretch: exact (width, height) that the user states.

    Raises:
        NotAdoptedError: one size alone runs, and another one or none is stated; or positions are cut to the tokens.
        ModelError: none runs.
    """
    foreign = runner.foreign
    axes = foreign.images.shape[2:4] if layout == "nchw" else foreign.images.shape[1:3]
    wanted = None if stretch is None else (stretch[1], stretch[0])
    declared = (axes[0], axes[1]) if axes[0] is not None and axes[1] is not None else None
    tokens = position_tokens(foreign)
    sizes = None if declared is not None else _free(runner, layout)
    whole = sizes is None or _sees_all(runner, layout, *sizes.near(*LARGE))
    if sizes is not None and tokens is not None and tokens[1]:
        if not _own_grid(wanted, tokens[0], sizes.cell):
            raise refusal(
                foreign.path,
                "frozen_tokens",
                f"its {tokens[0]} positions are cut to the tokens of other sizes instead of resized, so they belong to "
                "other places; state the size it was trained at with --stretch WxH, or export it to resize them",
            )
    elif not whole and wanted is None:
        raise refusal(
            foreign.path,
            "baked_size",
            "sizes are free in its shapes, but of larger images than its example's it does not see the whole, or gives "
            f"no descriptor ({LARGE[1]}x{LARGE[0]} px); state the example's size with --stretch WxH, or export it with "
            "a pooling of any size",
        )
    if sizes is None or not whole:
        tried = [declared] if declared is not None else [*([wanted] if wanted else []), *_fitting(axes)]
        only = next((size for size in tried if _runs(runner, layout, *size)), None)
        if only is None:
            reason = runner.runs(_noise(foreign, layout, *tried[0]))
            raise ModelError(f"{reason}; if it takes one size alone, state it with --stretch WxH")
        sizes = Sizes(only)
        if only != wanted:
            _refuse_only(foreign, only, wanted, declared is not None, None if tokens is None else tokens[0])
    return replace(sizes, batch=_batch(runner, layout, sizes))


def _refuse_only(
    foreign: Foreign, only: tuple[int, int], wanted: tuple[int, int] | None, declared: bool, tokens: int | None
) -> None:
    size = f"{only[1]}x{only[0]}"
    stated = "" if wanted is None else f", where --stretch {wanted[1]}x{wanted[0]} is stated"
    advice = f"state --stretch {size} to have every image brought to it, or export it with free sizes"
    if declared:
        raise refusal(foreign.path, "baked_size", f"the graph takes {size} px alone{stated}; {advice}")
    if tokens is not None:
        text = f"sizes are free in its shapes, but its {tokens} positions fit {size} px alone{stated}; {advice}"
        raise refusal(foreign.path, "frozen_tokens", text)
    text = f"sizes are free in its shapes, but it runs at {size} px alone{stated}; {advice}"
    raise refusal(foreign.path, "baked_size", text)


def _own_grid(wanted: tuple[int, int] | None, tokens: int, cell: int) -> bool:
    return wanted is not None and tokens - (wanted[0] // cell) * (wanted[1] // cell) in NOT_PATCHES


def _fitting(axes: tuple[int | None, ...]) -> list[tuple[int, int]]:
    """The usual sizes, and squares of a side that is declared."""
    sides = [side for side in axes if side is not None]
    return [(side, side) for side in sides] or list(BAKED)


def _free(runner: Runner, layout: Layout) -> Sizes | None:
    patch = patch_of(runner.foreign)
    for cell in (patch,) if patch else CELLS:
        for trials in TRIALS:
            whole = [(next_multiple(height, cell), next_multiple(width, cell)) for height, width in trials]
            if all(_runs(runner, layout, *size) for size in whole):
                sides = [next_multiple(side, cell) for side in LEAST]
                least = next((side for side in sides if _runs(runner, layout, side, side)), sides[-1])
                return Sizes(None, cell, least if least > next_multiple(MIN_SIDE, cell) else 1)
    return None


def _batch(runner: Runner, layout: Layout, sizes: Sizes) -> tuple[int, int]:
    if runner.foreign.images.shape[0] is not None:
        return 1, 1
    height, width = sizes.near(*TRIALS[0][0])
    one = _noise(runner.foreign, layout, height, width)
    return (1, LARGEST_BATCH) if runner.runs(np.concatenate([one] * COMPANIONS)) is None else (1, 1)


def _sees_all(runner: Runner, layout: Layout, height: int, width: int) -> bool:
    """Whether it runs at a size, and the last rows and columns change what it gives."""
    fed = _noise(runner.foreign, layout, height, width)
    planes = fed if layout == "nhwc" else fed.transpose(0, 2, 3, 1)
    rows, columns = planes.copy(), planes.copy()
    rows[:, -height // EDGE :] = columns[:, :, -width // EDGE :] = 0
    try:
        whole, *cut = (
            runner.describe(np.ascontiguousarray(each if layout == "nhwc" else each.transpose(0, 3, 1, 2)))
            for each in (planes, rows, columns)
        )
    except ModelError:
        return False
    # What is not finite, or nothing but zeros, is told of later by its own name.
    return not whole.any() or all(not np.abs(each - whole).max() <= UNSEEN * np.abs(whole).max() for each in cut)


def _runs(runner: Runner, layout: Layout, height: int, width: int) -> bool:
    return runner.runs(_noise(runner.foreign, layout, height, width)) is None


def _noise(
    foreign: Foreign, layout: Layout, height: int, width: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    image = np.random.default_rng(3).integers(0, 256, (1, height, width, 3), np.uint8)
    mean, std = (ZERO, BYTE) if foreign.images.dtype == "uint8" else IMAGENET
    return Feeding(layout, "rgb", mean, std).fed(image, foreign.images.dtype)
