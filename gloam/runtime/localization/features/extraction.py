"""Local features of a kapture dataset by an exported model, as kapture's or hloc's files: bulk, resumed by content.

In kapture's files keypoints are at the intrinsics' own pixel origin, as its readers take them, in hloc's at 0. An image
is done where its files are those that the record beside them states; what makes the features exist for a reader comes
last: the ``.txt`` files of a kapture type, hloc's whole file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from gloam.data.hloc_io import SUFFIXES, HlocFeatureFile, ImageFeatures, write_hloc_features
from gloam.data.kapture_io import EXTENSIONS, HEADER, read_scene
from gloam.data.npz import read_npz, write_npz
from gloam.data.scene import Scene
from gloam.errors import DataError, IncompatibleError, StoreError, UsageError
from gloam.files import (
    canonical_json,
    inside,
    read_sealed,
    sealed_json,
    sha256_bytes,
    sha256_file,
    write_bytes,
    write_text,
)
from gloam.heartbeat import progress_bar
from gloam.model_card import InputRule, Photometric
from gloam.runtime.backends.placement import Placement
from gloam.runtime.localization.features.sources import ModelFeatures
from gloam.runtime.models.local_features import LocalFeatures
from gloam.runtime.output_folder import failures_csv

RECORD = "gloam.json"  # beside the keypoints: whose they are, and the files of every image
FAILURES = "failures.csv"
PART = 64  # images, after which the record is written: as many may be done again after a kill


@dataclass(frozen=True)
class FeaturesRequest:
    """What to extract, and how.

    Attributes:
        dataset: kapture dataset with images.
        model: exported model of local features.
        output: kapture dataset to write into, the one that is read by default; or hloc's ``.h5`` file.
        format: ``kapture`` or ``hloc``; by the output's name where None.
        feature_type: kapture's name for the features; the network's by default, by which matchers know them.
        max_keypoints: strongest kept per image; as many as the model gives by default.
        photometric: normalisation of the light, instead of the model's own.
        pixel_origin: where the intrinsics have the centre of the first pixel, see :meth:`ModelFeatures.load`.
        workers: threads that read images; all cores by default. Changes no result.
        placement: where and how the model runs.

    Raises:
        UsageError: fewer than one keypoint, or what does not go with the format.
    """

    dataset: Path
    model: Path
    output: Path | None = None
    format: Literal["kapture", "hloc"] | None = None
    feature_type: str | None = None
    max_keypoints: int | None = None
    photometric: Literal["none", "clahe"] | None = None
    pixel_origin: float | None = None
    workers: int | None = None
    placement: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        if self.max_keypoints is not None and self.max_keypoints < 1:
            raise UsageError("--max-keypoints must be 1 or more")
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"--workers {self.workers}: must be 1 or more, or 0 for all cores")
        if self.format == "kapture" and self._named_h5:
            raise UsageError(f"{self.output}: kapture's features are written into a folder, hloc's into {SUFFIXES[0]}")
        if self.format == "hloc" and not self._named_h5:
            raise UsageError(f"--format hloc needs -o, a file that ends in {SUFFIXES[0]}")
        if self.hloc and self.feature_type is not None:
            raise UsageError("--feature-type is kapture's; hloc's file has no types")
        if self.hloc and self.pixel_origin:
            raise UsageError("--pixel-origin is kapture's; hloc's keypoints have the centre of the first pixel at 0")

    @property
    def hloc(self) -> bool:
        """Whether hloc's file is written."""
        return self._named_h5 if self.format is None else self.format == "hloc"

    @property
    def _named_h5(self) -> bool:
        return self.output is not None and self.output.suffix in SUFFIXES


@dataclass(frozen=True)
class FeaturesSummary:
    """How it came out: images by what became of them, and where the features are; ``reasons`` of those that failed."""

    output: Path
    reasons: Path
    feature_type: str
    extracted: int
    kept: int
    failed: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "output": str(self.output), "reasons": str(self.reasons)}

    def __str__(self) -> str:
        lines = [
            f"{self.extracted} images extracted, {self.kept} kept, {self.failed} failed, {self.seconds:.1f} s: "
            f"features '{self.feature_type}' in {self.output}"
        ]
        if self.failed:
            lines.append(f"reasons: {self.reasons}")
        return "\n".join(lines)


