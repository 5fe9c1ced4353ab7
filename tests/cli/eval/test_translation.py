"""``gloam eval translation``: one table of every figure, its N, resize mode and weights, beside the controls."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gloam.cli import main
from gloam.eval.translation.features import EmbedderFeatures
from gloam.eval.translation.frechet import frechet_distance
from gloam.eval.translation.kernel import kernel_distance
from gloam.eval.translation.mmd import gaussian_discrepancy
from gloam.networks.checkpoints import save_checkpoint
from gloam.networks.dinov2_features import DinoV2Features
from gloam.networks.embedders import create_embedder
from gloam.runtime.models.embedder import Embedder
from tests.tiny_models import write_tiny_embedder

COUNT = 12


def save(folder: Path, images: dict[str, np.ndarray]) -> Path:
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    return folder


def street(seed: int, brightness: float, size: tuple[int, int] = (192, 200)) -> np.ndarray:
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float64)
    return (pixels * brightness * [1.0, 0.9, 0.6 + 0.4 * brightness]).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("scene")
    write_tiny_embedder(root / "tiny.onnx")
    sets = {
        "night": {f"n{seed}.png": street(seed + 100, 0.2) for seed in range(COUNT)},
        "day": {f"cam/{seed}.jpg": street(seed, 1.0) for seed in range(COUNT)},
        "fake": {f"cam/{seed}.png": street(seed, 0.22) for seed in range(COUNT)},
    }
    return {name: save(root / name, images) for name, images in sets.items()} | {"model": root / "tiny.onnx"}


def score(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert main.main(["eval", "translation", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_figures_are_those_of_the_library_and_controls_stand_beside(scene, capsys) -> None:
    day, model = scene["day"], scene["model"]
    data = score(
        capsys, scene["night"], scene["fake"], "--features", model, "--day", day, "--day-cycle", day,
        "--control", f"untouched={day}",
    )  # fmt: skip
    fake, control = data["sets"]["fake"], data["sets"]["untouched"]
    extractor = EmbedderFeatures(Embedder.load(model))
    real, made = (
        extractor.features([np.asarray(Image.open(path)) for path in sorted(scene[name].rglob("*.png"))])
        for name in ("night", "fake")
    )
    assert fake["FID"]["value"] == pytest.approx(frechet_distance(real, made), rel=1e-5)
    assert fake["KID"]["value"] == pytest.approx(kernel_distance(real, made).mean, rel=1e-5)
    assert fake["MMD"]["value"] == pytest.approx(gaussian_discrepancy(real, made), rel=1e-5)
    assert fake["FID"]["value"] < control["FID"]["value"]
    assert fake["F_8 recall"]["images"] == COUNT
    assert control["SSIM to day"]["value"] == control["MS-SSIM to day"]["value"] == pytest.approx(1)
    assert control["SIFT distance to day"] == {
        "value": 0, "images": COUNT, "against": "day images", "undefined": 0, "resize": data["resize"]
    }  # fmt: skip
    assert fake["cycle L1 of day [-1,1]"]["value"] == 0
    assert set(data["meaning"]) == {"FID", "MMD"}
    assert set(data["sets"]["real"]) == {"MS-SSIM within"}
    assert data["weights_sha256"] == fake["FID"]["weights_sha256"] == extractor.weights_sha256
    for figures in data["sets"].values():
        assert all(figure["images"] == COUNT and figure["resize"] for figure in figures.values())


def test_the_table_has_n_resize_and_weights_in_every_row(scene, capsys) -> None:
    words = ["eval", "translation", scene["night"], scene["fake"], "--features", scene["model"], "--size", "64x48"]
    assert main.main([*map(str, words), "--target", str(scene["fake"])]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("  ")[0]: line for line in lines[1:] if "by area" in line}
    assert {"FID", "KID", "F_8 recall", "SSIM to target", "SIFT distance to target"} <= set(rows)
    assert all(f"[{COUNT}" in row and "64x48 by area" in row for row in rows.values())
    assert all("weights" in rows[name] and f"{COUNT} real" in rows[name] for name in ("FID", "KID", "F_8 recall"))
    assert any("MS-SSIM within of fake: 64x48 is too small" in line for line in lines)  # a note, not a zero
    assert "FID: Fréchet distance in the space of tiny" in lines
    assert any(line.startswith("MMD: by CMMD's rule") and line.endswith("in the space of tiny") for line in lines)
    assert any(line.startswith("features: tiny, weights sha256") for line in lines)


def test_inception_adds_its_score(scene, capsys, monkeypatch) -> None:
    class Fake:
        name, weights_sha256 = "inception", "0" * 64

        def __init__(self, weights, device):
            assert (weights, device) == (None, "cpu")

        def features(self, images):
            return self.features_and_logits(images)[0]

        def features_and_logits(self, images):
            means = np.stack([image.mean((0, 1)) for image in images])
            return means, means / 50

    monkeypatch.setattr("gloam.networks.inception.InceptionFeatures", Fake)
    data = score(capsys, scene["night"], scene["fake"], "--features", "inception", "--size", "40x40")
    assert data["sets"]["fake"]["Inception Score"]["value"] >= 1
    assert "MMD" not in data["sets"]["fake"]  # whose rule is of embeddings
    assert data["meaning"] == {}
    assert data["sets"]["real"]["Inception Score"]["weights_sha256"] == "0" * 64


def test_a_dinov2_checkpoint_gives_the_distance_of_its_class_tokens(scene, tmp_path, capsys) -> None:
    torch.manual_seed(0)
    model = create_embedder("dinov2_vits14", width=32, depth=2, heads=2, table=5)
    save_checkpoint(tmp_path / "vit.safetensors", model, {})
    words = ["--features", tmp_path / "vit.safetensors", "--max-side", "0"]
    data = score(capsys, scene["night"], scene["fake"], *words)
    real, made = (
        DinoV2Features(tmp_path / "vit.safetensors").features(
            [np.asarray(Image.open(path)) for path in sorted(scene[name].rglob("*.png"))]
        )
        for name in ("night", "fake")
    )
    fake = data["sets"]["fake"]
    assert fake["FD of dinov2_vits14"]["value"] == pytest.approx(frechet_distance(real, made), rel=1e-4)
    assert fake["MMD"]["value"] == pytest.approx(gaussian_discrepancy(real, made), rel=1e-3)
    assert "FID" not in fake
    assert data["features"].startswith("dinov2_vits14, class token as it is")


def test_few_images_leave_a_note_where_a_figure_cannot_be(scene, tmp_path, capsys) -> None:
    one = save(tmp_path / "one", {"a.png": street(0, 0.2)})
    data = score(capsys, scene["night"], one, "--features", scene["model"])
    for metric in ("FID", "KID", "MMD", "F_8 recall", "F_1/8 precision", "MS-SSIM within"):
        figure = data["sets"]["fake"][metric]
        assert figure["value"] is None
        assert figure["note"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--control", "day"], "NAME=FOLDER"),
        (["--control", "fake={day}"], "two sets of one name"),
        (["--control", "other={empty}"], "no images found"),
        (["--control", "other={corrupt}"], "bad.jpg: not an image"),
        (["--day", "{night}"], "no image name in common"),
        (["--day", "{twice}"], "but for its suffix"),
        (["--day-cycle", "{day}"], "--day-cycle needs --day"),
        (["--size", "12"], "WIDTHxHEIGHT"),
        (["--max-side", "-1"], "--max-side must be 0 or more"),
        (["--weights", "file.pth"], "--weights belongs to"),
        (["--features", "{night}"], "night"),
    ],
)
def test_bad_input_is_one_line(scene, tmp_path, capsys, words, reason) -> None:
    folders = dict(scene) | {name: tmp_path / name for name in ("empty", "corrupt", "twice")}
    folders["empty"].mkdir()
    folders["corrupt"].mkdir()
    (folders["corrupt"] / "bad.jpg").write_bytes(b"\xff\xd8 no jpeg")
    save(folders["twice"], {"cam/0.png": street(0, 1), "cam/0.jpg": street(0, 1)})
    command = ["eval", "translation", scene["night"], scene["fake"], "--features", scene["model"]]
    assert main.main([str(word) for word in command] + [word.format(**folders) for word in words]) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error
    assert len(error.splitlines()) == 1
