"""One way from a torch network to a file: what each kind states in an :class:`ExportSpec`, :func:`export_spec` does.

A kind's own is its graph, the example that it is traced with, its outputs and what its card says. The truth of the
self-test is torch's, each image alone, at native size and without padding.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.export.graph import batch_axis, flat, full_provenance, side_axis, trace, write_model
from gloam.files import write_bytes
from gloam.model_card import ModelCard, SelfTest, TensorSpec
from gloam.padding import PaddingProfile, next_multiple
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.selftest import selftest_differences
from gloam.runtime.backends.selftest_formulas import selftest_conditions, selftest_digest, selftest_images
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


@dataclass(frozen=True)
class ExportSpec:
    """What is a kind's own of an export.

    Attributes:
        kind: of the card.
        model: the network; put in eval mode, on the CPU.
        graph: method of ``model``: uint8 images ``[B, H, W, C]`` to the outputs; of a masked embedder also the valid
            sizes, int32 ``[B, 2]``; then the ``conditions``.
        profile: sizes and batch that the file takes.
        example: batch, height and width of the images that the graph is traced with; more than 1 each, and odd where a
            pad or a crop would do nothing at an even size: the exporter would leave it out for every size.
        outputs: of the graph.
        selftest: what the first self-test feeds.
        facts: fields of the card.
        core: the network whose options and weights the card states, where that is a part of ``model``.
        example_sizes: valid (h, w) of the example's images, where the graph takes them.
        conditions: what the graph takes beside the images, each with a default.
        images: what the card says of the images.
        channels: of the images.
        multiple, least: the sides that the graph takes, pixels.
        tolerance: of the self-tests, by precision.
    """

    kind: str
    model: nn.Module
    graph: Callable[..., Any]
    profile: PaddingProfile
    example: tuple[int, int, int]
    outputs: tuple[TensorSpec, ...]
    selftest: Shapes
    facts: Mapping[str, Any]
    tolerance: Mapping[str, float]
    core: nn.Module | None = None
    example_sizes: Sequence[tuple[int, int]] = ()
    conditions: tuple[TensorSpec, ...] = ()
    images: str = "RGB, straight from the decoder"
    channels: int = 3
    multiple: int = 1
    least: int = 1


class _Graph(nn.Module):
    def __init__(self, model: nn.Module, graph: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.graph = graph

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Any:
        return self.graph(images) if sizes is None else self.graph(images, sizes)


class _Conditioned(_Graph):
    def forward(  # type: ignore[override]  # torch names the axes of each input by its argument
        self, images: Tensor, label: Tensor, noise: Tensor | None = None, alignment: Tensor | None = None
    ) -> Any:
        return self.graph(images, *(given for given in (label, noise, alignment) if given is not None))


class _Filtered(_Graph):
    def forward(self, images: Tensor, appearance: Tensor) -> Any:  # type: ignore[override]  # as above
        return self.graph(images, appearance)


def export_spec(spec: ExportSpec, path: str | Path, provenance: Mapping[str, Any] | None) -> ModelCard:
    """Trace the graph, make the card with its self-test, and write both as one file, atomically.

    Raises:
        ModelError: the network's output is not finite, the graph is invalid, or it gives other values than the network.
    """
    spec.model.eval()
    name = str(spec.model.name)
    core: Any = spec.model if spec.core is None else spec.core
    inputs = [TensorSpec("images", "uint8", ("batch", "height", "width", spec.channels), spec.images)]
    if spec.example_sizes:
        inputs.append(TensorSpec("sizes", "int32", ("batch", 2), "valid height and width of each image"))
    card = ModelCard(
        kind=spec.kind,
        name=name,
        inputs=(*inputs, *spec.conditions),
        outputs=spec.outputs,
        profile=spec.profile,
        network={"name": name, **core.options},
        provenance=full_provenance(provenance or {}, core),
        selftest=_selftest(spec, spec.selftest),
        selftest_larger=_selftest(spec, larger_shapes(spec.profile, spec.selftest, spec.multiple)),
        **spec.facts,
    ).explained()
    write_proved(_traced(spec, name), card, path)
    return card


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


def _traced(spec: ExportSpec, name: str) -> Any:
    batch = batch_axis(spec.profile.batch[1])
    sides: dict[int, Any] = {}
    if spec.profile.kind != "square":
        sides = {at: side_axis(side, spec.multiple, spec.least) for at, side in ((1, "height"), (2, "width"))}
    images = torch.zeros((*spec.example, spec.channels), dtype=torch.uint8)
    arguments: tuple[Tensor, ...] = (images,)
    shapes: dict[str, dict[int, Any]] = {"images": {0: batch, **sides}}
    if spec.example_sizes:
        arguments = (images, torch.tensor(spec.example_sizes, dtype=torch.int32))
        shapes["sizes"] = {0: batch}
    free = {"batch": batch, "height": sides.get(1), "width": sides.get(2)}
    for condition in spec.conditions:
        arguments = (*arguments, torch.from_numpy(condition.filled(*spec.example)))
        axes = [free.get(str(axis)) for axis in condition.shape]
        shapes[condition.name] = {at: axis for at, axis in enumerate(axes) if axis is not None}
    make = _Conditioned if spec.conditions else _Graph
    if any(condition.name == "appearance" for condition in spec.conditions):
        make = _Filtered
    return trace(make(spec.model, spec.graph), arguments, shapes, [output.name for output in spec.outputs], name)


def _selftest(spec: ExportSpec, shapes: Shapes) -> SelfTest:
    fed = shapes.within(spec.profile.batch[1])
    images = torch.from_numpy(selftest_images(fed.shape, fed.sizes)[..., : spec.channels])
    conditions = [torch.from_numpy(value) for value in selftest_conditions(spec.conditions, fed.shape).values()]
    rows = []
    with torch.no_grad():
        for row, (height, width) in enumerate(fed.sizes):
            given = [value[row : row + 1] for value in conditions]
            found = spec.graph(images[row : row + 1, :height, :width], *given)
            outputs = [item.numpy() for item in (found if isinstance(found, tuple) else (found,))]
            rows.append(selftest_digest(spec.kind, outputs, spec.facts.get("keypoints")))
    return SelfTest(fed.shape, fed.sizes, flat(np.concatenate(rows)), dict(spec.tolerance))
