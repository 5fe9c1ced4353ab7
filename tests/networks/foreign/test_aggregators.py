"""Published aggregators: whole files are filled in, and a key too few or too many is named."""

from __future__ import annotations

import os
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.padding_exact import lively
from benchmarks.shared.tiny import HEADED, TRANSFORMERS
from gloam.errors import ModelError
from gloam.networks.checkpoints import RESNET_CHILDREN
from gloam.networks.embedders import create_embedder
from gloam.networks.foreign.read import import_network

State = dict[str, Tensor]
TINY = {**TRANSFORMERS, **HEADED}


def _renamed(state: State, *names: tuple[str, str]) -> State:
    """Keys with other beginnings; the first that fits counts."""
    found = {}
    for key, value in state.items():
        old, new = next((pair for pair in names if key.startswith(pair[0])), ("", ""))
        found[new + key.removeprefix(old)] = value.clone()
    return found


def _salad(state: State) -> State:
    laid = _renamed(state, ("features.", "backbone.model."), ("pool.", "aggregator."))
    return {**laid, "backbone.model.mask_token": torch.zeros(1, 32)}


def _megaloc(state: State) -> State:
    return _renamed(state, ("features.", "backbone."), ("pool.", "aggregator.agg."), ("linear.", "aggregator.linear."))


def _boq_dinov2(state: State) -> State:
    laid = _renamed(state, ("features.", "backbone.dino."), ("pool.", "aggregator."))
    unused = {"norm.weight": torch.ones(32), "norm.bias": torch.zeros(32), "mask_token": torch.zeros(1, 32)}
    return {**laid, **{f"backbone.dino.{key}": value for key, value in unused.items()}}


def _boq_resnet(state: State) -> State:
    return _renamed(state, ("features.", "backbone.net."), ("pool.", "aggregator."))


def _boq_in_two_parts(state: State) -> State:
    """Stages 1 and 2 frozen with the stem, stage 3 apart."""
    laid = _renamed(state, ("features.6.", "backbone.unfrozen_layers.0."), ("features.", "backbone.frozen_layers."))
    return _renamed(laid, ("pool.", "aggregator."))


def _torchvision(key: str) -> str:
    children = {str(at): name for name, at in RESNET_CHILDREN.items()}
    number, _, rest = key.removeprefix("features.").partition(".")
    return f"{children[number]}.{rest}"


def _mixvpr(state: State) -> State:
    features = {f"backbone.model.{_torchvision(key)}": state[key] for key in state if key.startswith("features.")}
    return features | _renamed({key: state[key] for key in state if key.startswith("pool.")}, ("pool.", "aggregator."))


def _cosplace(state: State) -> State:
    return _renamed(state, ("features.", "backbone."), ("pool.p", "aggregation.1.p"), ("fc.", "aggregation.3."))


LAYOUTS: list[tuple[str, str, Callable[[State], State], int]] = [
    ("salad", "salad_dinov2", _salad, 1),
    ("megaloc", "megaloc", _megaloc, 0),
    ("boq", "boq_dinov2", _boq_dinov2, 3),
    ("boq", "boq_resnet50", _boq_resnet, 0),
    ("boq", "boq_resnet50", _boq_in_two_parts, 0),
    ("mixvpr", "mixvpr", _mixvpr, 0),
    ("cosplace", "cosplace_vgg16", _cosplace, 0),
    ("cosplace", "cosplace_resnet18", _cosplace, 0),
]
EACH = pytest.mark.parametrize(
    ("family", "name", "lay", "dropped"), LAYOUTS, ids=lambda value: getattr(value, "__name__", str(value))
)


def published(name: str) -> Any:
    torch.manual_seed(0)
    return lively(create_embedder(name, **TINY[name]))


def imported(path: Path, name: str, state: State, family: str) -> Any:
    torch.save(state, path / "net.pth")
    # What no key of a narrow network tells, and what no key tells at all.
    told = {key: TINY[name][key] for key in ("heads", "resize") if key in TINY[name]}
    return import_network(path / "net.pth", family, options=told)


@EACH
def test_a_published_file(tmp_path: Path, family: str, name: str, lay: Callable[[State], State], dropped: int) -> None:
    model = published(name)
    for chosen in ("auto", family):
        found = imported(tmp_path, name, lay(model.state_dict()), chosen)
        assert (found.model.name, found.model.options, len(found.dropped)) == (name, model.options, dropped)
        assert all(torch.equal(value, found.model.state_dict()[key]) for key, value in model.state_dict().items())


