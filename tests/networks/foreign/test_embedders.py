"""Public embedders become gloam's: all layouts, their whitenings and what they say of their images."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gloam.cli.main import main
from gloam.errors import ModelError
from gloam.networks.checkpoints import load_checkpoint
from gloam.networks.embedders import create_embedder
from gloam.networks.embedders.how import how_resnet18, how_resnet50_minus
from gloam.networks.foreign.embedder_key_maps import k_major, vgg_stages
from gloam.networks.foreign.embedders import MatlabNet, load_content, load_whitening, recognise_embedder
from gloam.networks.foreign.read import import_network
from gloam.runtime.descriptors.whitening import Whitening

STAGES = [[4, 2], [4, 2], [6, 3], [8, 3], [8, 3]]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def build(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    small: dict[str, Any] = {"stages": STAGES} if "vgg" in name else {"width": 4}
    return create_embedder(name, **(small | options)).eval()


def saved(path: Path, content: Any, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def meta(architecture: str, **more: Any) -> dict[str, Any]:
    return {"architecture": architecture, "pooling": "gem", "mean": MEAN, "std": STD, "outputdim": 8, **more}


def lw(dimension: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"m": rng.normal(size=(dimension, 1)), "P": np.asfortranarray(rng.normal(size=(dimension, dimension)))}


def same(found: Any, model: Any) -> bool:
    own, other = found.state_dict(), model.state_dict()
    return set(own) == set(other) and all(
        torch.equal(own[key], other[key]) for key in own if not key.endswith("num_batches_tracked")
    )


def pixels() -> Tensor:
    return torch.randint(0, 256, (2, 64, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "architecture", "options"),
    [
        ("gem_vgg16", "vgg16", {}),
        ("gem_resnet18", "resnet18", {"whitening": True}),
        ("gem_resnet50", "resnet50", {"local_whitening": True}),
        ("gem_resnet101", "resnet101", {}),
        ("mac_vgg16", "vgg16", {}),
        ("spoc_vgg16", "vgg16", {}),
        ("rmac_resnet101", "resnet101", {}),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_cirtorch(tmp_path: Path, name: str, architecture: str, options: dict[str, Any], zipped: bool) -> None:
    model = build(name, **options)
    learned = {"retrieval-SfM-30k": {"ms": lw(model.dimension)}}
    content = {
        "epoch": 3,
        "meta": meta(architecture, pooling=name.split("_")[0], local_whitening=False, Lw=learned),
        "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()},
    }
    found = import_network(saved(tmp_path / "net.pth", content, zipped))
    assert found.model.name == name
    assert same(found.model, model)
    assert found.model.mean == pytest.approx(MEAN)
    assert torch.equal(found.model.describe_uint8(pixels()), model.describe_uint8(pixels()))
    assert list(found.whitenings) == ["retrieval-SfM-30k-ms"]
    whitening = found.whitenings["retrieval-SfM-30k-ms"]
    assert np.array_equal(whitening.projection, lw(model.dimension)["P"])
    json.dumps(found.provenance, allow_nan=False)


def test_older_cirtorch_files_lack_entries(tmp_path: Path) -> None:
    model = build("gem_vgg16")
    content = {"meta": {"architecture": "vgg16", "pooling": "gem"}, "state_dict": model.state_dict()}
    assert same(import_network(saved(tmp_path / "n.pth", content), "cirtorch").model, model)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architecture": "alexnet"}, "holds a alexnet; gloam imports vgg16"),
        ({"pooling": "gemmp"}, "pools by gemmp; gloam imports gem, mac, spoc and rmac"),
        ({"regional": True}, "pools regionally"),
        ({"architecture": "resnet18"}, "not the weights of gem_resnet18"),
        ({"mean": [0.5, float("nan"), 0.5]}, "three finite numbers"),
        ({"Lw": {"s": {"ms": {"m": np.zeros((8, 1))}}}}, "holds no whitening"),
        ({"Lw": {"s": {"ms": {"m": np.zeros((7, 1)), "P": np.eye(8)}}}}, "do not fit"),
    ],
)
def test_what_gloam_does_not_have_is_said(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    content = {"meta": meta("vgg16") | changed, "state_dict": build("gem_vgg16").state_dict()}
    file = saved(tmp_path / "net.pth", content)
    with pytest.raises(ModelError, match=message) as error:
        import_network(file)
    assert str(error.value).startswith(f"{file}: ")
    assert str(error.value).count(str(file)) == 1
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "transforms", ["pil2np | apply_clahe:1.0 | totensor | normalize", "pil2np | totensor | normalize"]
)
def test_gandtr_by_its_own_word(tmp_path: Path, transforms: str) -> None:
    model = build("gem_vgg16")
    data = {"transforms": transforms, "mean_std": [MEAN, STD]}
    network = {"architecture": "cirnet", "cir_architecture": "vgg16", "local_whitening": False, "pooling": "gem",
               "pretrained": True, "regional": False, "whitening": False}  # fmt: skip
    content = {
        "type": "SingleNetwork",
        "frozen": False,
        "network_params": {"model": network, "runtime": {"wrappers": "", "data": data}},
        "model_state": model.state_dict(),
    }
    found = import_network(saved(tmp_path / "hedngan_embed_vgg16.pth", content))
    assert same(found.model, model)
    clahe = "clahe" in transforms
    assert found.provenance.get("photometric") == ({"name": "clahe", "clip": 1.0, "grid": 8} if clahe else None)
    assert found.provenance["runtime"]["data"] == data
    assert any("--photometric clahe" in note for note in found.notes) == clahe


def test_netvlad_of_pytorch(tmp_path: Path) -> None:
    model = build("netvlad_vgg16", clusters=3, whitening=5)
    state = {
        key.replace("features.", "encoder.module.").replace("pool.", "pool.module."): value
        for key, value in model.state_dict().items()
    }
    state["WPCA.0.weight"] = state.pop("whiten.weight")[:, :, None, None]
    state["WPCA.0.bias"] = state.pop("whiten.bias")
    found = import_network(saved(tmp_path / "p_WPCA5.pth.tar", {"num_pcs": 5, "state_dict": state}))
    assert same(found.model, model)
    assert torch.equal(found.model.describe_uint8(pixels()), model.describe_uint8(pixels()))
    bare = {key: value for key, value in state.items() if "WPCA" not in key}
    plain = import_network(saved(tmp_path / "c.pth.tar", {"epoch": 1, "state_dict": bare, "parallel": True}), "netvlad")
    assert plain.model.dimension == 24


def test_netvlad_of_matlab_gives_what_its_own_arithmetic_gives(tmp_path: Path) -> None:
    """The D-major arithmetic of the MATLAB release, written out, against the unified network."""
    scipy_io = pytest.importorskip("scipy.io")
    depth, clusters, whitened = 8, 3, 5
    torch.manual_seed(2)
    rng = np.random.default_rng(3)
    model = build("netvlad_vgg16", clusters=clusters, mean=(0.48, 0.45, 0.4), std=(1 / 255,) * 3)
    layers = np.empty(34, object)
    for index in range(34):
        weights: Any = []
        if f"features.{index}.weight" in model.state_dict():
            kernel = model.state_dict()[f"features.{index}.weight"].numpy().transpose(2, 3, 1, 0)
            weights = [kernel, model.state_dict()[f"features.{index}.bias"].numpy()]
        layers[index] = {"type": "layer", "weights": cells(weights)}
    assignment = rng.normal(size=(depth, clusters)) * 3
    centres = rng.normal(size=(depth, clusters))
    projection = rng.normal(size=(depth * clusters, whitened))
    offset = rng.normal(size=whitened) * 0.1
    layers[30] = {"type": "netvlad", "weights": cells([assignment, -centres])}
    layers[33] = {"type": "pca", "weights": cells([projection.reshape(1, 1, *projection.shape), offset])}
    image = np.broadcast_to(np.array([122.4, 114.75, 102.0]), (4, 4, 3))
    net = {"layers": layers, "meta": {"normalization": {"averageImage": image}}}
    scipy_io.savemat(tmp_path / "P_struct.mat", {"net": net})
    found = import_network(tmp_path / "P_struct.mat").model
    assert found.dimension == whitened
    assert found.mean == pytest.approx((0.48, 0.45, 0.4))
    with torch.no_grad():
        features = model.features(model.normalize(pixels()))[0].flatten(2).double().numpy()  # [B, D, n]
        expected = []
        for x in features:
            x = x / np.linalg.norm(x, axis=0)
            a = np.exp(assignment.T @ x)
            a /= a.sum(axis=0)
            v = np.stack([(a[k] * (x - centres[:, [k]])).sum(axis=1) for k in range(clusters)], axis=1)  # [D, K]
            v /= np.linalg.norm(v, axis=0)
            y = (v.reshape(-1) / np.linalg.norm(v)) @ projection + offset
            expected.append(y / np.linalg.norm(y))
        given = found.describe_uint8(pixels()).numpy()
    assert np.abs(given - np.array(expected)).max() < 1e-5


def cells(values: list[Any]) -> Any:
    found = np.empty(len(values), object)
    for index, value in enumerate(values):
        found[index] = value
    return found


def test_columns_are_permuted_exactly() -> None:
    depth, clusters = 5, 3
    columns = np.arange(2 * depth * clusters).reshape(2, -1)
    moved = k_major(columns, depth, clusters)
    for d in range(depth):
        for k in range(clusters):
            assert np.array_equal(moved[:, k * depth + d], columns[:, d * clusters + k])


def test_ciconv_of_both_layouts(tmp_path: Path) -> None:
    model = build("ciconv_resnet18")
    state = dict(model.state_dict())
    first = import_network(saved(tmp_path / "model.path.tar", {"meta": meta("resnet18"), "state_dict": state}))
    assert same(first.model, model)
    assert any("nothing is subtracted" in note for note in first.notes)
    children = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
    classifier = {
        f"{children[key.split('.')[1]]}.{key.split('.', 2)[2]}" if key.startswith("features.") else key: value
        for key, value in state.items()
        if key != "pool.p"
    } | {"fc.weight": torch.zeros(2, 2), "fc.bias": torch.zeros(2)}
    second = import_network(saved(tmp_path / "w_resnet18.pth", {"state_dict": classifier}))
    assert same(second.model, model)
    assert second.dropped == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize(("architecture", "old"), [("resnet18", False), ("resnet18", True), ("resnet50", True)])
def test_how(tmp_path: Path, architecture: str, old: bool) -> None:
    torch.manual_seed(0)
    make = how_resnet18 if architecture == "resnet18" else how_resnet50_minus
    model = make(width=4, dimension=6).eval()
    state = {
        key.replace("dim_reduction.", "whiten.") if old else key: value for key, value in model.state_dict().items()
    }
    parameters = {"architecture": architecture, "skip_layer": int(architecture == "resnet50"),
                  "runtime": {"mean_std": [MEAN, STD], "image_size": 1024}}  # fmt: skip
    content = {
        "epoch": 1,
        "meta": {"architecture": architecture, "backbone_dim": 512, "outputdim": 6},
        "state_dict": state,
        "net_params": parameters,
        "_version": "how/2020",
    }
    found = import_network(saved(tmp_path / "how.pth", content))
    assert same(found.model, model)
    assert torch.equal(found.model.describe_uint8(pixels()), model.describe_uint8(pixels()))
    assert found.provenance["version"] == "how/2020"
    del content["net_params"]
    assert same(import_network(saved(tmp_path / "older.pth", content)).model, model)
    with pytest.raises(ModelError, match="HOW on vgg16; gloam imports those on resnet18, resnet50"):
        import_network(saved(tmp_path / "v.pth", content | {"meta": {"architecture": "vgg16"}}))


def test_stages_are_read_from_the_gaps() -> None:
    assert vgg_stages(build("gem_vgg16").state_dict()) == STAGES


class Dangerous:
    def __reduce__(self) -> Any:
        return (print, ("ran",))


def test_whitening_pickles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = lw(8)
    (tmp_path / "a_lw.pkl").write_bytes(pickle.dumps(content, protocol=2))
    found = load_whitening(tmp_path / "a_lw.pkl")
    assert np.array_equal(found.mean, content["m"][:, 0])
    assert np.array_equal(found.projection, content["P"])
    saved(tmp_path / "net_whiten_ms.pth", content)
    assert load_whitening(tmp_path / "net_whiten_ms.pth").sha256 == found.sha256
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"m": Dangerous(), "P": 1}))
    with pytest.raises(ModelError, match=r"refers to builtins\.print") as error:
        load_whitening(tmp_path / "bad.pkl")
    assert "\n" not in str(error.value)
    assert "ran" not in capsys.readouterr().out
    saved(tmp_path / "bad.pth", {"meta": Dangerous()})
    with pytest.raises(ModelError, match="cannot be loaded as plain weights"):
        load_content(tmp_path / "bad.pth")
    (tmp_path / "no.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(ModelError, match="holds no whitening"):
        load_whitening(tmp_path / "no.pkl")


def test_command_writes_checkpoint_and_whitening(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build("gem_vgg16")
    content = {"meta": meta("vgg16", Lw={"SfM": {"ss": lw(8, 1), "ms": lw(8, 2)}}), "state_dict": model.state_dict()}
    weights = saved(tmp_path / "net.pth", content)
    out = tmp_path / "net.safetensors"
    (tmp_path / "lw.pkl").write_bytes(pickle.dumps(lw(8)))
    assert main(["import", str(weights), "-o", str(out), "--whitening", str(tmp_path / "lw.pkl"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["whitenings"] == [str(tmp_path / f"net.{word}.npz") for word in ("SfM-ss", "SfM-ms", "lw")]
    assert same(load_checkpoint(out).model, model)
    assert np.array_equal(Whitening.load(tmp_path / "net.SfM-ms.npz").projection, lw(8, 2)["P"])
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(lw(9)))
    assert main(["import", str(weights), "-o", str(out), "--whitening", str(tmp_path / "other.pkl")]) == 2
    assert "takes descriptors of 9 dimensions, but gem_vgg16 gives 8" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "lw.pkl"), "-o", str(tmp_path / "w.npz")]) == 0
    assert Whitening.load(tmp_path / "w.npz").dimension == 8


def test_kinds_are_told_apart() -> None:
    assert recognise_embedder({"model.1.weight": torch.zeros(1)}, "auto") is None
    with pytest.raises(ModelError, match="so this is not NetVLAD"):
        recognise_embedder({"a": torch.zeros(1)}, "netvlad")
    with pytest.raises(ModelError, match="import it --as netvlad, not --as how"):
        recognise_embedder(MatlabNet([], np.zeros(3)), "how")
    with pytest.raises(ModelError, match="has no meta"):
        recognise_embedder({"a": torch.zeros(1)}, "cirtorch")
