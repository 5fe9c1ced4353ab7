import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.data.sources import ImageItem
from gloam.errors import DataError, DivergenceError, ModelError, StoreError, UsageError
from gloam.model_card import Photometric
from gloam.networks.checkpoints import load_checkpoint, load_detector, save_checkpoint
from gloam.networks.edges import create_detector
from gloam.networks.embedders import create_embedder
from gloam.runtime.models.formulas import create_classic
from gloam.training.embedders import epochs
from gloam.training.embedders.batch_norm import freeze_batch_norm
from gloam.training.embedders.config import MetricConfig
from gloam.training.embedders.epochs import MetricRun, tuple_loss
from gloam.training.embedders.losses import contrastive_loss
from gloam.training.embedders.night_rule import NightRule
from gloam.training.embedders.nights import NightCache
from gloam.training.embedders.train import initial_model, train_metric
from gloam.training.embedders.tuples.images import Described, TupleImages, describe_images
from gloam.training.embedders.tuples.mine import mine_epoch
from tests.training.embedders.synthetic import pattern_places

CPU = torch.device("cpu")
CONFIG = MetricConfig(
    network="gem_resnet18",
    network_options={"width": 4},
    epochs=3,
    tuples=12,
    batch=4,
    negatives=3,
    learning_rate=1e-3,
    freeze_batch_norm=False,
    forward_images=20,
    validate_every=1,
    photometric="none",
    device="cpu",
    workers=0,
    night=NightRule("per_epoch", 0.5),
)


def retrieval_set(seed=0, places=8, views=3, odd=False):
    found = pattern_places(seed, places, views, ("day", "night"), 48, 40)
    pixels = [image[: 40 - 8 * (row % 3 == 1)] if odd else image for row, image in enumerate(found.images)]
    queries = np.arange(len(found))
    size = 2 * views
    return RetrievalSet(
        tuple(ImageItem(name, f"/nowhere/{name}") for name in found.names),
        found.places,
        queries,
        queries // size * size + (queries + 1) % size,
        found.conditions,
        tuple(pixels),
    )


def run(folder, config=CONFIG, **options):
    night = create_classic("gamma") if config.night.active else None
    return train_metric(config, retrieval_set(0), retrieval_set(1), folder, **{"night": night, **options})


def test_batches_by_size_equal_one_image_at_a_time():
    torch.manual_seed(0)
    model = create_embedder("gem_resnet18", width=8).train()
    freeze_batch_norm(model)
    pixels = list(retrieval_set(odd=True).pixels[:21])
    assert len({image.shape for image in pixels}) == 2

    def gradient(loss):
        model.zero_grad()
        loss.backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    loss = tuple_loss(model, pixels, 7, 0.75, CPU)
    batched = gradient(loss)
    singles = torch.cat([model(model.normalize(torch.from_numpy(image[None].copy()))) for image in pixels])
    same = torch.zeros(3, 6)
    same[:, 0] = 1
    plain = contrastive_loss(singles.view(3, 7, -1)[:, 0], singles.view(3, 7, -1)[:, 1:], same, 0.75)
    assert abs(loss.item() - plain.item()) < 1e-5
    expected = gradient(plain)
    assert float((batched - expected).abs().max()) < 1e-5 * max(1.0, float(expected.abs().max()))
    np.testing.assert_allclose(describe_images(model, pixels, CPU, batch=4).detach(), singles.detach(), atol=1e-6)


