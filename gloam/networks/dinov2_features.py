"""Features of FD-DINOv2 (Stein et al., "Exposing flaws of generative model evaluation metrics", NeurIPS 2023).

The class token of DINOv2 behind its last norm and of the length that it has, of images stretched to 224 x 224 px by
Pillow's bicubic filter. An exported embedder gives tokens of length 1, from which that distance cannot be had; so these
come from a checkpoint. The authors' network is ViT-L/14 without registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gloam.data.images import resize_image
from gloam.errors import ModelError
from gloam.model_card import InputRule
from gloam.networks.checkpoints import load_checkpoint
from gloam.networks.embedders.dinov2 import DinoV2Embedder, backbone_options

RULE = InputRule(None, (224, 224), "bicubic", True)
AUTHORS = "dinov2_vitl14"
BATCH = 16

Images = Sequence[npt.NDArray[np.uint8]]


class DinoV2Features:
    """Class tokens of a DINOv2 checkpoint, by the rules of FD-DINOv2.

    Args:
        path: native ``.safetensors`` of ``gloam import``.
        device: ``cpu`` or ``cuda``.

    Attributes:
        frechet: ``FD-DINOv2`` of the authors' network; of another size or with registers the name says which.
        name: of the network and what was read of it.
        weights_sha256: of the weights.

    Raises:
        ModelError: unreadable, or no DINOv2 by itself.
    """

    def __init__(self, path: str | Path, *, device: str = "cpu") -> None:
        loaded = load_checkpoint(path)
        model = loaded.model
        if not isinstance(model, DinoV2Embedder):
            raise ModelError(
                f"{path}: a checkpoint of {model.name}; class tokens are those of DINOv2 (dinov2_vitl14), of anything "
                "else export an embedder and give its .onnx file"
            )
        self.network = model.eval().to(device)
        self.device = device
        self.frechet = "FD-DINOv2" if _is_authors(model) else f"FD of {model.name}"
        self.name = f"{model.name}, class token as it is, images stretched to 224x224 by Pillow's bicubic"
        self.weights_sha256: str = loaded.provenance["weights_sha256"]

    def features(self, images: Images) -> npt.NDArray[np.float32]:
        """Class tokens, float32 ``[n, C]``; uint8 ``[H, W, 3]`` RGB each, of any sizes."""
        found = []
        for start in range(0, len(images), BATCH):
            batch = np.stack([resize_image(image, RULE) for image in images[start : start + BATCH]])
            with torch.no_grad():
                token = self.network.features(self.network.normalize(torch.from_numpy(batch).to(self.device)))[0]
            found.append(token.cpu().numpy())
        return np.concatenate(found)


def _is_authors(model: DinoV2Embedder) -> bool:
    """Whether it is ViT-L/14 by the authors' own rules."""
    wanted: dict[str, Any] = backbone_options(AUTHORS)
    return (
        model.name == AUTHORS
        and {key: model.options[key] for key in wanted} == wanted
        and ("final_norm" not in model.options)
    )
