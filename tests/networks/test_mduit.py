"""MDUIT's networks: counts, the filter that an example gives, content and its embedding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gloam.errors import ModelError
from gloam.networks.checkpoints import load_generator, save_checkpoint
from gloam.networks.embedders import create_embedder
from gloam.networks.translators import create_discriminator, create_generator, init_weights
from gloam.networks.translators.mduit import TAPS, folded_convolution, shifted_convolution

SMALL: dict[str, Any] = {"width": 2, "blocks": 1, "stages": [[4, 1], [4, 1], [4, 1]], "domains": ["day", "night"]}
FILTER = 8 * TAPS


def small(**options: Any) -> Any:
    torch.manual_seed(0)
    return create_generator("mduit", **{**SMALL, **options}).eval()


def images(batch: int = 2, height: int = 32, width: int = 48, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parts_have_the_stated_counts() -> None:
    with torch.device("meta"):
        network, embedder = create_generator("mduit"), create_embedder("mduit_content")
        judges = [create_discriminator("patch", channels=channels) for channels in (3, 6)]
    vgg = count(network.get_submodule("appearance.vgg"))
    content, decoder = count(network.get_submodule("content")), count(network.get_submodule("decoder"))
    found = [content, vgg, count(network.get_submodule("appearance")) - vgg, decoder, *map(count, judges)]
    assert found == [5_099_136, 1_735_488, 2_824_960, 5_099_267, 2_764_737, 2_767_809]
    assert [round(value / 1e6, 2) for value in found] == [5.10, 1.74, 2.82, 5.10, 2.76, 2.77]
    assert count(embedder) - content == 131_585


@pytest.mark.parametrize("batch", [1, 3])
def test_both_forms_of_the_convolution_equal_a_loop_over_the_images(batch: int) -> None:
    random = torch.Generator().manual_seed(batch)
    x = F.normalize(torch.randn(batch, 6, 9, 7, generator=random), dim=1)
    filters = torch.randn(batch, 6, 5, 5, generator=random) * 0.3
    loop = torch.cat([F.conv2d(x[at : at + 1], filters[at][:, None], padding=2, groups=6) for at in range(batch)])
    for form in (folded_convolution, shifted_convolution):
        assert (form(x, filters) - loop).abs().max() <= 1e-6
        exact = form(x.double(), filters.double())
        assert (exact - loop).abs().max() <= 1e-6
        assert exact.shape == x.shape


def test_a_filter_of_zeros_leaves_the_content_as_it_is_and_each_image_has_its_own() -> None:
    network = small()
    content = network.content(images())
    assert torch.equal(network.adapted(content, torch.zeros(2, FILTER)), content)
    filters = torch.randn(2, FILTER, generator=torch.Generator().manual_seed(3))
    together = network.decoded(content, filters)
    for row in range(2):
        alone = network.decoded(content[row : row + 1], filters[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-5)
    assert not torch.allclose(together[0], network.decoded(content, filters.flip(0))[0], atol=1e-3)
    assert not network.adapted(content, filters).equal(content)


def test_the_papers_initial_weights_let_hardly_anything_through() -> None:
    """The filters of the example are as small as the weights are; those that are added to the identity are not."""
    spread = {}
    for identity, gain in ((True, 0.02), (False, 0.001)):
        network = small(identity=identity, width=16)
        init_weights(network, "normal", gain, seed=1)
        filters = network.appearance(images())
        spread[identity] = float(network.adapted(network.content(images()), filters).detach().var())
    assert spread[True] > 1e-3
    assert spread[False] < 1e-6


def test_content_is_of_unit_cells_and_the_embedding_of_unit_length_at_any_size() -> None:
    torch.manual_seed(0)
    embedder = create_embedder("mduit_content", width=2, blocks=1, dimension=5).eval()
    for height, width in ((32, 32), (33, 61), (64, 40)):
        x = images(2, height, width)
        content = embedder.get_submodule("content")(x)
        assert content.shape == (2, 8, -(-height // 4), -(-width // 4))
        torch.testing.assert_close(content.norm(dim=1), torch.ones(2, *content.shape[2:]))
        torch.testing.assert_close(embedder(x).norm(dim=1), torch.ones(2), rtol=0, atol=1e-3)
    assert embedder.smallest_side == 32


def test_the_appearance_sees_vgg_s_normalisation_and_the_light() -> None:
    network = small()
    seen: list[Tensor] = []
    network.appearance.vgg[0].register_forward_hook(lambda _module, given, _found: seen.append(given[0]))
    bright, dark = network.appearance(torch.ones(1, 3, 32, 32)), network.appearance(-torch.ones(1, 3, 32, 32))
    assert bright.shape == (1, FILTER)
    expected = (torch.tensor([1.0, 1.0, 1.0]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected)
    assert (bright - dark).abs().max() > 1e-3


def test_gradients_reach_content_example_and_every_weight() -> None:
    network = small()
    source, example = images().requires_grad_(), images(seed=1).requires_grad_()
    network(source, network.appearance(example)).square().mean().backward()
    assert source.grad is not None
    assert example.grad is not None
    assert float(source.grad.abs().sum()) > 0
    assert float(example.grad.abs().sum()) > 0
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_bank_is_what_a_domain_s_name_means(tmp_path: Any) -> None:
    network = small(target="night")
    with pytest.raises(ModelError, match="keeps no filters of its domains yet"):
        network.towards("day")
    bank = torch.randn(2, FILTER, generator=torch.Generator().manual_seed(0))
    network.keep(bank)
    save_checkpoint(tmp_path / "m.safetensors", network, {"recipe": "test"})
    loaded: Any = load_generator(tmp_path / "m.safetensors").model
    for name, row in (("day", 0), ("night", 1)):
        (spec,) = loaded.towards(name)
        assert torch.equal(torch.tensor(spec.default), bank[row])
    x = images()
    with torch.no_grad():
        assert torch.equal(loaded(x), loaded(x, bank[1].expand(2, -1)))
    with pytest.raises(ModelError, match="unknown domain 'rain'; the model knows day, night"):
        loaded.towards("rain")
    with pytest.raises(ModelError, match="unknown domain 'rain'; it keeps no filter of any"):
        small(domains=[]).towards("rain")
    with pytest.raises(ModelError, match="one is named twice"):
        small(domains=["day", "day"])
