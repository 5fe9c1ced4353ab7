"""Where batches take their decoded images from: arrays in memory, files through a bounded cache, rendered streets."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.data.sources import ImageItem
from gloam.data.town.config import REVISIONS
from gloam.data.town.unpaired_views import render_unpaired
from gloam.errors import DataError, ImageError
from gloam.files import sha256_bytes, sha256_json
from gloam.training.kept_arrays import read_arrays, write_arrays
from gloam.training.run_contents import RunContents

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


class Bank(Protocol):
    """Images of one domain."""

    names: list[str]

    def __len__(self) -> int:
        """How many."""

    def image(self, index: int) -> Pixels:
        """uint8 ``[H, W, C]``."""

    def part(self, rows: Rows) -> Bank:
        """Some of the images."""

    def identity(self) -> dict[str, Any]:
        """JSON-ready: how many images, and a hash that other images would not have."""


class ArrayBank:
    """Images of one size in memory.

    Args:
        names: of the images.
        images: uint8 ``[n, H, W, c]``, c 1 or 3.
        channels: 1 or 3; converted as they are asked for.
    """

    def __init__(self, names: Sequence[str], images: Pixels, channels: int) -> None:
        self.names, self.images, self.channels = list(names), images, channels

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> Pixels:
        """uint8 ``[H, W, C]``."""
        return with_channels(self.images[index], self.channels)

    def part(self, rows: Rows) -> ArrayBank:
        """Some of the images."""
        return ArrayBank([self.names[row] for row in rows], self.images[rows], self.channels)

    def identity(self) -> dict[str, Any]:
        """Count and hash of all pixels."""
        return {"images": len(self), "sha256": sha256_bytes(np.ascontiguousarray(self.images).tobytes())}


class FileBank:
    """Images in files; decoded ones are kept until ``cache`` bytes are used.

    Args:
        contents: of the run, by which the images are known again.
        background: RGB that shows where a picture is transparent; None drops the transparency.

    Which ones are kept does not change what a batch holds. Once full the cache stays as it is: images are drawn
    uniformly, so no choice of what to drop would hit more often.
    """

    def __init__(
        self,
        items: Sequence[ImageItem],
        channels: int,
        max_side: int,
        cache: int,
        contents: RunContents,
        background: tuple[int, int, int] | None = None,
    ) -> None:
        self.items, self.channels, self.max_side, self.contents = list(items), channels, max_side, contents
        self.background = background
        self.names = [item.name for item in items]
        self._room, self._kept = cache, dict[int, Pixels]()

    def __len__(self) -> int:
        return len(self.items)

    def image(self, index: int) -> Pixels:
        """uint8 ``[H, W, C]``.

        Raises:
            DataError: naming the file.
        """
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        try:
            path, side = self.items[index].path, self.max_side or None
            image = with_channels(decode_image(path, max_side=side, background=self.background), self.channels)
        except ImageError as error:
            raise DataError(f"{self.items[index].path}: {error}") from error
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._kept[index] = image
        return image

    def part(self, rows: Rows) -> FileBank:
        """Some of the images, with what memory is left shared out by their number."""
        share = self._room * len(rows) // max(len(self), 1)
        some = [self.items[row] for row in rows]
        return FileBank(some, self.channels, self.max_side, share, self.contents, self.background)

    def identity(self) -> dict[str, Any]:
        """Count, and hash of names and contents."""
        names = "".join(f"{name}\0" for name in self.names).encode("utf-8", "surrogateescape")
        found = [sha256_bytes(names), self.contents.sha256(item.path for item in self.items)]
        return {"images": len(self), "sha256": sha256_json(found)}


def with_channels(image: Pixels, channels: int) -> Pixels:
    """uint8 ``[H, W, c]`` with 1 or 3 channels as asked for."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)[..., None]


def hold_out(names: Sequence[str], share: float) -> tuple[Rows, Rows]:
    """Rows to train on and rows to hold out, by a hash of the names: at least one of each where ``share`` is not 0.

    Raises:
        DataError: a single image, of which nothing can be held out.
    """
    count = min(math.ceil(share * len(names)), len(names) - 1)
    if share > 0 and count < 1:
        raise DataError(f"{names[0]}: a single image cannot be trained on and held out; set held_out_share to 0")
    order = sorted(range(len(names)), key=lambda row: _hash(names[row]))
    apart = set(order[: max(count, 0)])
    kept = [row for row in range(len(names)) if row not in apart]
    return np.array(kept, np.int64), np.array(sorted(apart), np.int64)


