"""Losses of translation between many domains: features, perception, labels, attention masks, gradient penalty.

Each is a scalar of the number format of its input, but float32 at least.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gloam.errors import ModelError
from gloam.networks.checkpoints import read_state
from gloam.training.translators.losses import exact, l1

TAPS = (1, 6, 11, 20, 29)  # of VGG19's layers: the first rectified convolution of each stage
POOLS = (4, 9, 18, 27)
SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # of the taps; the deepest counts most
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def feature_loss(fake: Sequence[Tensor], real: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Weighted sum of mean absolute differences of a discriminator's last ``len(shares)`` layers, lower ones first.

    Args:
        fake, real: activations of one scale; no gradient reaches ``real``.
        shares: of the layers.
    """
    count = len(shares)
    terms = [share * l1(a, b.detach()) for share, a, b in zip(shares, fake[-count:], real[-count:], strict=True)]
    return torch.stack(terms).sum()


def label_loss(logits: Tensor, code: Tensor) -> Tensor:
    """Binary cross-entropy of logits ``[B, K]`` against codes ``[B, K]``, mean over both."""
    return F.binary_cross_entropy_with_logits(exact(logits), exact(code))


def dark_mask(mask: Tensor) -> Tensor:
    """``mean(1 - M)``: what a mask that keeps the image does not cost."""
    return (1.0 - exact(mask)).mean()


def total_variation(mask: Tensor) -> Tensor:
    """Mean absolute difference of neighbours in a row, plus that of neighbours in a column; ``[B, 1, H, W]``."""
    values = exact(mask)
    return (values[..., 1:] - values[..., :-1]).abs().mean() + (values[..., 1:, :] - values[..., :-1, :]).abs().mean()


def summed_variation(mask: Tensor) -> Tensor:
    """:func:`total_variation` with sums over all pixels and images instead of means."""
    values = exact(mask)
    return (values[..., 1:] - values[..., :-1]).abs().sum() + (values[..., 1:, :] - values[..., :-1, :]).abs().sum()


def gradient_penalty(score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """``(|d score / d x| - 1)^2`` at x between real and fake images, mean over the batch (Gulrajani et al. 2017).

    Args:
        score: of images ``[B, C, H, W]``, any shape; summed.
        real, fake: images.
        mix: share of the real image in x, ``[B, 1, 1, 1]`` in [0, 1].
    """
    between = (mix * real + (1.0 - mix) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(score(between).sum(), between, create_graph=True)
    penalty: Tensor = (exact(gradient).flatten(1).norm(dim=1) - 1.0).square().mean()
    return penalty


def content_distance(first: Tensor, second: Tensor) -> Tensor:
    """Squared distance of the cells of content maps ``[B, C, h, w]``, mean over cells: ``[B]`` in [0, 4]."""
    return (exact(first) - exact(second)).square().sum(1).mean((1, 2))


def content_margin(content: Tensor, same: Tensor, other: Tensor, margin: float) -> Tensor:
    """A map is nearer to one of the same content than to one of another, by a margin (MDUIT's content consistency)."""
    return F.relu(content_distance(content, same) - content_distance(content, other) + margin).mean()


def appearance_margin(appearance: Tensor, same: Tensor, other: Tensor) -> Tensor:
    """Filters ``[B, K]`` of one appearance are alike and others are not: 1 and -1 as cosine similarity, at best."""
    alike = F.cosine_similarity(exact(appearance), exact(same), dim=1)
    return F.relu(1.0 - alike + F.cosine_similarity(exact(appearance), exact(other), dim=1)).mean()


def info_nce(query: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of telling the positive from the negatives (van den Oord et al. 2018), mean over the queries.

    Args:
        query, positive: unit vectors ``[B, D]``.
        negatives: unit vectors ``[B, N, D]``.
        temperature: that cosines are divided by.
    """
    query, positive, negatives = exact(query), exact(positive), exact(negatives)
    right = (query * positive).sum(1, keepdim=True)
    wrong = (negatives @ query[:, :, None]).squeeze(2)
    scores = torch.cat((right, wrong), 1) / temperature
    return F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64, device=scores.device))


class PerceptualDistance(nn.Module):
    """Weighted sum of mean absolute differences of VGG19's features (Johnson et al. 2016); frozen.

    Args:
        weights: torchvision's state dict of VGG19, or of one of other widths.
        normalise: bring images to ImageNet's mean and deviation first.

    Raises:
        ModelError: not such weights.
    """

    def __init__(self, weights: str | Path, normalise: bool = True) -> None:
        super().__init__()
        state = {key.removeprefix("features."): value for key, value in read_state(Path(weights))[0].items()}
        layers: list[nn.Module] = []
        for index in range(TAPS[-1] + 1):
            if index in POOLS:
                layers.append(nn.MaxPool2d(2, 2))
            elif layers and isinstance(layers[-1], nn.Conv2d):
                layers.append(nn.ReLU())
            else:
                layers.append(_filled(state, index, weights))
        self.layers = nn.Sequential(*layers).requires_grad_(False)
        mean, deviation = IMAGENET if normalise else ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1))

    def features(self, images: Tensor) -> list[Tensor]:
        """Activations at :data:`TAPS` of RGB images ``[B, 3, H, W]`` in [-1, 1], sides of at least 16."""
        y = (images * 0.5 + 0.5 - self.get_buffer("mean")) / self.get_buffer("deviation")
        found = []
        for index, layer in enumerate(self.layers):
            y = layer(y)
            if index in TAPS:
                found.append(y)
        return found

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """The distance of two batches; no gradient reaches ``real``."""
        with torch.no_grad():
            wanted = self.features(real)
        terms = [share * l1(a, b) for share, a, b in zip(SHARES, self.features(fake), wanted, strict=True)]
        return torch.stack(terms).sum()


def _filled(state: dict[str, Tensor], index: int, weights: str | Path) -> nn.Conv2d:
    weight, bias = state.get(f"{index}.weight"), state.get(f"{index}.bias")
    if weight is None or bias is None or weight.ndim != 4:
        raise ModelError(f"{weights}: no weights of VGG19, layer {index} is missing; give torchvision's state dict")
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return layer