def extract_features(request: FeaturesRequest, progress: bool = True) -> FeaturesSummary:
    """Extract local features of every image of a dataset; the same call carries on where an earlier one stopped.

    Images that changed are extracted again, as are files that were damaged; an image that cannot be read is a row of
    ``failures.csv`` and has no files.

    Args:
        request: the dataset, the model and where to.
        progress: say how far it is, on stderr.

    Raises:
        DataError: no kapture dataset.
        IncompatibleError: features of another model, or other options, are there.
        ModelError: a model that cannot be read, or without keypoints.
        StoreError: a file cannot be written.
    """
    clock = time.perf_counter()
    scene = read_scene(request.dataset)
    source = ModelFeatures.load(
        request.model,
        scene.cameras.values(),
        request.placement,
        max_keypoints=request.max_keypoints,
        photometric=Photometric(request.photometric) if request.photometric else None,
        origin=0.0 if request.hloc else request.pixel_origin,
    )
    kind = request.feature_type or source.gives.name
    output = request.output or request.dataset
    files: FeatureFiles = HlocFile(output, source) if request.hloc else KaptureFiles(output, kind, source)
    files.keep(scene.records)
    extracted, failures = 0, []
    with (
        ThreadPoolExecutor(request.workers or len(os.sched_getaffinity(0)), "features") as pool,
        progress_bar(len(scene.records), "extracting features", shown=progress) as bar,
    ):
        for part in _parts(scene):
            found = pool.map(lambda name: _one(scene, source, files, name), part)
            for name, (made, problem) in zip(part, found, strict=True):
                bar.update(1)
                extracted += made
                if problem is not None:
                    files.remove(name)
                    failures.append((name, problem))
            files.note()
    files.finish(failures)
    kept = len(scene.records) - extracted - len(failures)
    return FeaturesSummary(output, files.reasons, kind, extracted, kept, len(failures), time.perf_counter() - clock)


class FeatureFiles(Protocol):
    """Where features are written, image by image.

    Attributes:
        reasons: table of the images that failed.
    """

    reasons: Path

    def keep(self, names: Container[str]) -> None:
        """Remove what is there of other images."""
        ...

    def holds(self, name: str, key: str) -> bool:
        """Whether an image's features are there, undamaged, by that key."""
        ...

    def write(self, name: str, key: str, features: LocalFeatures) -> None:
        """Write an image's features."""
        ...

    def remove(self, name: str) -> None:
        """Remove an image's features, if there are any."""
        ...

    def note(self) -> None:
        """Make sure that what is written is found again."""
        ...

    def finish(self, failures: Sequence[tuple[str, str]]) -> None:
        """Let the features exist for a reader."""
        ...


class KaptureFiles:
    """A type of keypoints and descriptors of a kapture dataset.

    Args:
        root: of the dataset.
        kind: kapture's name of the type.
        source: of the features.

    Raises:
        IncompatibleError: features of another model, or other options, are there.
    """

    def __init__(self, root: Path, kind: str, source: ModelFeatures) -> None:
        folders = {what: inside(root / "reconstruction" / what, kind) for what in ("keypoints", "descriptors")}
        self._folders, self._kind, self._source = folders, kind, source
        self._record = folders["keypoints"] / RECORD
        self.reasons = folders["keypoints"] / FAILURES
        self._rows = self._read_record()  # of every image: the key, and checksums of both files

    def _read_record(self) -> dict[str, list[str]]:
        folder = self._record.parent
        if not folder.is_dir() or not any(folder.iterdir()):
            return {}
        try:
            record = read_sealed(self._record)
            same, rows = record["source"] == _identity(self._source), dict(record["images"])
        except (OSError, ValueError, KeyError, TypeError):
            same, rows = False, {}
        if not same:
            raise IncompatibleError(
                f"{folder}: holds features of another model or other options, or does not say of which; give "
                "--feature-type another name, or remove the folder and that of the descriptors"
            )
        return rows

    def _paths(self, name: str) -> list[Path]:
        return [inside(folder, name + EXTENSIONS[what]) for what, folder in self._folders.items()]

    def keep(self, names: Container[str]) -> None:
        """See :class:`FeatureFiles`."""
        for name in sorted(name for name in self._rows if name not in names):
            self.remove(name)

    def holds(self, name: str, key: str) -> bool:
        """See :class:`FeatureFiles`."""
        row = self._rows.get(name)
        if row is None or row[0] != key:
            return False
        return row[1:] == [sha256_file(path) if path.is_file() else "" for path in self._paths(name)]

    def write(self, name: str, key: str, features: LocalFeatures) -> None:
        """See :class:`FeatureFiles`."""
        contents = [np.asarray(values, "<f4").tobytes() for values in (features.keypoints, features.descriptors)]
        for path, content in zip(self._paths(name), contents, strict=True):
            write_bytes(path, content)
        self._rows[name] = [key, *map(sha256_bytes, contents)]

    def remove(self, name: str) -> None:
        """See :class:`FeatureFiles`."""
        self._rows.pop(name, None)
        for path in self._paths(name):
            path.unlink(missing_ok=True)

    def note(self) -> None:
        """See :class:`FeatureFiles`."""
        write_bytes(self._record, sealed_json({"source": _identity(self._source), "images": self._rows}))

    def finish(self, failures: Sequence[tuple[str, str]]) -> None:
        """See :class:`FeatureFiles`."""
        write_bytes(self.reasons, failures_csv(failures))
        name, dimension = self._source.gives.name, self._source.gives.dimension
        write_text(
            self._folders["descriptors"] / "descriptors.txt",
            f"{HEADER}\n# name, dtype, dsize, keypoints_type, metric_type\n"
            f"{name}, float32, {dimension}, {self._kind}, L2\n",
        )
        write_text(
            self._folders["keypoints"] / "keypoints.txt", f"{HEADER}\n# name, dtype, dsize\n{name}, float32, 2\n"
        )


