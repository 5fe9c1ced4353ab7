"""The published networks of Dark Side Augmentation (Mohwald et al. 2023) as torch modules, for ``torch.hub``.

The names and arguments are those of the authors' ``hubconf.py``; batches and images of any size are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from gloam.data.images import resize_image
from gloam.data.photometric import clahe
from gloam.data.published.names import find_published
from gloam.data.published.pull import pull
from gloam.errors import DataError, ModelError
from gloam.model_card import LITERATURE
from gloam.networks.embedders import DescriptorPipeline, create_embedder
from gloam.networks.embedders.pipeline import MULTI_SCALE
from gloam.networks.foreign.embedders import EXPECTS_CLAHE, load_whitening
from gloam.networks.foreign.read import import_network
from gloam.networks.translators import TranslatorNetwork, create_generator
from gloam.padding import before, next_multiple
from gloam.runtime.descriptors.whitening import Whitening

Picture = Image.Image | npt.NDArray[np.uint8]
# What the authors build where pretrained weights are not asked for.
GENERATORS: dict[str, dict[str, Any]] = {"cyclegan": {"norm": "instance"}, "hedngan": {"norm": "batch"}}


class HubNetwork(nn.Module):
    """A network with the preparation of its images.

    Attributes:
        model: the network itself.
        meta: name, mean and std; of pretrained ones also their files and sha256.
    """

    def __init__(self, model: nn.Module, meta: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.meta = meta

    def transform(self, image: Picture) -> Tensor:
        """A picture to a normalised float tensor ``[3, H, W]`` for :meth:`forward`."""
        raise TypeError(f"{type(self).__name__} defines no transform")

    def prepare(self, images: Sequence[Picture] | Picture) -> list[Tensor]:
        """:meth:`transform` of one picture or several."""
        several = [images] if isinstance(images, Image.Image | np.ndarray) else images
        return [self.transform(image) for image in several]


class HubEmbedder(HubNetwork):
    """Pictures to unit descriptors; several scales and the whitening where pretrained.

    Args:
        model: the pipeline or the embedder.
        meta: see :class:`HubNetwork`.

    Attributes:
        input_rule: sizes that pictures are brought to, as an exported file's card states it.
    """

    input_rule = LITERATURE

    def transform(self, image: Picture) -> Tensor:
        """The input rule, CLAHE (clip 1, 8x8), [0, 1], mean and std; float ``[3, H, W]``."""
        lit = torch.from_numpy(clahe(resize_image(_rgb(image), self.input_rule)))[None]
        normalised: Tensor = self.model.normalize(lit.to(next(self.parameters()).device))  # type: ignore[operator]  # a method
        return normalised[0]

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Describe.

        Args:
            images: normalised float ``[B, 3, H, W]``, one ``[3, H, W]``, or several of these of any sizes.

        Returns:
            unit descriptors ``[B, D]``.
        """
        return torch.stack(_by_shape(self.model, images))


