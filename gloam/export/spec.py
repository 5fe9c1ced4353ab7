"""One way from a torch network to a file: what each kind states in an :class:`ExportSpec`, :func:`export_spec` does.

A kind's own is its graph, the example that it is traced with, its outputs and what its card says. The truth of the
self-test is torch's, each image alone, at native size and without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gloam.export.graph import batch_axis, full_provenance, side_axis, trace
from gloam.export.proved import Shapes, larger_shapes, write_proved
from gloam.export.written import flat
from gloam.model_card import ModelCard, SelfTest, TensorSpec
from gloam.padding import PaddingProfile
from gloam.runtime.backends.selftest_formulas import selftest_conditions, selftest_digest, selftest_images


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
