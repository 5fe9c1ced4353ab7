"""AnyLoc's vocabulary of a map (Keetha et al. 2023): k-means by cosine over unit cells of its images.

DINOv2's own weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gloam.data.images import decode_image
from gloam.data.sources import ImageItem, find_images
from gloam.errors import DataError, ImageError, ModelError, UsageError
from gloam.files import expect_output
from gloam.heartbeat import progress_bar
from gloam.networks.checkpoints import load_checkpoint, save_checkpoint
from gloam.networks.embedders.anyloc import BLOCKS, NETWORKS, AnyLocEmbedder, Assignment
from gloam.networks.embedders.dinov2 import DinoV2Embedder, Facet
from gloam.runtime.search.asmk import Codebook
from gloam.training.embedders.netvlad_init import CELLS, sample_cells

SAMPLES = 1000  # images learned from; the cells of so many fit any memory
SHOWN = 5  # failures in a report


@dataclass(frozen=True)
class VocabularyRequest:
    """What to learn centres of, from which images.

    Attributes:
        weights: DINOv2, as ``gloam import`` writes it.
        source: images of the map: folder, text list or kapture dataset.
        output: ``.safetensors`` to write, of an ``anyloc_*`` network.
        root: folder that a list's names are relative to; the list's by default.
        facet: ``token``, ``query``, ``key`` or ``value``.
        block: that is read, counted from 0; 9 of ViT-S and ViT-B, 20 of ViT-L by default.
        clusters: centres.
        assignment: of a cell to them, in the network: ``hard`` or ``soft``.
        samples: most images learned from, drawn by the seed.
        cells: most cells of each of them, drawn likewise.
        seed: of both draws and of k-means.
        device: where DINOv2 runs.

    Raises:
        UsageError: an output of another suffix, or numbers out of range.
    """

    weights: Path
    source: Path
    output: Path
    root: Path | None = None
    facet: Facet = "value"
    block: int | None = None
    clusters: int = 32
    assignment: Assignment = "hard"
    samples: int = SAMPLES
    cells: int = CELLS
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        expect_output(self.output, ".safetensors", "a checkpoint")
        for name in ("clusters", "samples", "cells"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)} must be at least 1")


@dataclass(frozen=True)
class LearnedVocabulary:
    """A network that was written.

    Attributes:
        path: of its checkpoint.
        model: with the centres.
        images, cells: that they were learned from.
        failures: name and reason of each image that could not be read.
        weights_sha256: of the network.
    """

    path: Path
    model: AnyLocEmbedder
    images: int
    cells: int
    failures: Mapping[str, str]
    weights_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "checkpoint": str(self.path),
            "network": self.model.name,
            "options": self.model.options,
            "pooling": self.model.pooling,
            "dimension": self.model.dimension,
            "images": self.images,
            "cells": self.cells,
            "failures": dict(self.failures),
            "weights_sha256": self.weights_sha256,
        }

    def __str__(self) -> str:
        """Lines for people."""
        model = self.model
        told = (
            f"{len(model.pool.centroids)} centres of the {model.facet} of block {model.block}, {model.dimension} values"
        )
        lines = [
            f"{self.path}: {model.name}, {told}, from {self.cells} cells of {self.images} images",
            f"weights {self.weights_sha256}",
        ]
        if self.failures:
            shown = "; ".join(f"{name}: {why}" for name, why in list(self.failures.items())[:SHOWN])
            lines.append(f"{len(self.failures)} images could not be read: {shown}")
        return "\n".join([*lines, f"next: gloam export {self.path} -o {self.path.with_suffix('.onnx')}"])


def learn_vocabulary(request: VocabularyRequest) -> LearnedVocabulary:
    """Learn centres from a map's images, and write DINOv2 with them as an AnyLoc network; progress goes to stderr.

    Raises:
        ModelError: the weights are no DINOv2.
        UsageError: a block that it does not have.
        DataError: no images, or fewer cells than centres.
        MissingExtraError: FAISS is not installed.
    """
    loaded = load_checkpoint(request.weights)
    model = anyloc_of(loaded.model, request).eval().to(request.device)
    items = _drawn(find_images(request.source, request.root), request.samples, request.seed)
    failures: dict[str, str] = {}
    local = sample_cells(
        lambda batch: model.cells(model.normalize(batch.to(request.device)))[0],
        _images(items, model, failures),
        request.seed,
        request.cells,
    )
    read = len(items) - len(failures)
    if len(local) < request.clusters:
        reason = f"; the first of {len(failures)} unread: {next(iter(failures.values()))}" if failures else ""
        raise DataError(
            f"{request.source}: {len(local)} cells of {read} images for {request.clusters} centres; give more images, "
            f"or ask for fewer clusters{reason}"
        )
    model.pool.initialize(cosine_means(local, request.clusters, request.seed).to(request.device))
    vocabulary = {
        "source": str(request.source),
        "images": read,
        "cells": len(local),
        "seed": request.seed,
        "backbone_sha256": loaded.provenance["weights_sha256"],
    }
    own = {**loaded.provenance, "recipe": "anyloc", "vocabulary": vocabulary}
    written = save_checkpoint(request.output, model.cpu(), own)
    return LearnedVocabulary(request.output, model, read, len(local), failures, written["weights_sha256"])


def anyloc_of(backbone: Any, request: VocabularyRequest) -> AnyLocEmbedder:
    """DINOv2 up to the block that is asked for, with centres at random.

    Raises:
        ModelError: something else than DINOv2.
        UsageError: a block that it does not have.
    """
    if not isinstance(backbone, DinoV2Embedder):
        raise ModelError(f"{request.weights}: {backbone.name} is not DINOv2 by itself, of which AnyLoc reads a block")
    name = "anyloc_" + backbone.name.removeprefix("dinov2_").removesuffix("_reg")
    options = dict(backbone.features.options)
    depth = options.pop("depth")
    block = BLOCKS[name.removeprefix("anyloc_")] if request.block is None else request.block
    if not 0 <= block < depth:
        raise UsageError(f"{request.weights}: has no block {block}; give --block 0 to {depth - 1}")
    options.pop("trained_blocks", None)
    options |= {"depth": block + 1, "final_norm": False}
    made = NETWORKS[name](
        facet=request.facet,
        clusters=request.clusters,
        assignment=request.assignment,
        mean=backbone.mean,
        std=backbone.std,
        **options,
    )
    wanted = made.features.state_dict()
    made.features.load_state_dict(
        {key: value for key, value in backbone.features.state_dict().items() if key in wanted}
    )
    return made


@torch.no_grad()
def cosine_means(cells: Tensor, count: int, seed: int) -> Tensor:
    """Centres of k-means by cosine.

    Args:
        cells: unit vectors, float ``[n, D]``, n >= count.
        count: centres.
        seed: of k-means.

    Returns:
        float32 ``[count, D]``: means of the cells that are nearest to each by cosine, not of length 1.
    """
    directions = torch.from_numpy(Codebook.learn(cells.numpy(), count, seed=seed, spherical=True).centroids)
    nearest = (cells @ functional.normalize(directions, dim=1).T).argmax(1)
    sums = torch.zeros(count, cells.shape[1], dtype=torch.float64).index_add_(0, nearest, cells.double())
    counts = torch.bincount(nearest, minlength=count)[:, None]
    return torch.where(counts > 0, sums / counts.clamp(min=1), directions.double()).float()


def _drawn(items: Sequence[ImageItem], most: int, seed: int) -> list[ImageItem]:
    rows = np.sort(np.random.default_rng(seed).permutation(len(items))[:most])
    return [items[row] for row in rows]


def _images(items: Sequence[ImageItem], model: AnyLocEmbedder, failures: dict[str, str]) -> Iterator[Tensor]:
    """Each image that can be read, uint8 ``[1, H, W, 3]``, by the network's input rule; others among the failures."""
    with progress_bar(len(items)) as bar:
        for item in items:
            try:
                if item.problem is not None:
                    raise ImageError(item.problem)
                yield torch.from_numpy(decode_image(item.read(), rule=model.input_rule))[None]
            except ImageError as error:
                failures[item.name] = str(error)
            bar.update(1)