def test_a_backward_of_fewer_images_gives_the_same_weights(tmp_path):
    frozen = dataclasses.replace(CONFIG, freeze_batch_norm=True, epochs=1, network_options={"width": 8})
    whole = load_checkpoint(run(tmp_path / "a", frozen).weights).model.state_dict()
    parts = load_checkpoint(
        run(tmp_path / "b", dataclasses.replace(frozen, forward_images=5)).weights
    ).model.state_dict()
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("anchors", ["random", "diverse", "all"])
def test_a_run_learns_writes_and_is_only_read_again(tmp_path, anchors):
    config = dataclasses.replace(CONFIG, anchors=anchors, select="mAP", epochs=2)
    summary = run(tmp_path, config)
    assert summary.epochs == 2
    assert summary.history[1]["tuples"] == (48 if anchors == "all" else 12)
    assert 0 < summary.history[1]["night"] < 1 / 5
    assert summary.validation["mAP"] == max(record["validation"]["mAP"] for record in summary.history[1:])
    loaded = load_checkpoint(summary.weights)
    assert loaded.provenance["weights_sha256"] == summary.weights_sha256
    assert loaded.provenance["night_maker"] == "gamma"
    record = json.loads((tmp_path / "train.json").read_text())
    assert record["config"] == json.loads(json.dumps(config.to_dict()))
    assert record["history"] == json.loads(json.dumps(summary.history))
    for key in ("weights_sha256", "best_epoch", "epochs", "validation", "untrained", "images", "seconds"):
        assert record[key] == getattr(summary, key)
    lines = []
    again = run(tmp_path, config, say=lines.append)
    assert again.weights_sha256 == summary.weights_sha256
    assert lines == []


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    config = dataclasses.replace(CONFIG, night=NightRule("per_image", 0.3, ("anchor", "positive", "negative")))
    whole = run(tmp_path / "whole", config)
    run(tmp_path / "parts", dataclasses.replace(config, epochs=1))
    parts = run(tmp_path / "parts", dataclasses.replace(config, workers=2))
    assert parts.weights_sha256 == whole.weights_sha256
    strip = [{key: item for key, item in record.items() if key != "seconds"} for record in whole.history]
    assert strip == [{key: item for key, item in record.items() if key != "seconds"} for record in parts.history]
    first, second = (
        torch.load(next((tmp_path / name / "state").glob("step-00000003*.pt")), weights_only=True)["model"]
        for name in ("whole", "parts")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    with pytest.raises(StoreError, match=r"another config\.margin"):
        run(tmp_path / "parts", dataclasses.replace(config, margin=0.5))


@pytest.mark.parametrize("negatives_from", ["pool", "batch"])
def test_a_run_killed_within_an_epoch_carries_on_there_bit_for_bit(tmp_path, monkeypatch, negatives_from):
    config = dataclasses.replace(CONFIG, epochs=2, tuples=24)
    if negatives_from == "batch":
        batch = {"negatives_from": "batch", "batch_places": 4, "images_per_place": 2, "augment": True}
        config = dataclasses.replace(config, night=NightRule(), **batch)
    whole = run(tmp_path / "whole", config)
    monkeypatch.setattr(epochs, "FIRST_SAVE", 0.0)
    monkeypatch.setattr(epochs, "SAVE_EVERY", 0.0)
    update, lines = MetricRun._update, []

    def dying(self, *arguments):
        if self.state.updates == whole.history[1]["updates"] + 2:
            raise KeyboardInterrupt
        update(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(MetricRun, "_update", dying)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", config)
    cut = run(tmp_path / "cut", dataclasses.replace(config, forward_images=30), say=lines.append)
    done = 2 * (config.batch if negatives_from == "pool" else 8)
    assert lines[0] == f"carrying on after epoch 1 of 2 and {done} tuples"
    assert cut.weights_sha256 == whole.weights_sha256
    strip = [{key: item for key, item in record.items() if key != "seconds"} for record in whole.history]
    assert strip == [{key: item for key, item in record.items() if key != "seconds"} for record in cut.history]


def test_mined_tuples_are_of_the_right_clusters_and_real_pairs_stay_apart():
    train, real = retrieval_set(0), retrieval_set(2)
    torch.manual_seed(0)
    model = create_embedder("gem_resnet18", width=4)
    config = dataclasses.replace(CONFIG, real_share=0.25, night=NightRule("deterministic", 1.0))
    cache = NightCache(create_classic("gamma"))
    with TupleImages([train, real], Photometric(), 64, cache) as images:
        tuples = mine_epoch(config, train, real, images, Described(model, images, CPU, 8), 1)
    rows = tuples.rows
    assert rows.shape == (12, 5)
    is_real = rows[:, 0] >= len(train)
    assert is_real.sum() == 3
    assert ((rows >= len(train)) == is_real[:, None]).all()
    clusters = np.concatenate([train.clusters, 100 + real.clusters])[rows]
    assert (clusters[:, 0] == clusters[:, 1]).all()
    assert all(len(set(row[1:])) == 4 for row in clusters.tolist())
    assert np.array_equal(tuples.night[:, 0], ~is_real)
    assert not tuples.night[:, 1:].any()


def test_images_are_made_night_first_and_normalised_then():
    part = retrieval_set()
    clahe = Photometric("clahe", clip=1.0, grid=8)
    cache = NightCache(create_classic("lab-inversion"))
    with TupleImages([part], clahe, 64, cache) as images:
        made, plain = images.load(np.array([4, 4]), np.array([True, False]))
        images.load(np.array([4]), np.array([True]))
    expected = create_classic("clahe")(create_classic("lab-inversion")([part.pixels[4]]))[0]
    assert np.array_equal(made, expected)
    assert np.array_equal(plain, create_classic("clahe")([part.pixels[4]])[0])
    assert cache.made == 1


def test_values_that_are_not_finite_are_named(tmp_path):
    with pytest.raises(DivergenceError, match="lower learning_rate") as raised:
        run(tmp_path, dataclasses.replace(CONFIG, learning_rate=1e30))
    assert "\n" not in str(raised.value)


def test_a_p_driven_negative_is_named(tmp_path):
    config = dataclasses.replace(CONFIG, learning_rate=1e-4, pool_learning_rate_factor=1e6)
    with pytest.raises(DivergenceError, match=r"GeM's p has become") as raised:
        run(tmp_path, dataclasses.replace(config, epochs=6))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "options", "error", "message"),
    [
        ({}, {"night": None}, UsageError, "needs something that makes nights"),
        ({"real_share": 0.5}, {}, UsageError, "needs real pairs"),
        ({"negatives": 8}, {}, DataError, "has 8 clusters; 8 negatives"),
        ({"query_condition": "snow", "map_condition": "day"}, {}, DataError, "no images of condition 'snow'"),
        ({"network": "gem_vgg61"}, {}, ModelError, "did you mean gem_vgg16"),
    ],
)
def test_bad_input_is_one_line(tmp_path, changes, options, error, message):
    with pytest.raises(error, match=message) as raised:
        run(tmp_path, dataclasses.replace(CONFIG, **changes), **options)
    assert "\n" not in str(raised.value)


