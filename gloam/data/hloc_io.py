"""hloc's HDF5 files: the local features of images, and the matches of pairs.

Keypoints are of the image as stored, the centre of its first pixel at 0, whatever the intrinsics count from: hloc adds
COLMAP's half pixel itself. Files that gloam writes have a checksum over every array and, as hloc's own, over everything
that leads to it; of hloc's arrays themselves damage is seen where their values cannot be. Of a file nothing is
believed that its size cannot hold.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.npz import MOST_PACKED, SPARE
from gloam.errors import DataError, require
from gloam.files import bad_name, replaced_when_whole

SUFFIXES = (".h5", ".hdf5")
MOST_INT16 = np.iinfo(np.int16).max
READING = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError, RecursionError)

AXES = {"keypoints": 2, "descriptors": 2, "scores": 1, "image_size": 1}  # of an image, and their dimensions

Floats = npt.NDArray[np.float32]
# A name, the arrays of its group, and what the group ("") and the arrays say of themselves.
Group = tuple[str, Mapping[str, npt.NDArray[Any]], Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Local features of one image as hloc keeps them.

    Attributes:
        keypoints: float32 ``[n, 2]``, x and y in pixels of the image as stored, the centre of the first pixel at 0.
        descriptors: float32 ``[n, D]``; in the file ``[D, n]``.
        scores: float32 ``[n]``; NaN where the file has none.
        size: (width, height) of the image, pixels.
        uncertainty: of a keypoint, pixels: how much smaller the network saw the image.
        key: of what they were made from, by the writer's own rule; empty in hloc's files.
    """

    keypoints: Floats
    descriptors: Floats
    scores: Floats
    size: tuple[int, int]
    uncertainty: float = 1.0
    key: str = ""


class Hdf5File:
    """An HDF5 file that is open for reading, from any thread.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be read, is none, or is cut off.
    """

    def __init__(self, path: str | Path) -> None:
        h5py = require("h5py", "cpu", "read hloc's .h5 files")
        self.path = Path(path)
        self._groups, self._arrays = h5py.Group, h5py.Dataset
        with self.reading(""):
            self._most = MOST_PACKED * self.path.stat().st_size + SPARE
            if not self.path.is_file():
                raise OSError("not a file")
            self._file = h5py.File(self.path, "r")

    @contextlib.contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """What h5py raises of a damaged file, in whatever class, as a DataError that names the file and ``what``."""
        try:
            yield
        except READING as error:
            said: object = error
            if isinstance(error, KeyError) and error.args:
                said = error.args[0]  # which its text has in quotes
            elif isinstance(error, OSError) and error.filename is not None:
                said = error.strerror
            reason = (" ".join(str(said).split()) or type(error).__name__)[:160]
            way = "check the path" if isinstance(error, FileNotFoundError) else "write it again"
            raise DataError(f"{self.path}: {what or 'the HDF5 file'} cannot be read ({reason}); {way}") from error

    def close(self) -> None:
        """No more is read."""
        self._file.close()

    def stated(self, what: str, group: Any | None = None) -> Any:
        """What the file, or a group or array of it, states of itself; None where it does not."""
        with self.reading(what):
            found = (self._file if group is None else group).attrs.get(what)
            return found.decode() if isinstance(found, bytes) else found

    def group(self, name: str) -> Any | None:
        """The group of a name, or None where there is none."""
        with self.reading(name):
            found = self._file.get(name)
            return found if isinstance(found, self._groups) else None

    def has(self, group: Any, what: str) -> bool:
        """Whether a group holds something of that name."""
        with self.reading(group.name.strip("/")):
            return what in group

    def array(self, group: Any, what: str, dimensions: int) -> npt.NDArray[Any] | None:
        """An array of numbers of a group, every checksum compared that it has; None where it is not there.

        Raises:
            DataError: it is of another form, damaged, or not finite.
        """
        where = f"{group.name.strip('/')}: {what}"
        if not self.has(group, what):
            return None
        with self.reading(where):
            found = group[what]
            if not isinstance(found, self._arrays) or found.ndim != dimensions or found.dtype.kind not in "iuf":
                raise ValueError(f"it is not {dimensions}-dimensional numbers")
            if found.nbytes > self._most:
                raise ValueError(f"its shape {list(found.shape)} is more than the file can hold")
            values: npt.NDArray[Any] = found[()]
            if not np.isfinite(values).all():
                raise ValueError("its values are not all finite")
            return values

    def parts(self, group: Any | None = None) -> Iterator[Any]:
        """The groups inside a group, or of the file itself, in the order of their names."""
        at = self._file if group is None else group
        with self.reading(at.name.strip("/")):
            for name in at:
                found = at.get(name)
                if isinstance(found, self._groups):
                    yield found


