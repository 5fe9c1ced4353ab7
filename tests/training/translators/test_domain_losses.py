"""Losses of translation between many domains, each against a value by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from gloam.errors import ModelError
from gloam.training.translators.domain_losses import (
    PerceptualDistance,
    appearance_margin,
    content_distance,
    content_margin,
    dark_mask,
    feature_loss,
    gradient_penalty,
    info_nce,
    label_loss,
    summed_variation,
    total_variation,
)
from gloam.training.translators.losses import GanLoss, l1
from tests.training.translators.trainers.tiny import write_narrow_vgg19


def test_features_are_weighted_from_the_last_layers() -> None:
    fake = [torch.full((1, 1, 2, 2), 9.0), torch.tensor([1.0, 3.0]), torch.tensor([2.0])]
    real = [torch.zeros(1, 1, 2, 2), torch.tensor([0.0, 0.0]), torch.tensor([5.0], requires_grad=True)]
    assert float(feature_loss(fake, real, (2 / 3, 1 / 3))) == pytest.approx(2 / 3 * 2 + 1 / 3 * 3)
    assert not feature_loss(fake, real, (1.0,)).requires_grad


def test_labels_masks_and_variation() -> None:
    logits, code = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[1.0, 0.0]])
    assert float(label_loss(logits, code)) == pytest.approx((math.log(2) + math.log(4)) / 2)
    mask = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    assert float(dark_mask(mask)) == pytest.approx(0.5)
    assert float(dark_mask(mask + 0.1)) < float(dark_mask(mask))
    assert float(total_variation(mask)) == pytest.approx((1 + 0) / 2 + (0.5 + 0.5) / 2)
    assert float(summed_variation(mask)) == pytest.approx(1 + 0 + 0.5 + 0.5)


def test_the_penalty_is_of_the_gradients_length_between_the_images() -> None:
    real, fake = torch.full((2, 1, 1, 2), 1.0), torch.zeros(2, 1, 1, 2)
    mix = torch.tensor([1.0, 0.5]).view(2, 1, 1, 1)
    found = gradient_penalty(lambda x: x.square(), real, fake, mix)  # the gradient is 2 x
    assert float(found) == pytest.approx(((2 * math.sqrt(2) - 1) ** 2 + (math.sqrt(2) - 1) ** 2) / 2)


@pytest.mark.parametrize("normalise", [True, False])
def test_perception_is_the_weighted_distance_of_vgg19s_features(tmp_path: Path, normalise: bool) -> None:
    file = write_narrow_vgg19(tmp_path / "vgg19.pth")
    distance = PerceptualDistance(file, normalise)
    fake, real = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    state = torch.load(file)

    def features(x: torch.Tensor) -> list[torch.Tensor]:
        y = (x + 1) / 2 - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        y = y / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) if normalise else x
        found = []
        for stage in ((0, 2), (5, 7), (10, 12, 14, 16), (19, 21, 23, 25), (28,)):
            if stage[0]:
                y = F.max_pool2d(y, 2)
            for at, index in enumerate(stage):
                y = F.relu(F.conv2d(y, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1))
                if not at:
                    found.append(y)
        return found

    pairs = zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), features(fake), features(real), strict=True)
    expected = sum(share * float((a - b).abs().mean()) for share, a, b in pairs)
    assert float(distance(fake, real)) == pytest.approx(expected, rel=1e-4)
    assert all(not parameter.requires_grad for parameter in distance.parameters())


def test_other_weights_are_no_vgg19(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(2, 3, 3, 3)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="no weights of VGG19, layer 0 is missing"):
        PerceptualDistance(tmp_path / "w.pth")


def test_float64_stays_float64(tmp_path: Path) -> None:
    x = torch.rand(2, 3, 32, 32).double()
    mask = x[:, :1]
    distance = PerceptualDistance(write_narrow_vgg19(tmp_path / "vgg19.pth")).double()
    losses = [
        l1(x, 1 - x),
        GanLoss("hinge").generator(x),
        GanLoss("hinge").discriminator(x, x),
        feature_loss([x], [1 - x], (1.0,)),
        label_loss(x[:, :, 0, 0], x[:, :, 1, 1]),
        dark_mask(mask),
        total_variation(mask),
        summed_variation(mask),
        gradient_penalty(lambda y: y.square(), x, 1 - x, x[:, :1, :1, :1]),
        distance(x, 1 - x),
    ]
    assert {loss.dtype for loss in losses} == {torch.float64}
    assert l1(x.half(), x.half()).dtype == torch.float32


def test_contents_are_compared_cell_by_cell_with_a_margin() -> None:
    up, right = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])

    def content(*cells: torch.Tensor) -> torch.Tensor:
        return torch.stack(cells, 1)[None, :, None]  # [1, 2, 1, cells]

    own, half, opposite = content(up, up), content(up, right), content(-up, -up)
    distances = [float(content_distance(own, other)) for other in (own, half, opposite)]
    assert distances == pytest.approx([0, 1, 4])
    assert float(content_margin(own, own, half, 0.1)) == 0
    assert float(content_margin(own, half, half, 0.1)) == pytest.approx(0.1)
    assert float(content_margin(own, half, own, 0.1)) == pytest.approx(1.1)


def test_filters_of_one_appearance_are_alike_and_others_are_not() -> None:
    own, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    assert float(appearance_margin(own, 3 * own, other)) == pytest.approx(0, abs=1e-6)
    assert float(appearance_margin(own, other, other)) == pytest.approx(1)
    assert float(appearance_margin(own, other, own)) == pytest.approx(2)
    assert float(appearance_margin(own, own, -own)) == 0


def test_info_nce_is_the_cross_entropy_of_the_positive() -> None:
    axes = torch.eye(3)
    query, negatives = axes[:1], axes[None, 1:]
    assert float(info_nce(query, query, negatives, 0.5)) == pytest.approx(math.log(1 + 2 * math.exp(-2)))
    equal = info_nce(query, axes[1:2], negatives, 0.07)  # the positive is as far as the negatives are
    assert float(equal) == pytest.approx(math.log(3))
    both = info_nce(axes[:2], axes[:2], torch.stack((axes[1:], axes[[0, 2]])), 1.0)
    assert float(both) == pytest.approx(math.log(1 + 2 / math.e))
