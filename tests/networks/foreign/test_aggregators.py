"""Published SALAD, MegaLoc, BoQ: whole files are filled in, and a key too few or too many is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.padding_exact import lively
from benchmarks.shared.tiny import TRANSFORMERS
from gloam.errors import ModelError
from gloam.networks.embedders import create_embedder
from gloam.networks.foreign.read import import_network

State = dict[str, Tensor]


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


LAYOUTS: list[tuple[str, str, Callable[[State], State], int]] = [
    ("salad", "salad_dinov2", _salad, 1),
    ("megaloc", "megaloc", _megaloc, 0),
    ("boq", "boq_dinov2", _boq_dinov2, 3),
    ("boq", "boq_resnet50", _boq_resnet, 0),
    ("boq", "boq_resnet50", _boq_in_two_parts, 0),
]
EACH = pytest.mark.parametrize(
    ("family", "name", "lay", "dropped"), LAYOUTS, ids=lambda value: getattr(value, "__name__", str(value))
)


def published(name: str) -> Any:
    torch.manual_seed(0)
    return lively(create_embedder(name, **TRANSFORMERS[name]))


def imported(path: Path, name: str, state: State, family: str) -> Any:
    torch.save(state, path / "net.pth")
    # What no key of a narrow network tells, and what no key tells at all.
    told = {key: TRANSFORMERS[name][key] for key in ("heads", "resize") if key in TRANSFORMERS[name]}
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