class HlocFeatureFile:
    """hloc's ``feats-*.h5``: a group of each image, nested where its name has a ``/``.

    Args:
        path: the file.

    Attributes:
        path: of the file.
        network: that gave the features, where the file says so, as gloam's does; else empty.
        dimension: of a descriptor.

    Raises:
        DataError: it cannot be read, or holds no local features.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = Hdf5File(path)
        self.network = str(self._file.stated("network") or "")
        self.source = str(self._file.stated("source") or "")
        with self._file.reading(""):
            example = self._first(None)
        if example is None:
            raise DataError(f"{self.path}: holds no local features; give a file of hloc's extract_features")
        self._example, self.dimension = example

    def _first(self, group: Any | None) -> tuple[str, int] | None:
        """Name of the first image, and the length of its descriptors."""
        if group is not None and (described := self._file.array(group, "descriptors", 2)) is not None:
            return str(group.name).strip("/"), len(described)
        return next((found for part in self._file.parts(group) if (found := self._first(part)) is not None), None)

    def close(self) -> None:
        """No more is read."""
        self._file.close()

    def names(self, group: Any | None = None) -> list[str]:
        """Of every image, sorted; a walk through the file."""
        own = [] if group is None or not self._file.has(group, "descriptors") else [group.name.strip("/")]
        return sorted(own + [name for part in self._file.parts(group) for name in self.names(part)])

    def __contains__(self, name: str) -> bool:
        """Whether the file has features of an image."""
        group = self._file.group(name)
        return group is not None and self._file.has(group, "descriptors")

    def read(self, name: str) -> ImageFeatures:
        """Features of an image.

        Raises:
            DataError: the file has none of it; or they are damaged, of another length than others, or do not belong
                together.
        """
        group = self._file.group(name)
        found = {} if group is None else {what: self._file.array(group, what, axes) for what, axes in AXES.items()}
        keypoints, described, scores, size = (found.get(what) for what in AXES)
        if keypoints is None or described is None or size is None:
            raise DataError(
                f"{self.path}: has no features of image {name!r}, but those of {self._example!r} and others; give the "
                "file of this image set"
            )
        count = len(keypoints)
        scores = np.full(count, np.nan) if scores is None else scores
        if keypoints.shape[1] < 2 or described.shape[1] != count or len(scores) != count or len(size) != 2:
            raise DataError(
                f"{self.path}: image {name!r}: keypoints {list(keypoints.shape)}, descriptors {list(described.shape)} "
                f"and {len(scores)} scores do not belong together; [n, 2], [D, n] and n are needed"
            )
        if len(described) != self.dimension:
            raise DataError(
                f"{self.path}: image {name!r} has descriptors of {len(described)} values, but {self._example!r} of "
                f"{self.dimension}; extract both alike"
            )
        with self._file.reading(name):
            uncertainty = float(self._file.stated("uncertainty", group["keypoints"]) or 1.0)  # type: ignore[index]  # there, as keypoints are
        return ImageFeatures(
            np.ascontiguousarray(keypoints[:, :2], np.float32),
            np.ascontiguousarray(described.T, np.float32),
            scores.astype(np.float32),
            (int(size[0]), int(size[1])),
            uncertainty,
            str(self._file.stated("key", group) or ""),
        )


def write_hloc_features(
    path: str | Path, network: str, source: str, images: Iterable[tuple[str, ImageFeatures]]
) -> int:
    """Write local features as hloc reads them; the file appears only when it is whole.

    Keypoints stay float32, where hloc's own halves are a pixel apart beyond 1024 px.

    Args:
        path: ``.h5`` file.
        network: that gave them.
        source: what else they depend on, for whoever resumes.
        images: name and features, as they come; memory does not grow with their number.

    Returns:
        number of images.

    Raises:
        DataError: one image's name is the folder of another's, or cannot be a name.
        StoreError: the file cannot be written.
    """

    def groups() -> Iterator[Group]:
        for name, each in images:
            arrays: dict[str, npt.NDArray[Any]] = {
                "keypoints": np.asarray(each.keypoints, np.float32),
                "descriptors": np.ascontiguousarray(np.asarray(each.descriptors, np.float32).T),
                "scores": np.asarray(each.scores, np.float32),
                "image_size": np.array(each.size, np.int64),
            }
            yield name, arrays, {"": _fixed({"key": each.key}), "keypoints": {"uncertainty": each.uncertainty}}

    return write_groups(path, _fixed({"network": network, "source": source}), groups())


def pair_names(first: str, second: str) -> Iterator[tuple[str, bool]]:
    """The names that a pair's group may have, hloc's of today and of before, each with whether the two are swapped."""
    for separator in ("/", "_"):
        for swapped in (False, True):
            pair = (second, first) if swapped else (first, second)
            yield separator.join(name.replace("/", "-") for name in pair), swapped


class HlocMatchFile:
    """hloc's ``matches-*.h5``: a group of each pair, in either order.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = Hdf5File(path)

    def close(self) -> None:
        """No more is read."""
        self._file.close()

    def read(self, first: str, second: str) -> tuple[npt.NDArray[np.uint32], Floats]:
        """Matches of a pair, whichever order it was matched in.

        Returns:
            uint32 ``[m, 2]`` of rows, the first column of ``first``; float32 ``[m]`` scores, NaN where there are none.

        Raises:
            DataError: the pair is not there, or its matches are damaged.
        """
        for name, swapped in pair_names(first, second):  # noqa: B007  # used below
            group = self._file.group(name)
            other = None if group is None else self._file.array(group, "matches0", 1)
            if other is not None:
                break
        else:
            raise DataError(f"{self.path}: has no matches of {first!r} and {second!r}; match with this list of pairs")
        scores = self._file.array(group, "matching_scores0", 1)
        scores = np.full(len(other), np.nan) if scores is None else scores
        if other.dtype.kind == "f" or len(scores) != len(other) or other.min(initial=-1) < -1:
            raise DataError(f"{self.path}: {name}: matches0 and matching_scores0 do not belong together; match again")
        rows = np.flatnonzero(other != -1)
        pairs = np.stack((rows, other[rows]), 1).astype(np.uint32)
        return (pairs[:, ::-1] if swapped else pairs), scores[rows].astype(np.float32)


