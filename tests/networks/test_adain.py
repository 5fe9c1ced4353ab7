"""AdaIN: layout of the public files, and what the statistics of an example do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.networks.translators import create_generator
from gloam.networks.translators.adain import statistics

SMALL: dict[str, Any] = {"stages": [[4, 1], [6, 2], [6, 1]]}


def small(**options: Any) -> Any:
    torch.manual_seed(0)
    return create_generator("adain", **{**SMALL, **options}).eval()


def images(seed: int = 0, side: int = 32) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_layers_lie_where_the_public_files_have_them() -> None:
    with torch.device("meta"):
        model: Any = create_generator("adain")
    found = {
        part: [int(key.split(".")[0]) for key in getattr(model, part).state_dict() if key.endswith("weight")]
        for part in ("encoder", "decoder")
    }
    assert found == {"encoder": [0, 2, 5, 9, 12, 16, 19, 22, 25, 29], "decoder": [1, 5, 8, 11, 14, 18, 21, 25, 28]}
    assert [type(model.encoder[at]) for at in model.taps] == [nn.ReLU] * 4
    assert model.taps == (3, 10, 17, 30)
    assert [model.encoder[at - 1].out_channels for at in model.taps] == [64, 128, 256, 512]
    assert sum(isinstance(layer, nn.Upsample) for layer in model.decoder) == 3
    assert (model.multiple, model.minimum) == (8, 16)
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())


def test_features_get_the_statistics_of_the_example() -> None:
    model = small()
    content, style = (model.features(images(seed))[-1] for seed in (0, 1))
    wanted = torch.cat(statistics(style), 1)
    restyled = model.restyled(content, wanted)
    for found, expected in zip(statistics(restyled), statistics(style), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(model.worn(images(1)), wanted)
    torch.testing.assert_close(model.restyled(content, model.worn(images(0))), content, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(small(alpha=0.0).restyled(content, wanted), content)
    half = small(alpha=0.5).restyled(content, wanted)
    torch.testing.assert_close(half, (restyled + content) / 2, rtol=1e-4, atol=1e-5)


def test_the_deviation_is_that_of_a_sample() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    mean, deviation = statistics(features)
    assert float(mean) == 3
    assert float(deviation) == pytest.approx((14 / 3 + 1e-5) ** 0.5)


def test_no_share_of_an_example_beyond_all_of_it() -> None:
    with pytest.raises(ModelError, match=r"alpha 1.5: must be 0 to 1"):
        small(alpha=1.5)