class HubTranslator(HubNetwork):
    """Day to night, any size."""

    def transform(self, image: Picture) -> Tensor:
        """Float ``[3, H, W]`` in [-1, 1]."""
        tensor = torch.from_numpy(_rgb(image)).permute(2, 0, 1).to(next(self.parameters()).device)
        return tensor.float() / 127.5 - 1.0

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Translate.

        Args:
            images: float in [-1, 1], ``[B, 3, H, W]``, one ``[3, H, W]``, or several of these of any sizes.

        Returns:
            the same shapes and range; a list where ``images`` is one.
        """
        found = _by_shape(self._translate, images)
        if not isinstance(images, Tensor):
            return found
        return torch.stack(found) if images.dim() == 4 else found[0]

    def _translate(self, images: Tensor) -> Tensor:
        model = cast(TranslatorNetwork, self.model)
        height, width = images.shape[-2:]
        (top, rows), (left, columns) = (_reflected(side, model, images.device) for side in (height, width))
        translated: Tensor = model(images[:, :, rows][..., columns])
        return translated[..., top : top + height, left : left + width]


def hub_network(
    name: str,
    pretrained: bool = True,
    device: str | torch.device | None = None,
    *,
    folder: str | Path | None = None,
    mirror: str | None = None,
) -> HubNetwork:
    """Build one of the six networks.

    Args:
        name: ``gem_{vgg16,resnet101}_{cyclegan,hedngan}``, ``cyclegan`` or ``hedngan``.
        pretrained: with the published weights, fetched once and pinned by sha256; else random ones, and an embedder
            then has a single scale and no whitening.
        device: ``cuda`` where there is one by default.
        folder: that holds the files, or where they are fetched to; see ``gloam pull``.
        mirror: address to fetch them from.

    Raises:
        GloamError: unknown name, not reachable, other bytes than were pinned, or not the weights of that network.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    published = find_published(name)
    embeds = published.kind == "embedder"
    if not pretrained:
        model: nn.Module = (
            create_embedder("_".join(name.split("_")[:2])) if embeds else create_generator("resnet", **GENERATORS[name])
        )
        return _wrapped(model.eval().to(place), {"name": name}, embeds)
    found = pull(name, folder, mirror=mirror)
    imported = import_network(found.paths[0])
    model, notes = imported.model, imported.notes
    if embeds:
        if len(found.paths) < 2:
            raise DataError(f"{name}: is published without its whitening; use gloam import")
        model = _surrounded(model, load_whitening(found.paths[1]))
    meta = {
        "name": name,
        "files": [str(path) for path in found.paths],
        "sha256": list(found.sha256),
        "licence": published.licence,
        "notes": [note for note in notes if not note.startswith(EXPECTS_CLAHE)],  # transform applies it
    }
    return _wrapped(model.to(place), meta, embeds)


def _surrounded(model: Any, whitening: Whitening) -> nn.Module:
    if whitening.input_dimension != model.dimension:
        raise ModelError(
            f"{model.name} gives {model.dimension}-D descriptors, but its whitening takes "
            f"{whitening.input_dimension}-D ones; delete both files and pull them again"
        )
    return DescriptorPipeline(model, scales=MULTI_SCALE, whitening=whitening).eval()


def _wrapped(model: Any, meta: dict[str, Any], embeds: bool) -> HubNetwork:
    stated = {"mean": list(model.mean), "std": list(model.std)} if embeds else {"mean": [0.5] * 3, "std": [0.5] * 3}
    return (HubEmbedder if embeds else HubTranslator)(model, {**meta, **stated}).eval()


def _by_shape(run: Callable[[Tensor], Tensor], images: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Results image by image; images of one shape run as one batch."""
    several = ([images] if images.dim() == 3 else list(images)) if isinstance(images, Tensor) else list(images)
    if not several:
        raise ModelError("no images given; pass a batch [B, 3, H, W] or a list of tensors [3, H, W]")
    for image in several:
        if image.dim() != 3 or image.shape[0] != 3:
            raise ModelError(f"an image is of shape {list(image.shape)}; [3, H, W] is expected, see transform")
    found: list[Tensor] = [several[0]] * len(several)
    shapes: dict[torch.Size, list[int]] = {}
    for row, image in enumerate(several):
        shapes.setdefault(image.shape, []).append(row)
    for rows in shapes.values():
        for row, result in zip(rows, run(torch.stack([several[row] for row in rows])), strict=True):
            found[row] = result
    return found


def _rgb(image: Picture) -> npt.NDArray[np.uint8]:
    if isinstance(image, Image.Image):
        return np.array(image.convert("RGB"))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ModelError(f"a picture is {image.dtype} {list(image.shape)}; uint8 [H, W, 3] RGB is expected")
    return image


def _reflected(side: int, model: TranslatorNetwork, device: torch.device) -> tuple[int, Tensor]:
    """Where a side begins in its continuation by reflection to the next multiple, and the indices of all of it."""
    total = next_multiple(max(side, model.minimum), model.multiple)
    first = before(total - side, model.anchor)
    index = np.pad(np.arange(side), (first, total - side - first), "reflect")
    return first, torch.from_numpy(index).to(device)
