"""NetVLAD's centres before training: k-means of cells, an assignment as sharp as they ask for."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from gloam.errors import DataError, ModelError, UsageError
from gloam.export.weights import ExportRequest, export_weights
from gloam.networks.checkpoints import load_checkpoint
from gloam.networks.embedders import create_embedder
from gloam.training.embedders.netvlad_init import cluster_cells
from gloam.training.embedders.night_rule import NightRule
from gloam.training.embedders.train import initial_model
from tests.training.embedders.test_train import CONFIG, run

STAGES = [[4, 1], [6, 1]]


def network(clusters=3):
    torch.manual_seed(0)
    return create_embedder("netvlad_vgg16", clusters=clusters, stages=STAGES)


def images(count=4):
    random = np.random.default_rng(0)
    return [torch.from_numpy(random.integers(0, 256, (1, 32, 40, 3), dtype=np.uint8)) for _ in range(count)]


def test_centres_are_means_of_their_own_cells():
    model = network().train()
    assert cluster_cells(model, images(), 0, cells=1000) == 4 * 16 * 20
    assert model.training
    cells = []
    with torch.no_grad():
        for batch in images():
            x, _ = model.eval().features(model.normalize(batch), None)
            cells.append(functional.normalize(x, dim=1).flatten(2).mT[0])
    local, centres = torch.cat(cells), model.pool.centroids.detach()
    nearest = torch.cdist(local, centres).argmin(1)
    means = torch.stack([local[nearest == at].mean(0) for at in range(3)])
    assert (means - centres).norm(dim=1).max() < 0.05  # k-means has come to rest, or nearly
    directions = functional.normalize(centres, dim=1)
    best = (local @ directions.T).topk(2, 1).values
    alpha = -np.log(0.01) / float((best[:, 0] - best[:, 1]).mean())
    assert torch.allclose(model.pool.conv.weight[:, :, 0, 0].detach(), alpha * directions, rtol=1e-4)


def test_the_draw_is_the_seeds_and_too_few_cells_are_refused():
    first, again, other = (network() for _ in range(3))
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        assert cluster_cells(model, images(), seed, cells=20) == 80
    assert torch.equal(first.pool.centroids, again.pool.centroids)
    assert not torch.equal(first.pool.centroids, other.pool.centroids)
    with pytest.raises(DataError, match="netvlad_vgg16: 2 cells of training images for 3 centres"):
        cluster_cells(network(), images(1), 0, cells=2)
    with pytest.raises(DataError, match="0 cells"):
        cluster_cells(network(), [], 0)


@pytest.mark.slow
def test_a_run_starts_from_the_centres_and_carries_on_bit_for_bit(tmp_path):
    small = {"network": "netvlad_vgg16", "network_options": {"clusters": 3, "stages": STAGES}, "cluster_images": 5}
    config = dataclasses.replace(CONFIG, epochs=2, night=NightRule(), freeze_batch_norm=True, **small)
    lines = []
    whole = run(tmp_path / "whole", config, say=lines.append)
    assert any(line.startswith("centres: k-means of ") and line.endswith(" of 5 images") for line in lines)
    run(tmp_path / "parts", dataclasses.replace(config, epochs=1))
    assert run(tmp_path / "parts", config).weights_sha256 == whole.weights_sha256
    without = run(tmp_path / "without", dataclasses.replace(config, cluster_images=0))
    assert without.weights_sha256 != whole.weights_sha256
    assert "cluster_images" not in dataclasses.replace(config, cluster_images=0).trajectory()
    with pytest.raises(UsageError, match="cluster_images is for NetVLAD, not for gem_resnet18"):
        run(tmp_path / "gem", dataclasses.replace(CONFIG, cluster_images=5))


def test_a_backbones_weights_are_enough_for_a_training_that_learns_the_centres_alone(tmp_path):
    backbone = {key: value for key, value in network().state_dict().items() if key.startswith("features.")}
    torch.save(backbone, tmp_path / "vgg.pth")
    options = {"clusters": 3, "stages": STAGES}
    config = dataclasses.replace(CONFIG, network="netvlad_vgg16", network_options=options, cluster_images=5)
    found = initial_model(config, tmp_path / "vgg.pth").state_dict()
    assert all(torch.equal(found[key], value) for key, value in backbone.items())
    with pytest.raises(ModelError, match="2 keys missing"):  # random centres are no network
        initial_model(dataclasses.replace(config, cluster_images=0), tmp_path / "vgg.pth")
    for random_centres in (
        lambda: load_checkpoint(tmp_path / "vgg.pth", "netvlad_vgg16", **options),
        lambda: export_weights(ExportRequest(tmp_path / "m.onnx", tmp_path / "vgg.pth", network="netvlad_vgg16")),
    ):
        with pytest.raises(ModelError, match="not the weights of netvlad_vgg16"):
            random_centres()
