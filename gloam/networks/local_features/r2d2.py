"""R2D2: repeatable and reliable keypoints at full resolution and several scales (Revaud et al. 2019)."""

from __future__ import annotations

from math import log
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.errors import UsageError
from gloam.networks.embedders.base import IMAGENET_MEAN, IMAGENET_STD
from gloam.networks.local_features.base import LocalFeatureNetwork
from gloam.networks.local_features.detect import at, peaks, pixels, strongest

# Channels, kernel side and dilation; strides became dilations.
LAYERS = (
    (32, 3, 1),
    (32, 3, 1),
    (64, 3, 1),
    (64, 3, 2),
    (128, 3, 2),
    (128, 3, 4),
    (128, 2, 4),
    (128, 2, 8),
    (128, 2, 16),
)
STEP = 2**0.25  # between two scales
LEAST = 0.25  # of the scales
SMALLEST, LARGEST = 256, 1024  # pixels of the longer side at which an image is looked at
SLACK = 0.001  # of a scale, as published
UNIT = 1 << 30  # of a scale as a whole number


class R2D2(LocalFeatureNetwork):
    """0.49 M parameters. An image is looked at wherever its longer side has 256 to 1024 px, each scale a fourth root
    of 2 below the one before, and no less than ``min_scale`` of its size, a quarter; a smaller one as it is.

    The threshold holds for reliability and repeatability alike; the score is their product.

    Args:
        min_scale: see :meth:`look_from`; what the authors' program calls ``--min-scale``.
    """

    name: ClassVar[str] = "r2d2"
    licence: ClassVar[str] = "CC-BY-NC-SA-3.0 (non-commercial)"
    threshold: ClassVar[float] = 0.7
    mean: ClassVar[tuple[float, ...]] = IMAGENET_MEAN
    std: ClassVar[tuple[float, ...]] = IMAGENET_STD
    not_fixed: ClassVar[str] = "it looks at several scales of the image, whose resizing would see the padding"

    def __init__(self, min_scale: float = LEAST) -> None:
        super().__init__({}, 128)
        self.look_from(min_scale)
        ops: list[nn.Module] = []
        before = 3
        for number, (channels, side, dilation) in enumerate(LAYERS):
            ops.append(nn.Conv2d(before, channels, side, padding=(side - 1) * dilation // 2, dilation=dilation))
            if number < len(LAYERS) - 1:
                ops.append(nn.BatchNorm2d(channels, affine=False))
            if side == 3:
                ops.append(nn.ReLU())
            before = channels
        self.ops = nn.ModuleList(ops)
        self.clf = nn.Conv2d(before, 2, 1)
        self.sal = nn.Conv2d(before, 1, 1)
        self.register_buffer("_mean", torch.tensor(self.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).reshape(1, 3, 1, 1), persistent=False)

    def look_from(self, min_scale: float) -> None:
        """Look at no scale below one.

        Args:
            min_scale: 0.25 to 1. A larger one has fewer scales, and is for smaller images, up to 1024 px over it.

        Raises:
            UsageError: another.
        """
        if not LEAST <= min_scale <= 1:
            raise UsageError(f"r2d2: the least scale is {LEAST:g} to 1, not {min_scale:g}")
        self.options = {} if min_scale == LEAST else {"min_scale": min_scale}
        self.largest = int(LARGEST / min_scale)
        self.scales = 1 + int(log(1 / (min_scale - SLACK), STEP))

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised ``[B, 3, H, W]`` to features ``[B, 128, H, W]``, reliability and repeatability ``[B, H, W]``."""
        for layer in self.ops:
            x = layer(x)
        squared = x.square()
        salience = functional.softplus(self.sal(squared))[:, 0]
        return functional.normalize(x, dim=1), self.clf(squared).softmax(1)[:, 1], salience / (1 + salience)

    def forward(self, images: Tensor, count: int, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See :class:`LocalFeatureNetwork`."""
        x = (images - self.get_buffer("_mean")) / self.get_buffer("_std")
        height, width = x.shape[2:]
        longest = max(height, width)
        longer = x.new_ones(()) * longest
        found = []
        scale = 1.0
        for step in range(self.scales):
            high, wide = ((side * round(scale * UNIT) + UNIT // 2) // UNIT for side in (height, width))
            if step:
                x = functional.interpolate(x, (high, wide), mode="bilinear", align_corners=False)
            # What is too large to be looked at is cut to a corner, so that it costs nothing; sizes are whole numbers.
            times = LARGEST * UNIT // (longest * round((scale - SLACK) * UNIT))
            fits = 2 * times // (times + 1)  # 0 where it does not fit, else 1
            down, across = 2 + (high - 2) * fits, 2 + (wide - 2) * fits
            features, reliability, repeatability = self.maps(x[:, :, :down, :across])
            looked_at = longer * (scale - SLACK) <= LARGEST
            if step:
                looked_at = looked_at & (longer * (scale + SLACK) >= SMALLEST)
            kept = peaks(repeatability, 1) & (repeatability >= threshold) & (reliability >= threshold) & looked_at
            product = reliability * repeatability
            scores, places = strongest(torch.where(kept, product, torch.zeros_like(product)).flatten(1), count)
            points = pixels(places, across)
            back = torch.stack((points[..., 0] * width / wide, points[..., 1] * height / high), -1)
            found.append((back, scores, at(features, places)))
            scale /= STEP
        points, scores, descriptors = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        best, rows = strongest(scores, count)
        index = rows[..., None]
        return (
            points.gather(1, index.expand(-1, -1, 2)),
            best,
            descriptors.gather(1, index.expand(-1, -1, self.dimension)),
            best > 0,
        )
