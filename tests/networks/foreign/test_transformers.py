"""DINOv2's published files and timm's: what is whole is filled in, and what is not is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.padding_exact import lively
from benchmarks.shared.tiny import TRANSFORMER
from gloam.errors import ModelError
from gloam.networks.embedders import create_embedder
from gloam.networks.foreign.read import import_network

HEADS = {"heads": TRANSFORMER["heads"]}  # which no key of so narrow a network tells
NAMES = ["dinov2_vits14", "dinov2_vits14_reg"]


def published(name: str) -> tuple[Any, dict[str, Tensor]]:
    """A narrow network, and its file as the authors lay it."""
    torch.manual_seed(0)
    model = lively(create_embedder(name, **TRANSFORMER))
    state = {key.removeprefix("features."): value.clone() for key, value in model.state_dict().items()}
    return model, {**state, "mask_token": torch.zeros(1, TRANSFORMER["width"])}


def as_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state dict as timm lays it."""
    state = {key: value for key, value in state.items() if key != "mask_token"}
    if "register_tokens" in state:
        state["reg_token"] = state.pop("register_tokens")
        state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
        state["pos_embed"] = state["pos_embed"][:, 1:]
    return state


def imported(path: Path, state: dict[str, Tensor], family: str = "auto") -> Any:
    torch.save(state, path / "net.pth")
    return import_network(path / "net.pth", family, options=HEADS)


@pytest.mark.parametrize("family", ["auto", "dinov2"])
@pytest.mark.parametrize("name", NAMES)
def test_the_authors_file(tmp_path: Path, name: str, family: str) -> None:
    model, state = published(name)
    found = imported(tmp_path, state, family)
    assert (found.model.name, found.model.options, found.dropped) == (name, model.options, ["mask_token"])
    assert all(torch.equal(value, found.model.state_dict()[key]) for key, value in model.state_dict().items())
    chunked = {key.replace("blocks.", "blocks.0.") if key.startswith("blocks.") else key: state[key] for key in state}
    again = imported(tmp_path, chunked, family).model
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("family", ["auto", "dinov2_timm"])
@pytest.mark.parametrize("name", NAMES)
def test_timm_s_file_has_its_own_rule_of_positions(tmp_path: Path, name: str, family: str) -> None:
    model, state = published(name)
    laid = as_timm(state)
    found = imported(tmp_path, laid, family)
    assert found.model.options == {**model.options, "position": "antialias"}
    assert bool(found.notes) == (name == "dinov2_vits14")  # with registers both are the same
    given = torch.randint(0, 256, (1, 56, 84, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = (found.model.describe_uint8(given) - model.describe_uint8(given)).abs().max()
    assert difference <= 1e-6 if name.endswith("_reg") else difference > 1e-3
    own = {key.removeprefix("features."): value for key, value in found.model.state_dict().items()}
    back = as_timm(own)
    assert back.keys() == laid.keys()
    assert all(torch.equal(back[key], laid[key]) for key in laid)


@pytest.mark.parametrize("name", NAMES)
def test_one_layout_is_not_taken_for_the_other(tmp_path: Path, name: str) -> None:
    _, state = published(name)
    with pytest.raises(ModelError, match=r"it is the authors' file and not timm's; .* another space: --as dinov2$"):
        imported(tmp_path, state, "dinov2_timm")
    with pytest.raises(
        ModelError, match=r"it is timm's file and not the authors'; .* another space: --as dinov2_timm$"
    ):
        imported(tmp_path, as_timm(state), "dinov2")


@pytest.mark.parametrize("family", ["dinov2", "dinov2_timm"])
@pytest.mark.parametrize("name", NAMES)
def test_a_key_too_few_or_too_many_is_named(tmp_path: Path, name: str, family: str) -> None:
    _, state = published(name)
    whole = state if family == "dinov2" else as_timm(state)
    fewer = {key: value for key, value in whole.items() if key != "blocks.1.ls2.gamma"}
    with pytest.raises(ModelError, match=r"1 keys missing \(first features\.blocks\.1\.ls2\.gamma\)"):
        imported(tmp_path, fewer, family)
    with pytest.raises(ModelError, match=r"1 unexpected \(first features\.head\.weight\)"):
        imported(tmp_path, {**whole, "head.weight": torch.zeros(3, 3)}, family)


def test_what_gloam_does_not_have_is_named(tmp_path: Path) -> None:
    _, state = published("dinov2_vits14")
    giant = {key.replace("fc1", "w12").replace("fc2", "w3"): value for key, value in state.items()}
    with pytest.raises(ModelError, match=r"DINOv2 of the size g .*; gloam imports S, B and L"):
        imported(tmp_path, giant)
    with pytest.raises(ModelError, match="25 positions, which are no square table and a class token"):
        imported(tmp_path, {**state, "pos_embed": state["pos_embed"][:, 1:]})


@pytest.mark.parametrize("family", ["dinov2", "dinov2_timm"])
def test_a_file_of_neither_layout_is_called_neither(tmp_path: Path, family: str) -> None:
    torch.save({"backbone.model.mask_token": torch.zeros(1, 32)}, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=r"no cls_token among the keys .*, so this is not DINOv2"):
        import_network(tmp_path / "weights.pth", family)
