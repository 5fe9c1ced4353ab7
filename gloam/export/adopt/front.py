"""What a foreign graph does to an image before its network begins: scaling, another order, another size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from gloam.export.adopt.feeding import ZERO, Channels, Layout, Triple, known_order
from gloam.export.adopt.probe import FRONT, Runner
from gloam.export.adopt.sizes import TRIALS, Sizes

TOLERANCE = {"float16": 2e-2}  # of a value there, relative to its span; of the others:
USUAL = 1e-3
MOST_PADDING = 64  # pixels that a graph may add to both sides
SEEN = (0.5, 12.0)  # span of what networks see of an image
BYTES_SEEN = (200.0, 300.0)  # of those that see bytes
SHIFTED = 2.0  # a mean above it is of bytes


@dataclass(frozen=True)
class Front:
    """What was found; nothing of it where the network does not begin with an image of three channels.

    Attributes:
        scale, shift: of the graph's input channels, in their order: the network sees ``scale * input + shift``.
        fixed_to: (height, width) in pixels that the graph itself brings every image to.
        scrambled: the network sees the input's values at other places.
    """

    scale: Triple | None = None
    shift: Triple = field(default=ZERO)
    fixed_to: tuple[int, int] | None = None
    scrambled: bool = False

    @property
    def scales(self) -> bool:
        """Whether the graph scales or shifts its input itself."""
        if self.scale is None:
            return False
        return max(abs(value - 1) for value in self.scale) > USUAL or max(map(abs, self.shift)) > USUAL

    @property
    def takes(self) -> float | None:
        """The input's range, 1 or 255, where the scaling tells; None where it does not."""
        if self.scale is None or not self.scales:
            return None
        span, shift = max(map(abs, self.scale)), max(map(abs, self.shift))
        if BYTES_SEEN[0] < span < BYTES_SEEN[1]:
            return 1.0
        ranges = [top for top in (1.0, 255.0) if SEEN[0] <= span * top <= SEEN[1]]
        if abs(span - 1) <= USUAL and shift > SHIFTED:
            return 255.0
        return ranges[0] if len(ranges) == 1 else None

    @property
    def normalisation(self) -> tuple[Triple, Triple] | None:
        """Mean and deviation, on [0, 1], that the graph's input channels are normalised by, in their order."""
        if self.scale is None or self.takes is None or min(map(abs, self.scale)) == 0:
            return None
        pairs = list(zip(self.scale, self.shift, strict=True))
        mean = tuple(-shift / (scale * self.takes) + 0.0 for scale, shift in pairs)
        return cast("Triple", mean), cast("Triple", tuple(1 / (scale * self.takes) for scale, _ in pairs))

    @property
    def channels(self) -> Channels | None:
        """The order of the input's channels, where means that everyone knows tell."""
        found = self.normalisation
        return None if found is None else known_order(*found)


def find_front(runner: Runner, layout: Layout, sizes: Sizes) -> Front:
    """Look at the tensor at which the network begins, for constant colours and for noise."""
    if FRONT not in runner.watched:
        return Front()
    dtype = runner.foreign.images.dtype
    top = 64.0 if dtype == "uint8" else 0.5
    height, width = sizes.near(*TRIALS[0][0])

    def seen(values: npt.NDArray[Any]) -> npt.NDArray[np.float64] | None:
        fed = values[None].astype(dtype)
        found = runner.watch(FRONT, np.ascontiguousarray(fed.transpose(0, 3, 1, 2) if layout == "nchw" else fed))
        if found.ndim != 4 or 3 not in (found.shape[1], found.shape[3]):
            return None
        planes = found[0] if found.shape[1] == 3 else found[0].transpose(2, 0, 1)
        wide: npt.NDArray[np.float64] = planes.astype(np.float64)
        return wide

    def colour(*values: float) -> npt.NDArray[np.float64] | None:
        found = seen(np.broadcast_to(np.asarray(values), (height, width, 3)))
        return None if found is None else found[:, found.shape[1] // 2, found.shape[2] // 2]

    black, grey, half = colour(0, 0, 0), colour(top, top, top), colour(top / 2, top / 2, top / 2)
    if black is None or grey is None or half is None:
        return Front()
    scale, room = (grey - black) / top, TOLERANCE.get(dtype, USUAL)
    if not np.all(np.abs(scale) > 1e-9) or np.any(np.abs(black + scale * top / 2 - half) > room * np.abs(scale) * top):
        return Front()
    draw = np.random.default_rng(7)
    noise = draw.integers(0, int(top) + 1, (height, width, 3)).astype(np.float64)
    noise = noise if dtype == "uint8" else noise + draw.random((height, width, 3)) * top
    found = seen(noise)
    assert found is not None  # the same network at the same size
    back = (found - black[:, None, None]) / scale[:, None, None]
    more = found.shape[1] - height, found.shape[2] - width
    fixed = None
    if all(0 <= side <= MOST_PADDING for side in more):
        top_row, left = more[0] // 2, more[1] // 2
        back = back[:, top_row : top_row + height, left : left + width]
        planes, limit = noise.transpose(2, 0, 1), room * top
        if not any(np.abs(back - order).max() <= limit for order in (planes, planes[::-1])):
            scrambled = np.abs(np.sort(back, axis=None) - np.sort(planes, axis=None)).max() <= limit
            return Front(scrambled=bool(scrambled))
    elif sizes.only is not None:
        fixed = int(found.shape[1]), int(found.shape[2])
    else:
        height, width = sizes.near(*TRIALS[0][1])
        other = seen(np.zeros((height, width, 3)))
        fixed = (int(found.shape[1]), int(found.shape[2])) if other is not None and other.shape == found.shape else None
        if fixed is None:
            return Front()
    red = colour(top, 0, 0)
    assert red is not None  # as above
    first = np.abs((red - black) / (scale * top) - 1) <= 10 * room  # where the input's first channel is seen
    if first.tolist() not in ([True, False, False], [False, False, True]):
        return Front(fixed_to=fixed)
    order = slice(None) if first[0] else slice(None, None, -1)
    scales, shifts = (cast("Triple", tuple(float(v) for v in values[order])) for values in (scale, black))
    return Front(scales, shifts, fixed)
