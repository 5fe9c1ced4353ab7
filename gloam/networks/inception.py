"""Features of the Inception network that FID and KID are published in, by way of torch-fidelity.

The network is the 2015 TensorFlow one with its own resizing to 299x299 (bilinear, not antialiased): figures from
another Inception, or after another resizing, are not comparable. Its weights are Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gloam.errors import MissingExtraError, ModelError, require
from gloam.files import sha256_file

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
HASH_PREFIX = "6726825d"  # of the sha256, checked after a download
LAYERS = ["2048", "logits_unbiased"]
BATCH = 16

Images = Sequence[npt.NDArray[np.uint8]]
Features = npt.NDArray[np.floating[Any]]


class InceptionFeatures:
    """Inception-v3 features (2048) and class scores (1008, without the last layer's bias).

    Args:
        weights: the file that torch-fidelity publishes; by default it is downloaded once, 91 MiB, with progress.
        device: ``cpu`` or ``cuda``.

    Raises:
        MissingExtraError: torch-fidelity, or the torchvision that it imports, does not load.
        ModelError: the weights are absent, unreadable, of another network, or cannot be downloaded.
    """

    name = "inception-v3 of 2015 (torch-fidelity; resized inside to 299x299, TensorFlow 1 bilinear)"

    def __init__(self, weights: str | Path | None = None, *, device: str = "cpu") -> None:
        module = _fidelity()
        path = Path(weights) if weights is not None else downloaded_weights()
        if not path.is_file():
            raise ModelError(f"{path}: no such file; give Inception weights with --weights, from {URL}")
        try:
            torch.load(path, map_location="cpu", weights_only=True)  # torch-fidelity's own load would run a pickle
            self.network = module.FeatureExtractorInceptionV3(
                "inception-v3-compat", LAYERS, feature_extractor_weights_path=str(path)
            )
        except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError and more
            raise ModelError(f"{path}: not the Inception weights of torch-fidelity; fetch {URL}") from error
        self.network.to(device)
        self.device = device
        self.weights_sha256 = sha256_file(path)

    def features(self, images: Images) -> Features:
        """Features of images, float32 ``[n, 2048]``; uint8 ``[H, W, 3]`` RGB each, of any sizes."""
        return self.features_and_logits(images)[0]

    def features_and_logits(self, images: Images) -> tuple[Features, Features]:
        """Features float32 ``[n, 2048]`` and class scores float32 ``[n, 1008]``."""
        rows: list[tuple[Features, Features]] = []
        start = 0
        while start < len(images):
            stop = start + 1
            while stop < min(start + BATCH, len(images)) and images[stop].shape == images[start].shape:
                stop += 1
            batch = torch.from_numpy(np.stack(images[start:stop])).permute(0, 3, 1, 2).to(self.device)
            with torch.no_grad():
                features, logits = self.network(batch)
            rows.append((features.cpu().numpy(), logits.cpu().numpy()))
            start = stop
        return np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])


def downloaded_weights() -> Path:
    """The published weights in torch's cache, downloaded with a progress bar where they are not there yet.

    Raises:
        ModelError: no network, or another file came.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL.rsplit("/", 1)[1]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, str(path), hash_prefix=HASH_PREFIX, progress=True)
        except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash a RuntimeError
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise ModelError(
                f"Inception weights cannot be downloaded ({reason[0]}); fetch {URL} elsewhere and give --weights FILE"
            ) from error
    return path


def _fidelity() -> ModuleType:
    try:
        return require("torch_fidelity.feature_extractor_inceptionv3", "fidelity", "compute Inception features")
    except MissingExtraError as error:
        if isinstance(error.__cause__, ImportError):
            raise
        raise MissingExtraError(  # RuntimeError or OSError: a CUDA build beside a CPU torch
            f"torch-fidelity needs torchvision, which does not load beside this torch ({error.__cause__}); "
            "install the torchvision of the same build, from PyTorch's own index"
        ) from error
