"""A map on disk: all that a query is localized by, written once and only read from then on.

``map.json`` states images, models and settings, and a checksum of every array beside it; it is written last, so that a
folder without it holds no map. The arrays are NumPy's ``.npy``, memory-mapped when they are read, of which none holds
Python objects: ``retrieval`` (a descriptor an image), ``points``, and over all images of the map one after the other
``keypoints``, ``scores``, ``descriptors``, ``observed`` and, of features that have them, ``scales`` and
``orientations``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gloam.data.npz import HEADERS
from gloam.data.scene import Camera, Pose
from gloam.errors import StoreError, UsageError
from gloam.files import (
    TEMPORARY_PREFIX,
    atomic_write,
    clear_again,
    read_sealed,
    sealed_json,
    sha256_file,
    write_bytes,
)
from gloam.model_card import FeatureRule, Photometric
from gloam.record import Written, fill_dataclass, to_json
from gloam.runtime.localization.colmap import AbsolutePoseOptions, Triangulation, solver_version
from gloam.runtime.localization.features.sources import ModelFeatures, SiftFeatures, from_arrays, to_arrays
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.models.local_features import LocalFeatures, OrientedFeatures
from gloam.runtime.models.matcher import Matcher
from gloam.runtime.output_folder import remove

SCHEMA = 1
CARD = "map.json"
WHOLE = ("retrieval", "points")  # arrays that are not of keypoints
FLAT = ("size", "name", "origin")  # of features: what is no row a keypoint
AGAIN = "write the map again by `gloam localize --save-map`"


@dataclass(frozen=True)
class EmbedderRecord(Written):
    """What described the map's images.

    Attributes:
        space, fingerprint: of the descriptors.
        options: how images were read and descriptors stored, as the store states it.
    """

    space: str
    fingerprint: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class ExtractorRecord(Written):
    """The model of the map's local features, and how it was used."""

    name: str
    space: str
    fingerprint: str
    strongest: int
    photometric: Photometric
    pixel_origin: float


@dataclass(frozen=True)
class MatcherRecord(Written):
    """The model by which a query is matched."""

    name: str
    space: str
    fingerprint: str
    min_score: float


@dataclass(frozen=True)
class MapImage(Written):
    """An image of the map.

    Attributes:
        name: of the image.
        camera: row of its intrinsics in the card's cameras.
        pose: world to camera.
        keypoints: how many it has; None where it is retrieved, but no part of the triangulated map.
    """

    name: str
    camera: int
    pose: Pose
    keypoints: int | None


@dataclass(frozen=True)
class MapCard(Written):
    """What a map says of itself.

    Attributes:
        embedder: of the retrieval.
        features: of its keypoints.
        sift, extractor: by what they were found; one of the two.
        matcher: by which a query is matched; None for mutual neighbours.
        ratio: of Lowe's test, for mutual neighbours; None without one.
        top_k: images that a query is matched with.
        verify_queries: see :class:`gloam.runtime.localization.maps.mapping.PairMatcher`.
        pose: options of a query's pose.
        seed: of every random choice.
        solver: release of the geometry's solver that made the map.
        reprojection_error: mean, pixels.
        cameras, images: see :class:`MapImage`.
        sha256: of every array's file.
    """

    schema: int
    embedder: EmbedderRecord
    features: FeatureRule
    sift: SiftFeatures | None
    extractor: ExtractorRecord | None
    matcher: MatcherRecord | None
    ratio: float | None
    top_k: int
    verify_queries: bool
    pose: AbsolutePoseOptions
    seed: int
    solver: str
    reprojection_error: float | None
    cameras: tuple[Camera, ...]
    images: tuple[MapImage, ...]
    sha256: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class LocalizationMap:
    """A map that was read.

    Attributes:
        folder: where it is.
        card: what it says of itself.
        arrays: read-only, by name.
    """

    folder: Path
    card: MapCard = field(repr=False)
    arrays: Mapping[str, npt.NDArray[Any]] = field(repr=False)

    @cached_property
    def names(self) -> list[str]:
        """Of all images that are retrieved, in the order of the rows of ``retrieval``."""
        return [image.name for image in self.card.images]

    @cached_property
    def mapped(self) -> dict[str, tuple[Camera, slice]]:
        """Intrinsics, and rows of the keypoints, of every image of the triangulated map."""
        found, start = {}, 0
        for image in self.card.images:
            if image.keypoints is not None:
                found[image.name] = self.card.cameras[image.camera], slice(start, start + image.keypoints)
                start += image.keypoints
        return found

    def features(self, name: str) -> LocalFeatures:
        """Features of an image of the triangulated map."""
        camera, rows = self.mapped[name]
        stated = self.card.features
        flat = {"size": (camera.width, camera.height), "name": stated.name, "origin": stated.origin}
        parts = {what: values[rows] for what, values in self.arrays.items() if what not in WHOLE}
        return from_arrays({what: np.asarray(value) for what, value in {**parts, **flat}.items()})

    def observed(self, name: str) -> npt.NDArray[np.int64]:
        """Point of each keypoint of an image, or -1."""
        rows: npt.NDArray[np.int64] = self.arrays["observed"][self.mapped[name][1]]
        return rows


