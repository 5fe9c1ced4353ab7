"""A model's features as kapture's files: what is written is read again, only what must be is extracted again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.data.hloc_io import HlocFeatureFile, ImageFeatures
from gloam.data.kapture_io import read_local_features, write_scene
from gloam.data.scene import Camera, Record, Scene
from gloam.errors import DataError, IncompatibleError, UsageError
from gloam.model_card import InputRule, Photometric
from gloam.runtime.localization.features import extraction
from gloam.runtime.localization.features.extraction import FeaturesRequest, extract_features
from gloam.runtime.models.local_features import LocalExtractor
from tests.runtime.localization.bright_points import DIMENSION, BrightModel

CAMERA = Camera("PINHOLE", 80, 48, (90.0, 90.0, 40.0, 24.0))  # counts from 0.5
NAMES = ["a.png", "b/c.png", "d.png"]


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images, each with one bright pixel more than the one before it; every file is taken for a model."""
    scene = Scene(tmp_path / "set", {"c": CAMERA}, {name: Record("c", row) for row, name in enumerate(NAMES)})
    write_scene(scene)
    for count, name in enumerate(NAMES, 1):
        save(scene.image_path(name), count)

    def load(path: Path, placement: Any, *, photometric: Photometric | None = None) -> LocalExtractor:
        return LocalExtractor(BrightModel(), photometric=photometric)  # type: ignore[arg-type]  # as much as is needed

    monkeypatch.setattr(LocalExtractor, "load", load)
    return scene.root


def save(path: Path, count: int) -> None:
    pixels = np.zeros((48, 80, 3), np.uint8)
    for row in range(count):
        pixels[10 + row, 20 + 3 * row] = 250 - 10 * row
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def request(dataset: Path, **more: Any) -> FeaturesRequest:
    return FeaturesRequest(dataset, Path("bright.onnx"), **more)


def files(dataset: Path, kind: str = "bright") -> list[Path]:
    return sorted(
        path for path in (dataset / "reconstruction").glob(f"*/{kind}/**/*.*") if path.suffix in (".kpt", ".desc")
    )


def test_what_is_written_is_read_again_at_the_origin_of_the_intrinsics(dataset: Path) -> None:
    done = extract_features(request(dataset))
    assert (done.extracted, done.kept, done.failed, done.feature_type, done.output) == (3, 0, 0, "bright", dataset)
    reader = read_local_features(dataset, NAMES)
    assert (reader.feature_type, reader.dimension) == ("bright", DIMENSION)
    assert reader.keypoints("b/c.png").tolist() == [[20.5, 10.5], [23.5, 11.5]]
    assert np.linalg.norm(reader.descriptors("d.png"), axis=1) == pytest.approx([1, 1, 1])
    other = extract_features(request(dataset, output=dataset.parent / "out", feature_type="mine", max_keypoints=1))
    assert other.feature_type == "mine"
    assert len(read_local_features(dataset.parent / "out").keypoints("d.png")) == 1


def test_only_what_changed_or_is_damaged_is_extracted_again(dataset: Path) -> None:
    extract_features(request(dataset))
    paths = files(dataset)
    content = {path: path.read_bytes() for path in paths}
    assert len(paths) == 6
    assert extract_features(request(dataset, workers=1)).kept == 3
    paths[0].write_bytes(paths[1].read_bytes())
    paths[2].unlink()
    done = extract_features(request(dataset))
    assert (done.extracted, done.kept) == (2, 1)
    assert {path: path.read_bytes() for path in files(dataset)} == content
    save(dataset / "sensors" / "records_data" / "d.png", 2)
    assert extract_features(request(dataset)).extracted == 1
    assert len(read_local_features(dataset).keypoints("d.png")) == 2


