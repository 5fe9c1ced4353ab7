"""Batches of day and night images for translators: a pure function of seed and step, so that a resumed run is exact."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gloam.data.day_night.crops import CentreSquare, Float32, Pad, Transform, create_transform
from gloam.data.day_night.domains import read_domain_folders
from gloam.data.day_night.idx import read_idx_images
from gloam.data.day_night.papers import read_aachen, read_robotcar, read_sfm, read_transient
from gloam.data.day_night.read import (
    Paired,
    Unpaired,
    check_images,
    files_below,
    read_day_night,
    read_folders,
    read_paired_csv,
    read_paired_folders,
    without_small,
)
from gloam.data.sources.items import counts_left_out
from gloam.data.weak_pairs.pair_file import WeakPair, read_pair_file
from gloam.errors import DataError, UsageError
from gloam.files import sha256_json
from gloam.heartbeat import Say
from gloam.training.run_contents import RunContents
from gloam.training.translators.company import Company
from gloam.training.translators.data_config import DOMAIN_KINDS, DataConfig
from gloam.training.translators.image_banks import ArrayBank, Bank, FileBank, hold_out, hold_out_pairs, town_banks

__all__ = ["DataConfig", "DomainBatches", "Places", "Pool", "domain_pools", "open_batches", "stacked"]

Batch = (
    tuple[Tensor, Tensor, list[str]]
    | tuple[Tensor, Tensor, list[str], Tensor]
    | tuple[Tensor, Tensor, list[str], Tensor, Company]
)

NEAR_METRES, NEAR_DEGREES = 7.0, 8.0  # between two images of one place (MDUIT)
WITHOUT_CONTENT = ("root", "day", "night", "test_day", "test_night", "check", "cache_mb", "workers")
PADDING = ("pad", "padded_study")  # transforms that enlarge no image but by a border
DRAW = 707  # keeps these random numbers apart from others of the same seed


class DomainBatches:
    """Endless batches of two domains.

    Attributes:
        steps_per_epoch: optimiser steps in an epoch.
        identity: JSON-ready: what data this is, without where it lies.
    """

    def __init__(self, config: DataConfig, train: Pool, held_out: Pool, batch: int, seed: int) -> None:
        self.config, self.batch_size, self.seed = config, batch, seed
        self._train, self._held_out = train, held_out
        self._transform = config.make_transform()
        self._plain = create_transform("square", config.size, flip=False)
        count = config.images_per_epoch or train.items
        self.steps_per_epoch = max(count // batch, 1)
        self.identity: dict[str, Any] = {
            "data": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in vars(config).items()
                if name not in WITHOUT_CONTENT
            },
            "train": train.identity(),
            "held_out": held_out.identity(),
            "batch": batch,
            "seed": seed,
        }
        self._ahead: dict[tuple[int, int, int], Future[Batch]] = {}
        self._decoders = ThreadPoolExecutor(config.workers, "decode") if config.workers else None
        self._next = ThreadPoolExecutor(1, "next-batch") if config.workers else None

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The images of one optimiser step; nothing but (seed, step) decides them.

        Args:
            step: 0-based, over all epochs.
            rank, world: which part of the global batch, out of how many equal ones.

        Returns:
            day and night, float32 ``[B / world, C, H, W]`` in [-1, 1], and the names of all their images, day first. Of
            many domains source and target, their names, and int64 ``[B / world, 2]``, the domains of both; then their
            company, where a trainer asks for it.

        Raises:
            UsageError: the batch cannot be cut into ``world`` equal parts.
            DataError: an image became unreadable, or the images of the batch differ in shape.
        """
        if self.batch_size % world or not 0 <= rank < world:
            raise UsageError(f"batch {self.batch_size} cannot be cut into {world} equal parts; choose a multiple")
        waiting = self._ahead.pop((step, rank, world), None)
        result = waiting.result() if waiting is not None else self._make(step, rank, world)
        if self._next is not None:
            self._ahead = {(step + 1, rank, world): self._next.submit(self._make, step + 1, rank, world)}
        return result

    def held_out(self, count: int) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
        """The first ``count`` (or all, where there are fewer) images of each domain that are never trained on.

        Returns:
            day and night, float32 ``[n, C, size, size]`` in [-1, 1]: the middle of each image. Pairs where the data
            are pairs; of many domains also int64 ``[n, 2]``, the domains of both.

        Raises:
            UsageError: nothing is held out.
        """
        pool = self._held_out
        count = min(count, pool.items if pool.pairs is not None else min(len(pool.day), len(pool.night)))
        if count < 1:
            raise UsageError("no images are held out; raise held_out_share or name held_out_groups")
        pairs = pool.pairs[:count] if pool.pairs is not None else np.stack([np.arange(count)] * 2, axis=1)
        first, second = self._middles(pairs)
        return (first, second) if pool.labels is None else (first, second, torch.from_numpy(pool.labels[pairs]))

    def whole_test(self, chunk: int) -> Iterator[tuple[Tensor, Tensor, int, int]]:
        """All images of both domains that are never trained on, each once.

        Args:
            chunk: images of each domain at a time.

        Returns:
            day and night as :meth:`held_out` gives them, and how many of each, the first ones, are new: the smaller
            domain is gone through again beside the rest of the larger one.

        Raises:
            UsageError: nothing is held out of a domain, or the images are pairs.
        """
        pool = self._held_out
        sizes = len(pool.day), len(pool.night)
        if pool.pairs is not None or not min(sizes):
            raise UsageError(
                "score_all needs unpaired test images of two domains; name test_day and test_night, or a share"
            )
        for start in range(0, max(sizes), chunk):
            rows = np.arange(start, min(start + chunk, max(sizes)))
            days, nights = (int(np.clip(size - start, 0, len(rows))) for size in sizes)
            first, second = self._middles(np.stack([rows % size for size in sizes], axis=1))
            yield first, second, days, nights

    def _middles(self, pairs: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """The middle of held-out images, as training's transform would show all of an image."""
        middle: Transform = CentreSquare(self.config.size)
        if self.config.transform in PADDING:
            middle = Pad(self.config.size)
        random, pool = np.random.default_rng(0), self._held_out  # these transforms draw nothing
        images = [middle(pool.day.image(int(d)), pool.night.image(int(n)), random) for d, n in pairs]
        return stacked([pair[0] for pair in images], []), stacked([pair[1] for pair in images], [])

    def of_domain(self, label: int, count: int) -> list[Tensor]:
        """The middle of up to ``count`` training images of a domain, spread evenly; day and night are domains 0 and 1.

        Returns:
            float32 ``[1, C, size, size]`` each.
        """
        pool = self._train
        if pool.labels is None or pool.places is None:
            bank = pool.night if label else pool.day
            rows = np.arange(len(bank))
        else:
            bank, rows = pool.day, pool.places.rows[pool.labels[pool.places.rows] == label]
        middle, unused = CentreSquare(self.config.size), np.random.default_rng(0)
        images = (bank.image(int(row)) for row in rows[:: max(-(-len(rows) // count), 1)])
        return [stacked([middle(image, image, unused)[0]], []) for image in images]

    def _make(self, step: int, rank: int, world: int) -> Batch:
        share = self.batch_size // world
        rows = range(rank * share, (rank + 1) * share)
        run: Callable[..., Any] = map if self._decoders is None else self._decoders.map
        items = list(run(lambda row: self._item(step, row), rows))
        names = [item[2] for item in items] + [item[3] for item in items]
        first, second = stacked([item[0] for item in items], names), stacked([item[1] for item in items], names)
        labels = [item[4] for item in items if item[4] is not None]
        return (first, second, names, torch.tensor(labels)) if labels else (first, second, names)

    def _item(self, step: int, row: int) -> tuple[Float32, Float32, str, str, tuple[int, int] | None]:
        """One row of the global batch, from (seed, step, row) alone."""
        random = np.random.default_rng([self.seed, DRAW, step, row])
        pool = self._train
        if pool.pairs is not None:
            day, night = (int(index) for index in pool.pairs[random.integers(len(pool.pairs))])
            if pool.labels is not None and random.random() < 0.5:  # either is the source
                day, night = night, day
        else:
            day, night = int(random.integers(len(pool.day))), int(random.integers(len(pool.night)))
        plain = 0 < self.config.plain_from_epoch <= step // self.steps_per_epoch
        names = pool.day.names[day], pool.night.names[night]
        images = pool.day.image(day), pool.night.image(night)
        try:
            first, second = (self._plain if plain else self._transform)(*images, random)
        except DataError as error:
            raise DataError(f"{names[0]} and {names[1]}: {error}") from error
        labels = None if pool.labels is None else (int(pool.labels[day]), int(pool.labels[night]))
        return first, second, *names, labels


@dataclass(frozen=True)
class Places:
    """What is known of where the images of many domains were taken.

    Attributes:
        rows: of the images to train on, also of those without a partner, int64 ``[n]``.
        pairs: rows of two images of one place, int64 ``[k, 2]``.
        positions: of all images, metres ``[m, 3]``; NaN where unknown.
    """

    rows: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]
    positions: npt.NDArray[np.float64]

    def identity(self) -> dict[str, Any]:
        """What this is."""
        where = np.nan_to_num(self.positions, nan=-1e9).tolist()
        return {"trained_on": sha256_json(self.rows.tolist()), "places": sha256_json([self.pairs.tolist(), where])}


@dataclass(frozen=True)
class Pool:
    """The images of two domains, and the pairs among them where they are pairs: int64 ``[n, 2]``.

    Of many domains both banks are one that holds all images, and ``labels`` int64 ``[m]`` are their domains; a pool to
    train on knows their ``places``.
    """

    day: Bank
    night: Bank
    pairs: npt.NDArray[np.int64] | None = None
    labels: npt.NDArray[np.int64] | None = None
    places: Places | None = None

    @property
    def items(self) -> int:
        """Pairs, or images of the larger domain."""
        return len(self.pairs) if self.pairs is not None else max(len(self.day), len(self.night))

    def identity(self) -> dict[str, Any]:
        """What images these are."""
        if self.labels is None or self.pairs is None:
            return {"day": self.day.identity(), "night": self.night.identity(), "items": self.items}
        table = sha256_json([self.pairs.tolist(), self.labels.tolist()])
        return {"images": self.day.identity(), "items": self.items, "pairs": table}


def open_batches(
    config: DataConfig,
    batch: int,
    seed: int,
    folder: Path | None = None,
    contents: RunContents | None = None,
    say: Say | None = None,
    domains: Sequence[str] = (),
) -> DomainBatches:
    """Find, check and split the images, or render them.

    Args:
        batch: images of each domain per optimiser step, over all processes.
        seed: of sampling and crops.
        folder: where rendered town views are kept; None renders them at every call.
        contents: of the run, by which images in files are known again.
        say: gets a line where folders hold more than images.
        domains: names of a trainer's, in the order of its labels, for kinds of many domains.

    Raises:
        UsageError: an impossible batch or seed.
        DataError: absent, unreadable or too small images; the first are named.
        StoreError: ``folder`` cannot be written.
    """
    if batch < 1 or seed < 0:
        raise UsageError(f"batch {batch} and seed {seed}: at least 1 and 0")
    if config.kind in ("town", "town_paired"):
        pools = [_town_pool(config, seeds, views, folder) for seeds, views in _streets(config)]
    elif config.kind == "idx":
        pools = _idx_pools(config)
    elif config.kind in DOMAIN_KINDS:
        pools = domain_pools(config, domains, contents or RunContents())
    else:
        pools = _file_pools(config, contents or RunContents(), say)
    return DomainBatches(config, pools[0], pools[1], batch, seed)


def _streets(config: DataConfig) -> tuple[tuple[tuple[int, ...], int], tuple[tuple[int, ...], int]]:
    return (config.seeds, config.views), ((config.held_out_seed,), config.held_out_views)


def _town_pool(config: DataConfig, seeds: tuple[int, ...], views: int, folder: Path | None) -> Pool:
    # As much larger than the crop as the smallest scale asks for, so that no view is ever enlarged.
    height = round(config.size / config.scale[0]) if config.transform == "scalecrop" else config.size
    size = (round(height * 4 / 3), height)
    chosen = (config.day_conditions, config.night_conditions)
    day, night = town_banks(seeds, views, chosen, size, config.channels, config.paired, folder, config.look)
    if not config.paired:
        return Pool(day, night)
    pairs = [
        (first * views + view, second * views + view)
        for street in range(len(seeds))
        for first in range(street * len(chosen[0]), (street + 1) * len(chosen[0]))
        for second in range(street * len(chosen[1]), (street + 1) * len(chosen[1]))
        for view in range(views)
    ]
    return Pool(day, night, np.array(pairs, np.int64))


def _idx_pools(config: DataConfig) -> list[Pool]:
    banks = []
    for train, test in ((config.day, config.test_day), (config.night, config.test_night)):
        names, images = _idx_images(train)
        if test is not None:
            banks.append([ArrayBank(*part, config.channels) for part in ((names, images), _idx_images(test))])
            continue
        kept, apart = hold_out(names, config.held_out_share)
        banks.append([ArrayBank([names[i] for i in rows], images[rows], config.channels) for rows in (kept, apart)])
    return [Pool(banks[0][part], banks[1][part]) for part in (0, 1)]


def _idx_images(file: str | None) -> tuple[list[str], npt.NDArray[np.uint8]]:
    source = _path(file)
    images = read_idx_images(source)
    return [f"{source.name}[{index}]" for index in range(len(images))], images


def _file_pools(config: DataConfig, contents: RunContents, say: Say | None) -> list[Pool]:
    found, apart = _read(config)
    if config.min_side:
        found = without_small(found, config.min_side)
        apart = None if apart is None else without_small(apart, config.min_side)
    if say is not None and (left := counts_left_out(found.left_out)):
        say(f"{config.root or config.day}: {left}")
    transform = config.make_transform()
    least = max(transform.least_side, 1)
    items = [found.unpaired() if isinstance(found, Paired) else found]
    items += [apart] if apart is not None else []
    if config.check != "none":
        for part in items:
            check_images(
                dict.fromkeys((*part.day, *part.night)),
                part.rows,
                least_side=least,
                max_side=config.max_side or None,
                decode=config.check == "decode",
            )
    room = (config.cache_mb << 20) // 2
    made = partial(
        FileBank,
        channels=config.channels,
        max_side=config.max_side,
        cache=room,
        contents=contents,
        background=config.shown_behind,
    )
    banks = [(made(part.day), made(part.night)) for part in items]
    day, night = banks[0]
    if isinstance(found, Paired):
        index = [{item.path: i for i, item in enumerate(side)} for side in (items[0].day, items[0].night)]
        pairs = np.array([(index[0][day.path], index[1][night.path]) for day, night in found.pairs], np.int64)
        kept, held = hold_out_pairs(pairs, day.names, config.held_out_share)
        return [Pool(day, night, kept), Pool(day, night, held)]
    if apart is not None:
        return [Pool(*pair) for pair in banks]
    days, nights = (hold_out(bank.names, config.held_out_share) for bank in (day, night))
    return [Pool(day.part(days[side]), night.part(nights[side])) for side in (0, 1)]


def domain_pools(config: DataConfig, domains: Sequence[str], contents: RunContents) -> list[Pool]:
    """Pools to train on and to hold out; a place is in one of them alone. Errors are those of :func:`open_batches`."""
    root = _path(config.root) if config.root else None
    if config.kind == "weak_pairs":
        listed = read_pair_file(_path(config.day), domains=domains, images=root)
        rows = {image.item.name: row for row, image in enumerate(listed.images)}
        images = [(image.item, image.label) for image in listed.images]
        positions = [image.position or (math.nan,) * 3 for image in listed.images]
        tests = [row for row, image in enumerate(listed.images) if image.part == "test"]
        near = np.array([_near(pair) for pair in listed.pairs])
        pairs = [(rows[pair.first.item.name], rows[pair.second.item.name]) for pair in listed.pairs]
        apart = np.array([pair.first.part == "test" for pair in listed.pairs])
        if apart.all() or not apart.any():
            lacking = "train" if apart.all() else "test"
            raise DataError(f"{config.day}: holds no pairs of part {lacking!r}; pair again with a test region")
    else:
        found = read_domain_folders(_path(config.root), domains)
        images, pairs = list(found.images), list(found.pairs)
        _, held = hold_out(found.places, config.held_out_share)
        apart = np.isin(found.pair_places, held)
        positions, tests, near = [(math.nan,) * 3] * len(images), [], np.ones(len(pairs), bool)
    if config.check != "none":
        least, most = max(config.make_transform().least_side, 1), config.max_side or None
        check_images([item for item, _ in images], least_side=least, max_side=most, decode=config.check == "decode")
    bank = FileBank(
        [item for item, _ in images],
        config.channels,
        config.max_side,
        config.cache_mb << 20,
        contents,
        config.shown_behind,
    )
    table, labels = np.array(pairs, np.int64), np.array([label for _, label in images], np.int64)
    kept = np.setdiff1d(np.arange(len(images)), [*tests, *table[apart].ravel()])
    places = Places(kept, table[~apart & near], np.array(positions, np.float64))
    return [Pool(bank, bank, table[~apart], labels, places), Pool(bank, bank, table[apart], labels)]


def _near(pair: WeakPair) -> bool:
    """Whether both images show one place; the file's word for it where it states no metres or degrees."""
    return (pair.distance or 0.0) < NEAR_METRES and (pair.angle or 0.0) < NEAR_DEGREES


def _read(config: DataConfig) -> tuple[Unpaired | Paired, Unpaired | None]:
    """The images of a kind of files, and those of other groups that are held out."""
    root = _path(config.root) if config.root else None
    kind, day, night = config.kind, config.day, config.night
    if kind == "folders":
        place = _path(config.root)
        if config.test_day and config.test_night:
            tests = (config.test_day, config.test_night)
            return read_folders(place, config.groups, beside=tests), read_folders(place, config.groups, (tests,))
        apart = read_folders(place, config.held_out_groups) if config.held_out_groups else None
        groups = config.groups
        if not groups and config.held_out_groups and place.is_dir():
            known = {name.split("/")[0] for name in files_below(place, {}) if "/" in name}
            groups = tuple(sorted(known - {*config.held_out_groups}))
        return read_folders(place, groups), apart
    if kind == "lists":
        return read_day_night(_path(day), _path(night), root), None
    if kind == "sfm":
        return read_sfm(_path(day), _path(night), _path(config.root)), None
    if kind == "aachen":
        return read_aachen(_path(config.root), *(str(_path(given)) if given else None for given in (day, night))), None
    if kind == "paired_csv":
        return read_paired_csv(_path(day), root), None
    readers: dict[str, Callable[[Path], Unpaired | Paired]] = {
        "robotcar": read_robotcar,
        "transient": read_transient,
        "paired_folders": read_paired_folders,
    }
    return readers[kind](_path(config.root)), None


def _path(text: str | None) -> Path:
    """A path of a recipe, with variables and ``~`` replaced."""
    expanded = os.path.expandvars(os.path.expanduser(text or ""))
    if unset := re.search(r"\$\{?(\w+)", expanded):
        raise UsageError(f"{text}: the environment variable {unset[1]} is not set")
    return Path(expanded)


def stacked(images: list[Float32], names: list[str]) -> Tensor:
    """One tensor of arrays of one shape.

    Raises:
        DataError: they differ; ``names`` are the images'.
    """
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise DataError(
            f"the images of a batch differ in shape ({', '.join(names[:2])}, ...); use batch 1 or another transform"
        )
    return torch.from_numpy(np.stack(images))
