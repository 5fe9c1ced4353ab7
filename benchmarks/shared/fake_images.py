"""Shared by the benchmarks of the pipeline itself: images, a decoder and a model that cost next to nothing.

Not a benchmark of its own.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt

from gloam.model_card import LITERATURE, InputRule, Photometric
from gloam.runtime.backends.facts import BackendFacts

MEMBERS = 10_000  # images per tar
DIMENSION = 16
SHAPES = ((32, 48), (48, 32), (40, 40))


def write_tars(folder: Path, count: int) -> None:
    """Tars of ``count`` fake images in all: 64 random bytes each, of which the fake decoder makes pixels."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for start in range(0, count, MEMBERS):
        size = min(MEMBERS, count - start)
        contents = rng.bytes(64 * size)
        with tarfile.open(folder / f"part-{start // MEMBERS:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for row in range(size):
                member = tarfile.TarInfo(f"camera{row % 7}/{start + row:09d}.jpg")
                member.size = 64
                tar.addfile(member, io.BytesIO(contents[64 * row : 64 * row + 64]))


def fake_decode(content: bytes, **_: object) -> npt.NDArray[np.uint8]:
    """uint8 ``[H, W, 3]`` of one of three shapes; the bytes stand in its first row."""
    height, width = SHAPES[content[0] % len(SHAPES)]
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[0, :21] = np.frombuffer(content, np.uint8, 63).reshape(21, 3)
    return pixels


class FakeEmbedder:
    """What the pipeline asks of an embedder; a descriptor is the image's first bytes."""

    space = fingerprint = "0" * 64
    dimension = DIMENSION
    batch_size = 16
    translator = translated_by = None
    input_rule = LITERATURE
    card = SimpleNamespace(name="fake", metric="cosine", photometric=Photometric(), resize=None)
    session = SimpleNamespace(backend=BackendFacts("none", ("none",), "fp32", threads=1))

    def reading(self, rule: InputRule) -> FakeEmbedder:
        assert rule == self.input_rule
        return self

    def shape_for(self, image: npt.NDArray[np.uint8]) -> tuple[int, int]:
        return image.shape[0], image.shape[1]

    def prepare(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return image

    def run_batch(self, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        return np.stack([image[0, :DIMENSION, 0] for image in images]).astype(np.float32)
