import torch

from gloam.networks.embedders import create_embedder
from gloam.training.embedders.batch_norm import freeze_batch_norm, settle_batch_norm
from tests.training.embedders.synthetic import pattern_places


def test_frozen_statistics_stay():
    model = create_embedder("gem_resnet18", width=8)
    before = model.features[1].running_mean.clone()
    images = torch.rand(4, 3, 64, 64)
    model.train()
    freeze_batch_norm(model)
    model(images)
    assert torch.equal(model.features[1].running_mean, before)
    model.train()
    model(images)
    assert not torch.equal(model.features[1].running_mean, before)


def test_settled_random_weights_tell_images_apart_and_keep_their_values():
    torch.manual_seed(0)
    model = create_embedder("gem_mobilenet_v2").eval()
    images = pattern_places(0).images[:16]
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}

    def spread():
        with torch.no_grad():
            rows = model.describe_uint8(torch.from_numpy(images))
        return float((rows - rows.mean(0)).norm(dim=1).mean())

    assert spread() < 1e-3  # the initial statistics shrink the signal to nothing
    settle_batch_norm(model, images)
    assert spread() > 0.05
    assert not model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())