def test_sets_without_pairs_are_refused(tmp_path):
    none = dataclasses.replace(retrieval_set(), queries=np.empty(0, int), positives=np.empty(0, int))
    with pytest.raises(DataError, match="training set has no pairs"):
        train_metric(CONFIG, none, retrieval_set(1), tmp_path, night=create_classic("gamma"))


def test_another_image_under_a_name_is_no_part_of_the_run(tmp_path):
    sets = []
    for seed in (0, 1):
        found = retrieval_set(seed)
        paths = [tmp_path / str(seed) / f"{row}.png" for row in range(len(found))]
        paths[0].parent.mkdir()
        for path, image in zip(paths, found.pixels, strict=True):
            Image.fromarray(image).save(path)
        items = tuple(ImageItem(path.name, path) for path in paths)
        sets.append(dataclasses.replace(found, images=items, pixels=None))
    config = dataclasses.replace(CONFIG, epochs=1, tuples=4, night=NightRule())
    first = train_metric(config, *sets, tmp_path / "run")
    assert train_metric(config, *sets, tmp_path / "run").weights_sha256 == first.weights_sha256
    path = sets[1].images[5].path
    Image.fromarray(255 - sets[1].image(5)).save(path)
    with pytest.raises(StoreError, match=r"1/5\.png: changed since the run in"):
        train_metric(config, *sets, tmp_path / "run")
    (tmp_path / "run" / "images.json").unlink()
    with pytest.raises(StoreError, match=r"belongs to a run with another validation\.contents"):
        train_metric(config, *sets, tmp_path / "run")


def test_initial_weights_of_another_network_are_refused(tmp_path):
    made = run(tmp_path / "a", dataclasses.replace(CONFIG, epochs=1)).weights
    with pytest.raises(UsageError, match="holds gem_resnet18, the recipe trains gem_vgg16"):
        run(tmp_path / "b", dataclasses.replace(CONFIG, network="gem_vgg16", network_options={}), weights=made)
    more = run(tmp_path / "c", dataclasses.replace(CONFIG, epochs=1), weights=made)
    assert more.untrained != run(tmp_path / "a", dataclasses.replace(CONFIG, epochs=1)).untrained


def test_time_ends_a_run_before_the_next_epoch(tmp_path):
    summary = run(tmp_path, dataclasses.replace(CONFIG, max_minutes=1e-9))
    assert (summary.epochs, summary.best_epoch) == (0, 0)
    assert run(tmp_path, dataclasses.replace(CONFIG, epochs=1)).epochs == 1


def test_how_trains_on_top_of_a_whitening_of_its_own_cells(tmp_path):
    """From the weights of a classifier, which know no dim_reduction."""
    torch.manual_seed(0)
    options = {"width": 4, "dimension": 8}
    backbone = create_embedder("how_resnet18", **options).features.state_dict()
    torch.save({f"features.{key}": value for key, value in backbone.items()}, tmp_path / "imagenet.pth")
    config = dataclasses.replace(
        CONFIG, network="how_resnet18", network_options=options, freeze_batch_norm=True, epochs=1, whiten_images=24
    )
    said = []
    summary = run(tmp_path / "run", config, weights=tmp_path / "imagenet.pth", say=said.append)
    assert said[0].startswith("dim_reduction: whitening of ")
    model = load_checkpoint(summary.weights).model
    again = run(tmp_path / "again", dataclasses.replace(config, seed=5), weights=tmp_path / "imagenet.pth")
    other = load_checkpoint(again.weights).model
    assert torch.equal(
        model.dim_reduction.weight, other.dim_reduction.weight
    )  # learned from images, not drawn, and kept
    assert not torch.equal(model.features[0].weight, other.features[0].weight)
    with pytest.raises(UsageError, match="whiten_images is for HOW networks, not for gem_resnet18"):
        run(tmp_path / "gem", dataclasses.replace(CONFIG, whiten_images=5))


