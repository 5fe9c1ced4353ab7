"""Weights of LightGlue and LighterGlue are known by their keys, old and new, and loaded whole or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.shared.lightglue_heads import lightglue_head
from gloam.cli.main import main
from gloam.errors import DataError, GloamError, ModelError, StoreError
from gloam.files import user_cache
from gloam.networks.checkpoints import checkpoint_kind, load_generator, load_matcher
from gloam.networks.foreign.read import import_network
from gloam.networks.matchers import MATCHERS, create_matcher

try:
    CACHE: Path | None = user_cache()  # the user's own, before tests are given another
except StoreError:
    CACHE = None
SMALL = {"layers": 2, "width": 32, "heads": 2, "threshold": 0.1}


def state(name: str = "lightglue_sift", **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return create_matcher(name, **(SMALL | options)).state_dict()


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lightglue_superpoint", {}),
        ("lightglue_superpoint", {"width": 256, "heads": 4}),  # its input is not projected
        ("lighterglue", {"heads": 1}),
    ],
)
def test_a_file_shows_what_it_is_by_its_keys(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    found = import_network(saved(tmp_path / "weights.pth", state(name, **options)))
    assert (found.model.name, found.model.options) == (name, SMALL | options)
    assert found.dropped == []
    given = state(name, **options)
    assert all(torch.equal(value, given[key]) for key, value in found.model.state_dict().items())


def test_old_keys_prefixes_halves_and_what_is_beside_the_matcher(tmp_path: Path) -> None:
    given = state("lighterglue")
    old = {"extractor.net.block1.0.weight": torch.zeros(1), "matcher.log_assignment.0.r": torch.zeros(1)}
    for key, value in given.items():
        parts = key.split(".")
        if parts[0] == "transformers":  # transformers.N.self_attn.* was self_attn.N.*
            key = ".".join((parts[2], parts[1], *parts[3:]))
        old[f"matcher.{key}"] = value.half()
    found = import_network(saved(tmp_path / "weights.pth", {"model": old}))
    assert found.dropped == ["extractor.net.block1.0.weight", "matcher.log_assignment.0.r"]
    assert all(torch.equal(value, given[key].half().float()) for key, value in found.model.state_dict().items())


def test_weights_of_several_features_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for oriented, (first, second) in ((False, ("disk", "aliked")), (True, ("sift", "doghardnet"))):
        names = [f"lightglue_{each}" for each in (first, second)]
        path = saved(tmp_path / f"{oriented}.pth", state(names[0]))
        with pytest.raises(ModelError, match=f"does not say whose; name it with .* {names[0]} or {names[1]}"):
            import_network(path)
        assert main(["export", str(path), "-o", str(tmp_path / "x.onnx")]) != 0
        assert names[1] in capsys.readouterr().err
        for name in names:
            assert import_network(path, name).model.takes.name == name.removeprefix("lightglue_")


def test_a_native_checkpoint_goes_through_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    native = tmp_path / "native.safetensors"
    path = saved(tmp_path / "weights.pth", state("lightglue_disk"))
    assert main(["import", str(path), "--as", "lightglue_disk", "-o", str(native)]) == 0
    assert f"next: gloam export {native}" in capsys.readouterr().out
    assert checkpoint_kind(native) == "matcher"
    loaded = load_matcher(native)
    assert (loaded.model.name, loaded.model.options) == ("lightglue_disk", SMALL)
    with pytest.raises(ModelError, match=r"holds a matcher .* a translator is needed here"):
        load_generator(native)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("posenc.Wr.weight"), "no posenc.Wr.weight among the keys"),
        (lambda s: s.pop("transformers.0.self_attn.out_proj.weight"), "the weights are not whole"),
        (
            lambda s: s.pop("transformers.1.cross_attn.to_v.bias"),
            r"keys: 1 missing \(transformers.1.cross_attn.to_v.bias",
        ),
        (lambda s: s.update(more=torch.zeros(1)), r"1 unexpected \(more\)"),
        (lambda s: s.update({"log_assignment.1.matchability.bias": torch.zeros(2)}), "of another shape"),
    ],
)
def test_weights_that_are_not_whole_are_named(change: Callable[..., Any], words: str, tmp_path: Path) -> None:
    spoilt = dict(state("lightglue_disk"))
    change(spoilt)
    with pytest.raises(ModelError, match=words) as caught:
        import_network(saved(tmp_path / "weights.pth", spoilt), "lightglue_disk")
    assert "\n" not in str(caught.value)


def test_weights_for_other_features_than_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "weights.pth", state("lightglue_disk"))
    for name in ("lightglue_sift", "lightglue_superpoint", "lighterglue"):
        with pytest.raises(ModelError, match=rf"a LightGlue for features of 128 values; {name} does not take them"):
            import_network(path, name)
    odd = saved(tmp_path / "odd.pth", state("lightglue_disk") | {"input_proj.weight": torch.zeros(32, 100)})
    with pytest.raises(ModelError, match="features of 100 values; no matcher here takes them"):
        import_network(odd)


def test_the_published_lighterglue_is_whole(data_pack: Callable[[str], Path], tmp_path: Path) -> None:
    path = data_pack("weights") / "xfeat" / "lighterglue_fp16.pth"
    found = import_network(path)
    assert (found.model.name, found.dropped) == ("lighterglue", [])
    assert found.model.options == create_matcher("lighterglue").options
    given = torch.load(path, weights_only=True)
    assert all(torch.equal(value, given[key].float()) for key, value in found.model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("features", ["aliked", "disk"])
def test_the_published_heads_are_whole(features: str) -> None:
    try:
        path = lightglue_head(features, CACHE)
    except DataError as error:
        pytest.skip(str(error))
    found = import_network(path, f"lightglue_{features}")
    assert found.model.options == create_matcher(f"lightglue_{features}").options
    assert len(found.dropped) == (0 if features == "aliked" else 9)  # left by an earlier version of the code
    with pytest.raises(GloamError, match="does not say whose"):
        import_network(path)


def test_every_matcher_states_what_it_takes() -> None:
    takes = {name: create_matcher(name, layers=1, width=8, heads=1).takes for name in MATCHERS}
    assert {name: (rule.name, rule.dimension, rule.oriented) for name, rule in takes.items()} == {
        "lightglue_superpoint": ("superpoint", 256, False),
        "lightglue_disk": ("disk", 128, False),
        "lightglue_aliked": ("aliked", 128, False),
        "lightglue_sift": ("sift", 128, True),
        "lightglue_doghardnet": ("doghardnet", 128, True),
        "lighterglue": ("xfeat", 64, False),
    }
