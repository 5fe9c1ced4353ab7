"""A graph is written where it gives what its self-tests say, at more than one size and batch; without torch."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.errors import ModelError
from gloam.export.written import write_model
from gloam.files import write_bytes
from gloam.model_card import ModelCard
from gloam.padding import PaddingProfile, next_multiple
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.selftest import selftest_differences
from gloam.runtime.backends.session import Session

# Of a descriptor behind whole levels that the graph itself rounds to (CLAHE, a resizing, a translator): one pixel that
# is rounded the other way moves it further than float32 does.
LEVELS_TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2}
GROSS = 1000  # times the tolerance: what no rounding makes at the size of the first self-test
ROOM = 10  # times the tolerance, or what the first self-test differs by: what rounding may make at another size
LARGER = (197, 267)  # height and width of a second self-test: HOW's smallest scale has cells both ways
BELOW = ((1, 55), (159, 125), (0, 0))  # pixels that the images of a fixed self-test lack in height and width


@dataclass(frozen=True)
class Shapes:
    """What a self-test feeds: batch, height and width, and the valid (h, w) of each image; all of it where left out."""

    shape: tuple[int, int, int]
    sizes: tuple[tuple[int, int], ...] = ()

    def within(self, batch: int) -> Shapes:
        """The same with no more images than ``batch``."""
        count = min(self.shape[0], batch)
        return Shapes((count, *self.shape[1:]), (self.sizes or (self.shape[1:],) * count)[:count])


def larger_shapes(profile: PaddingProfile, first: Shapes, multiple: int = 1) -> Shapes:
    """Of a second self-test, which finds what the first one's size and batch hide: no square, larger, and no multiple
    of the first; of a fixed profile its nearest other shape where there is one.

    Args:
        profile: of the file.
        first: what the first self-test feeds.
        multiple: of the sides that a dynamic graph takes, pixels.
    """
    batch, (_, height, width) = 3 if profile.batch[1] >= 3 else 1, first.shape
    if profile.kind == "dynamic":
        height = next_multiple(max(LARGER[0], height + 1), multiple)
        return Shapes((batch, height, next_multiple(max(LARGER[1], height + 1), multiple))).within(batch)
    if profile.kind == "square":
        return Shapes((batch, height, width), ((height, width),) * batch).within(batch)
    cell = profile.cell
    sides = [(h, w) for h in profile.heights for w in profile.widths if (h, w) != (height, width)]
    height, width = min(
        sides, key=lambda side: (side[0] == height, side[0] == side[1], side[0] * side[1]), default=(height, width)
    )
    # No less than the smallest image, and whole cells.
    least = max(profile.minimum, cell)
    sizes = (
        ()
        if profile.reflects
        else tuple(
            (max(least, height - rows) // cell * cell, max(least, width - columns) // cell * cell)
            for rows, columns in BELOW
        )
    )
    return Shapes((batch, height, width), sizes).within(batch)


def write_proved(proto: Any, card: ModelCard, path: str | Path) -> None:
    """Write a float32 model whose self-tests show the network, atomically.

    Raises:
        ModelError: the graph is invalid, does not run, or gives other values; nothing is written.
    """
    with tempfile.TemporaryDirectory(prefix="gloam-export-") as folder:
        made = Path(folder) / "model.onnx"
        write_model(proto, card, made)
        expect_proved(OrtSession(made), path)
        write_bytes(path, made.read_bytes())


def expect_proved(session: Session, path: str | Path) -> None:
    """Refuse a graph that is not its network's, at the size of the first self-test or at another.

    Weights of which float32's rounding alone makes more than the tolerance are no fault of the graph, and a failed
    ``gloam check`` tells of them; but they do so at every size.

    Raises:
        ModelError: the graph does not run at a size, or differs by more than rounding explains.
    """
    tests = session.card.selftests
    if not tests:
        return
    tolerance = tests[0].tolerance[session.card.precision]
    first, *others = selftest_differences(session)
    limits = [GROSS * tolerance, *(ROOM * max(tolerance, first) for _ in others)]
    # One wrong keypoint moves their means by little more than the tolerance, one wrong mask a matcher's probabilities.
    if session.card.keypoints is not None or session.card.takes is not None:
        limits = [tolerance for _ in tests]
    for test, difference, limit in zip(tests, (first, *others), limits, strict=True):
        if not difference <= limit:
            raise ModelError(
                f"{path}: not written, because the graph differs from the network by {difference:.1e} on "
                f"{test.described(session.card.kind)}, allowed {limit:.0e}; please report it with the network's name "
                "and options"
            )
