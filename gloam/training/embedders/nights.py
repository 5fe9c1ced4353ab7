"""What makes images night, and where the made nights are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from gloam.errors import StoreError
from gloam.files import sha256_bytes, sha256_json, write_bytes
from gloam.padding import crop_back, next_multiple, reflect_to
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.image_model import ImageOperation, Pixels, one_by_one, to_uint8
from gloam.runtime.models.translator import load_translator

GPU_BATCH = 16


def open_night_maker(spec: str | Path, device: str = "cpu") -> ImageOperation:
    """What makes nights: a trained generator or a formula.

    Args:
        spec: a translator checkpoint (``.safetensors``), an exported one (``.onnx``), or ``none``, ``lab-inversion``,
            ``gamma``, ``gamma:MEAN``, ``clahe``.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: an unknown name.
        ModelError: no translator.
    """
    if str(spec).endswith(".safetensors"):
        from gloam.networks.checkpoints import load_generator as load_weights

        return TorchTranslator(load_weights(spec).model, str(spec), device)
    return load_translator(spec, Placement(device))


class TorchTranslator:
    """A generator as an :class:`gloam.runtime.models.image_model.ImageOperation`, without an export.

    Args:
        model: a translator network; put in eval mode.
        name: for people.
        device: where it runs.
    """

    def __init__(self, model: Any, name: str, device: str = "cpu") -> None:
        from gloam.networks.checkpoints import weights_sha256

        self.model = model.to(device).eval().requires_grad_(False)
        self.name, self.device = name, device
        self.fingerprint = sha256_json(["torch", model.name, model.options, weights_sha256(model.state_dict())])
        self.batch_size = 1 if device == "cpu" else GPU_BATCH
        self.backend = BackendFacts("torch", (device,), "fp32")

    def check(self, image: Pixels) -> None:
        """Any uint8 ``[h, w, 3]`` image will do; anything else is an ImageError."""
        one_by_one([image], lambda same: same)

    def shape_for(self, image: Pixels) -> tuple[int, int]:
        """The (H, W) that an image is padded to."""
        height, width = (next_multiple(max(side, self.model.minimum), self.model.multiple) for side in image.shape[:2])
        return height, width

    def __call__(self, images: Sequence[Pixels]) -> list[Pixels]:
        """uint8 ``[h, w, 3]`` each, of any sizes, to the same shapes; reflect-padded, translated, cropped."""
        for image in images:
            self.check(image)
        found: dict[int, Pixels] = {}
        buckets: dict[tuple[int, int], list[int]] = {}
        for row, image in enumerate(images):
            buckets.setdefault(self.shape_for(image), []).append(row)
        for shape, rows in buckets.items():
            for start in range(0, len(rows), self.batch_size):
                part = rows[start : start + self.batch_size]
                padded = [reflect_to(_of_channels(images[row], self.model.channels), shape) for row in part]
                batch = torch.from_numpy(np.stack([pixels for pixels, _ in padded])).to(self.device)
                with torch.inference_mode():
                    output = self.model.translate_uint8(batch).cpu().numpy()
                for row, (_, corner), whole in zip(part, padded, output, strict=True):
                    size = (images[row].shape[0], images[row].shape[1])
                    night = to_uint8((crop_back(whole, corner, size) + 1) * np.float32(127.5))
                    found[row] = night if night.shape[2] == 3 else np.repeat(night, 3, axis=2)
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
        digest = sha256_bytes(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())
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
