"""Small services and bodies for the tests."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from gloam.data.sources import find_images
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.search.index import build_index
from gloam.runtime.serve.app import make_app
from gloam.runtime.serve.options import Keys, Limits, ServeRequest
from gloam.runtime.serve.service import Service
from tests.tiny_models import write_tiny_embedder

HERE = "http://localhost"


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Noise that no two seeds share."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", orientation: int = 1) -> bytes:
    """The bytes of a file."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    image.save(out, kind, exif=exif)
    return out.getvalue()


def write_indexed(folder: Path, count: int = 6) -> Path:
    """A folder with ``tiny.onnx``, ``images``, their ``store`` and its ``index``."""
    (folder / "images").mkdir()
    for number in range(count):
        (folder / "images" / f"{number}.jpg").write_bytes(encoded(picture(number), "JPEG", 6 if number == 1 else 1))
    write_tiny_embedder(folder / "tiny.onnx")
    embedder = Embedder.load(folder / "tiny.onnx")
    extract(find_images(folder / "images"), embedder, folder / "store", ExtractOptions(dtype="float32"))
    build_index(DescriptorStore.open(folder / "store"), folder / "index")
    return folder


def asked(folder: Path, *, keys: Keys | None = None, limits: Limits | None = None, **more: Any) -> TestClient:
    """A client of a service in this process."""
    request = ServeRequest(model=folder / "tiny.onnx", limits=limits or Limits(), **more)
    return TestClient(make_app(Service.open(request), keys), base_url=HERE, raise_server_exceptions=False)  # type: ignore[arg-type]


def refused(answer: Any, status: int, *parts: str) -> None:
    """An answer is an error of one line."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    (key,) = answer.json()
    assert key == "error"
    why = answer.json()["error"]
    assert why.isprintable()
    for part in parts:
        assert part in why, why
