"""ResNet-18, 50 and 101 without pooling and classifier (He et al. 2016), as cirtorch lays them out.

The children of torchvision's ResNet as a Sequential: 0 conv1, 1 bn1, 2 relu, 3 maxpool, 4..7 layer1..layer4.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from gloam.networks.masks import Masks, after, zero_beyond


class _Block(nn.Module):
    """What both kinds of residual block share: the shortcut and the masks behind a stride."""

    expansion: ClassVar[int]

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        self._channels = (channels, out)

    def _add_downsample(self) -> None:
        # Called last, so that the keys stand in torchvision's order.
        channels, out = self._channels
        if self.stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, self.stride, bias=False), nn.BatchNorm2d(out))

    def body(self, x: Tensor, masks: Masks | None) -> tuple[Tensor, Masks | None]:
        raise TypeError("a block defines its body")

    def forward(self, x: Tensor, masks: Masks | None = None) -> tuple[Tensor, Masks | None]:
        """Residual sum and the masks behind it."""
        y, behind = self.body(x, masks)
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(y + shortcut), behind


class BasicBlock(_Block):
    """Two 3x3 convolutions (ResNet-18)."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__(channels, width, stride)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self._add_downsample()

    def body(self, x: Tensor, masks: Masks | None) -> tuple[Tensor, Masks | None]:
        """Both convolutions, re-zeroed before each."""
        y = self.relu(self.bn1(self.conv1(zero_beyond(x, masks))))
        if self.stride != 1:
            masks = after(masks, y, kernel=3, stride=self.stride, padding=2)
        return self.bn2(self.conv2(zero_beyond(y, masks))), masks


class Bottleneck(_Block):
    """1x1, 3x3 with the stride, 1x1 (ResNet-50 and 101)."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__(channels, width * self.expansion, stride)
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self._add_downsample()

    def body(self, x: Tensor, masks: Masks | None) -> tuple[Tensor, Masks | None]:
        """Three convolutions; only the 3x3 sees neighbours, so only it needs the mask."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.conv2(zero_beyond(y, masks))
        if self.stride != 1:
            masks = after(masks, y, kernel=3, stride=self.stride, padding=2)
        return self.bn3(self.conv3(self.relu(self.bn2(y)))), masks


class Stage(nn.Sequential):
    """One of layer1..layer4: blocks of one width, the first with the stride."""

    def __init__(
        self, block: type[BasicBlock | Bottleneck], channels: int, width: int, count: int, stride: int
    ) -> None:
        out = width * block.expansion
        super().__init__(block(channels, width, stride), *(block(out, width, 1) for _ in range(count - 1)))

    def forward(self, x: Tensor, masks: Masks | None = None) -> tuple[Tensor, Masks | None]:
        """Run the blocks."""
        for block in self:
            x, masks = block(x, masks)
        return x, masks


class ResNet(nn.Sequential):
    """Float ``[B, 3, H, W]`` to ``[B, dimension, ceil(H / 32), ceil(W / 32)]``.

    Args:
        block: kind of residual block.
        counts: blocks per stage.
        width: channels of the first stage; 64 in the paper, less for small embedders trained from scratch.
        channels: of the image; a property of the family that uses the backbone, so not in its options.
    """

    padding_exact = True

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        counts: tuple[int, int, int, int],
        width: int = 64,
        *,
        channels: int = 3,
    ) -> None:
        stages: list[nn.Module] = []
        reached = width
        for stage, count in enumerate(counts):
            stages.append(Stage(block, reached, width << stage, count, 1 if stage == 0 else 2))
            reached = (width << stage) * block.expansion
        super().__init__(
            nn.Conv2d(channels, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
            *stages,
        )
        self.dimension = reached
        self.options = {"width": width}

    def forward(self, x: Tensor, masks: Masks | None = None) -> tuple[Tensor, Masks | None]:
        """Feature map and its masks."""
        x = self[2](self[1](self[0](zero_beyond(x, masks))))
        masks = after(masks, x, kernel=7, stride=2, padding=6)
        x = self[3](zero_beyond(x, masks))
        masks = after(masks, x, kernel=3, stride=2, padding=2)
        for stage in list(self)[4:]:
            x, masks = stage(x, masks)
        return x, masks


def resnet50_minus(width: int = 64) -> ResNet:
    """ResNet-50 without its last stage: 16 channels a ``width``, stride 16."""
    features = ResNet(Bottleneck, (3, 4, 6, 3), width)
    del features[7]
    features.dimension = 4 * width * Bottleneck.expansion
    return features
