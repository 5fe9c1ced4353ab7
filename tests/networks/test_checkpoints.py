"""What a checkpoint must say, and what is refused in one line."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gloam.errors import GloamError, ModelError
from gloam.files import split_seal
from gloam.networks.checkpoints import (
    METADATA_KEY,
    Checkpoint,
    load_checkpoint,
    load_generator,
    save_checkpoint,
    weights_sha256,
)
from gloam.networks.embedders import create_embedder
from gloam.networks.translators import create_generator
from tests.damage import flip, named_or_harmless


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    torch.save(create_embedder("gem_resnet18", width=8).state_dict(), tmp_path / "narrow.pth")
    with pytest.raises(ModelError, match=r"keys of another shape \(first features\.0\.weight: \(8, 3, 7, 7\), needed"):
        load_checkpoint(tmp_path / "narrow.pth", "gem_resnet18", width=16)


def test_a_native_file_with_half_a_description_is_refused(tmp_path: Path) -> None:
    state = create_embedder("gem_resnet18", width=8).state_dict()
    save_file(state, tmp_path / "m.safetensors", {METADATA_KEY: json.dumps({"network": "gem_resnet18"})})
    with pytest.raises(ModelError, match="description lacks mean, options, provenance, std"):
        load_checkpoint(tmp_path / "m.safetensors")


def test_the_hash_is_of_names_types_shapes_and_values() -> None:
    base = {"a": torch.arange(6.0), "b": torch.zeros(2)}
    same = {"b": torch.zeros(2), "a": torch.arange(6.0)}
    assert weights_sha256(base) == weights_sha256(same)
    for changed in (
        {"c": base["a"], "b": base["b"]},
        {"a": base["a"].view(2, 3), "b": base["b"]},
        {"a": base["a"], "b": torch.zeros(2, dtype=torch.int32)},
        {"a": base["a"], "b": torch.tensor([0.0, -0.0])},
    ):
        assert weights_sha256(changed) != weights_sha256(base)


def test_the_file_format_does_not_change_the_hash(tmp_path: Path) -> None:
    state = create_embedder("gem_resnet18", width=8).state_dict()
    torch.save({"state_dict": state, "meta": {"architecture": "resnet18"}}, tmp_path / "m.pth")
    save_file(state, tmp_path / "m.safetensors")
    hashes = {load_checkpoint(tmp_path / name, "gem_resnet18", width=8).provenance["weights_sha256"]
              for name in ("m.pth", "m.safetensors")}  # fmt: skip
    assert hashes == {weights_sha256(state)}


def test_an_option_left_out_is_the_same_network_as_its_default() -> None:
    said, unsaid = create_embedder("gem_mobilenet_v2", padding="symmetric"), create_embedder("gem_mobilenet_v2")
    assert said.options == unsaid.options == {"padding": "symmetric"}


def test_a_flipped_bit_of_the_weights_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, create_embedder("gem_resnet18", width=4), {})
    first = 8 + int.from_bytes(path.read_bytes()[:8], "little")  # behind the header
    assert named_or_harmless(path, lambda: load_checkpoint(path).provenance, 12, first=first) == 12
    save_checkpoint(path, create_generator("resnet", width=4, blocks=1), {})
    first = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert named_or_harmless(path, lambda: load_generator(path).provenance, 12, first=first) == 12


def test_a_flipped_bit_of_the_head_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    embedder = create_embedder("mac_vgg16", stages=((4, 1),), mean=(0.5, 0.25, 0.125), std=(0.5, 0.25, 1.0))
    save_checkpoint(path, embedder, {"recipe": "town"})
    beyond = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    for network in (None, "mac_vgg16"):  # who names the network takes files that do not say it
        said = named_or_harmless(path, lambda n=network: told(load_checkpoint(path, n)), 150, beyond=beyond)
        assert said > 100
    save_checkpoint(path, create_generator("resnet", width=4, blocks=1), {"recipe": "town"})
    beyond = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert named_or_harmless(path, lambda: told(load_generator(path)), 100, beyond=beyond) > 50


def told(checkpoint: Checkpoint[Any]) -> Any:
    """All that a file says."""
    model = checkpoint.model
    return checkpoint.provenance, model.options, getattr(model, "mean", None), getattr(model, "std", None)


def test_files_of_before_and_from_elsewhere_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    embedder = create_embedder("mac_vgg16", stages=((4, 1),), mean=(0.5, 0.25, 0.125))
    save_checkpoint(path, embedder, {})
    with safe_open(path, framework="pt") as handle:
        text = handle.metadata()[METADATA_KEY]
    assert json.loads(text) == json.loads(split_seal(text)[0])  # whoever reads JSON reads it
    for metadata in ({METADATA_KEY: split_seal(text)[0]}, {METADATA_KEY: json.dumps(json.loads(text), indent=1)}):
        save_file(embedder.state_dict(), path, metadata)
        assert load_checkpoint(path).model.mean == (0.5, 0.25, 0.125)
    save_file(embedder.state_dict(), path, {"format": "pt"})
    assert load_checkpoint(path, "mac_vgg16", stages=((4, 1),)).dropped == []
    for damaged in ("[]", "3", '"text"', "{", ""):
        save_file(embedder.state_dict(), path, {METADATA_KEY: damaged})
        with pytest.raises(ModelError, match=r"m\.safetensors: the checkpoint's description is"):
            load_checkpoint(path)


@pytest.mark.slow
def test_a_head_of_before_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    embedder = create_embedder("mac_vgg16", stages=((4, 1),), mean=(0.5, 0.25, 0.125))
    save_checkpoint(path, embedder, {})
    with safe_open(path, framework="pt") as handle:
        text = split_seal(handle.metadata()[METADATA_KEY])[0]
    save_file(embedder.state_dict(), path, {METADATA_KEY: text})
    whole = path.read_bytes()
    for bit in range(8 * (8 + int.from_bytes(whole[:8], "little"))):
        flip(path, bit)
        said = None
        try:
            load_checkpoint(path)
        except GloamError as error:
            said = str(error)
        assert said is None or (path.name in said and "\n" not in said), (bit, said)
        path.write_bytes(whole)


def test_a_flipped_bit_of_a_torch_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    model = create_embedder("gem_resnet18", width=4)
    torch.save(model.state_dict(), path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as records:
        biggest = max(records.infolist(), key=lambda entry: entry.file_size)
    for byte in range(biggest.header_offset + 400, biggest.header_offset + biggest.file_size, 997):
        flip(path, 8 * byte + 3)
        with pytest.raises(ModelError, match=r"m\.pth: damaged, the checksum of \S+ differs"):
            load_checkpoint(path, "gem_resnet18", width=4)
        path.write_bytes(whole)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(model.state_dict(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_checkpoint(path, "gem_resnet18", width=4).dropped == []  # such a file has no checksum that is right
