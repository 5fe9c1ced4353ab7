"""CLAHE on three routes: OpenCV on the host, an independent numpy twin, and the tensor operations that are exported."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch

from gloam.data.photometric import clahe
from gloam.errors import UsageError
from gloam.export.graph import batch_axis, side_axis, trace
from gloam.networks.clahe import ONE, ClaheLayer

SIZES = ((32, 32), (33, 40), (272, 362), (97, 131), (64, 250))  # the third is of the papers' training


def picture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth in one half and noise in the other, with black and white areas."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[:, : width // 2] = cv2.GaussianBlur(image[:, : width // 2], (0, 0), 3)
    image[: height // 6], image[-height // 6 :] = 0, 255
    return image


def twin(lightness: npt.NDArray[np.uint8], clip: float, grid: int = 8) -> npt.NDArray[np.uint8]:
    """CLAHE of one channel in plain loops over tiles."""
    height, width = lightness.shape
    below, right = -height % grid, -width % grid
    if below or right:
        below, right = grid - height % grid, grid - width % grid
    padded = np.pad(lightness, ((0, below), (0, right)), mode="reflect")
    rows, columns = padded.shape[0] // grid, padded.shape[1] // grid
    tables = np.empty((grid, grid, 256), np.float32)
    for i in range(grid):
        for j in range(grid):
            counts = np.bincount(padded[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns].ravel(), None, 256)
            limit = max(int(clip * rows * columns / 256), 1)
            share, rest = divmod(int(np.maximum(counts - limit, 0).sum()), 256)
            counts = np.minimum(counts, limit) + share
            if rest:
                counts[:: max(256 // rest, 1)][:rest] += 1
            tables[i, j] = np.rint(counts.cumsum().astype(np.float32) * (np.float32(255) / np.float32(rows * columns)))
    tables = tables.clip(0, 255)
    y = np.arange(height, dtype=np.float32) * (np.float32(1) / np.float32(rows)) - np.float32(0.5)
    x = np.arange(width, dtype=np.float32) * (np.float32(1) / np.float32(columns)) - np.float32(0.5)
    down, across = (y - np.floor(y))[:, None], (x - np.floor(x))[None]
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    corners = [
        tables[np.clip(i + k, 0, grid - 1)[:, None], np.clip(j + m, 0, grid - 1)[None], lightness]
        for k in (0, 1)
        for m in (0, 1)
    ]
    upper = corners[0] * (1 - across) + corners[1] * across
    lower = corners[2] * (1 - across) + corners[3] * across
    equalised: npt.NDArray[np.uint8] = np.rint(upper * (1 - down) + lower * down).clip(0, 255).astype(np.uint8)
    return equalised


@pytest.mark.parametrize("clip", [0.02, 1.0, 1.1, 2.0, 40.0])
@pytest.mark.parametrize("size", SIZES)
def test_equalisation_is_opencvs_bit_by_bit(size: tuple[int, int], clip: float) -> None:
    lightness = picture(*size)[..., 0]
    expected = cv2.createCLAHE(clip, (8, 8)).apply(lightness)
    assert np.array_equal(twin(lightness, clip), expected)
    height, width = torch.tensor([[float(side)] for side in size])
    found = ClaheLayer(clip).equalise(torch.from_numpy(lightness)[None].long(), height, width)[0].numpy()
    assert np.array_equal(found, expected)


def test_lab_is_opencvs_for_a_large_sample_of_colours() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (200, 1000, 3), dtype=np.uint8)
    colours[0, :256] = np.arange(256)[:, None]
    expected = cv2.cvtColor(colours.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    scale, shift = np.array((100, 256, 256), np.float32), np.array((0, 128, 128), np.float32)
    found = ClaheLayer().to_lab(torch.from_numpy(colours)[None])[:, 0].numpy().transpose(1, 2, 0)
    assert np.array_equal(found * np.float32(1 / ONE) * scale - shift, expected)


@pytest.mark.parametrize("size", SIZES)
def test_rgb_is_the_hosts_but_for_rare_roundings(size: tuple[int, int]) -> None:
    image = picture(*size)
    difference = np.abs(ClaheLayer()(torch.from_numpy(image)[None])[0].numpy() - clahe(image))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_a_padded_batch_gives_what_single_images_give() -> None:
    sizes = ((97, 131), (128, 160), (64, 50))
    images = [picture(*size, seed=seed) for seed, size in enumerate(sizes)]
    batch = np.full((3, 128, 160, 3), 255, np.uint8)
    for row, image in enumerate(images):
        batch[row, : image.shape[0], : image.shape[1]] = image
    module = ClaheLayer()
    found = module(torch.from_numpy(batch), torch.tensor(sizes, dtype=torch.int32)).numpy()
    for row, image in enumerate(images):
        alone = module(torch.from_numpy(image)[None])[0].numpy()
        assert np.array_equal(found[row, : image.shape[0], : image.shape[1]], alone)


def test_the_exported_graph_agrees_at_any_batch_and_size() -> None:
    module = ClaheLayer()
    batch = batch_axis(8)
    shapes = {
        "images": {0: batch, 1: side_axis("height", minimum=32), 2: side_axis("width", minimum=32)},
        "sizes": {0: batch},
    }
    example = (torch.zeros((2, 97, 131, 3), dtype=torch.uint8), torch.tensor([[97, 131], [60, 70]]).int())
    proto = trace(module, example, shapes, "images_out", "clahe")
    assert not {"Loop", "If", "NonZero", "Unique"} & {node.op_type for node in proto.graph.node}
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for count, height, width in ((1, 33, 40), (3, 272, 362)):
        images = np.stack([picture(height, width, seed) for seed in range(count)])
        sizes = np.array([(height - row, width - 3 * row) for row in range(count)], np.int32)
        found = session.run(None, {"images": images, "sizes": sizes})[0]
        for row, (high, wide) in enumerate(sizes):
            difference = np.abs(found[row, :high, :wide] - clahe(np.ascontiguousarray(images[row, :high, :wide])))
            assert difference.max() <= 1
            assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize(("clip", "grid"), [(0.0, 8), (-1.0, 8), (float("nan"), 8), (1.0, 0)])
def test_a_clip_or_grid_that_means_nothing_is_refused(clip: float, grid: int) -> None:
    with pytest.raises(UsageError, match=r"^CLAHE of clip .* must be in \(0, 256\], the grid >= 1$"):
        ClaheLayer(clip, grid)