def test_an_image_that_cannot_be_read_is_a_row_and_has_no_files(dataset: Path) -> None:
    extract_features(request(dataset))
    (dataset / "sensors" / "records_data" / "a.png").write_bytes(b"no picture")
    (dataset / "sensors" / "records_data" / "d.png").unlink()
    done = extract_features(request(dataset))
    assert (done.extracted, done.kept, done.failed) == (0, 1, 2)
    rows = (dataset / "reconstruction" / "keypoints" / "bright" / "failures.csv").read_text().splitlines()
    assert rows[0] == "image,reason"
    assert [row.split(",")[0] for row in rows[1:]] == ["a.png", "d.png"]
    assert rows[1].endswith("a.png: not an image that can be decoded")
    assert [path.stem for path in files(dataset)] == ["c.png", "c.png"]
    assert "reasons: " in str(done)
    save(dataset / "sensors" / "records_data" / "a.png", 1)
    assert extract_features(request(dataset)).extracted == 1
    scene = Scene(dataset, {"c": CAMERA}, {"b/c.png": Record("c", 1)})
    write_scene(scene)
    extract_features(request(dataset))
    assert [path.stem for path in files(dataset)] == ["c.png", "c.png"]


def test_a_run_that_was_killed_carries_on(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "PART", 1)
    write, written = extraction.write_bytes, []

    def killed(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) == 5:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(extraction, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        extract_features(request(dataset, workers=1))
    monkeypatch.setattr(extraction, "write_bytes", write)
    with pytest.raises(DataError):
        read_local_features(dataset)  # a type that is not whole does not exist
    done = extract_features(request(dataset))
    assert (done.extracted, done.kept) == (2, 1)


@pytest.mark.parametrize(
    "changed",
    [{"max_keypoints": 2}, {"photometric": "clahe"}, {"pixel_origin": 0.0}],
    ids=lambda value: next(iter(value)),
)
def test_features_of_other_options_are_not_mixed(dataset: Path, changed: dict[str, Any]) -> None:
    extract_features(request(dataset))
    with pytest.raises(IncompatibleError, match=r"keypoints/bright: holds features of another model or other options"):
        extract_features(request(dataset, **changed))
    record = dataset / "reconstruction" / "keypoints" / "bright" / "gloam.json"
    record.write_text(record.read_text().replace("a.png", "e.png"))
    with pytest.raises(IncompatibleError, match="or does not say of which"):
        extract_features(request(dataset))


def images(path: Path) -> dict[str, ImageFeatures]:
    file = HlocFeatureFile(path)
    return {name: file.read(name) for name in file.names()}


def test_hlocs_file_counts_from_0_and_has_what_kaptures_has(dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / "feats.h5"
    done = extract_features(request(dataset, output=path))
    assert (done.extracted, done.kept, done.failed, done.output) == (3, 0, 0, path)
    file = HlocFeatureFile(path)
    assert (file.names(), file.network, file.dimension) == (NAMES, "bright", DIMENSION)
    extract_features(request(dataset))
    reader = read_local_features(dataset)
    for name, found in images(path).items():
        np.testing.assert_array_equal(found.keypoints + 0.5, reader.keypoints(name))
        np.testing.assert_array_equal(found.descriptors, reader.descriptors(name))
        assert (found.size, found.uncertainty) == ((80, 48), 1.0)
        assert found.scores.tolist() == [250 - 10 * row for row in range(len(found.scores))]
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["feats.failures.csv", "feats.h5"]


def test_hlocs_file_is_made_again_where_it_must_be(dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    extract_features(request(dataset, output=path))
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    assert extract_features(request(dataset, output=path)).kept == 3
    assert path.stat().st_mtime_ns == stamp  # nothing to do, nothing written
    save(dataset / "sensors" / "records_data" / "d.png", 1)
    assert extract_features(request(dataset, output=path)).extracted == 1
    assert len(images(path)["d.png"].keypoints) == 1
    save(dataset / "sensors" / "records_data" / "d.png", 3)
    content = bytearray(path.read_bytes())
    place = content.index(images(path)["b/c.png"].descriptors.T.tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert extract_features(request(dataset, output=path)).extracted == 2
    assert path.read_bytes() == before
    (dataset / "sensors" / "records_data" / "a.png").unlink()
    done = extract_features(request(dataset, output=path))
    assert (done.kept, done.failed, done.reasons) == (2, 1, tmp_path / "feats.failures.csv")
    assert json.loads(json.dumps(done.to_dict()))["reasons"] == str(done.reasons)
    assert list(images(path)) == NAMES[1:]
    for name in NAMES[1:]:
        (dataset / "sensors" / "records_data" / name).unlink()
    assert extract_features(request(dataset, output=path)).failed == 3
    assert not path.exists()


def test_a_run_into_hlocs_file_that_was_killed_carries_on(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "feats.h5"
    write, written = extraction.write_npz, []

    def killed(part: Path, arrays: Any) -> None:
        written.append(part)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(part, arrays)

    monkeypatch.setattr(extraction, "write_npz", killed)
    with pytest.raises(KeyboardInterrupt):
        extract_features(request(dataset, output=path, workers=1))
    assert not path.exists()
    monkeypatch.setattr(extraction, "write_npz", write)
    done = extract_features(request(dataset, output=path))
    assert (done.extracted, done.kept) == (1, 2)
    extract_features(request(dataset, output=tmp_path / "other.h5"))
    assert path.read_bytes() == (tmp_path / "other.h5").read_bytes()


def test_another_file_is_not_written_over(dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    extract_features(request(dataset, output=path))
    whole = path.read_bytes()
    with pytest.raises(IncompatibleError, match=r"feats\.h5: holds features of another model or other options"):
        extract_features(request(dataset, output=path, max_keypoints=2))
    for content in (b"weights", whole[:-50]):
        path.write_bytes(content)
        with pytest.raises(IncompatibleError, match="or does not say of which; give another file, or remove it"):
            extract_features(request(dataset, output=path))
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": -2}, "--workers -2: must be 1 or more, or 0 for all cores"),
        ({"format": "hloc"}, "--format hloc needs -o, a file that ends in .h5"),
        ({"format": "hloc", "output": Path("feats")}, "--format hloc needs -o"),
        ({"format": "kapture", "output": Path("f.h5")}, "f.h5: kapture's features are written into a folder"),
        ({"output": Path("f.h5"), "feature_type": "a"}, "--feature-type is kapture's"),
        ({"output": Path("f.h5"), "pixel_origin": 0.5}, "--pixel-origin is kapture's"),
    ],
)
def test_what_does_not_go_with_a_format_is_refused(dataset: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request(dataset, **given)
    assert not request(dataset).hloc
    assert request(dataset, output=Path("f.hdf5"), pixel_origin=0.0).hloc


def test_a_network_that_sees_less_is_less_certain() -> None:
    assert extraction._reduction(InputRule(), (2048, 1024)) == 2
    assert extraction._reduction(InputRule(), (1000, 500)) == 1
    assert extraction._reduction(InputRule.of(), (2048, 1024)) == 1
    assert extraction._reduction(InputRule.of(stretch=(100, 50)), (400, 100)) == 3


def test_the_command(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", str(dataset), "--model", "bright.onnx", "--max-keypoints", "2"]) == 0
    assert "3 images extracted, 0 kept, 0 failed" in capsys.readouterr().out
    hloc = ["features", str(dataset), "--model", "bright.onnx", "--format", "hloc", "-o"]
    assert main([*hloc, str(dataset.parent / "feats.h5")]) == 0
    assert len(images(dataset.parent / "feats.h5")) == 3
    assert "3 images extracted, 0 kept, 0 failed" in capsys.readouterr().out
    assert main(["features", str(dataset), "--model", "bright.onnx", "--max-keypoints", "0"]) == 2
    assert capsys.readouterr().err.strip().endswith("--max-keypoints must be 1 or more")
    with pytest.raises(UsageError):
        dataclasses.replace(request(dataset), max_keypoints=0)
