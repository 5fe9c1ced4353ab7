"""``gloam translate`` and ``gloam edges`` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.data.images import decode_image
from tests.tiny_translators import write_tiny_translator


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "day").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "day/b.jpg"):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


def test_translate_reports_resumes_and_shows(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["translate", str(images), "-o", str(tmp_path / "out"), "--model", "gamma:0.2", "--format", "jpg"]
    assert main([*words, "--contact-sheet", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["done"], report["failed"], report["reused"]) == (2, 1, 0)
    assert Path(report["contact_sheet"]).is_file()
    written = sorted(path.relative_to(report["output"]).as_posix() for path in Path(report["output"]).rglob("*.*"))
    assert written == ["a.jpg", "day/b.jpg"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "2 of them by an earlier run" in printed
    assert "failures.csv" in printed


def test_edges_writes_grey_pictures(images: Path, tmp_path: Path) -> None:
    write_tiny_translator(tmp_path / "m.onnx", kind="edges")
    assert main(["edges", str(images / "a.png"), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "m.onnx")]) == 0
    with Image.open(tmp_path / "out" / "images" / "a.png") as picture:
        assert picture.mode == "L"
        expected = np.rint(decode_image(images / "a.png").mean(2))
        np.testing.assert_allclose(np.asarray(picture), expected, atol=1)


def test_what_cannot_work_is_one_line(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nothing").mkdir()
    write_tiny_translator(tmp_path / "edges.onnx", kind="edges")
    for source, output, model, reason in (
        (images, images / "night", "none", "inside the folder of the sources"),
        (images, images, "none", "inside the folder of the sources"),
        (tmp_path / "nothing", tmp_path / "out", "none", "no images found"),
        (tmp_path / "absent", tmp_path / "out", "none", "no such folder"),
        (images, tmp_path / "out", "gama", "did you mean gamma"),
        (images, tmp_path / "out", str(tmp_path / "edges.onnx"), "'translator' is needed"),
        (images / "broken.jpg", tmp_path / "out", "none", "none of 1 images"),
    ):
        assert main(["translate", str(source), "-o", str(output), "--model", model]) == 2
        error = capsys.readouterr().err
        assert reason in error
        assert len(error.strip().splitlines()) == 1
