"""The six names of ``torch.hub``: batches, any sizes, weights from a mirror."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gloam.data.images import resize_image
from gloam.data.published.names import PUBLISHED
from gloam.errors import DataError, ModelError
from gloam.model_card import LITERATURE
from gloam.networks import hub
from gloam.networks.embedders import create_embedder
from gloam.networks.translators import create_generator

ROOT = Path(__file__).parents[2]
STAGES = [[4, 2], [4, 2], [6, 3], [8, 3], [8, 3]]
MEAN_STD = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]


def container(state: Any, model: dict[str, Any], transforms: str) -> dict[str, Any]:
    runtime = {"wrappers": "", "data": {"transforms": transforms, "mean_std": MEAN_STD}}
    return {"type": "SingleNetwork", "frozen": False, "network_params": {"model": model, "runtime": runtime},
            "model_state": state}  # fmt: skip


@pytest.fixture
def mirror(tmp_path: Path) -> str:
    """Small networks under the published names."""
    torch.manual_seed(0)
    folder = tmp_path / "mirror"
    folder.mkdir()
    embedder = create_embedder("gem_vgg16", stages=STAGES)
    model = {"architecture": "cirnet", "cir_architecture": "vgg16", "pooling": "gem"}
    content = container(embedder.state_dict(), model, "pil2np | apply_clahe:1.0 | totensor | normalize")
    torch.save(content, folder / "hedngan_embed_vgg16.pth")
    rng = np.random.default_rng(0)
    learned = {"m": rng.normal(size=(8, 1)) * 0.01, "P": rng.normal(size=(8, 8))}
    (folder / "hedngan_embed_vgg16_lw.pkl").write_bytes(pickle.dumps(learned))
    generator = create_generator("resnet", width=4, blocks=1, norm="instance")
    said = {"architecture": "official_resnet_generator", "n_blocks": 1, "norm_layer": "instance", "no_antialias": True,
            "no_antialias_up": True}  # fmt: skip
    torch.save(
        container(generator.state_dict(), said, "pil2np | totensor | normalize"), folder / "cyclegan_generator_X.pth"
    )
    return folder.as_uri()


def entry_points() -> Any:
    """The module as torch.hub imports it."""
    spec = importlib.util.spec_from_file_location("hubconf", ROOT / "hubconf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(1)
    return [
        Image.fromarray(rng.integers(0, 256, (*side, 3), dtype=np.uint8)) for side in ((70, 90), (64, 81), (70, 90))
    ]


def test_embedder_describes_batches_of_any_sizes(mirror: str, tmp_path: Path) -> None:
    net = torch.hub.load(str(ROOT), "gem_vgg16_hedngan", source="local", device="cpu", mirror=mirror, folder=tmp_path)
    assert isinstance(net, torch.nn.Module)
    with torch.no_grad():
        together = net(net.prepare(pictures()))
        alone = torch.cat([net(net.transform(picture)) for picture in pictures()])
    assert together.shape == (3, 8)
    assert torch.allclose(together, alone, atol=1e-6)
    assert torch.allclose(together.norm(dim=1), torch.ones(3), atol=1e-4)
    assert net.model.scales == pytest.approx((1, 2**-0.5, 0.5))
    assert net.model.whitening is not None
    assert len(net.meta["sha256"]) == 2
    assert not any("export" in note for note in net.meta["notes"])  # transform applies CLAHE itself
    torch.save(net.state_dict(), tmp_path / "again.pth")


def test_translator_keeps_sizes(mirror: str, tmp_path: Path) -> None:
    net = hub.hub_network("cyclegan", device="cpu", mirror=mirror, folder=tmp_path)
    with torch.no_grad():
        nights = net(net.prepare(pictures()))
        batch = net(torch.zeros(2, 3, 33, 41))
        whole = torch.rand(2, 3, 32, 40)
        assert torch.equal(net(whole), net.model(whole))
    assert [night.shape[1:] for night in nights] == [(70, 90), (64, 81), (70, 90)]
    assert batch.shape == (2, 3, 33, 41)


def test_the_transform_is_the_published_one() -> None:
    net = hub.HubEmbedder(create_embedder("gem_vgg16", stages=STAGES), {})
    from gloam.data.photometric import clahe

    picture = np.asarray(pictures()[0])
    expected = (clahe(picture) / 255 - np.array(MEAN_STD[0])) / np.array(MEAN_STD[1])
    assert np.abs(net.transform(picture).numpy() - expected.transpose(2, 0, 1)).max() < 1e-5


def test_the_transform_reads_as_an_exported_file_does() -> None:
    net = hub.HubEmbedder(create_embedder("gem_vgg16", stages=STAGES), {})
    large = np.random.default_rng(2).integers(0, 256, (400, 1300, 3), dtype=np.uint8)
    reduced = resize_image(large, LITERATURE)
    assert reduced.shape == (315, 1024, 3)
    assert torch.equal(net.transform(large), net.transform(reduced))


def test_names_and_dependencies() -> None:
    module = entry_points()
    six = {name for name, value in vars(module).items() if callable(value) and name in PUBLISHED}
    assert six == {
        *(f"gem_{b}_{n}" for b in ("vgg16", "resnet101") for n in ("cyclegan", "hedngan")),
        "cyclegan",
        "hedngan",
    }
    assert (
        torch.hub.load(str(ROOT), "cyclegan", source="local", pretrained=False, device="cpu").meta["name"] == "cyclegan"
    )


def test_errors(mirror: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be reached"):
        hub.hub_network("hedngan", mirror=mirror, folder=tmp_path)
    net = hub.hub_network("cyclegan", pretrained=False, device="cpu")
    with pytest.raises(ModelError, match="no images given"):
        net([])
    with pytest.raises(ModelError, match=r"of shape \[1, 3, 4, 4, 4\]|is expected"):
        net(torch.zeros(1, 4, 4))
    with pytest.raises(ModelError, match="uint8"):
        net.transform(np.zeros((4, 4, 3)))
    folder = Path(mirror.removeprefix("file://"))
    (folder / "hedngan_embed_vgg16_lw.pkl").write_bytes(pickle.dumps({"m": np.zeros((9, 1)), "P": np.eye(9)}))
    with pytest.raises(ModelError, match="its whitening takes 9-D ones"):
        hub.hub_network("gem_vgg16_hedngan", device="cpu", mirror=mirror, folder=tmp_path / "other")