def hold_out_pairs(pairs: Rows, names: Sequence[str], share: float) -> tuple[Rows, Rows]:
    """Pairs to train on and pairs to hold out, int64 ``[n, 2]`` each; no image is in both.

    Pairs that share an image, directly or through others, stay together; whole such groups are held out, in the order
    of a hash, until ``share`` of the pairs is reached.

    Args:
        pairs: indices of day and night images.
        names: of the day images.

    Raises:
        DataError: all pairs are connected.
    """
    parent: dict[tuple[int, int], tuple[int, int]] = {}

    def root(node: tuple[int, int]) -> tuple[int, int]:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for day, night in pairs.tolist():
        parent[root((0, day))] = root((1, night))
    groups: dict[tuple[int, int], list[int]] = {}
    for row, (day, _) in enumerate(pairs.tolist()):
        groups.setdefault(root((0, day)), []).append(row)
    if share <= 0:
        return pairs, pairs[:0]
    if len(groups) < 2:
        raise DataError("all pairs share images with each other; nothing can be held out; set held_out_share to 0")
    ordered = sorted(groups.values(), key=lambda rows: _hash(min(names[int(pairs[row, 0])] for row in rows)))
    apart: list[int] = []
    for rows in ordered[:-1]:
        if len(apart) >= share * len(pairs):
            break
        apart += rows
    chosen = np.zeros(len(pairs), bool)
    chosen[apart] = True
    return pairs[~chosen], pairs[chosen]


def town_banks(
    seeds: Iterable[int],
    views: int,
    conditions: tuple[Sequence[str], Sequence[str]],
    size: tuple[int, int],
    channels: int,
    same_poses: bool,
    folder: Path | None,
    look: int = 1,
) -> tuple[ArrayBank, ArrayBank]:
    """Views of several streets, kept in ``folder`` so that a resumed run does not render again.

    The order in each bank is street, condition, view.

    Args:
        views: per street and condition; size: width and height, pixels.
        conditions: of the first and the second domain.
        same_poses: all conditions of a street from the same poses.
        folder: where views are kept; None keeps none.
        look: of the town.

    Raises:
        StoreError: kept views cannot be read, or new ones not be written.
    """
    names: tuple[list[str], list[str]] = ([], [])
    images: tuple[list[Pixels], list[Pixels]] = ([], [])
    for seed in seeds:
        wanted = list(dict.fromkeys((*conditions[0], *conditions[1])))
        found = _street_views(seed, views, wanted, size, same_poses, folder, look)
        for side in (0, 1):
            for condition in conditions[side]:
                images[side].append(found[condition])
                names[side].extend(f"street{seed}/{condition}-{view:04d}" for view in range(views))
    first, second = (ArrayBank(names[side], np.concatenate(images[side]), channels) for side in (0, 1))
    return first, second


def _street_views(
    seed: int,
    views: int,
    conditions: list[str],
    size: tuple[int, int],
    same_poses: bool,
    folder: Path | None,
    look: int,
) -> dict[str, Pixels]:
    """The views of one street by condition, read where they are kept, rendered where not."""
    paths = {}
    if folder is not None:
        for condition in conditions:
            what = [seed, views, condition, list(size), same_poses, REVISIONS[look], *([] if look == 1 else [look])]
            paths[condition] = folder / f"street-{sha256_json(what)[:16]}.npz"
    kept = {condition: read_arrays(path) for condition, path in paths.items()}
    found = {condition: np.asarray(arrays["images"], np.uint8) for condition, arrays in kept.items() if arrays}
    missing = [condition for condition in conditions if condition not in found]
    if missing:
        rendered = render_unpaired(seed, views, missing, size, same_poses=same_poses, look=look)
        for condition in missing:
            found[condition] = np.stack(rendered[condition])
            if folder is not None:
                write_arrays(paths[condition], {"images": found[condition]})
    return found


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
