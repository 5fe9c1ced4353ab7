"""Public networks of local features are known by their keys, loaded whole, and keep their licence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gloam.cli.main import main
from gloam.errors import ModelError, UsageError
from gloam.networks.checkpoints import checkpoint_kind, load_extractor, save_checkpoint
from gloam.networks.foreign.read import import_network
from gloam.networks.local_features import EXTRACTORS, create_extractor

OPTIONS = {"aliked": {"variant": "t16"}, "alike": {"variant": "t"}}


def state_of(name: str, **options: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(create_extractor(name, **(options or OPTIONS.get(name, {}))).state_dict())


@pytest.mark.parametrize("name", EXTRACTORS)
def test_keys_tell_the_network_and_its_options(tmp_path: Path, name: str) -> None:
    state = state_of(name)
    file = tmp_path / "weights.pth"
    torch.save({"net": "R2D2()", "state_dict": {f"module.{key}": value.half() for key, value in state.items()}}, file)
    found = import_network(file)
    assert (found.model.name, found.provenance["family"]) == (name, name)
    assert found.provenance["licence"] == found.model.licence != "unknown"
    for key, value in found.model.state_dict().items():
        assert torch.equal(value, state[key].half().to(value.dtype))


@pytest.mark.parametrize(
    ("name", "options"),
    [("aliked", {"variant": "n16"}), ("aliked", {"variant": "n32"}), ("alike", {"variant": "n"}),
     ("superpoint", {"layout": "magicleap", "sampling": "corners"})],
)  # fmt: skip
def test_variants_are_told_apart_by_shapes(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"extractor": state_of(name, **options)}, file)
    found = import_network(file)
    assert found.model.options == options
    assert ("non-commercial" in found.provenance["licence"]) == (name == "superpoint")


def test_what_the_owner_says_stands_above_what_the_keys_say(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(state_of("superpoint"), file)
    found = import_network(file, "superpoint", options={"sampling": "corners"}, licence="mine")
    assert found.model.options == {"layout": "mit", "sampling": "corners"}
    assert found.provenance["licence"] == "mine"


def test_the_matcher_inside_xfeats_file_is_left_out_and_listed(tmp_path: Path) -> None:
    file = tmp_path / "xfeat.pt"
    torch.save({**state_of("xfeat"), "fine_matcher.0.weight": torch.zeros(2, 2)}, file)
    assert import_network(file).dropped == ["fine_matcher.0.weight"]


def test_a_native_checkpoint_survives_the_journey(tmp_path: Path) -> None:
    model = create_extractor("alike", variant="t")
    save_checkpoint(tmp_path / "a.safetensors", model, {"licence": "BSD-3-Clause"})
    assert checkpoint_kind(tmp_path / "a.safetensors") == "local_features"
    found = load_extractor(tmp_path / "a.safetensors")
    assert found.model.options == {"variant": "t"}
    assert found.provenance["licence"] == "BSD-3-Clause"
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in found.model.state_dict().items())


def test_what_is_not_whole_or_another_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    state = state_of("alike")
    torch.save({key: value for key, value in state.items() if key != "conv2.weight"}, file)
    with pytest.raises(ModelError, match=r"weights.pth: no conv2.weight among the keys"):
        import_network(file)
    torch.save({**state, "conv9.weight": torch.zeros(1)}, file)
    with pytest.raises(
        ModelError, match=r"not the weights of alike; 0 keys missing, 1 unexpected \(first conv9.weight"
    ):
        import_network(file)
    torch.save({**state, "conv1.weight": torch.full_like(state["conv1.weight"], torch.nan)}, file)
    with pytest.raises(ModelError, match="not finite; are the weights whole"):
        import_network(file)
    torch.save(state, file)
    with pytest.raises(ModelError, match="not the weights of aliked, but of alike"):
        import_network(file, "aliked")
    torch.save({**state, "conv4.weight": torch.zeros(16, 99, 1, 1)}, file)
    with pytest.raises(ModelError, match="a variant of alike that gloam does not have"):
        import_network(file)
    with pytest.raises(UsageError, match="unknown family 'superglue'"):
        import_network(file, "superglue")


def test_the_verb_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(state_of("alike"), tmp_path / "alike-t.pth")
    assert main(["import", str(tmp_path / "alike-t.pth"), "-o", str(tmp_path / "a.safetensors")]) == 0
    said = capsys.readouterr().out
    assert "alike (variant=t), 82,728 parameters" in said
    assert "next: gloam export" in said