@EACH
def test_a_key_too_few_or_too_many_is_named(
    tmp_path: Path, family: str, name: str, lay: Callable[[State], State], dropped: int
) -> None:
    whole = lay(published(name).state_dict())
    keys = [key for key in whole if not key.endswith("num_batches_tracked")]
    for key in {*keys[:: len(keys) // 6], *list(keys)[-2:]}:
        last = ".".join(key.split(".")[-2:])
        with pytest.raises(ModelError, match=last.split(".")[-1]):
            imported(tmp_path, name, {other: value for other, value in whole.items() if other != key}, family)
    for extra in ("aggregator.more.weight", "head.weight"):
        with pytest.raises(ModelError, match=rf"1 unexpected \(first .*{extra.split('.', 1)[-1]}\)"):
            imported(tmp_path, name, {**whole, extra: torch.zeros(2)}, family)


def test_one_family_is_not_taken_for_another(tmp_path: Path) -> None:
    files = {family: lay(published(name).state_dict()) for family, name, lay, _ in LAYOUTS[:3]}
    for family in files:
        for other, state in files.items():
            if other != family:
                with pytest.raises(ModelError, match=r"so this is not|not the weights of"):
                    imported(tmp_path, "salad_dinov2", state, family)


class PCA:
    """As scikit-learn's is pickled: by its module and its attributes."""

    def __init__(self, mean: Any, components: Any, variance: Any) -> None:
        self.mean_, self.components_, self.explained_variance_, self.whiten = mean, components, variance, False


def apgem(path: Path, **more: Any) -> tuple[Any, dict[str, Any]]:
    """A narrow AP-GeM and the content of its file."""
    model = published("apgem_resnet50")
    state = {
        "module." + ("adpool.p" if key == "pool.p" else key if key.startswith("fc.") else _torchvision(key)): value
        for key, value in model.state_dict().items()
    }
    stated = {"arch": "resnet50_rmac", "out_dim": 12, "pooling": "gem", "gemp": 3, **more}
    how = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    return model, {"model_options": stated, "state_dict": state, "preprocess": how}


@pytest.mark.parametrize("module", ["pca", "_pca"])
def test_apgem_and_its_half_whitening(tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, content = apgem(tmp_path)
    rng = np.random.default_rng(0)
    mean, rows, variance = rng.normal(size=12), np.linalg.qr(rng.normal(size=(12, 12)))[0][:8], np.geomspace(4, 0.1, 8)
    with monkeypatch.context() as patch:
        names = ("sklearn", "sklearn.decomposition", f"sklearn.decomposition.{module}")
        for name in names:
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setattr(sys.modules[names[-1]], "PCA", PCA, raising=False)
        patch.setattr(PCA, "__module__", names[-1])
        torch.save({**content, "pca": {"Landmarks_clean": PCA(mean, rows, variance)}}, tmp_path / "net.pt")
    for family in ("auto", "apgem"):
        found = import_network(tmp_path / "net.pt", family)
        assert (found.model.name, found.model.options) == ("apgem_resnet50", model.options)
        assert all(torch.equal(value, found.model.state_dict()[key]) for key, value in model.state_dict().items())
    assert list(found.whitenings) == ["Landmarks_clean-0.5", "Landmarks_clean-0.25"]
    given = rng.normal(size=(3, 12))
    for power in (0.5, 0.25):
        expected = ((given - mean) @ rows.T) / variance**power
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        assert np.abs(found.whitenings[f"Landmarks_clean-{power}"].apply(given) - expected).max() <= 2e-6


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"arch": "resnet152_rmac"}, "AP-GeM on resnet152; gloam imports resnet50 and resnet101"),
        ({"norm_features": True}, "AP-GeM with norm_features"),
        ({"without_fc": True}, "AP-GeM with without_fc"),
        ({"pooling": "max"}, "pools by max; gloam imports gem"),
    ],
)
def test_an_apgem_that_gloam_has_not_is_refused(tmp_path: Path, more: dict[str, Any], reason: str) -> None:
    torch.save(apgem(tmp_path, **more)[1], tmp_path / "net.pt")
    with pytest.raises(ModelError, match=reason):
        import_network(tmp_path / "net.pt", "apgem")


class Harmful:
    """A pickle that would run something in place of a whitening."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(Path(tempfile.gettempdir()) / "gloam-harmful"),)


def test_something_else_in_place_of_the_whitening_is_refused(tmp_path: Path) -> None:
    _, content = apgem(tmp_path)
    for pca in (Harmful(), {"Landmarks_clean": Harmful()}):
        torch.save({**content, "pca": pca}, tmp_path / "net.pt")
        with pytest.raises(ModelError, match="cannot be loaded as plain weights"):
            import_network(tmp_path / "net.pt")
    assert not (Path(tempfile.gettempdir()) / "gloam-harmful").exists()
    torch.save({**content, "pca": {"Landmarks_clean": {"mean_": torch.zeros(2)}}}, tmp_path / "net.pt")
    with pytest.raises(ModelError, match="its whitening Landmarks_clean is no PCA of mean_"):
        import_network(tmp_path / "net.pt")
    torch.save({**content, "state_dict": {"fc.weight": torch.zeros(2, 2)}}, tmp_path / "net.pt")
    with pytest.raises(ModelError, match=r"no adpool\.p among the keys"):
        import_network(tmp_path / "net.pt", "apgem")