def nearest_images(
    descriptor: npt.NDArray[np.float32], matrix: npt.NDArray[np.float32], names: Sequence[str], k: int, but: str = ""
) -> list[str]:
    """The k images nearest by cosine, best first; ties go to the earlier one.

    Args:
        descriptor: float32 ``[D]``, unit length.
        matrix: float32 ``[n, D]``, unit rows, of the images.
        names: of the images.
        k: how many, at most.
        but: a name that is left out.
    """
    order = np.argsort(-(matrix @ descriptor), kind="stable")
    return [names[row] for row in order[: k + 1] if names[row] != but][:k]


def write_map(
    folder: Path,
    matcher: PairMatcher,
    world: Triangulation,
    descriptors: npt.NDArray[np.float32],
    embedder: EmbedderRecord,
    top_k: int,
    options: AbsolutePoseOptions,
) -> None:
    """Write a map; one that is there already is replaced.

    Args:
        folder: of the map.
        matcher: of the datasets; its features are SIFT's or a model's.
        world: triangulated from them.
        descriptors: float32 ``[n, D]``, of the mapping images in the order of their names.
        embedder: of the descriptors.
        top_k, options: of a query.

    Raises:
        UsageError: stored features or matches, which no new image has.
        StoreError: the folder holds something else, or cannot be written.
    """
    own = _own_settings(matcher)
    for name in sorted(expect_room(folder), key=lambda name: name != CARD):  # first what makes it a map
        remove(folder / name)
    scene, images = matcher.mapping, []
    cameras: dict[Camera, int] = {}
    for name in scene.names:
        row = cameras.setdefault(scene.camera(name), len(cameras))
        rows = world.observed.get(name)
        images.append(MapImage(name, row, scene.poses[name], None if rows is None else len(rows)))
    members = [image.name for image in images if image.keypoints is not None]
    _write_array(folder, "retrieval", [descriptors])
    _write_array(folder, "points", [world.points])
    _write_array(folder, "observed", [world.observed[name] for name in members])
    written = {"retrieval", "points", "observed", *_write_features(folder, matcher, members, world)}
    card = MapCard(
        SCHEMA,
        embedder,
        **own,
        top_k=top_k,
        verify_queries=matcher.verify_queries,
        pose=options,
        seed=matcher.seed,
        solver=solver_version(),
        reprojection_error=world.mean_error if np.isfinite(world.mean_error) else None,
        cameras=tuple(cameras),
        images=tuple(images),
        sha256={name: sha256_file(_path(folder, name)) for name in sorted(written)},
    )
    write_bytes(folder / CARD, sealed_json(to_json(card)))


def read_map(folder: str | Path, *, trust: bool = False) -> LocalizationMap:
    """Open a map; nothing of it is ever written.

    Args:
        folder: as given to :func:`write_map`.
        trust: leave out the comparison of checksums, which reads every byte and takes about a second a gigabyte.

    Raises:
        StoreError: no map, of another schema, or damaged; the file is named.
    """
    place = Path(folder)
    card = _read_card(place)
    if odd := sorted(_arrays_of(card) ^ set(card.sha256)):
        raise StoreError(f"{place / CARD}: damaged ({odd[0]!r} is stated, or missing); {AGAIN}")
    arrays = {}
    for name, sha256 in card.sha256.items():
        path = _path(place, name)
        try:
            if not trust and sha256_file(path) != sha256:
                raise StoreError(f"{path}: damaged, its checksum differs; {AGAIN}")
            with HEADERS:
                arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise StoreError(f"{path}: is missing; {AGAIN}") from error
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror or error}); {AGAIN}") from error
        except (ValueError, EOFError, SyntaxError) as error:  # numpy's parser of a damaged header
            raise StoreError(f"{path}: damaged; {AGAIN}") from error
    found = LocalizationMap(place, card, arrays)
    _expect_fitting(found)
    return found


def _own_settings(matcher: PairMatcher) -> dict[str, Any]:
    """The card's account of features and matching."""
    source, rule = matcher.source, matcher.rule
    if not isinstance(source, SiftFeatures | ModelFeatures):
        raise UsageError(
            "a map to be saved needs features that a new image can have: --features sift, or an exported model"
        )
    if not isinstance(rule, Matcher | MutualMatcher):
        raise UsageError("a map to be saved needs a matcher that a new image can have: 'mutual', or an exported model")
    extractor = None
    if isinstance(source, ModelFeatures):
        model = source.extractor
        identity = model.card.name, model.space, model.session.fingerprint
        extractor = ExtractorRecord(*identity, model.strongest, model.card.photometric, source.pixel_origin)
    by = None
    if isinstance(rule, Matcher):
        by = MatcherRecord(rule.card.name, rule.card.space(), rule.session.fingerprint, rule.min_score)
    return {
        "features": source.gives,
        "sift": source if isinstance(source, SiftFeatures) else None,
        "extractor": extractor,
        "matcher": by,
        "ratio": rule.ratio if isinstance(rule, MutualMatcher) else None,
    }


