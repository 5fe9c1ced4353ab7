import dataclasses
import json

import numpy as np
import pytest
import torch

from gloam.data.town.edges import EdgeViews
from gloam.errors import DivergenceError, StoreError, UsageError
from gloam.networks.checkpoints import load_detector
from gloam.networks.edges import DETECTORS, create_detector
from gloam.training.edges import train as detector
from gloam.training.edges.config import RECIPES, DetectorConfig, read_detector_recipe
from gloam.training.edges.init import backbone, parameter_groups, settle_detector
from gloam.training.edges.losses import balanced_cross_entropy, detector_loss
from gloam.training.typed_config import recipes_of

TINY = DetectorConfig(
    network_options={"width": 4}, epochs=2, steps_per_epoch=3, batch=2, crop=32, street_seeds=(901, 902), views=3,
    validation_seed=903, validation_views=2, width=48, height=40, threads=1,
)  # fmt: skip


def drawn_views(seed, count, conditions, size):
    """Rectangles on a wall, in place of a street; by night they are dim."""
    random = np.random.default_rng(seed)
    edges = np.zeros((count, size[1], size[0]), np.float32)
    base = np.full((count, size[1], size[0], 3), 60, np.uint8)
    for view in range(count):
        for _ in range(3):
            top, left = random.integers(2, 14, 2)
            bottom, right = top + random.integers(8, 20), left + random.integers(8, 24)
            base[view, top:bottom, left:right] = random.integers(120, 255, 3)
            edges[view, [top, bottom - 1], left:right] = edges[view, top:bottom, [left, right - 1]] = 1
            inside = (view, slice(top + 1, bottom - 1), slice(left + 1, right - 1))
            edges[inside] = 0
    return EdgeViews({name: base // (1 if name == "day" else 8) for name in conditions}, edges)


@pytest.fixture(autouse=True)
def views(monkeypatch):
    monkeypatch.setattr(detector, "render_edge_views", drawn_views)


def by_hand(logits, truth):
    """Equation 2 of the paper in plain loops, divided by the number of pixels that count."""
    total = 0.0
    for map_, true in zip(logits[:, 0].tolist(), truth[:, 0].tolist(), strict=True):
        pixels = [(z, t) for row, line in zip(map_, true, strict=True) for z, t in zip(row, line, strict=True)]
        counted = [(z, t >= 0.5) for z, t in pixels if t >= 0.5 or t == 0]
        beta = sum(not edge for _, edge in counted) / len(counted)
        losses = [
            -beta * np.log(1 / (1 + np.exp(-z))) if edge else -(1 - beta) * np.log(1 - 1 / (1 + np.exp(-z)))
            for z, edge in counted
        ]
        total += sum(losses) / len(counted)
    return total / len(logits)


def test_loss_is_equation_two_and_leaves_weak_truth_out():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 5, 6, generator=generator)
    truth = torch.rand(2, 1, 5, 6, generator=generator)
    truth = torch.where(truth < 0.6, torch.zeros(()), truth - 0.3)
    assert ((truth > 0) & (truth < 0.5)).any()
    assert balanced_cross_entropy(logits, truth).item() == pytest.approx(by_hand(logits, truth), rel=1e-5)
    changed = torch.where((truth > 0) & (truth < 0.5), logits + 9, logits)
    assert balanced_cross_entropy(changed, truth).item() == pytest.approx(balanced_cross_entropy(logits, truth).item())
    assert detector_loss([logits] * 5, logits, truth).item() == pytest.approx(6 * by_hand(logits, truth), rel=1e-5)
    assert balanced_cross_entropy(logits, truth * 0).item() == 0.0  # an image without edges says nothing


@pytest.mark.parametrize("name", DETECTORS)
def test_settling_gives_every_layer_the_same_scale(name):
    torch.manual_seed(0)
    model = create_detector(name, width=4)
    images, _, _ = detector.draw(TINY, [drawn_views(1, 3, ("day",), (48, 40))] * 2, 0)
    settle_detector(model, images)
    spreads = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: spreads.append(out.std().item())) for layer in backbone(model)
    ]
    model(images)
    assert len(hooks) == 13
    assert min(spreads) > 0.5
    assert max(spreads) < 2
    groups = parameter_groups(model, 1e-3, 10.0)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_trains_and_writes_what_can_be_loaded(tmp_path):
    said = []
    summary = detector.train_detector(TINY, tmp_path, say=said.append)
    loaded = load_detector(summary.weights)
    assert loaded.provenance["weights_sha256"] == summary.weights_sha256
    assert loaded.model.options["width"] == 4
    assert set(summary.scores) == {"day", "night"}
    assert set(summary.scores["day"]) == {"trained", "untrained", "sobel", "canny"}
    record = json.loads((tmp_path / "train.json").read_text())
    assert {"gloam", "python", "torch"} <= set(record["versions"])
    assert (record["device"], record["weights_sha256"]) == ("cpu", summary.weights_sha256)
    assert record["validation_f"]["day"]["trained"] == max(item["day"] for item in summary.history)
    assert len([line for line in said if line.startswith("epoch")]) == 2


