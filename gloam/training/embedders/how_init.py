"""Before HOW trains: its ``dim_reduction`` becomes a PCA whitening of the backbone's own cells, and stays so."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from gloam.errors import DataError
from gloam.networks.embedders.how import HOW, smooth
from gloam.training.embedders.whitening import learn_pca

STRONGEST = 1000  # cells of an image, by attention


@torch.no_grad()
def whiten_cells(model: HOW, images: Iterable[Tensor], strongest: int = STRONGEST) -> int:
    """Learn the whitening from training images and put it into the model.

    Args:
        model: with the weights of its backbone; changed in place.
        images: uint8 ``[B, H, W, 3]`` each; the paper takes the first 5000 training images, at one scale.
        strongest: cells to take of each image.

    Returns:
        number of cells it was learned from.

    Raises:
        DataError: no images, or too few to whiten that many dimensions.
    """
    training = model.training
    model.eval()
    cells = []
    for batch in images:
        x, _ = model.features(model.normalize(batch), None)
        attention = x.square().sum(1).flatten(1)
        rows = attention.topk(min(strongest, attention.shape[1]), 1).indices
        chosen = smooth(x, None).flatten(2).gather(2, rows[:, None].expand(-1, x.shape[1], -1))
        cells.append(chosen.transpose(1, 2).flatten(0, 1).cpu())
    model.train(training)
    if not cells:
        raise DataError(f"{model.name}: no images to learn the whitening of the local features from")
    descriptors = torch.cat(cells).numpy()
    whitening = learn_pca(descriptors, model.dimension)
    mean, projection = (torch.from_numpy(item) for item in (whitening.mean, whitening.projection))
    model.set_whitening(mean, projection)
    return len(descriptors)