class HlocFile:
    """hloc's ``feats-*.h5``. What is extracted lies beside it, a file an image, until the whole is written.

    Args:
        path: of the file.
        source: of the features.

    Raises:
        IncompatibleError: another file is there, or one of another model or other options.
    """

    def __init__(self, path: Path, source: ModelFeatures) -> None:
        self._path, self._source = path, source
        self._identity = canonical_json(_identity(source))
        self._fresh = path.with_name(path.name + ".parts")
        self.reasons = path.with_name(f"{path.stem}.{FAILURES}")
        self._keys: dict[str, str] = {}
        self._old: HlocFeatureFile | None = None
        if not path.exists():
            return
        with contextlib.suppress(DataError):
            self._old = HlocFeatureFile(path)
        if self._old is None or self._old.source != self._identity:
            raise IncompatibleError(
                f"{path}: holds features of another model or other options, or does not say of which; give another "
                "file, or remove it"
            )

    def keep(self, names: Container[str]) -> None:
        """See :class:`FeatureFiles`; the whole file is of no other images."""

    def holds(self, name: str, key: str) -> bool:
        """See :class:`FeatureFiles`."""
        if self._read(name, key) is None:
            return False
        self._keys[name] = key
        return True

    def write(self, name: str, key: str, features: LocalFeatures) -> None:
        """See :class:`FeatureFiles`."""
        seen = _reduction(self._source.extractor.input_rule, features.size)
        arrays = (features.keypoints, features.descriptors, features.scores)
        write_npz(self._part(key), dict(zip(ARRAYS, (*arrays, features.size, seen), strict=True)))
        self._keys[name] = key

    def remove(self, name: str) -> None:
        """See :class:`FeatureFiles`."""

    def note(self) -> None:
        """See :class:`FeatureFiles`; every part is there as soon as it is written."""

    def finish(self, failures: Sequence[tuple[str, str]]) -> None:
        """See :class:`FeatureFiles`."""
        write_bytes(self.reasons, failures_csv(failures))
        if not self._keys:
            self._path.unlink(missing_ok=True)
        elif self._fresh.is_dir() or self._old is None or self._old.names() != sorted(self._keys):
            write_hloc_features(self._path, self._source.gives.name, self._identity, self._images())
        if self._old is not None:
            self._old.close()
        shutil.rmtree(self._fresh, ignore_errors=True)

    def _images(self) -> Iterator[tuple[str, ImageFeatures]]:
        for name, key in sorted(self._keys.items()):
            found = self._read(name, key)
            if found is None:
                raise StoreError(f"{self._fresh}: the features of {name!r} are gone; run the same command again")
            yield name, found

    def _read(self, name: str, key: str) -> ImageFeatures | None:
        """An image's features by a key, from its part or from the whole file of before."""
        with contextlib.suppress(OSError, ValueError):
            points, described, scores, size, seen = read_npz(self._part(key), ARRAYS).values()
            return ImageFeatures(points, described, scores, (int(size[0]), int(size[1])), float(seen), key)
        with contextlib.suppress(DataError):
            if self._old is not None and (found := self._old.read(name)).key == key:
                return found
        return None

    def _part(self, key: str) -> Path:
        return self._fresh / key[:2] / f"{key}.npz"


ARRAYS = ("keypoints", "descriptors", "scores", "size", "uncertainty")  # of a part


def _reduction(rule: InputRule, size: tuple[int, int]) -> float:
    """How much smaller a network sees an image of a size."""
    if rule.stretch is not None:
        return sum(whole / seen for whole, seen in zip(size, rule.stretch, strict=True)) / 2
    return max(1.0, max(size) / rule.max_side) if rule.max_side else 1.0


def _parts(scene: Scene) -> Iterator[list[str]]:
    names = scene.names
    yield from (names[row : row + PART] for row in range(0, len(names), PART))


def _identity(source: ModelFeatures) -> list[Any]:
    return [source.gives.name, *source.identity]


def _one(scene: Scene, source: ModelFeatures, files: FeatureFiles, name: str) -> tuple[bool, str | None]:
    """Whether an image was extracted now, and what was wrong where it has no features."""
    try:
        key = source.key(scene, name)
        if files.holds(name, key):
            return False, None
        features = source.features(scene, name)
    except DataError as error:
        return False, str(error)
    files.write(name, key, features)
    return True, None
