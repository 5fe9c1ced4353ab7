"""MDUIT's compact vector z: generalized-mean pooling and a small perceptron on the content map."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gloam.networks.embedders.base import EmbedderNetwork, l2_normalize
from gloam.networks.embedders.gem import GeM
from gloam.networks.masks import Masks
from gloam.networks.translators.content import ContentEncoder


class MduitContent(EmbedderNetwork):
    """The content encoder E_c of MDUIT and its embedding H. 5.10 M and 0.13 M parameters.

    Instance norm looks at the whole image, so it is not padding-exact.

    Args:
        width, blocks: of the content encoder, as in :class:`ContentEncoder`.
        dimension: of the vector; the paper does not state it.
        p: initial power of the pooling.
        mean, std: normalisation on [0, 1] RGB; to [-1, 1], as the translator sees images.
    """

    def __init__(
        self,
        width: int = 64,
        blocks: int = 4,
        dimension: int = 256,
        p: float = 3.0,
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.5, 0.5, 0.5),
    ) -> None:
        options: dict[str, Any] = {"width": width, "blocks": blocks, "dimension": dimension}
        super().__init__("mduit_content", options, dimension=dimension, mean=mean, std=std)
        self.content = ContentEncoder(3, width, blocks)
        channels = self.content.dimension
        self.pool = GeM(p)
        self.head = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, dimension))

    @property
    def smallest_side(self) -> int:
        """Two cells each way are left of 32 px and less; the paper's networks are for larger images."""
        return 32

    @property
    def pooling(self) -> dict[str, Any]:
        """``gem`` with its p."""
        return {"name": "gem", "p": round(float(self.pool.p.item()), 6)}

    def embedding(self, content: Tensor) -> Tensor:
        """The paper's H: content maps ``[B, C, h, w]`` to unit vectors ``[B, dimension]``."""
        return l2_normalize(self.head(self.pool(content)))

    def forward(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """Normalised float images ``[B, 3, H, W]`` to unit descriptors ``[B, dimension]``."""
        return self.embedding(self.content(images))
