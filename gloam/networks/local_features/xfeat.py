"""XFeat: light features at an eighth of the image and keypoints from its cells (Potje et al. 2024)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from gloam.networks.local_features.base import LocalFeatureNetwork
from gloam.networks.local_features.detect import cells_to_map, peaks, pixels, sample, strongest
from gloam.networks.local_features.norm import InstanceNorm

CELL = 32  # pixels of the coarsest level
RADIUS = 2  # pixels around a maximum


class Layer(nn.Module):
    """Convolution, norm without weights of its own, ReLU."""

    def __init__(self, inputs: int, outputs: int, side: int = 3, stride: int = 1) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)
        self.layer = nn.Sequential(conv, nn.BatchNorm2d(outputs, affine=False), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, H, W]`` to ``[B, outputs, ...]``."""
        y: Tensor = self.layer(x)
        return y


class XFeat(LocalFeatureNetwork):
    """0.66 M parameters; the published file's matcher of fine offsets is left out. Images are brought to multiples of
    32 px inside, by the floor."""

    name: ClassVar[str] = "xfeat"
    licence: ClassVar[str] = "Apache-2.0"
    threshold: ClassVar[float] = 0.05
    traced_from: ClassVar[int] = 2 * CELL
    not_fixed: ClassVar[str] = (
        "its norm is of the whole image, which it also resizes to multiples of 32 px, so padding would change both"
    )

    def __init__(self) -> None:
        super().__init__({}, 64)
        self.norm = InstanceNorm()
        self.skip1 = nn.Sequential(nn.AvgPool2d(4, 4), nn.Conv2d(1, 24, 1))
        self.block1 = nn.Sequential(Layer(1, 4), Layer(4, 8, stride=2), Layer(8, 8), Layer(8, 24, stride=2))
        self.block2 = nn.Sequential(Layer(24, 24), Layer(24, 24))
        self.block3 = nn.Sequential(Layer(24, 64, stride=2), Layer(64, 64), Layer(64, 64, 1))
        self.block4 = nn.Sequential(Layer(64, 64, stride=2), Layer(64, 64), Layer(64, 64))
        self.block5 = nn.Sequential(Layer(64, 128, stride=2), Layer(128, 128), Layer(128, 128), Layer(128, 64, 1))
        self.block_fusion = nn.Sequential(Layer(64, 64), Layer(64, 64), nn.Conv2d(64, 64, 1))
        self.heatmap_head = nn.Sequential(Layer(64, 64, 1), Layer(64, 64, 1), nn.Conv2d(64, 1, 1))
        self.keypoint_head = nn.Sequential(*(Layer(64, 64, 1) for _ in range(3)), nn.Conv2d(64, 65, 1))

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features, logits of the pixels, and reliability.

        Args:
            x: ``[B, 3, H, W]``, sides multiples of 32.

        Returns:
            features ``[B, 64, h, w]`` at an eighth of the size, logits ``[B, 65, h, w]``, and reliability in [0, 1]
            ``[B, 1, h, w]``.
        """
        grey = self.norm(x.mean(1, keepdim=True))
        third = self.block3(self.block2(self.block1(grey) + self.skip1(grey)))
        fourth = self.block4(third)
        size = third.shape[2:]
        coarse = [
            functional.interpolate(level, size, mode="bilinear", align_corners=False)
            for level in (fourth, self.block5(fourth))
        ]
        features = self.block_fusion(third + coarse[0] + coarse[1])
        logits = self.keypoint_head(functional.pixel_unshuffle(grey, 8))
        return features, logits, self.heatmap_head(features).sigmoid()

    def forward(self, images: Tensor, count: int, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See :class:`LocalFeatureNetwork`; the threshold is of a pixel's share of its cell, not of the score."""
        given_height, given_width = images.shape[2:]
        height, width = given_height // CELL * CELL, given_width // CELL * CELL
        resized = functional.interpolate(images, (height, width), mode="bilinear", align_corners=False)
        features, logits, reliability = self.maps(resized)
        heat = cells_to_map(logits)
        rows, columns = torch.arange(height, device=heat.device), torch.arange(width, device=heat.device)
        # As published: places between 0 and the last pixel are looked up as if between the map's borders. The last row
        # and column fall out of the map.
        inside = (rows < height - 1)[:, None] & (columns < width - 1)
        down, across = (
            (steps / (side - 1) * cells - 0.5)
            for steps, side, cells in ((rows, height, height // 8), (columns, width, width // 8))
        )
        everywhere = torch.stack((across.expand(height, -1), down[:, None].expand(-1, width)), -1).reshape(1, -1, 2)
        reliable = sample(reliability, everywhere.expand(images.shape[0], -1, -1)).reshape(-1, height, width)
        kept = peaks(heat, RADIUS) & (heat > threshold) & inside
        scores, places = strongest(torch.where(kept, heat * reliable, torch.zeros_like(heat)).flatten(1), count)
        points = pixels(places, width)
        x = points[..., 0] / (width - 1) * (width // 8) - 0.5
        y = points[..., 1] / (height - 1) * (height // 8) - 0.5
        described = sample(functional.normalize(features, dim=1), torch.stack((x, y), -1), "bicubic")
        back = torch.stack((points[..., 0] * given_width / width, points[..., 1] * given_height / height), -1)
        return back, scores, described.transpose(1, 2), scores > 0
