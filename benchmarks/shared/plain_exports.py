"""Embedders as other programs export them: plain ``torch.onnx``, without a card; right ones, and with a mistake."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.padding_exact import lively
from benchmarks.shared.tiny import HEADED, TRANSFORMERS
from gloam.export.adopt.feeding import Feeding
from gloam.export.random_weights import settle_random_weights
from gloam.networks.embedders import EmbedderNetwork, create_embedder

OPSET = 18
WIDTH = 8  # channels of the first layer


class Plain(nn.Module):
    """A network behind what its program does to the images first, and before what it does last.

    Args:
        model: normalised float images to unit descriptors.
        before: of the input.
        after: of the descriptors.
    """

    def __init__(
        self,
        model: nn.Module,
        before: Callable[[Tensor], Tensor] = lambda images: images,
        after: Callable[[Tensor], Tensor] = lambda descriptors: descriptors,
    ) -> None:
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, images: Tensor) -> Tensor:
        described: Tensor = self.after(self.model(self.before(images)))
        return described


class Unnormalised(nn.Module):
    """A GeM network up to its pooling: nobody normalises."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.features, self.pool = model.features, model.pool

    def forward(self, images: Tensor) -> Tensor:
        features, masks = self.features(images, None)
        pooled: Tensor = self.pool(features, masks)
        return pooled


class PooledByItsSize(nn.Module):
    """A GeM network that pools by a kernel of the map's size, as cirtorch does: tracing wants a constant there."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.features = model.features

    def forward(self, images: Tensor) -> Tensor:
        features, _ = self.features(images, None)
        sides = int(features.size(-2)), int(features.size(-1))  # what the exporter's message asks for
        pooled = functional.avg_pool2d(features.clamp(min=1e-6).pow(3), sides).pow(1 / 3)
        return functional.normalize(pooled.squeeze(-1).squeeze(-1), dim=1)


class AcrossTheBatch(nn.Module):
    """A layer of attention across the images of a batch, as CricaVPR has it."""

    def __init__(self, model: EmbedderNetwork) -> None:
        super().__init__()
        self.model = model
        self.key = nn.Linear(model.dimension, model.dimension)

    def forward(self, images: Tensor) -> Tensor:
        each: Tensor = self.model(images)
        weights = torch.softmax(8 * self.key(each) @ each.mT, dim=1)
        return functional.normalize(each + weights @ each, dim=1)


def network(name: str, seed: int = 0) -> EmbedderNetwork:
    """A narrow network of rule-made weights that tells images apart."""
    torch.manual_seed(seed)
    options = TRANSFORMERS.get(name) or HEADED.get(name) or {"width": WIDTH}
    if name == "gem_mobilenet_v2":
        options = {}
    if "vgg16" in name and name not in HEADED:
        options = {"stages": ((8, 1), (16, 2), (16, 1))}
    model = create_embedder(name, **options)
    if name in TRANSFORMERS:
        return lively(model)
    settle_random_weights(model)
    return model.eval()


def export(module: nn.Module, path: Path, example: Tensor, free: Mapping[int, str], traced: bool = False) -> Path:
    """Export by ``torch.onnx`` and give the path back.

    Args:
        module: images to descriptors.
        path: to write.
        example: input.
        free: axes of the input that are free, by number.
        traced: by the older exporter, which takes every size that Python sees for a constant.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            names: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"], "opset_version": OPSET}
            if traced:
                torch.onnx.register_custom_op_symbolic("aten::mT", _transposed, OPSET)
                axes = {"input": dict(free), "output": {0: "batch"}}
                torch.onnx.export(module.eval(), (example,), path, dynamo=False, dynamic_axes=axes, **names)
            else:
                shapes = ({at: torch.export.Dim(name) for at, name in free.items()},) if free else None
                torch.onnx.export(
                    module.eval(), (example,), path, dynamo=True, dynamic_shapes=shapes, external_data=False, **names
                )
    finally:
        logging.disable(level)
    return path


def _transposed(graph: Any, values: Any) -> Any:
    """``Tensor.mT``, which the older exporter does not know."""
    axes = list(range(values.type().dim()))
    return graph.op("Transpose", values, perm_i=[*axes[:-2], axes[-1], axes[-2]])


def references(
    module: nn.Module,
    feeding: Feeding,
    photographs: Mapping[str, npt.NDArray[np.uint8]],
    folder: Path,
) -> tuple[tuple[Path, Path], ...]:
    """What the program itself, torch, makes of photographs: ``NAME.png`` and ``NAME.npy`` in a folder.

    Args:
        module: images to descriptors.
        feeding: what it is fed.
        photographs: by name, uint8 RGB ``[H, W, 3]``.
        folder: to write to.
    """
    from PIL import Image

    pairs = []
    for name, pixels in photographs.items():
        image, vector = folder / f"{name}.png", folder / f"{name}.npy"
        Image.fromarray(pixels).save(image)
        with torch.no_grad():
            row = module.eval()(torch.from_numpy(np.asarray(feeding.fed(pixels[None]))))
        np.save(vector, row.numpy()[0])
        pairs.append((image, vector))
    return tuple(pairs)
