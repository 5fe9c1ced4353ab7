"""What makes images night, and where the made nights are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from gloam.errors import StoreError
from gloam.files import sha256_json, write_bytes
from gloam.padding import crop_back, next_multiple, reflect_to
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.conditions import APPEARANCE, Conditions, pixels_sha256
from gloam.runtime.models.image_model import ImageOperation, Pixels, one_by_one, to_uint8
from gloam.runtime.models.translator import Translator, load_translator

Values = npt.NDArray[np.float32]
GPU_BATCH = 16
OF_A_RUN = ("translator.safetensors", "day2night.safetensors")  # of many domains, and from day to night


def open_night_maker(
    spec: str | Path, device: str = "cpu", domain: str | None = None, noise: int | None = None
) -> ImageOperation:
    """What makes nights: a trained generator or a formula.

    Args:
        spec: a translator checkpoint (``.safetensors``), the folder of a run that has trained one, an exported one
            (``.onnx``), or ``none``, ``lab-inversion``, ``gamma``, ``gamma:MEAN``, ``clahe``.
        device: ``cpu`` or ``cuda``.
        domain: of a generator of several, the one to translate into; its own choice by default.
        noise: seed of what a generator that takes noise is given for each image; zeros by default. Others draw nothing.

    Raises:
        UsageError: an unknown name, or a domain where there are none.
        ModelError: no translator, or a domain that the checkpoint has not; the known ones are named.
    """
    weights = next((file for name in OF_A_RUN if (file := Path(spec) / name).is_file()), Path(spec))
    if weights.suffix == ".safetensors":
        from gloam.networks.checkpoints import load_generator as load_weights

        return TorchTranslator(load_weights(weights).model, str(spec), device, domain, noise)
    maker = load_translator(spec, Placement(device), domain)
    return maker.drawing(noise) if isinstance(maker, Translator) and maker.noisy else maker


class TorchTranslator:
    """A generator as an :class:`gloam.runtime.models.image_model.ImageOperation`, without an export.

    Args:
        model: a translator network; put in eval mode.
        name: for people.
        device: where it runs.
        domain: of a network of several, the one to translate into; its own choice by default.
        noise: seed of what a network that takes noise is given; zeros by default.

    Attributes:
        conditions: what it is given beside the images.
        domains: that it translates into; empty for a network of one direction.

    Raises:
        ModelError: an unknown domain, the known ones are named; or one for a network of one direction.
    """

    def __init__(
        self, model: Any, name: str, device: str = "cpu", domain: str | None = None, noise: int | None = None
    ) -> None:
        from gloam.networks.checkpoints import weights_sha256

        self.conditions = Conditions(model.conditions if domain is None else model.towards(domain), noise)
        self.model = model.to(device).eval().requires_grad_(False)
        self._own_name, self.name, self.device = name, name if domain is None else f"{name} to {domain}", device
        kept = [spec.choices or () for spec in model.conditions if spec.name == APPEARANCE]
        self.domains: tuple[str, ...] = tuple(kept[0] if kept else getattr(model, "domains", ()))
        anchor = () if model.anchor == "center" else (model.anchor,)  # nights of the earlier rule are made again
        weights = sha256_json(["torch", model.name, model.options, weights_sha256(model.state_dict()), *anchor])
        drawn = self.conditions if self.conditions.noisy else dataclasses.replace(self.conditions, seed=None)
        self.fingerprint = drawn.identity(weights, model.conditions)
        self.batch_size = 1 if device == "cpu" else GPU_BATCH
        self.backend = BackendFacts("torch", (device,), "fp32")

    def check(self, image: Pixels) -> None:
        """Any uint8 ``[h, w, 3]`` image will do; anything else is an ImageError."""
        one_by_one([image], lambda same: same)

    def shape_for(self, image: Pixels) -> tuple[int, int]:
        """The (H, W) that an image is padded to."""
        height, width = (next_multiple(max(side, self.model.minimum), self.model.multiple) for side in image.shape[:2])
        return height, width

    def towards(self, domain: str) -> TorchTranslator:
        """The same network and noise, translating into another of its domains.

        Raises:
            ModelError: it has no such domain.
        """
        return TorchTranslator(self.model, self._own_name, self.device, domain, self.conditions.seed)

    def __call__(self, images: Sequence[Pixels]) -> list[Pixels]:
        """uint8 ``[h, w, 3]`` each, of any sizes, to the same shapes; reflect-padded, translated, cropped."""
        nights = [
            to_uint8((values + 1) * np.float32(127.5)) for values in self._run(images, self.model.translate_uint8)
        ]
        return [night if night.shape[2] == 3 else np.repeat(night, 3, axis=2) for night in nights]

    def masks(self, images: Sequence[Pixels]) -> list[Values] | None:
        """Attention masks, float32 ``[h, w]`` in [0, 1] each, 1 where the image stays; None of a network without."""
        parts = getattr(self.model, "parts", None)
        if parts is None or not getattr(self.model, "mask", True):
            return None

        def masked(batch: torch.Tensor, *told: torch.Tensor) -> torch.Tensor:
            mask: torch.Tensor = parts(batch.to(torch.float32).permute(0, 3, 1, 2) / 127.5 - 1.0, *told)[1]
            return mask.permute(0, 2, 3, 1)

        return [mask[..., 0] for mask in self._run(images, masked)]

    def _run(self, images: Sequence[Pixels], function: Callable[..., torch.Tensor]) -> list[Values]:
        """What a function of padded uint8 images and conditions gives, ``[B, H, W, C]``, cropped to each image."""
        for image in images:
            self.check(image)
        found: dict[int, Values] = {}
        buckets: dict[tuple[int, int], list[int]] = {}
        for row, image in enumerate(images):
            buckets.setdefault(self.shape_for(image), []).append(row)
        for shape, rows in buckets.items():
            for start in range(0, len(rows), self.batch_size):
                part = rows[start : start + self.batch_size]
                padded = [
                    reflect_to(_of_channels(images[row], self.model.channels), shape, self.model.anchor) for row in part
                ]
                batch = torch.from_numpy(np.stack([pixels for pixels, _ in padded])).to(self.device)
                given = self.conditions.filled([images[row] for row in part], shape, self.model.anchor)
                told = [torch.from_numpy(given[spec.name]).to(self.device) for spec in self.conditions.specs]
                with torch.inference_mode():
                    output = function(batch, *told).cpu().numpy()
                for row, (_, corner), whole in zip(part, padded, output, strict=True):
                    found[row] = crop_back(whole, corner, (images[row].shape[0], images[row].shape[1]))
        return [found[row] for row in range(len(images))]


class NightCache:
    """Nights made once: kept in a folder by the maker's identity and the image's pixels, shared by runs.

    Args:
        maker: makes the nights.
        folder: where they are kept, as PNG; None keeps nothing.
    """

    def __init__(self, maker: ImageOperation, folder: str | Path | None = None) -> None:
        self.maker = maker
        self.folder = Path(folder) / maker.fingerprint[:16] if folder is not None else None
        self.made = 0  # by this object, for reports

    def __call__(self, images: Sequence[Pixels]) -> list[Pixels]:
        """Nights of images, uint8 ``[h, w, 3]`` each, of any sizes.

        Raises:
            ImageError: an image that the maker cannot take.
            StoreError: the folder cannot be read or written.
        """
        paths = [self._path(image) for image in images]
        nights = [self._kept(path) for path in paths]
        missing = [row for row, night in enumerate(nights) if night is None]
        size = max(self.maker.batch_size, 1)
        for start in range(0, len(missing), size):
            rows = missing[start : start + size]
            for row, night in zip(rows, self.maker([images[row] for row in rows]), strict=True):
                nights[row] = night
                self._keep(paths[row], night)
                self.made += 1
        return [night for night in nights if night is not None]

    def _path(self, image: Pixels) -> Path | None:
        if self.folder is None:
            return None
        digest = pixels_sha256(image)
        return self.folder / digest[:2] / f"{digest[2:34]}.png"

    def _kept(self, path: Path | None) -> Pixels | None:
        if path is None or not path.is_file():
            return None
        found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        if found is None:
            raise StoreError(f"{path}: not readable as an image; remove it to make the night again")
        night: Pixels = np.ascontiguousarray(found[..., ::-1], np.uint8)
        return night

    def _keep(self, path: Path | None, night: Pixels) -> None:
        if path is not None:
            _, encoded = cv2.imencode(".png", np.ascontiguousarray(night[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 1])
            write_bytes(path, encoded.tobytes())


def _of_channels(image: Pixels, channels: int) -> Pixels:
    if channels == 3:
        return image
    grey: Pixels = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)[..., None]
    return grey
