"""A row's embedder describes map and queries once; its facts say what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.data.scene import Record, Scene
from gloam.errors import DataError
from gloam.files import sha256_file
from gloam.workflows.reproduce.localization.embedders import by_chance, describe
from gloam.workflows.reproduce.models import open_embedder
from tests.tiny_models import DIMENSION, write_tiny_embedder


def photographed(root: Path, names: list[str]) -> Scene:
    scene = Scene(root, {}, {name: Record("c", n) for n, name in enumerate(names)})
    for n, name in enumerate(names):
        scene.image_path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60 + n, 40), (90, 20 + 50 * n, 200)).save(scene.image_path(name))
    return scene


def test_images_are_described_once(tmp_path: Path) -> None:
    model = tmp_path / "tiny.onnx"
    write_tiny_embedder(model)
    embedder = open_embedder([model], tmp_path)
    assert embedder.facts["weights"] == [{"file": str(model), "sha256": sha256_file(model)}]
    assert (embedder.facts["network"], embedder.facts["dimension"], embedder.own_size) == ("tiny", DIMENSION, True)
    scenes = {
        "map": photographed(tmp_path / "m", ["a.png", "b/c.png"]),
        "query": photographed(tmp_path / "q", ["q.png"]),
    }
    found = describe(embedder, scenes, tmp_path / "stores", 1024)
    assert sorted(found.by_name) == ["a.png", "b/c.png", "q.png"]
    assert np.allclose([np.linalg.norm(row) for row in found.by_name.values()], 1, atol=1e-6)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert len(before) == 2
    describe(embedder, scenes, tmp_path / "stores", 1024)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == before
    scenes["query"].image_path("q.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of 1 images could be described"):
        describe(embedder, scenes, tmp_path / "other", 1024)


def test_chance_knows_nothing_and_repeats_itself(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {}, {f"{n}.png": Record("c", n) for n in range(50)})
    first, again, other = by_chance([scene]), by_chance([scene]), by_chance([scene], 1)
    assert all(np.array_equal(first.of(name), again.of(name)) for name in scene.names)
    assert not np.array_equal(first.of("0.png"), other.of("0.png"))
    rows = np.stack([first.of(name) for name in scene.names])
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert abs(float((rows @ rows.T)[~np.eye(50, dtype=bool)].mean())) < 0.05
