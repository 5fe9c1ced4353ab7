"""mAP of a HOW network by ASMK on a held-out set: what the paper chooses the best epoch by (Tolias et al. 2020).

The codebook is learned anew for every validated epoch, from local features of training images at one scale.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from gloam.errors import UsageError
from gloam.eval.retrieval.ground_truth import GroundTruth
from gloam.eval.retrieval.scores import evaluate_scores
from gloam.networks.embedders import EmbedderNetwork
from gloam.networks.embedders.how import HOW, SCALES
from gloam.runtime.search.asmk import AsmkIndex, Codebook
from gloam.training.embedders.config import MetricConfig
from gloam.training.embedders.tuples.images import Pixels, TupleImages

Features = npt.NDArray[np.float32]


def asmk_mAP(
    config: MetricConfig,
    model: EmbedderNetwork,
    device: torch.device,
    learned: TupleImages,
    images: TupleImages,
    truth: GroundTruth,
    queries: npt.NDArray[np.int64],
) -> float:
    """mAP of the queries against the database of a validation set, their images as they are.

    Args:
        config: words, images and features of the codebook.
        model: a HOW network.
        device: where it runs.
        learned: images of the codebook, the first of them.
        images: of the validation set.
        truth: whose names are rows of the set.
        queries: their rows.

    Raises:
        UsageError: another network.
    """
    if not isinstance(model, HOW):
        raise UsageError(f"select ASMK is for HOW networks, not for {model.name}; choose loss or mAP")
    strongest = config.asmk_features

    def found(source: TupleImages, row: int, scales: tuple[float, ...]) -> Features:
        (pixels,) = source.load(np.array([row]), np.zeros(1, bool))
        return strongest_features(model, pixels, device, scales, strongest)

    count = min(config.asmk_images, len(learned.names))
    every = np.concatenate([found(learned, row, (1.0,)) for row in range(count)])
    codebook = Codebook.learn(every, min(config.asmk_words, len(every)), seed=config.seed)
    index = AsmkIndex(codebook)
    for name in truth.map_names:
        index.add(name, found(images, int(name), SCALES))
    asked = [index.search(found(images, int(row), SCALES)) for row in queries]
    return float(evaluate_scores(dict(zip(truth.query_names, asked, strict=True)), index.names, truth).mAP)


@torch.inference_mode()
def strongest_features(
    model: HOW, pixels: Pixels, device: torch.device, scales: tuple[float, ...], count: int
) -> Features:
    """The strongest local features of an image, float32 ``[n, D]``.

    Args:
        model: on ``device``.
        pixels: uint8 ``[h, w, 3]``, of normalised light.
        device: of the model.
        scales: of the image.
        count: of features, at most.
    """
    image = torch.from_numpy(np.ascontiguousarray(pixels))[None].to(device)
    features, attention, _, _ = model.eval().local_features(image, scales)
    best = attention[0].argsort(descending=True, stable=True)[:count]
    found: Features = features[0, best].float().cpu().numpy()
    return found