def write_hloc_matches(path: str | Path, pairs: Iterable[tuple[str, str, int, npt.NDArray[np.uint32], Floats]]) -> int:
    """Write matches as hloc reads them; the file appears only when it is whole.

    Args:
        path: ``.h5`` file.
        pairs: two names, the number of keypoints of the first, rows ``[m, 2]`` and scores ``[m]``.

    Returns:
        number of pairs.

    Raises:
        DataError: two pairs have one name in hloc's files, where ``/`` and ``-`` of an image's name are the same.
        StoreError: the file cannot be written.
    """

    def groups() -> Iterator[Group]:
        for first, second, count, rows, scores in pairs:
            kind = np.int16 if rows[:, 1].max(initial=0) <= MOST_INT16 else np.int32
            matches, sure = np.full(count, -1, kind), np.zeros(count, np.float32)
            matches[rows[:, 0]], sure[rows[:, 0]] = rows[:, 1], scores
            name, _ = next(pair_names(first, second))
            yield name, {"matches0": matches, "matching_scores0": sure}, {}

    return write_groups(path, {}, groups())


def write_groups(path: str | Path, states: Mapping[str, Any], groups: Iterable[Group], *, sums: bool = True) -> int:
    """Write an HDF5 file of a group a name, as hloc's are; a ``/`` in a name nests groups. It appears when it is whole.

    Args:
        path: ``.h5`` file.
        states: what the file says of itself.
        groups: as they come.
        sums: keep a checksum of every array.

    Returns:
        number of groups.

    Raises:
        DataError: a name that cannot be one, is there twice, or is the folder of another.
        StoreError: the file cannot be written.
    """
    h5py = require("h5py", "cpu", "write hloc's .h5 files")
    count = 0
    with replaced_when_whole(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        file.attrs.update(states)
        for name, arrays, said in groups:
            if reason := bad_name(name):
                raise DataError(f"{path}: image name {name!r} {reason}; rename the image")
            if name in file:
                raise DataError(f"{path}: {name!r} is there twice, or as a folder of others; rename an image")
            try:
                group = file.create_group(name)
                for what, values in arrays.items():
                    summed = {"fletcher32": True, "chunks": values.shape} if sums and values.size else {}
                    group.create_dataset(what, data=values, **summed)
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}: {name!r} is both an image and a folder of images; rename one") from error
            for where, stated in said.items():
                group[where or "."].attrs.update(stated)
            count += 1
    return count


def _fixed(stated: Mapping[str, str]) -> dict[str, np.bytes_]:
    """Texts of a stated length, which lie where HDF5 has its checksums; those of any length do not."""
    return {what: np.bytes_(text.encode()) for what, text in stated.items() if text}
