"""The adapters for hloc, run as hloc runs them: what they write is what gloam's own commands write."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import cv2
import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import gloam
from gloam.data.hloc_io import HlocFeatureFile, HlocMatchFile
from gloam.data.images import decode_image
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.local_features import LocalExtractor
from gloam.runtime.models.matcher import Matcher
from tests.runtime.localization.bright_points import BrightModel, NearestModel
from tests.tiny_models import write_tiny_embedder

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
POINTS = ((17, 9), (60, 40), (3, 70), (88, 21))  # x and y


class BaseModel(torch.nn.Module):
    """Stands in for hloc's class of this name, which is on no package index."""

    default_conf: ClassVar[dict[str, Any]] = {}
    required_inputs: ClassVar[list[str]] = []

    def __init__(self, conf: dict[str, Any]) -> None:
        super().__init__()
        self.conf = conf = {**self.default_conf, **conf}
        self._init(conf)

    def forward(self, data: dict[str, Any]) -> dict[str, Any]:
        assert all(key in data for key in self.required_inputs)
        return self._forward(data)


@pytest.fixture
def adapters(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The classes of the files, each in the package that it is to be copied to."""
    for name in ("hloc", "hloc.utils", "hloc.utils.base_model", "hloc.extractors", "hloc.matchers"):
        module = types.ModuleType(name)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["hloc.utils.base_model"].BaseModel = BaseModel  # type: ignore[attr-defined]
    found = {}
    for package, file in (("extractors", "gloam_model"), ("matchers", "gloam_matcher")):
        name = f"hloc.{package}.{file}"
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / "hloc" / f"{file}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        [found[file]] = [each for each in vars(module).values() if getattr(each, "__module__", "") == name]
    return found


def extract(model: Any, folder: Path, names: list[str], path: Path) -> None:
    """What hloc's extract_features does with a model, without "resize_max" and with as_half=False."""
    for name in names:
        image = cv2.imread(str(folder / name), cv2.IMREAD_COLOR)[:, :, ::-1].astype(np.float32)
        size = image.shape[:2][::-1]
        given = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1) / 255.0))[None]
        found = {key: values[0].cpu().numpy() for key, values in model({"image": given}).items()}
        found["image_size"] = np.array(size)
        if "keypoints" in found:
            found["keypoints"] = (found["keypoints"] + 0.5) * np.ones((1, 2), np.float32) - 0.5
        with h5py.File(path, "a", libver="latest") as file:
            group = file.create_group(name)
            for key, values in found.items():
                group.create_dataset(key, data=values)


def match(model: Any, features: Path, pairs: list[tuple[str, str]], path: Path) -> None:
    """What hloc's match_features does."""
    for first, second in pairs:
        data = {}
        with h5py.File(features, "r") as file:
            for image, name in (("0", first), ("1", second)):
                data |= {f"{key}{image}": torch.from_numpy(file[name][key][()]).float()[None] for key in file[name]}
                data[f"image{image}"] = torch.empty((1, 1, *file[name]["image_size"][()][::-1]))
        found = model(data)
        with h5py.File(path, "a", libver="latest") as file:
            group = file.create_group("/".join(name.replace("/", "-") for name in (first, second)))
            group.create_dataset("matches0", data=found["matches0"][0].cpu().short().numpy())
            group.create_dataset("matching_scores0", data=found["matching_scores0"][0].cpu().half().numpy())


@pytest.fixture
def photographs(tmp_path: Path) -> list[str]:
    """Dark ones, whose bright pixels are those that the model finds; in the second they lie 2 px further right."""
    names = ["db/first.png", "night/second.png"]
    (tmp_path / "db").mkdir()
    (tmp_path / "night").mkdir()
    for shift, name in zip((0, 2), names, strict=True):
        pixels = np.full((80, 110, 3), 60, np.uint8)
        for at, (x, y) in enumerate(POINTS):
            pixels[y, x + shift] = 210 + 10 * at
        Image.fromarray(pixels).save(tmp_path / name)
    return names


def test_features_and_matches_are_gloams_own(
    adapters: dict[str, Any], photographs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor, matcher = LocalExtractor(BrightModel()), Matcher(NearestModel())
    loaded = {"model.onnx": extractor, "matcher.onnx": matcher}
    monkeypatch.setattr(gloam, "load", lambda path, device: loaded[path])
    extract(adapters["gloam_model"]({"path": "model.onnx"}), tmp_path, photographs, tmp_path / "feats.h5")
    match(
        adapters["gloam_matcher"]({"path": "matcher.onnx"}),
        tmp_path / "feats.h5",
        [tuple(photographs)],
        tmp_path / "m.h5",
    )
    own = [extractor([decode_image(tmp_path / name, upright=False)])[0] for name in photographs]
    file = HlocFeatureFile(tmp_path / "feats.h5")
    assert file.names() == photographs
    for name, features, shift in zip(photographs, own, (0, 2), strict=True):
        read = file.read(name)
        np.testing.assert_allclose(read.keypoints, features.keypoints, atol=1e-5)
        np.testing.assert_array_equal(read.descriptors, features.descriptors)
        np.testing.assert_array_equal(read.scores, features.scores)
        assert read.size == (110, 80)
        assert sorted(map(tuple, read.keypoints.round(4))) == sorted((x + shift, y) for x, y in POINTS)
    rows, scores = HlocMatchFile(tmp_path / "m.h5").read(*photographs)
    expected, sure = matcher(*own)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, sure)
    assert len(rows) == len(POINTS)
    places = own[1].keypoints[rows[:, 1]] - own[0].keypoints[rows[:, 0]]
    np.testing.assert_allclose(places, [[2, 0]] * len(POINTS), atol=1e-5)


def test_an_embedder_is_an_extractor_too(adapters: dict[str, Any], photographs: list[str], tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "tiny.onnx")
    model = adapters["gloam_model"]({"path": str(tmp_path / "tiny.onnx")})
    extract(model, tmp_path, photographs, tmp_path / "global.h5")
    own = Embedder.load(tmp_path / "tiny.onnx")([decode_image(tmp_path / name) for name in photographs])
    with h5py.File(tmp_path / "global.h5", "r") as file:
        found = np.stack([file[name]["global_descriptor"][()] for name in photographs])
    np.testing.assert_array_equal(found, own)


def test_the_adapters_stay_short() -> None:
    for file in (EXAMPLES / "hloc").glob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 40


def test_python_takes_three_lines(photographs: list[str], tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "tiny.onnx")
    file = EXAMPLES / "python" / "describe.py"
    lines = [line for line in file.read_text(encoding="utf-8").split('"""')[2].splitlines() if line]
    assert len([line for line in lines if not line.startswith("import sys")]) == 3
    words = [sys.executable, str(file), str(tmp_path / "tiny.onnx"), str(tmp_path / photographs[0])]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    own = Embedder.load(tmp_path / "tiny.onnx")([decode_image(tmp_path / photographs[0])])[0]
    np.testing.assert_array_equal(np.array(json.loads(done.stdout), np.float32), own)