EDGES = {"stages": ((4, 1), (6, 2))}


@pytest.fixture(scope="module")
def edge_files(tmp_path_factory):
    """VGG16's weights of RGB images as a bare state dict, and two trained detectors."""
    folder = tmp_path_factory.mktemp("edges")
    torch.manual_seed(3)
    rgb = create_embedder("gem_vgg16", **EDGES)
    torch.save({key.removeprefix("features."): value for key, value in rgb.state_dict().items() if "pool" not in key},
               folder / "imagenet.pth")  # fmt: skip
    for name in ("hed", "rcf"):
        save_checkpoint(folder / f"{name}.safetensors", create_detector(name, width=2), {})
    return folder


def edge_config(**changes):
    options = {**EDGES, **changes.pop("network_options", {})}
    changes = {"network": "hedmac_vgg16", "night": NightRule(), "epochs": 1, "tuples": 4, **changes}
    return dataclasses.replace(CONFIG, network_options=options, **changes)


def test_a_describer_of_edges_keeps_its_detector_and_begins_with_vgg16(edge_files, tmp_path):
    detector = load_detector(edge_files / "hed.safetensors").model
    rgb = torch.load(edge_files / "imagenet.pth", weights_only=True)
    model = initial_model(edge_config(), edge_files / "imagenet.pth", edge_files / "hed.safetensors")
    edges = torch.rand(2, 1, 16, 20)
    grey = functional.conv2d(edges.expand(-1, 3, -1, -1), rgb["0.weight"], rgb["0.bias"], padding=1)
    torch.testing.assert_close(model.features[0](edges), grey)  # what VGG16 sees in a grey image of the edges
    assert torch.equal(model.features[3].weight, rgb["3.weight"])
    assert (model.filter.p.item(), model.filter.tau.item()) == (0.5, pytest.approx(0.1))
    assert not any(parameter.requires_grad for parameter in model.detector.parameters())
    summary = run(tmp_path, edge_config(), weights=edge_files / "imagenet.pth", detector=edge_files / "hed.safetensors")
    trained = load_checkpoint(summary.weights).model
    for key, value in detector.state_dict().items():
        assert torch.equal(trained.detector.state_dict()[key], value)
    assert not torch.equal(trained.features[0].weight, model.features[0].weight)
    again = initial_model(edge_config(), summary.weights)  # which holds its detector
    assert torch.equal(again.features[0].weight, trained.features[0].weight)


@pytest.mark.parametrize(
    ("changes", "weights", "detector", "message"),
    [
        ({}, None, None, "set detector_weights to a checkpoint of hed"),
        ({}, "imagenet.pth", None, "set detector_weights to a checkpoint of hed"),
        ({}, "imagenet.pth", "rcf.safetensors", "holds the detector 'rcf', but hedmac_vgg16 takes 'hed'"),
        ({"network": "gem_vgg16"}, "imagenet.pth", "hed.safetensors", "for hedmac_vgg16 and rcfmac_vgg16, not for gem"),
        ({"network": "edgemac_vgg16"}, None, "hed.safetensors", "not for edgemac_vgg16; leave it out"),
        ({}, None, "imagenet.pth", "no checkpoint of gloam"),
    ],
)
def test_a_detector_that_does_not_fit_is_one_line(edge_files, changes, weights, detector, message):
    files = [None if name is None else edge_files / name for name in (weights, detector)]
    with pytest.raises((UsageError, ModelError), match=message) as raised:
        initial_model(edge_config(**changes), *files)
    assert "\n" not in str(raised.value)


def test_the_triplet_loss_trains_and_validates(tmp_path):
    config = dataclasses.replace(CONFIG, loss="triplet", margin=0.1, epochs=1, night=NightRule())
    summary = run(tmp_path, config)
    assert 0 < summary.validation["loss"] < 0.1 * config.negatives + 4 * config.negatives
    contrastive = run(tmp_path / "other", dataclasses.replace(config, loss="contrastive"))
    assert contrastive.untrained["loss"] != summary.untrained["loss"]
