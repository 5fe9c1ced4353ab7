"""A learned linear map of descriptors: subtract a mean, project, L2-normalise.

Learned by :mod:`gloam.training.embedders.whitening`; applied here in float64. Its first rows are the strongest
directions, so that :meth:`Whitening.reduced` keeps the first of them. Files are ``.npz``,
or ``.safetensors`` where that is installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.npz import read_npz, write_npz
from gloam.errors import DataError, IncompatibleError, ModelError, UsageError, require
from gloam.files import load_json, sha256_bytes, sha256_json, write_bytes

EPSILON = 1e-6  # beside the norm, as cirtorch has it
BLOCK_ROWS = 8192
METADATA_KEY = "gloam.whitening"
SUFFIXES = (".npz", ".safetensors")


@dataclass(frozen=True, eq=False)
class Whitening:
    """``y = projection (x - mean)``, then ``y / (||y|| + 1e-6)``.

    Attributes:
        mean: float64 ``[D]``.
        projection: float64 ``[d, D]``, d at most D, rows by falling importance.
        name: ``lw`` (learned from pairs) or ``pca``.
        provenance: where it was learned, JSON-ready.

    Raises:
        ModelError: other shapes, or values that are not finite.
    """

    mean: npt.NDArray[np.float64]
    projection: npt.NDArray[np.float64]
    name: str = "lw"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        mean = np.ascontiguousarray(self.mean, np.float64).reshape(-1)
        projection = np.ascontiguousarray(self.projection, np.float64)
        rows, columns = projection.shape if projection.ndim == 2 else (0, 0)
        if columns != len(mean) or not 1 <= rows <= columns:
            raise ModelError(
                f"whitening: a mean of {len(mean)} values and a projection of shape {list(projection.shape)} do not "
                "fit; expected [D] and [d, D] with d at most D"
            )
        if not (np.isfinite(mean).all() and np.isfinite(projection).all()):
            raise ModelError("whitening: holds values that are not finite; learn it again")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "projection", projection)

    @property
    def input_dimension(self) -> int:
        """D, of the descriptors it takes."""
        return int(self.projection.shape[1])

    @property
    def dimension(self) -> int:
        """d, of the descriptors it gives."""
        return int(self.projection.shape[0])

    @property
    def sha256(self) -> str:
        """Hex, of name, mean and projection."""
        shape = f"{self.name}|{self.projection.shape}|".encode()
        return sha256_bytes(shape + self.mean.tobytes() + self.projection.tobytes())

    def reduced(self, dimension: int) -> Whitening:
        """The same map to its first ``dimension`` values.

        Raises:
            UsageError: there are not as many.
        """
        if not 1 <= dimension <= self.dimension:
            raise UsageError(f"whitening: dimension {dimension} is not among 1 to {self.dimension}")
        return Whitening(self.mean, self.projection[:dimension], self.name, self.provenance)

    def said(self, more: Mapping[str, Any]) -> Whitening:
        """The same map with more said of where it comes from."""
        return Whitening(self.mean, self.projection, self.name, {**self.provenance, **more})

    def apply(self, descriptors: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Whiten descriptors.

        Args:
            descriptors: float ``[n, D]``.

        Returns:
            float32 ``[n, d]``, unit.

        Raises:
            IncompatibleError: descriptors of another dimension.
            DataError: a descriptor is not finite.
        """
        x = np.asarray(descriptors)
        if x.ndim != 2 or x.shape[1] != self.input_dimension:
            raise IncompatibleError(
                f"whitening {self.name}: takes descriptors of dimension {self.input_dimension}, not of shape "
                f"{list(x.shape)}; learn one from descriptors of the same model"
            )
        found = np.empty((len(x), self.dimension), np.float32)
        for start in range(0, len(x), BLOCK_ROWS):
            block = x[start : start + BLOCK_ROWS].astype(np.float64)
            y = (block - self.mean) @ self.projection.T
            finite = np.isfinite(y).all(axis=1)
            if not finite.all():
                raise DataError(f"descriptor {start + int(np.argmin(finite))} is not finite; extract it again")
            found[start : start + len(y)] = y / (np.linalg.norm(y, axis=1, keepdims=True) + EPSILON)
        return found

    def save(self, path: str | Path) -> Path:
        """Write ``.npz`` or ``.safetensors``, atomically.

        Raises:
            UsageError: another suffix.
            StoreError: not writable.
        """
        file = _known_suffix(path)
        said = json.dumps(
            {"name": self.name, "provenance": dict(self.provenance), "sha256": self._checksum()}, sort_keys=True
        )
        arrays = {"mean": self.mean, "projection": self.projection}
        if file.suffix == ".npz":
            write_npz(file, {"description": np.array(said), **arrays})
        else:
            require("safetensors", "train", "write .safetensors; .npz needs no package")
            from safetensors.numpy import save

            write_bytes(file, save(arrays, metadata={METADATA_KEY: said}))
        return file

    @classmethod
    def load(cls, path: str | Path) -> Whitening:
        """Read what :meth:`save` wrote.

        Raises:
            UsageError: another suffix.
            ModelError: absent, or no whitening.
        """
        file = _known_suffix(path)
        if not file.is_file():
            raise ModelError(f"{file}: no such whitening file")
        try:
            said, mean, projection = _read_npz(file) if file.suffix == ".npz" else _read_safetensors(file)
            description = load_json(said)
            name, provenance = str(description["name"]), dict(description["provenance"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{file}: not a whitening of gloam ({type(error).__name__}); learn it again") from error
        try:
            found = cls(mean, projection, name, provenance)
        except ModelError as error:
            raise ModelError(f"{file}: {error}") from error
        if description.get("sha256") not in (found._checksum(), None):  # files of before state none
            raise ModelError(f"{file}: damaged, its checksum differs; learn it again")
        return found

    def _checksum(self) -> str:
        """Hex sha256 of all that a file holds."""
        return sha256_json([self.sha256, dict(self.provenance)])


@dataclass(frozen=True)
class WrittenWhitening:
    """A whitening and the file that it was written to."""

    path: Path
    whitening: Whitening

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found = self.whitening
        return {
            "whitening": str(self.path),
            "input_dimension": found.input_dimension,
            "dimension": found.dimension,
            "sha256": found.sha256,
        }


def _known_suffix(path: str | Path) -> Path:
    file = Path(path)
    if file.suffix not in SUFFIXES:
        raise UsageError(f"{file}: a whitening file ends in {' or '.join(SUFFIXES)}")
    return file


def _read_npz(file: Path) -> tuple[str, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    kept = read_npz(file, ("description", "mean", "projection"))
    return str(kept["description"]), kept["mean"], kept["projection"]


def _read_safetensors(file: Path) -> tuple[str, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    require("safetensors", "train", "read .safetensors")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as kept:
            metadata = kept.metadata() or {}
            return metadata[METADATA_KEY], kept.get_tensor("mean"), kept.get_tensor("projection")
    except SafetensorError as error:
        raise ValueError(str(error)) from error
