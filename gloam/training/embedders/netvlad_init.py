"""Before NetVLAD trains: its centres become those of k-means over cells of training images, and its assignment as sharp
as these cells ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional

from gloam.errors import DataError
from gloam.networks.embedders.netvlad import NetVLADVGG16
from gloam.runtime.search.asmk import Codebook

CELLS = 100  # of an image, drawn


@torch.no_grad()
def sample_cells(describe: Callable[[Tensor], Tensor], images: Iterable[Tensor], seed: int, cells: int) -> Tensor:
    """Unit cells of images, some of each.

    Args:
        describe: images to a map ``[B, C, h, w]``.
        images: what it takes.
        seed: of the draw.
        cells: most of each image.

    Returns:
        float ``[n, C]`` on the CPU; of no columns where there are no images.
    """
    random, found = torch.Generator().manual_seed(seed), []
    for batch in images:
        for image in functional.normalize(describe(batch), dim=1).flatten(2).mT.cpu():
            found.append(image[torch.randperm(len(image), generator=random)[:cells]])
    return torch.cat(found) if found else torch.empty(0, 0)


@torch.no_grad()
def cluster_cells(model: NetVLADVGG16, images: Iterable[Tensor], seed: int, cells: int = CELLS) -> int:
    """Learn the centres from training images and put them into the model.

    Args:
        model: with the weights of its backbone; changed in place.
        images: uint8 ``[B, H, W, 3]`` each.
        seed: of the cells that are drawn and of k-means.
        cells: most of each image.

    Returns:
        number of cells that they were learned from.

    Raises:
        DataError: fewer cells than centres.
        MissingExtraError: FAISS is not installed.
    """
    training = model.training
    model.eval()
    local = sample_cells(lambda batch: model.features(model.normalize(batch), None)[0], images, seed, cells)
    model.train(training)
    count = int(model.pool.centroids.shape[0])
    if len(local) < count:
        raise DataError(f"{model.name}: {len(local)} cells of training images for {count} centres; give more images")
    centres = torch.from_numpy(Codebook.learn(local.numpy(), count, seed=seed).centroids)
    model.pool.initialize(centres.to(model.pool.centroids.device), local.to(model.pool.centroids.device))
    return len(local)
