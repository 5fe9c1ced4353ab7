"""Local features of a kapture dataset by an exported model, as kapture's files: bulk, resumed by content.

Keypoints are stored at the intrinsics' own pixel origin, as kapture's readers take them. An image is done where its
files are those that the record beside them states; the ``.txt`` files that make a type exist for a reader come last.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gloam.data.kapture_io import EXTENSIONS, HEADER, read_scene
from gloam.data.scene import Scene
from gloam.errors import DataError, IncompatibleError, UsageError
from gloam.files import inside, read_sealed, sealed_json, sha256_bytes, sha256_file, write_bytes, write_text
from gloam.model_card import Photometric
from gloam.runtime.backends.placement import Placement
from gloam.runtime.localization.features import ModelFeatures
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
        output: kapture dataset to write into; the one that is read by default.
        feature_type: kapture's name for the features; the network's by default, by which matchers know them.
        max_keypoints: strongest kept per image; as many as the model gives by default.
        photometric: normalisation of the light, instead of the model's own.
        pixel_origin: where the intrinsics have the centre of the first pixel, see :meth:`ModelFeatures.load`.
        workers: threads that read images; all cores by default. Changes no result.
        placement: where and how the model runs.

    Raises:
        UsageError: fewer than one keypoint.
    """

    dataset: Path
    model: Path
    output: Path | None = None
    feature_type: str | None = None
    max_keypoints: int | None = None
    photometric: Literal["none", "clahe"] | None = None
    pixel_origin: float | None = None
    workers: int | None = None
    placement: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        if self.max_keypoints is not None and self.max_keypoints < 1:
            raise UsageError("--max-keypoints must be 1 or more")


@dataclass(frozen=True)
class FeaturesSummary:
    """How it came out: images by what became of them, and where the features are."""

    output: Path
    feature_type: str
    extracted: int
    kept: int
    failed: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "output": str(self.output)}

    def __str__(self) -> str:
        lines = [
            f"{self.extracted} images extracted, {self.kept} kept, {self.failed} failed, {self.seconds:.1f} s: "
            f"features '{self.feature_type}' in {self.output}"
        ]
        if self.failed:
            lines.append(f"reasons: {_folders(self.output, self.feature_type)['keypoints'] / FAILURES}")
        return "\n".join(lines)


def extract_features(request: FeaturesRequest) -> FeaturesSummary:
    """Extract local features of every image of a dataset; the same call carries on where an earlier one stopped.

    Images that changed are extracted again, as are files that were damaged; an image that cannot be read is a row of
    ``failures.csv`` and has no files.

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
        origin=request.pixel_origin,
    )
    root, kind = request.output or request.dataset, request.feature_type or source.gives.name
    folders = _folders(root, kind)
    rows = _read_record(folders["keypoints"], source)
    for name in sorted(rows.keys() - scene.records.keys()):  # of images that are no longer there
        _remove(folders, rows, name)
    extracted, failures = 0, []
    with ThreadPoolExecutor(request.workers or len(os.sched_getaffinity(0)), "features") as pool:
        for part in _parts(scene):
            found = pool.map(lambda name: _one(scene, source, folders, name, rows.get(name)), part)
            for name, (row, made, problem) in zip(part, found, strict=True):
                if row is None:
                    _remove(folders, rows, name)
                    failures.append((name, problem))
                else:
                    rows[name] = row
                    extracted += made
            write_bytes(folders["keypoints"] / RECORD, sealed_json({"source": _identity(source), "images": rows}))
    write_bytes(folders["keypoints"] / FAILURES, failures_csv(failures))
    name, dimension = source.gives.name, source.gives.dimension
    write_text(
        folders["descriptors"] / "descriptors.txt",
        f"{HEADER}\n# name, dtype, dsize, keypoints_type, metric_type\n{name}, float32, {dimension}, {kind}, L2\n",
    )
    write_text(folders["keypoints"] / "keypoints.txt", f"{HEADER}\n# name, dtype, dsize\n{name}, float32, 2\n")
    kept = len(scene.records) - extracted - len(failures)
    return FeaturesSummary(root, kind, extracted, kept, len(failures), time.perf_counter() - clock)


def _folders(root: Path, kind: str) -> dict[str, Path]:
    return {what: inside(root / "reconstruction" / what, kind) for what in ("keypoints", "descriptors")}


def _parts(scene: Scene) -> Iterator[list[str]]:
    names = scene.names
    yield from (names[row : row + PART] for row in range(0, len(names), PART))


def _identity(source: ModelFeatures) -> list[Any]:
    return [source.gives.name, *source.identity]


def _read_record(folder: Path, source: ModelFeatures) -> dict[str, list[str]]:
    """Key, and checksums of both files, of every image that is done."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return {}
    try:
        record = read_sealed(folder / RECORD)
        same, rows = record["source"] == _identity(source), dict(record["images"])
    except (OSError, ValueError, KeyError, TypeError):
        same, rows = False, {}
    if not same:
        raise IncompatibleError(
            f"{folder}: holds features of another model or other options, or does not say of which; give "
            "--feature-type another name, or remove the folder and that of the descriptors"
        )
    return rows


def _paths(folders: dict[str, Path], name: str) -> list[Path]:
    return [inside(folder, name + EXTENSIONS[what]) for what, folder in folders.items()]


def _remove(folders: dict[str, Path], rows: dict[str, list[str]], name: str) -> None:
    rows.pop(name, None)
    for path in _paths(folders, name):
        path.unlink(missing_ok=True)


def _one(
    scene: Scene, source: ModelFeatures, folders: dict[str, Path], name: str, row: list[str] | None
) -> tuple[list[str] | None, bool, str]:
    """An image's row of the record, whether it was extracted now, and what was wrong where it has none."""
    paths = _paths(folders, name)
    try:
        key = source.key(scene, name)
        if row is not None and row == [key, *(sha256_file(path) if path.is_file() else "" for path in paths)]:
            return row, False, ""
        features = source.features(scene, name)
    except DataError as error:
        return None, False, str(error)
    contents = [np.asarray(values, "<f4").tobytes() for values in (features.keypoints, features.descriptors)]
    for path, content in zip(paths, contents, strict=True):
        write_bytes(path, content)
    return [key, *map(sha256_bytes, contents)], True, ""
