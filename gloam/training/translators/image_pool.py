"""History of generated images (Shrivastava et al. 2017): the discriminator also sees fakes of earlier steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

POOL_SIZE = 50  # of CycleGAN's paper


class ImagePool:
    """Gives back images or older ones in their place.

    The first ``size`` images are stored and returned. Each later one is, with probability 1/2, returned itself;
    otherwise it takes the place of a random stored image, which is returned. Size 0 returns all images themselves.

    Attributes:
        size: how many images the pool holds.
    """

    def __init__(self, size: int = POOL_SIZE, seed: int = 0) -> None:
        self.size = size
        self._images: list[Tensor] = []
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._images)

    def query(self, images: Tensor) -> Tensor:
        """One image for each image.

        Args:
            images: ``[B, C, H, W]``; they are detached.

        Returns:
            ``[B, C, H, W]``, without gradients.
        """
        images = images.detach()
        if self.size == 0:
            return images
        chosen = []
        for image in images:
            if len(self._images) < self.size:
                self._images.append(image.clone())
                chosen.append(image)
            elif self._draw(2) == 0:
                chosen.append(image)
            else:
                index = self._draw(self.size)
                chosen.append(self._images[index].to(image))
                self._images[index] = image.clone()
        return torch.stack(chosen)

    def state_dict(self) -> dict[str, Any]:
        """Stored images and the random generator."""
        return {"images": list(self._images), "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` of a pool of equal size gave."""
        self._images = [image.clone() for image in state["images"]]
        self._generator.set_state(state["generator"].cpu())

    def _draw(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self._generator))
