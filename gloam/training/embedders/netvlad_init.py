"""Before NetVLAD trains: its centres become those of k-means over cells of training images, and its assignment as sharp
as these cells ask for.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from gloam.errors import DataError
from gloam.networks.embedders.netvlad import NetVLADVGG16
from gloam.runtime.search.asmk import Codebook

CELLS = 100  # of an image, drawn


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
    training, random = model.training, torch.Generator().manual_seed(seed)
    model.eval()
    found = []
    for batch in images:
        x, _ = model.features(model.normalize(batch), None)
        for image in functional.normalize(x, dim=1).flatten(2).mT.cpu():
            found.append(image[torch.randperm(len(image), generator=random)[:cells]])
    model.train(training)
    count = int(model.pool.centroids.shape[0])
    local = torch.cat(found) if found else torch.empty(0, model.pool.centroids.shape[1])
    if len(local) < count:
        raise DataError(f"{model.name}: {len(local)} cells of training images for {count} centres; give more images")
    centres = torch.from_numpy(Codebook.learn(local.numpy(), count, seed=seed).centroids)
    model.pool.initialize(centres.to(model.pool.centroids.device), local.to(model.pool.centroids.device))
    return len(local)
