"""VGG16 up to its last ReLU (Simonyan & Zisserman 2015), keys of torchvision's ``vgg16().features`` 0..29."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gloam.networks.masks import Masks, after, zero_beyond

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # width, convolutions


class VGG16(nn.Sequential):
    """Float ``[B, 3, H, W]`` to ``[B, 512, H // 16, W // 16]``.

    Args:
        stages: width and number of convolutions of each stage; the paper's by default.
        channels: of the image; a property of the family that uses the backbone, so not in its options.
    """

    padding_exact = True

    def __init__(self, stages: Sequence[Sequence[int]] = STAGES, *, channels: int = 3) -> None:
        layers: list[nn.Module] = []
        for stage, (width, count) in enumerate(stages):
            if stage:
                layers.append(nn.MaxPool2d(2, 2))
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
        super().__init__(*layers)
        self.dimension = channels
        self.options = {"stages": [list(stage) for stage in stages]}

    def forward(self, x: Tensor, masks: Masks | None = None) -> tuple[Tensor, Masks | None]:
        """Feature map and its masks; the last pooling of VGG16 is left out, as retrieval does."""
        for layer in self:
            if isinstance(layer, nn.ReLU):
                x = layer(x)
                continue
            x = layer(zero_beyond(x, masks))
            if isinstance(layer, nn.MaxPool2d):
                masks = after(masks, x, kernel=2, stride=2, padding=0)
        return x, masks
