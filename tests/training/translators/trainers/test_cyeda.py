import pytest
import torch
from torch.nn import functional as F

from gloam.networks.translators import create_discriminator, create_generator
from gloam.training.translators.trainers.cyeda import CyEDAOptions, sobel_maps
from tests.training.translators.trainers.tiny import counting, pair, tiny_trainer

KERNEL = torch.tensor([[-0.5, 0.0, 0.5], [-1.0, 0.0, 1.0], [-0.5, 0.0, 0.5]])


def test_sobel_equals_the_convolutions_of_the_facts():
    day, _ = pair()
    grey = day.mean(1, keepdim=True)
    x, y = (F.conv2d(grey, kernel.view(1, 1, 3, 3), padding=1) for kernel in (KERNEL, KERNEL.t().contiguous()))
    torch.testing.assert_close(sobel_maps(day), torch.sqrt(x**2 + y**2 + 1e-8), rtol=1e-5, atol=1e-6)


def test_responses_of_the_mean_are_the_mean_of_the_channels_responses():
    day, _ = pair()
    kernel = KERNEL.view(1, 1, 3, 3).expand(3, 1, 3, 3)
    per_channel = F.conv2d(day, kernel, padding=1, groups=3).mean(1)
    torch.testing.assert_close(per_channel, F.conv2d(day.mean(1, keepdim=True), kernel[:1], padding=1)[:, 0])


def test_sobel_of_a_ramp_and_of_nothing():
    ramp = torch.arange(8.0).expand(1, 3, 8, 8) / 8
    assert torch.allclose(sobel_maps(ramp)[0, 0, 1:-1, 1:-1], torch.tensor(0.5), atol=1e-5)  # 2 * (1/2 + 1 + 1/2) / 8
    flat = torch.zeros(1, 3, 8, 8, requires_grad=True)
    sobel_maps(flat).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_each_generator_runs_once_and_edges_are_those_of_the_translation():
    trainer = tiny_trainer("cyeda", pool_size=0)
    twin = tiny_trainer("cyeda", pool_size=0)
    names = ("day2night", "night2day", "night_judge", "day_judge")
    day, night = pair()
    with counting(*(trainer.networks[name] for name in names)) as counts:
        losses = trainer.step(day, night)
    assert counts == [1, 1, 3, 3]
    expected = (sobel_maps(twin.networks["day2night"](day)) - sobel_maps(day)).abs().mean()
    torch.testing.assert_close(losses["edges_night"], expected.detach())


def test_edge_weight_zero_leaves_the_loss_out():
    assert not any(name.startswith("edges") for name in tiny_trainer("cyeda", edge_weight=0.0).step(*pair()))


def test_trainable_parameters_of_the_full_size():
    """39.58 M: two generators of 8.64 M and two discriminators of 11.15 M."""
    options = CyEDAOptions()
    with torch.device("meta"):
        generator = create_generator(options.generator, **options.generator_options)
        discriminator = create_discriminator(options.discriminator, **options.discriminator_options)
    counts = [sum(p.numel() for p in network.parameters()) / 1e6 for network in (generator, discriminator)]
    assert counts == [pytest.approx(8.64, abs=0.005), pytest.approx(11.15, abs=0.005)]
