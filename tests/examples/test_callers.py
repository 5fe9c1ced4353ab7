"""The C++ and Node programs give Python's descriptors, run the self-test, and refuse in a line what they cannot run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from PIL import Image

from benchmarks.shared.callers import LANGUAGES, Called, build, call, write_explained, write_ppm
from gloam.data.images import decode_image
from gloam.export.weights import ExportRequest, export_weights
from gloam.model_card import METADATA_KEY
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.embedder import Embedder

pytestmark = pytest.mark.foreign
SAME = 1e-6
SIZES = ((97, 131), (401, 233), (128, 128), (420, 128), (131, 500), (64, 90))  # height and width


def picture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth colours with noise, so that neither a resizing nor a JPEG is trivial."""
    rng = np.random.default_rng([seed, height, width])
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noisy: npt.NDArray[np.uint8] = (np.asarray(coarse, np.int64) + rng.integers(-30, 31, (height, width, 3))).clip(
        0, 255
    )
    return noisy.astype(np.uint8)


@pytest.fixture(scope="session", params=LANGUAGES)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return build(request.param, tmp_path_factory.mktemp("caller"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    write_explained(folder / "dynamic.onnx")
    request = ExportRequest(
        folder / "fixed.onnx",
        network="gem_resnet18",
        random_init=0,
        options={"width": 8},
        profile="fixed",
        sides=(256, 512),
        max_batch=4,
    )
    export_weights(request)
    return {name: folder / f"{name}.onnx" for name in ("dynamic", "fixed")}


def told(model: Path, change: Callable[[dict[str, Any]], None], path: Path) -> Path:
    """The model with another card, whatever a card may say."""
    proto = onnx.load(model)
    for entry in proto.metadata_props:
        if entry.key == METADATA_KEY:
            value = json.loads(entry.value)
            change(value)
            entry.value = json.dumps(value)
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("name", ["dynamic", "fixed"])
def test_the_same_pixels_give_pythons_descriptors(
    program: list[str], models: dict[str, Path], tmp_path: Path, name: str
) -> None:
    pictures = [picture(*size) for size in SIZES]
    files = [write_ppm(tmp_path / f"{at}.ppm", each) for at, each in enumerate(pictures)]
    truth = Embedder.load(models[name], Placement(threads=1))(pictures)
    called = call(program, models[name], files)
    assert (called.code, called.errors) == (0, [])
    assert called.selftest is not None
    assert called.selftest[0] <= called.selftest[1] == 1e-5
    found = np.stack([called.descriptors[str(file)] for file in files])
    assert np.abs(found - truth).max() <= SAME


def test_jpegs_are_decoded_and_turned_as_python_does(
    program: list[str], models: dict[str, Path], tmp_path: Path
) -> None:
    files = []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files.append(tmp_path / f"turned {orientation}.jpg")
        Image.fromarray(picture(97, 131)).save(files[-1], exif=exif, quality=90)
    for name, options in {
        "progressive": {"progressive": True},
        "444": {"subsampling": 0},
        "coarse": {"quality": 30},
    }.items():
        files.append(tmp_path / f"{name}.jpg")
        Image.fromarray(picture(333, 257)).save(files[-1], **options)
    files.append(tmp_path / "grey.jpg")
    Image.fromarray(picture(120, 90)).convert("L").save(files[-1])
    truth = Embedder.load(models["dynamic"], Placement(threads=1))([decode_image(file) for file in files])
    called = call(program, models["dynamic"], files)
    assert (called.code, called.errors) == (0, [])
    found = np.stack([called.descriptors[str(file)] for file in files])
    assert np.abs(found - truth).max() <= SAME


def _tiny(folder: Path) -> Path:
    return write_ppm(folder / "bad", picture(20, 90))


def _cut_jpeg(folder: Path) -> Path:
    Image.fromarray(picture(97, 131)).save(folder / "bad", "JPEG")
    (folder / "bad").write_bytes((folder / "bad").read_bytes()[:2000])
    return folder / "bad"


def _cut_ppm(folder: Path) -> Path:
    file = write_ppm(folder / "bad", picture(97, 131))
    file.write_bytes(file.read_bytes()[:999])
    return file


def _png(folder: Path) -> Path:
    Image.fromarray(picture(97, 131)).save(folder / "bad", "PNG")
    return folder / "bad"


def _empty(folder: Path) -> Path:
    (folder / "bad").write_bytes(b"")
    return folder / "bad"


@pytest.mark.parametrize("make", [_tiny, _cut_jpeg, _cut_ppm, _png, _empty, lambda folder: folder / "absent"])
def test_a_bad_image_is_one_line_and_the_others_are_described(
    program: list[str], models: dict[str, Path], tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    good = write_ppm(tmp_path / "good.ppm", picture(97, 131))
    bad = make(tmp_path)
    called = call(program, models["dynamic"], [bad, good])
    assert called.code == 1
    assert list(called.descriptors) == [str(good)]
    expect_line(called, str(bad))


def _newer(card: dict[str, Any]) -> None:
    card["schema"] = 2


def _of_another_kind(card: dict[str, Any]) -> None:
    card["kind"] = "translator"


def _by_clahe(card: dict[str, Any]) -> None:
    card["photometric"] = {"name": "clahe", "clip": 1.0, "grid": 8, "baked": False}


def _translated(card: dict[str, Any]) -> None:
    card["translate"] = "ab"


def _unexplained(card: dict[str, Any]) -> None:
    del card["selftest_formula"]


def _wrong(card: dict[str, Any]) -> None:
    card["selftest"]["output"][3] += 0.01


def _wrong_larger(card: dict[str, Any]) -> None:
    card["selftest_larger"]["output"][3] += 0.01


def _short(card: dict[str, Any]) -> None:
    card["selftest"]["output"].pop()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_newer, "schema 2, this program reads 1"),
        (_of_another_kind, "kind 'translator'"),
        (_by_clahe, "--bake-clahe"),
        (_translated, "--translate"),
        (_unexplained, "no self-test by formula"),
        (_wrong, "self-test failed"),
        (_wrong_larger, "self-test failed"),
        (_short, "another number of values"),
    ],
)
def test_a_model_that_cannot_be_run_rightly_is_refused(
    program: list[str], models: dict[str, Path], tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    model = told(models["dynamic"], change, tmp_path / "told.onnx")
    called = call(program, model, [write_ppm(tmp_path / "good.ppm", picture(97, 131))])
    assert (called.code, called.selftest, called.descriptors) == (1, None, {})
    assert message in expect_line(called, str(model))


def test_what_is_no_model_is_refused(program: list[str], models: dict[str, Path], tmp_path: Path) -> None:
    bare, cut, text = (tmp_path / name for name in ("bare.onnx", "cut.onnx", "text.onnx"))
    proto = onnx.load(models["dynamic"])
    del proto.metadata_props[:]
    bare.write_bytes(proto.SerializeToString())
    cut.write_bytes(models["dynamic"].read_bytes()[:5000])
    text.write_text("no model")
    for model in (bare, cut, text, tmp_path / "absent.onnx"):
        called = call(program, model)
        assert (called.code, called.selftest) == (1, None)
        expect_line(called, str(model))


def expect_line(called: Called, where: str) -> str:
    [line] = called.errors
    assert line.startswith(f"{where}: ")
    assert len(line) > len(where) + 10
    return line