def expect_room(folder: Path) -> list[str]:
    """Refuse a folder that holds something else than a map, or what a killed run has left of one.

    Returns:
        the files that are there.

    Raises:
        StoreError: it does, or is a file.
    """
    clear_again(folder)
    try:
        found = [name for name in os.listdir(folder) if not name.startswith(TEMPORARY_PREFIX)]
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise StoreError(f"{folder}: is a file; choose a folder for the map") from error
    if any(Path(name).suffix != ".npy" and name != CARD for name in found):
        raise StoreError(f"{folder}: is not empty and holds no map; choose another folder")
    return found


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


def _write_array(folder: Path, name: str, parts: Sequence[npt.NDArray[Any]]) -> None:
    rows = sum(len(part) for part in parts)
    with atomic_write(_path(folder, name)) as handle:
        for number, part in enumerate(parts):
            if number == 0:
                _write_header(handle, part, rows)
            handle.write(np.ascontiguousarray(part).tobytes())


def _write_header(handle: BinaryIO, part: npt.NDArray[Any], rows: int) -> None:
    shape = (rows, *part.shape[1:])
    descr = np.lib.format.dtype_to_descr(part.dtype)
    np.lib.format.write_array_header_2_0(handle, {"descr": descr, "fortran_order": False, "shape": shape})


def _write_features(folder: Path, matcher: PairMatcher, members: Sequence[str], world: Triangulation) -> list[str]:
    """The arrays of keypoints, an image at a time, so that no more is in memory."""
    names: list[str] = []
    rows = sum(len(world.observed[name]) for name in members)
    with contextlib.ExitStack() as stack:
        handles: dict[str, BinaryIO] = {}
        for name in members:
            for what, values in to_arrays(matcher.features(name)).items():
                if what in FLAT:
                    continue
                if what not in handles:
                    handles[what] = stack.enter_context(atomic_write(_path(folder, what)))
                    _write_header(handles[what], values, rows)
                    names.append(what)
                handles[what].write(np.ascontiguousarray(values).tobytes())
    return names


def _read_card(folder: Path) -> MapCard:
    path = folder / CARD
    try:
        value = read_sealed(path)
        if value["schema"] != SCHEMA:
            raise StoreError(f"{path}: a map of schema {value['schema']!r}, this gloam reads {SCHEMA}; {AGAIN}")
        return fill_dataclass(MapCard, value, "the map")
    except OSError as error:
        raise StoreError(
            f"{folder}: not a map (no readable {CARD}); write one by `gloam localize --save-map`"
        ) from error
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise StoreError(f"{path}: damaged ({error}); {AGAIN}") from error


def _arrays_of(card: MapCard) -> set[str]:
    """Names of the arrays that a map has."""
    kind = OrientedFeatures if card.features.oriented else LocalFeatures
    return {*WHOLE, "observed", *(each.name for each in fields(kind) if each.name not in FLAT)}


def _expect_fitting(found: LocalizationMap) -> None:
    """Refuse arrays that are not what the card says, or do not belong together."""
    arrays, card = found.arrays, found.card
    rows = sum(image.keypoints or 0 for image in card.images)
    shapes: dict[str, tuple[int | None, ...]] = dict.fromkeys(set(arrays) - set(WHOLE), (rows,))
    shapes |= {"retrieval": (len(card.images), None), "points": (None, 3)}
    shapes |= {"keypoints": (rows, 2), "descriptors": (rows, card.features.dimension)}
    kinds = {"points": "f8", "observed": "i8"}
    for name, shape in shapes.items():
        values = arrays[name]
        fits = len(shape) == values.ndim and all(a in (None, b) for a, b in zip(shape, values.shape, strict=False))
        if not fits or values.dtype != kinds.get(name, "f4"):
            raise StoreError(
                f"{_path(found.folder, name)}: {values.dtype} {list(values.shape)} is not what {CARD} states; {AGAIN}"
            )
    observed = arrays["observed"]
    if observed.max(initial=-1) >= len(arrays["points"]) or observed.min(initial=-1) < -1:
        raise StoreError(f"{_path(found.folder, 'observed')}: names points that are not there; {AGAIN}")
    if not all(0 <= image.camera < len(card.cameras) for image in card.images):
        raise StoreError(f"{found.folder / CARD}: damaged (names a camera that is not there); {AGAIN}")
