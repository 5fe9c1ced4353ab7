"""MDUIT's three graphs: a filter off an example, an image in its appearance, and the vector of the content."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gloam
from gloam.cli.main import main
from gloam.errors import ModelError
from gloam.export.appearance import export_appearance
from gloam.export.engine.build import build_engine
from gloam.export.engine.options import BuildOptions
from gloam.export.translator import export_translator
from gloam.model_card import ModelCard
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.embedders import create_embedder
from gloam.networks.translators import create_generator
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.models.appearance import Appearance
from gloam.runtime.models.translator import Translator

OPTIONS: dict[str, Any] = {
    "domains": ["day", "night"],
    "width": 2,
    "blocks": 1,
    "stages": [[4, 1], [4, 1], [4, 1]],
    "target": "night",
}
MADE = {"translate": ("translator",), "appearance": ("translator", "--appearance"), "embed": ("embedder",)}
SHAPES = ((1, 64, 96), (3, 32, 40), (8, 52, 32))


@dataclass
class Files:
    """Networks, their checkpoints, and the files that the command line makes of them when they are first asked for."""

    network: Any
    embedder: Any
    folder: Path

    def __getitem__(self, name: str) -> Path:
        path = self.folder / f"{name}.onnx"
        if not path.is_file():
            checkpoint, *options = MADE[name]
            assert main(["export", str(self.folder / f"{checkpoint}.safetensors"), "-o", str(path), *options]) == 0
        return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("mduit")
    torch.manual_seed(0)
    network: Any = create_generator("mduit", **OPTIONS).eval()
    network.keep(torch.randn(2, 200, generator=torch.Generator().manual_seed(1)) * 0.2)
    embedder = create_embedder("mduit_content", width=2, blocks=1, dimension=6).eval()
    save_checkpoint(folder / "translator.safetensors", network, {"recipe": "test"})
    save_checkpoint(folder / "embedder.safetensors", embedder, {"recipe": "test"})
    return Files(network, embedder, folder)


NAMES = [pytest.param(name, marks=() if name == "appearance" else pytest.mark.slow) for name in MADE]


def pictures(batch: int, height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_torch_equals_onnx_at_every_batch_and_size(name: str, files: Files) -> None:
    random, session = np.random.default_rng(2), OrtSession(files[name], threads=1)
    for batch, height, width in SHAPES:
        images = pictures(batch, height, width)
        filters = random.normal(0, 0.3, (batch, 200)).astype(np.float32)
        given = torch.from_numpy(images)
        inputs = {"images": images, **({"appearance": filters} if name == "translate" else {})}
        with torch.no_grad():
            if name == "translate":
                expected = files.network.translate_uint8(given, torch.from_numpy(filters))
            else:
                graph = files.network.appearance_uint8 if name == "appearance" else files.embedder.describe_uint8
                expected = graph(given)
        found = session.run(inputs)[session.card.outputs[0].name]
        assert found.shape == expected.shape
        assert np.abs(found - expected.numpy()).max() <= 1e-5
    difference, tolerance = run_selftest(session)
    assert difference <= tolerance


@pytest.mark.slow
def test_the_cards_state_kind_inputs_and_defaults(files: Files) -> None:
    cards = {name: OrtSession(files[name], threads=1).card for name in ("translate", "appearance", "embed")}
    assert {name: card.kind for name, card in cards.items()} == {
        "translate": "translator", "appearance": "appearance", "embed": "embedder"
    }  # fmt: skip
    spec = cards["translate"].inputs[1]
    bank = files.network.get_buffer("bank")
    assert (spec.name, spec.shape) == ("appearance", ("batch", 200))
    assert spec.choices is not None
    assert torch.equal(torch.tensor(spec.default), bank[1])
    assert torch.equal(torch.tensor([spec.choices["day"], spec.choices["night"]]), bank)
    assert cards["appearance"].outputs[0].shape == ("batch", 200)
    assert len({cards[name].provenance["weights_sha256"] for name in ("translate", "appearance")}) == 1
    assert cards["embed"].dimension == 6
    for card in cards.values():
        assert ModelCard.from_json(card.to_json()) == card


@pytest.mark.slow
def test_an_example_s_filter_goes_into_the_translator(files: Files) -> None:
    encoder, translator = Appearance.load(files["appearance"]), Translator.load(files["translate"])
    image, examples = pictures(1, 48, 64)[0], list(pictures(2, 37, 61, seed=5))
    filters = encoder(examples)
    assert filters.shape == (2, 200)
    assert np.array_equal(encoder.filter(examples[1]), filters[1])
    with torch.no_grad():
        expected = files.network.appearance_uint8(torch.from_numpy(np.stack(examples)))
        wanted = files.network.translate_uint8(torch.from_numpy(image)[None], expected[1:])[0].numpy()
    assert np.abs(filters - expected.numpy()).max() <= 1e-5
    like = translator.with_appearance(filters[1])
    assert np.abs(like([image])[0] - (wanted + 1) * 127.5).max() <= 0.51
    assert like.fingerprint not in (translator.fingerprint, translator.with_appearance(filters[0]).fingerprint)
    assert like.fingerprint == translator.like(examples[1:], encoder).fingerprint
    both = translator.like(examples, encoder)
    assert both.fingerprint == translator.with_appearance(filters.mean(0)).fingerprint
    assert (like.domain, translator.domain) == (None, "night")
    assert like([pictures(1, 41, 33)[0]])[0].shape == (41, 33, 3)


def test_what_is_no_mduit_network_has_no_appearance(tmp_path: Path) -> None:
    plain = create_generator("resnet", width=4, blocks=1)
    with pytest.raises(ModelError, match="reads no appearance off an example"):
        export_appearance(plain, tmp_path / "n.onnx")
    with pytest.raises(ModelError, match="unknown domain 'rain'; the model knows day, night"):
        export_translator(create_generator("mduit", **OPTIONS), tmp_path / "n.onnx", domain="rain")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--domain", "day"), "leave out --domain"),
        (("--precision", "fp16"), "stays float32"),
        (("--profile", "fixed"), "use the dynamic profile"),
    ],
)
def test_options_that_do_not_go_with_an_appearance(
    files: Files, options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(files.folder / "translator.safetensors")
    assert main(["export", checkpoint, "-o", str(tmp_path / "n.onnx"), "--appearance", *options]) == 2
    assert message in capsys.readouterr().err
    checkpoint = str(files.folder / "embedder.safetensors")
    assert main(["export", checkpoint, "-o", str(tmp_path / "n.onnx"), "--appearance"]) == 2
    assert "--appearance is of a translator by example, mduit or adain, not of mduit_content" in capsys.readouterr().err


@pytest.mark.slow
def test_the_vector_is_an_ordinary_embedder(files: Files, tmp_path: Path) -> None:
    import cv2

    (tmp_path / "photos").mkdir()
    for row, image in enumerate(pictures(3, 40, 56)):
        cv2.imwrite(str(tmp_path / "photos" / f"{row}.png"), image[..., ::-1])
    assert main(["extract", str(tmp_path / "photos"), "--model", str(files["embed"]), "-o", str(tmp_path / "s")]) == 0
    store = gloam.DescriptorStore.open(tmp_path / "s")
    assert (len(store), store.dimension) == (3, 6)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed")
@pytest.mark.parametrize("name", ["translate", "appearance", "embed"])
def test_the_real_builder_builds_it(name: str, files: Files, tmp_path: Path) -> None:
    built = build_engine(files[name], tmp_path / "engine", BuildOptions(target="rtx", heights=(64,), widths=(96,)))
    assert built.plan.stat().st_size > 0


@pytest.mark.slow
def test_adain_goes_by_the_same_two_graphs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network: Any = create_generator("adain", stages=[[4, 1], [6, 2], [6, 1]]).eval()
    export_translator(network, tmp_path / "translate.onnx", provenance={"recipe": "test"})
    export_appearance(network, tmp_path / "appearance.onnx", provenance={"recipe": "test"})
    translate, appearance = (OrtSession(tmp_path / f"{name}.onnx", threads=1) for name in ("translate", "appearance"))
    for batch, height, width in ((1, 64, 96), (3, 32, 40), (8, 56, 32)):
        images, examples = pictures(batch, height, width), pictures(batch, height + 3, width + 5, seed=1)
        worn = appearance.run({"images": examples})["appearance"]
        found = translate.run({"images": images, "appearance": worn})["translated"]
        with torch.no_grad():
            wanted = network.appearance_uint8(torch.from_numpy(examples))
            expected = network.translate_uint8(torch.from_numpy(images), torch.from_numpy(worn))
        assert np.abs(worn - wanted.numpy()).max() <= 1e-5
        assert np.abs(found - expected.numpy()).max() <= 1e-5
    if importlib.util.find_spec("tensorrt_rtx") is not None:
        options = BuildOptions(target="rtx", heights=(64,), widths=(96,))
        for name in ("translate", "appearance"):
            assert build_engine(tmp_path / f"{name}.onnx", tmp_path / name, options).plan.stat().st_size > 0
