"""The same descriptor by every route: batched or one by one, torch or the exported file, plain or in a pipeline.

``GLOAM_BENCH_ONLY`` names beginnings of networks, separated by commas, to run those alone, unjudged.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.padding_exact import ONLY, lively, real_weights, whole_cells
from benchmarks.shared.result import Result, largest
from benchmarks.shared.tiny import HEADED, TRANSFORMERS, VARIANTS
from gloam.data.images import resize_image
from gloam.errors import ModelError
from gloam.export.embedder import export_embedder
from gloam.export.precision.release_check import textured_image
from gloam.networks.clahe import ClaheLayer
from gloam.networks.embedders import EMBEDDERS, DescriptorPipeline, EmbedderNetwork, create_embedder
from gloam.networks.embedders.pipeline import MULTI_SCALE
from gloam.padding import PaddingProfile
from gloam.runtime.descriptors.whitening import Whitening
from gloam.runtime.models.embedder import Embedder as Exported

BATCH_LIMIT, RUNTIME_LIMIT = 1e-6, 1e-5
# Height and width: equal ones, then odd, mixed and narrow ones
BATCHES = (((131, 163), (131, 163), (131, 163)), ((255, 201), (97, 256), (256, 65)))
WHITENED = 256  # values kept
SPECTRUM = 30.0  # strongest over weakest direction of the whitening, which multiplies rounding errors
INSIDE = {"name": "gem_resnet18", "options": {"width": 32}}
# Where the default network is larger than the question needs, or needs another inside it.
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"width": 32} for name in ("gem_resnet101", "ciconv_resnet50", "ciconv_resnet101", "how_resnet50_minus")},
    **TRANSFORMERS,
    **HEADED,
    "netvlad_vgg16": {"whitening": 256},
    "photometric_unet": {"embedder": INSIDE, "levels": 5, "width": 16},
    "ensemble": {"members": [{"name": "gem_vgg16"}, {"name": "hedmac_vgg16"}]},
}
SURROUNDED = ("gem_resnet18", "gem_mobilenet_v2", "netvlad_vgg16", "ciconv_resnet18", "ensemble")


@dataclass(frozen=True)
class Row:
    """Worst differences of one network in one profile.

    Attributes:
        batched: batched against one by one, in torch.
        runtime: the exported file against torch, one by one.
    """

    batched: float
    runtime: float


def whitening(dimension: int) -> Whitening:
    """A random rotation and a falling spectrum, as a learned whitening has; fewer values where there are fewer."""
    random = np.random.default_rng(0)
    rotation = np.linalg.qr(random.normal(size=(dimension, dimension)))[0]
    kept = min(WHITENED, dimension)
    projection = np.geomspace(SPECTRUM, 1, kept)[:, None] * rotation[:kept]
    return Whitening(random.normal(size=dimension) / dimension, projection)


def networks(only: tuple[str, ...] = ()) -> dict[str, EmbedderNetwork]:
    """Every family, then scales, whitening and CLAHE around some; or those alone whose names begin so."""
    if only:
        return {name: model for name, model in networks().items() if name.startswith(only)}
    built: dict[str, EmbedderNetwork] = {}
    for name in EMBEDDERS:
        torch.manual_seed(0)
        built[name] = lively(create_embedder(name, **OPTIONS.get(name, {})))
    for row, (name, options) in VARIANTS.items():
        torch.manual_seed(0)
        built[row] = lively(create_embedder(name, **options))
    built |= real_weights()
    for name in [name for name in built if name.split(",")[0] in SURROUNDED]:
        model = built[name]
        pipeline = DescriptorPipeline(model, scales=MULTI_SCALE, whitening=whitening(model.dimension))
        built[f"{name}, 3 scales, whitened"] = pipeline.eval()
    model = built["gem_resnet18"]
    layer = whitening(model.dimension)
    whole = DescriptorPipeline(model, scales=MULTI_SCALE, whitening=layer, clahe=ClaheLayer())
    return built | {"gem_resnet18, CLAHE, 3 scales, whitened": whole.eval()}


def run() -> Result:
    """Worst difference between torch and the exported file, over all."""
    only = tuple(filter(None, os.environ.get(ONLY, "").split(",")))
    random = np.random.default_rng(0)
    batches = [[textured_image(random, *size) for size in sizes] for sizes in BATCHES]
    rows: dict[str, dict[str, Any]] = {}
    measured: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="gloam-parity-") as folder, torch.no_grad():
        for name, model in networks(only).items():
            rows[name] = {"dimension": model.dimension}
            for kind, profile in (
                ("dynamic", PaddingProfile.dynamic()),
                ("fixed", PaddingProfile.fixed((_side(model),), (_side(model),), (1, 4), model.cell)),
            ):
                path = Path(folder) / "model.onnx"
                try:
                    export_embedder(model, path, profile=profile, provenance={})
                except ModelError:
                    if kind == "dynamic" or model.padding_exact:
                        raise
                    rows[name][kind] = "refused"
                    continue
                whole = [[_taken(image, model) for image in images] for images in batches]
                row = _measure(model, Exported.load(path), whole)
                measured.append(row)
                rows[name][kind] = vars(row)
    batched, runtime = (largest(getattr(row, kind) for row in measured) for kind in ("batched", "runtime"))
    return Result(
        runtime,
        "max abs difference",
        f"<= {RUNTIME_LIMIT:g} from torch to the runtime, <= {BATCH_LIMIT:g} from batched to one by one",
        None if only else runtime <= RUNTIME_LIMIT and batched <= BATCH_LIMIT,
        {"batched_against_one_by_one": batched, "sizes_height_width": BATCHES, "networks": rows},
    )


def _taken(image: npt.NDArray[np.uint8], model: EmbedderNetwork) -> npt.NDArray[np.uint8]:
    """An image of a size that a network takes."""
    return whole_cells(image, model.cell) if model.square is None else resize_image(image, model.input_rule)


def _side(model: EmbedderNetwork) -> int:
    """Of the padded shape, pixels."""
    return 256 // model.cell * model.cell


def _measure(model: EmbedderNetwork, exported: Exported, batches: list[list[npt.NDArray[np.uint8]]]) -> Row:
    """A fixed profile pads mixed sizes into one batch; a dynamic one runs them image by image."""
    fixed = exported.card.profile.kind == "fixed"
    batched = runtime = 0.0
    for images in batches:
        single = np.concatenate([model.describe_uint8(torch.from_numpy(image)[None]).numpy() for image in images])
        together = single
        if fixed:
            padded, sizes = exported.card.profile.pad(images, (_side(model), _side(model)))
            together = model.describe_uint8(torch.from_numpy(padded), torch.from_numpy(sizes)).numpy()
        elif len({image.shape for image in images}) == 1:
            together = model.describe_uint8(torch.from_numpy(np.stack(images))).numpy()
        found = exported.run_batch(images) if fixed or together is not single else exported(images)
        batched = largest((batched, np.abs(together - single).max()))
        runtime = largest((runtime, np.abs(found - single).max()))
    return Row(batched, runtime)