def test_a_killed_run_carries_on_to_the_same_weights(tmp_path, monkeypatch):
    whole = detector.train_detector(TINY, tmp_path / "whole")
    usual, calls = detector.train_epoch, []

    def killed(*arguments):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return usual(*arguments)

    monkeypatch.setattr(detector, "train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        detector.train_detector(TINY, tmp_path / "cut")
    monkeypatch.setattr(detector, "train_epoch", usual)
    assert detector.train_detector(TINY, tmp_path / "cut").weights_sha256 == whole.weights_sha256
    other = dataclasses.replace(TINY, seed=1)
    with pytest.raises(StoreError, match="another seed"):
        detector.train_detector(other, tmp_path / "cut")


def test_a_run_killed_within_an_epoch_carries_on_there(tmp_path, monkeypatch):
    whole = detector.train_detector(TINY, tmp_path / "whole")
    monkeypatch.setattr(detector, "FIRST_SAVE", 0.0)
    drawn, usual = [], detector.draw

    def killed(config, train, step):
        if step == 5:
            raise KeyboardInterrupt
        return usual(config, train, step)

    def noted(config, train, step):
        drawn.append(step)
        return usual(config, train, step)

    monkeypatch.setattr(detector, "draw", killed)
    with pytest.raises(KeyboardInterrupt):
        detector.train_detector(TINY, tmp_path / "cut")
    monkeypatch.setattr(detector, "draw", noted)
    cut = detector.train_detector(TINY, tmp_path / "cut")
    assert drawn == [4, 5]  # the first step of the second epoch is kept
    assert cut.weights_sha256 == whole.weights_sha256
    assert cut.history == whole.history


def test_a_loss_that_is_not_finite_names_step_and_views(tmp_path, monkeypatch):
    monkeypatch.setattr(detector, "detector_loss", lambda *_: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(DivergenceError, match=r"nan at step 0 \(street90\d/day-000\d"):
        detector.train_detector(TINY, tmp_path)


def test_a_short_run_learns_to_find_edges(tmp_path):
    config = dataclasses.replace(TINY, epochs=1, steps_per_epoch=60, batch=4, network_options={"width": 8})
    scores = detector.train_detector(config, tmp_path).scores["day"]
    assert scores["trained"] > scores["untrained"] + 0.1


@pytest.mark.parametrize("name", recipes_of(RECIPES))
def test_every_recipe_that_comes_with_gloam_runs(name, tmp_path):
    recipe = read_detector_recipe(name)
    small = {key: getattr(TINY, key) for key in ("steps_per_epoch", "batch", "crop", "views", "validation_views")}
    config = dataclasses.replace(
        recipe, **small, epochs=1, width=48, height=40, network_options={**recipe.network_options, "width": 4}
    )
    assert detector.train_detector(config, tmp_path, recipe=name).best_epoch == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop": 200}, "crop 200: must be 32 to 160"),
        ({"validation_seed": 101}, "is a training street"),
        ({"reserved_seeds": (201,)}, "street seed 201 is reserved"),
        ({"conditions": ("fog",)}, "choose from day"),
        ({"epochs": 0}, "at least 1"),
    ],
)
def test_impossible_configurations_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        DetectorConfig(**values)
