"""CLAHE on the lightness of Lab as tensor operations: for batches on a device and inside an exported graph.

The host's route is :func:`gloam.data.photometric.clahe`, which is OpenCV. This one computes the same by the same
arithmetic: the way to Lab is OpenCV's own table of 33 x 33 x 33 colours, interpolated in whole numbers; the
equalisation is its reflected border, whole-number clipping and float32 interpolation. Only the way back to RGB is the
analytic formula where OpenCV uses a spline, so a value may be rounded the other way now and then.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gloam.errors import UsageError
from gloam.model_card import Photometric

BINS = 256
# OpenCV's table: colours at every 32nd part of the range, stored in 14 bits, positions between them in 4 bits.
KNOTS, STEPS = 33, 16
ONE = 1 << 14
FRACTION = STEPS**2  # two of three interpolations are exact in these parts of a table's unit
# From XYZ, whose white is (1, 1, 1), to linear RGB: sRGB and D65 of OpenCV.
FROM_XYZ = np.array(
    ((3.240479, -1.53715, -0.498535), (-0.969256, 1.875991, 0.041556), (0.055648, -0.204043, 1.057311)), np.float64
) * np.array((0.950456, 1.0, 1.088754))
LINEAR_L = 903.3 * 0.008856  # below it L is linear in Y
LINEAR_F = 7.787 * 0.008856 + 16 / 116


class ClaheLayer(nn.Module):
    """Contrast-limited adaptive histogram equalisation of L; a and b stay.

    Each image has tiles and histograms of its own valid size, so a padded batch gives what single images give.

    Args:
        clip: OpenCV's clip limit.
        grid: tiles per side.

    Raises:
        UsageError: a clip limit that is not positive, or no tiles.
    """

    padding_exact = True

    def __init__(self, clip: float = 1.0, grid: int = 8) -> None:
        super().__init__()
        if not 0 < clip <= BINS or grid < 1:
            raise UsageError(f"CLAHE of clip {clip:g} and grid {grid}: the clip must be in (0, {BINS}], the grid >= 1")
        self.clip, self.grid = float(clip), int(grid)
        self.register_buffer("_lab", torch.from_numpy(lab_table()), persistent=False)
        self.register_buffer("_from_xyz", torch.tensor(FROM_XYZ, dtype=torch.float32), persistent=False)

    @property
    def photometric(self) -> Photometric:
        """What the card of a graph with this module inside says."""
        return Photometric("clahe", self.clip, self.grid, baked=True)

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Equalise a batch.

        Args:
            images: uint8 ``[B, H, W, 3]`` RGB.
            sizes: valid (h, w), int32 or int64 ``[B, 2]``; None where every pixel is valid.

        Returns:
            float32 ``[B, H, W, 3]`` RGB, whole numbers in 0..255; without meaning beyond the valid size.
        """
        levels = images.to(torch.float32)  # first of all: TensorRT moves no uint8
        if sizes is None:
            zeros = torch.zeros_like(levels[:, 0, 0, 0])
            heights, widths = zeros + images.shape[1], zeros + images.shape[2]
        else:
            heights, widths = sizes[:, 0].to(torch.float32), sizes[:, 1].to(torch.float32)
        lab = self.to_lab(levels)
        lightness = (lab[0] * (100 / ONE) * _float32(255 / 100)).clamp(0, 255).to(torch.int64)
        equalised = self.equalise(lightness, heights, widths) * _float32(100 / 255)
        return (self._to_rgb(equalised, lab[1:] * (256 / ONE) - 128) * 255).round().permute(1, 2, 3, 0)

    def to_lab(self, levels: Tensor) -> Tensor:
        """RGB to Lab as OpenCV's float conversion has it: trilinear in whole numbers.

        float32 holds every number here: none needs more than 24 bits.

        Args:
            levels: whole float32 numbers ``[B, H, W, 3]`` in 0..255.

        Returns:
            whole float32 numbers ``[3, B, H, W]``: L / 100, (a + 128) / 256 and (b + 128) / 256 in 14 bits.
        """
        shape, table = levels.shape[:3], self.get_buffer("_lab")
        channels = levels.permute(3, 0, 1, 2).reshape(3, -1)
        places = _divide((channels / 255 * ONE).round(), ONE // ((KNOTS - 1) * STEPS))
        # At the last knot the cell is the one before it, with all the weight on the knot: the same value.
        knots = _divide(places, STEPS).clamp(max=KNOTS - 2)
        red, green, blue = (places * (1 / STEPS) - knots).unbind(0)
        cells = ((knots[0] * KNOTS + knots[1]) * KNOTS + knots[2]).to(torch.int64).expand(3, -1)

        def at(offset: int) -> Tensor:
            first, following = table.gather(1, cells + offset), table.gather(1, cells + (offset + 1))
            return first + (following - first) * blue

        def on(offset: int) -> Tensor:
            first, following = at(offset), at(offset + KNOTS)
            return first + (following - first) * green

        first, following = on(0), on(KNOTS * KNOTS)
        # The sum of all eight has 26 bits: rounded down to whole 256ths of the table's units before it is formed.
        total = first + ((following - first) * red + FRACTION // 2).floor()
        return (total * (1 / FRACTION)).floor().view(3, *shape)

    def equalise(self, lightness: Tensor, heights: Tensor, widths: Tensor) -> Tensor:
        """OpenCV's CLAHE of one 8-bit channel.

        Args:
            lightness: int64 ``[B, H, W]`` in 0..255.
            heights, widths: valid sizes, whole float32 numbers ``[B]``.

        Returns:
            float32 ``[B, H, W]``, whole numbers in 0..255.
        """
        grid = self.grid
        batch, height, width = lightness.shape
        # Where one side is no multiple of the grid, both are padded, a divisible one by a whole grid.
        padded = (_modulo(heights, grid) + _modulo(widths, grid) > 0).to(torch.float32)
        tile_heights, tile_widths = _divide(heights, grid) + padded, _divide(widths, grid) + padded
        tables = self._tables(lightness, (heights, widths), (tile_heights, tile_widths))
        above, below, down = _neighbours(_positions(height, lightness), tile_heights, grid)
        left, right, across = _neighbours(_positions(width, lightness), tile_widths, grid)
        down, across = down[:, :, None], across[:, None, :]

        def look_up(rows: Tensor, columns: Tensor) -> Tensor:
            cells = (rows[:, :, None] * (grid * BINS) + columns[:, None, :] * BINS) + lightness
            return tables.gather(1, cells.view(batch, -1)).view(batch, height, width)

        upper = look_up(above, left) * (1 - across) + look_up(above, right) * across
        lower = look_up(below, left) * (1 - across) + look_up(below, right) * across
        return (upper * (1 - down) + lower * down).round().clamp(0, 255)

    def _tables(self, lightness: Tensor, sizes: tuple[Tensor, Tensor], tiles: tuple[Tensor, Tensor]) -> Tensor:
        """Each tile's table of new values, float32 ``[B, grid * grid * 256]``, tiles in row order."""
        grid = self.grid
        batch, height, width = lightness.shape
        rows, in_rows = _tile_cells(tiles[0], sizes[0], height, grid)
        columns, in_columns = _tile_cells(tiles[1], sizes[1], width, grid)
        source = rows[:, :, None, :, None] * width + columns[:, None, :, None, :]  # [B, grid, grid, cells, cells]
        counted = in_rows[:, None, None, :, None] & in_columns[:, None, None, None, :]
        values = lightness.view(batch, -1).gather(1, source.view(batch, -1)).view(source.shape)
        own = torch.where(counted, values, BINS).flatten(3)
        if torch.compiler.is_compiling():  # rows one by one would take the exporter half a minute
            histogram = _histograms(own.flatten(1, 2)).view(batch, grid, grid, BINS)
        else:  # the matrices behind a histogram take 128 bytes a pixel
            histogram = torch.stack([_histograms(row) for row in own.unbind(1)], 1)

        area = (tiles[0] * tiles[1])[:, None, None, None]
        limit = (area * (self.clip / BINS)).floor().clamp(min=1)
        excess = (histogram - limit).clamp(min=0).sum(3, keepdim=True)
        share, rest = _divide(excess, BINS), _modulo(excess, BINS)
        step = _divide(torch.full_like(rest, BINS), rest.clamp(min=1))
        bins = _positions(BINS, lightness)
        extra = (_modulo(bins, step) == 0) & (_divide(bins, step) < rest)
        clipped = torch.minimum(histogram, limit) + share + extra.to(torch.float32)
        scale = (
            torch.full_like(area, BINS - 1) / area
        )  # a number over a tensor would be its reciprocal times the number
        return (clipped.cumsum(3) * scale).round().clamp(0, 255).reshape(batch, -1)

    def _to_rgb(self, lightness: Tensor, ab: Tensor) -> Tensor:
        """L in 0..100 ``[B, H, W]`` and a, b ``[2, B, H, W]`` to RGB in [0, 1] ``[3, B, H, W]``."""
        dark = lightness <= LINEAR_L
        f = torch.where(dark, lightness * (7.787 / 903.3) + 16 / 116, (lightness + 16) * (1 / 116))
        y = torch.where(dark, lightness * (1 / 903.3), f * f * f)
        xz = torch.stack((f + ab[0] * (1 / 500), f - ab[1] * (1 / 200)))
        xz = torch.where(xz <= LINEAR_F, (xz - 16 / 116) * (1 / 7.787), xz * xz * xz)
        xyz = torch.stack((xz[0], y, xz[1])).view(3, -1)
        linear = (self.get_buffer("_from_xyz") @ xyz).clamp(0, 1).view(3, *lightness.shape)
        bright = 1.055 * linear.clamp(min=0.0031308).pow(1 / 2.4) - 0.055
        return torch.where(linear <= 0.0031308, 12.92 * linear, bright)


def lab_table() -> npt.NDArray[np.float32]:
    """OpenCV's table from RGB to Lab, read from OpenCV itself.

    Returns:
        float32 ``[3, 33 * 33 * 33]``, red the slowest: L / 100, (a + 128) / 256 and (b + 128) / 256 in 14 bits,
        times 256, all whole numbers.
    """
    knots = np.linspace(0, 1, KNOTS, dtype=np.float32)
    colours = np.stack(np.meshgrid(knots, knots, knots, indexing="ij"), -1)
    lab = cv2.cvtColor(colours.reshape(1, -1, 3), cv2.COLOR_RGB2LAB)[0]
    values = np.rint((lab + np.array((0, 128, 128), np.float32)) * (ONE / np.array((100, 256, 256), np.float32)))
    return np.ascontiguousarray(values.T * FRACTION, np.float32)


def _tile_cells(tiles: Tensor, sizes: Tensor, largest: int, grid: int) -> tuple[Tensor, Tensor]:
    """Positions of every tile's cells along one side, reflected at the valid border, and which of them are its own.

    Args:
        tiles, sizes: cells of a tile and of the image, whole float32 numbers ``[B]``.
        largest: cells of the padded image; a tile has at most ``largest // grid + 1``.

    Returns:
        int64 ``[B, grid, n]``, and bool ``[B, n]``.
    """
    within = _positions(largest // grid + 1, tiles)
    starts = _positions(grid, tiles)[None, :, None] * tiles[:, None, None]
    positions = (starts + within).flatten(1)
    return _reflected(positions, sizes, largest).view(tiles.shape[0], grid, -1), within < tiles[:, None]


def _histograms(values: Tensor) -> Tensor:
    """How often each of 0..255 stands in each row; 256 counts for nothing.

    ``16 h + l`` counts where ``h`` and ``l`` meet: a product of two one-hot matrices, exact in float32 up to 2^24
    values. (Adding by scatter is quicker alone, and TensorRT refuses it.)

    Args:
        values: int64 ``[B, T, N]`` in 0..256.

    Returns:
        float32 ``[B, T, 256]``.
    """
    half = 16
    whole = values.to(torch.float32)
    high = _divide(whole, half)
    digits = _positions(half, values)[:, None]
    first = (high[:, :, None] == digits).to(torch.float32)
    second = ((whole - high * half)[:, :, None] == digits).to(torch.float32)
    return (first @ second.transpose(2, 3)).flatten(2)


def _float32(value: float) -> float:
    return float(np.float32(value))


def _divide(value: Tensor, by: Tensor | int) -> Tensor:
    """Whole division of whole float32 numbers below 2^24, where it is exact; integers would be cast to float and back
    in the exported graph."""
    return (value / by).floor()


def _modulo(value: Tensor, by: Tensor | int) -> Tensor:
    return value - _divide(value, by) * by


def _positions(count: int, like: Tensor) -> Tensor:
    """0, 1, ... float32 ``[count]``."""
    return torch.arange(count, device=like.device).to(torch.float32)


def _reflected(positions: Tensor, sizes: Tensor, largest: int) -> Tensor:
    """Positions ``[B, n]`` beyond each size reflected without repeating the border pixel, int64 ``[B, n]``."""
    last = (sizes - 1)[:, None]
    folded = _modulo(positions, (2 * last).clamp(min=1))
    return torch.minimum(folded, 2 * last - folded).to(torch.int64).clamp(0, largest - 1)


def _neighbours(positions: Tensor, tiles: Tensor, grid: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each position the tiles before and behind it, int64 ``[B, n]``, and the weight of the latter, float32."""
    # One over the tile first, as OpenCV has it: a division would round otherwise.
    place = positions[None] * (1 / tiles)[:, None] - 0.5
    before = place.floor()
    index = before.to(torch.int64)
    return index.clamp(0, grid - 1), (index + 1).clamp(0, grid - 1), place - before
