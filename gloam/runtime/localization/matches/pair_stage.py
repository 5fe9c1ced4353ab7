"""Features of images and matches of pairs of them, each computed once and kept by content, in memory of stated size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gloam.data.images import stored_size
from gloam.data.npz import read_npz, write_npz
from gloam.data.scene import Camera, Scene
from gloam.errors import DataError, ImageError
from gloam.runtime.localization.features.sources import FeatureSource, from_arrays, to_arrays
from gloam.runtime.localization.features.stored import StoredFeatures
from gloam.runtime.localization.matches.lru import Lru, give_back_memory
from gloam.runtime.localization.matches.stored import StoredMatches
from gloam.runtime.models.local_features import LocalFeatures
from gloam.runtime.models.matcher import FeatureMatcher, Matched, Matcher

KEY = "key"  # of what is kept, inside its file, so that a file under another's name is not taken for it
MARGIN = 1.0  # pixels that a refined keypoint may lie beyond the frame
MEMORY = 1 << 30  # bytes of features and matches that are held at once
OVERHEAD = 1000  # bytes that Python takes to hold a few arrays under a key, about; verified matches have often fewer
BLOCK = 1024  # pairs, or other tasks, that are handed to a pool at once

Arrays = dict[str, npt.NDArray[Any]]
Pair = tuple[str, str]
Task = TypeVar("Task")
Found = TypeVar("Found")


class PairStage(ABC):
    """Base of what matches pairs: a subclass says what is kept of a pair, and by which key.

    Attributes:
        source: where features come from.
        cache: folder for results; None keeps them in memory alone, all of them.
        rule: by which two images' features are matched, or their matches.
        memory: bytes of features and matches that are held at once, where there is a cache to read them from again.
        stage, kept: the folder of pairs in the cache, and the names of a pair's arrays.
    """

    source: FeatureSource
    cache: Path | None
    rule: FeatureMatcher | StoredMatches
    memory: int
    _held: Lru[Any]
    stage = "matches"
    kept: tuple[str, ...] = ("matches",)

    def _begin(self) -> None:
        self._keys: dict[str, str] = {}
        self._cameras: dict[str, Camera] = {}
        self.forget()
        self._turn: AbstractContextManager[object] = nullcontext()
        self._batch = 1
        if isinstance(self.rule, Matcher):
            # A network's session spreads a batch over its own threads: one batch at a time, others verify meanwhile.
            self._turn = Lock()
            self._batch = self.rule.batch_size * self.rule.backend.runs_at_once

    @property
    def batch(self) -> int:
        """Pairs that are matched at once."""
        return self._batch

    @property
    def bytes(self) -> int:
        """Of all that is held."""
        return self._held.bytes

    def forget(self) -> None:
        """Hold nothing any more: what is asked for is read again."""
        self._held = Lru(None if self.cache is None else self.memory)

    @contextmanager
    def holding_nothing(self) -> Iterator[None]:
        """While the block lasts, memory is left to others: what can be read from the disk again is not held."""
        if self.cache is None:
            yield
            return
        self._held = Lru(0)
        give_back_memory()
        try:
            yield
        finally:
            self.forget()
            give_back_memory()

    @property
    def known(self) -> set[str]:
        """Images whose features have been asked for."""
        return set(self._keys)

    def holds(self, name: str) -> bool:
        """Whether an image's features are in memory."""
        return name in self._held

    @abstractmethod
    def scene_of(self, name: str) -> Scene:
        """The dataset that an image belongs to; a DataError where there is none."""

    @abstractmethod
    def pair_key(self, pair: Pair) -> str:
        """Hash of all that a pair's result depends on."""

    @abstractmethod
    def _result(self, pair: Pair, both: tuple[LocalFeatures, LocalFeatures], found: Matched) -> Arrays:
        """What is kept of a pair: arrays of the names :attr:`kept`."""

    def camera(self, name: str) -> Camera:
        """Intrinsics of an image, whose pixels are as many as they state.

        Features may be stored without their image; then there is no size to compare.

        Raises:
            DataError: no intrinsics, or those of an image of another size.
        """
        if name not in self._cameras:
            scene = self.scene_of(name)
            camera, path = scene.camera(name), scene.image_path(name)
            if path.is_file():
                expect_size(camera, stored_size_of(path), path, scene.files.cameras)
            self._cameras[name] = camera
        return self._cameras[name]

    def key(self, name: str) -> str:
        """Content key of an image's features."""
        if name not in self._keys:
            self._keys[name] = self.source.key(self.scene_of(name), name)
        return self._keys[name]

    def features(self, name: str) -> LocalFeatures:
        """Features of an image; a DataError where they lie beyond its camera's frame."""
        held: LocalFeatures | None = self._held.get(name)
        if held is not None:
            return held
        camera, path = self._frame(name), self._features_path(name)
        try:
            features = from_arrays(_load(path) or {})
        except KeyError:  # never kept, damaged, or by a gloam that kept less
            features = self.source.features(self.scene_of(name), name)
            _save(path, **to_arrays(features))
        if camera is not None:
            scene = self.scene_of(name)
            expect_inside(features.keypoints, camera, f"{scene.root}: image {name!r}", scene.files.cameras)
        self._held.put(name, features, nbytes(to_arrays(features)))
        return features

    def _frame(self, name: str) -> Camera | None:
        """The camera in whose frame an image's keypoints lie."""
        return self.camera(name)

    def match_all(
        self, pairs: Iterable[Pair], pool: ThreadPoolExecutor, done: Callable[[int], object] = lambda count: None
    ) -> None:
        """Match many pairs in threads, block by block; of each its features first, so that none is computed twice.

        Args:
            pairs: of images; order and repeats do not matter.
            pool: of threads.
            done: is told how many pairs are done more, and 0 while features are found.
        """
        wanted = sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
        size = max(BLOCK // self._batch, 1) * self._batch
        for block in (wanted[row : row + size] for row in range(0, len(wanted), size)):
            for _ in pool.map(self.find, sorted({name for pair in block for name in pair})):
                done(0)
            parts = [block[row : row + self._batch] for row in range(0, len(block), self._batch)]
            for part, _ in zip(parts, pool.map(self._match, parts), strict=True):
                done(len(part))

    def find(self, name: str) -> None:
        """Find an image's features, unless they lie on the disk, and what their matches are known by."""
        self._frame(name)
        if not self.has_features(name):
            self.features(name)

    def has_features(self, name: str) -> bool:
        """Whether an image's features lie on the disk, here or as they were stored."""
        self.key(name)
        path = self._features_path(name)
        return isinstance(self.source, StoredFeatures) or (path is not None and path.is_file())

    def has_pair(self, pair: Pair) -> bool:
        """Whether what is kept of a pair, whose names are in order, lies on the disk."""
        path = self._path(self.stage, self.pair_key(pair))
        return path is not None and path.is_file()

    def pair(self, pair: Pair) -> Arrays:
        """What is kept of a pair, whose names are in order."""
        held: Arrays | None = self._held.get(pair)
        return self._match([pair])[0] if held is None else held

    def _match(self, pairs: Sequence[Pair]) -> list[Arrays]:
        """What is kept of pairs, the names of each in order; those that are not are matched."""
        paths = {pair: self._path(self.stage, self.pair_key(pair)) for pair in pairs}
        results: dict[Pair, Arrays] = {}
        for pair, path in paths.items():
            known = self._held.get(pair) or _load(path, *self.kept)
            if known is not None:
                results[pair] = known
        fresh = [pair for pair in pairs if pair not in results]
        features = [(self.features(first), self.features(second)) for first, second in fresh]
        for pair, both, matched in zip(fresh, features, self._found(fresh, features), strict=True):
            results[pair] = self._result(pair, both, matched)
            _save(paths[pair], **results[pair])
        for pair in pairs:
            self._held.put(pair, results[pair], nbytes(results[pair]))
        return [results[pair] for pair in pairs]

    def _found(self, pairs: Sequence[Pair], features: Sequence[tuple[LocalFeatures, LocalFeatures]]) -> list[Matched]:
        if isinstance(self.rule, StoredMatches):
            return [self.rule.match(pair, both) for pair, both in zip(pairs, features, strict=True)]
        with self._turn:
            return self.rule.match_pairs(features) if pairs else []

    def _features_path(self, name: str) -> Path | None:
        """Where an image's features are kept; those that are stored already are not kept again."""
        return None if isinstance(self.source, StoredFeatures) else self._path("features", self.key(name))

    def _path(self, stage: str, key: str) -> Path | None:
        return None if self.cache is None else self.cache / stage / key[:2] / f"{key}.npz"


def mapped(pool: ThreadPoolExecutor, work: Callable[[Task], Found], tasks: Sequence[Task]) -> Iterator[Found]:
    """``work`` on every task, results in order; a pool alone would take in all tasks at once, a kilobyte each."""
    for row in range(0, len(tasks), BLOCK):
        yield from pool.map(work, tasks[row : row + BLOCK])


def nbytes(arrays: Arrays) -> int:
    """Bytes of arrays in memory, and of what holds them."""
    return sum(values.nbytes for values in arrays.values()) + OVERHEAD


def stored_size_of(path: Path) -> tuple[int, int]:
    """Width and height of the pixels that an image file stores; a DataError where it cannot be read."""
    try:
        return stored_size(path)
    except ImageError as error:
        raise DataError(f"{path}: {error}; restore the image, or take it out of the dataset") from error


def expect_size(camera: Camera, size: tuple[int, int], path: Path, stated: str = "sensors.txt") -> None:
    """Refuse an image whose stored pixels are not those that its camera's intrinsics describe.

    Args:
        camera: of the image.
        size: width and height as stored, whatever the EXIF orientation.
        path: of the image.
        stated: file that states the camera, for the message.
    """
    if size != (camera.width, camera.height):
        raise DataError(
            f"{path}: the image is {size[0]}x{size[1]} but its camera in {stated} is "
            f"{camera.width}x{camera.height}; give the image at that size, or its own intrinsics"
        )


def expect_inside(keypoints: npt.NDArray[np.float32], camera: Camera, where: str, stated: str = "sensors.txt") -> None:
    """Refuse keypoints beyond their camera's frame: they were found in a turned or enlarged copy of the image.

    Args:
        keypoints: ``[n, 2]``, pixels.
        camera: of the image.
        where: dataset and image, for the message.
        stated: file that states the camera, for the message.
    """
    beyond = np.maximum(-keypoints, keypoints - np.array([camera.width, camera.height])).max(axis=1, initial=0.0)
    if len(beyond) and not beyond.max() <= MARGIN:
        x, y = keypoints[np.argmax(beyond)]
        raise DataError(
            f"{where}: a keypoint at ({x:g}, {y:g}) lies outside its camera's {camera.width}x{camera.height} in "
            f"{stated}; extract the features from the pixels as stored, without turning or resizing"
        )


def _load(path: Path | None, *names: str) -> dict[str, npt.NDArray[Any]] | None:
    """Arrays that were kept, those named or whichever; None where there are none, or they are damaged or another's:
    computed again."""
    if path is None or not path.is_file():
        return None
    try:
        stored = read_npz(path)
    except (OSError, ValueError):
        return None
    own = KEY in stored and str(stored.pop(KEY)) == path.stem
    return stored if own and (not names or stored.keys() == set(names)) else None


def _save(path: Path | None, **arrays: npt.NDArray[Any]) -> None:
    if path is not None:
        write_npz(path, {**arrays, KEY: np.array(path.stem)})
