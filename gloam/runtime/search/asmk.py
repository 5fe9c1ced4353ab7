"""ASMK: an image as codes under the visual words of its local features (Tolias et al. 2016), binary (ASMK*) or not.

A codebook assigns every local feature to its nearest centroids. Under each visual word the residuals of an image's
features are summed and their signs kept, one bit a dimension. Two images are compared word by word: similarity
``1 - 2 hamming / bits``, to the power alpha where it reaches the threshold, summed, over the root of either image's
number of words. Real-valued codes are the sums themselves, as unit vectors, compared by their cosine. With ``idf`` a
word counts by the square of ``ln(images / images that have it)``, in the sum and in both norms. The database is an
inverted file, packed: for each word a slice of images and codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.npz import read_npz, write_npz
from gloam.errors import DataError, IncompatibleError, ModelError, UsageError, require
from gloam.files import load_json
from gloam.model_card import InputRule, expect_same_space
from gloam.record import fill_dataclass, to_json

WORDS = 65536  # of the published codebooks
ITERATIONS = 10
DATABASE_ASSIGNMENT, QUERY_ASSIGNMENT = 1, 5  # visual words that a local feature counts for
ALPHA, THRESHOLD = 3.0, 0.0
PACK = 32  # bits; codes are whole numbers of them, with zeros behind
BLOCK_VALUES = 1 << 26  # distances held at once

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Codes = npt.NDArray[Any]  # uint32, or float32 where they are real-valued


@dataclass(frozen=True, eq=False)
class Codebook:
    """Visual words.

    Attributes:
        centroids: float32 ``[k, D]``.
        space: of the local features that it was learned from; ``""`` where that is not known.
        input_rule: how the images behind them were resized; None where that is not known.

    Raises:
        ModelError: not such an array, or values that are not finite.
    """

    centroids: Floats
    space: str = ""
    input_rule: InputRule | None = None

    def __post_init__(self) -> None:
        centroids = np.ascontiguousarray(self.centroids, np.float32)
        if centroids.ndim != 2 or 0 in centroids.shape or not np.isfinite(centroids).all():
            raise ModelError(f"codebook: centroids {list(centroids.shape)} must be finite values [words, D]")
        object.__setattr__(self, "centroids", centroids)

    @property
    def words(self) -> int:
        """Number of visual words."""
        return len(self.centroids)

    @property
    def dimension(self) -> int:
        """D of the local features."""
        return int(self.centroids.shape[1])

    @classmethod
    def learn(
        cls,
        features: Floats,
        words: int = WORDS,
        *,
        iterations: int = ITERATIONS,
        seed: int = 0,
        space: str = "",
        spherical: bool = False,
    ) -> Codebook:
        """K-means by FAISS.

        Args:
            features: float32 ``[n, D]``, n at least ``words``; the papers take the 1000 strongest features of 20 000
                training images at one scale.
            words: centroids to find.
            iterations, seed: of k-means.
            space: of the features.
            spherical: by cosine; centroids are then of length 1.

        Raises:
            DataError: fewer features than words, or one that is not finite.
        """
        features = np.ascontiguousarray(features, np.float32)
        if features.ndim != 2 or not 1 <= words <= len(features):
            raise DataError(
                f"codebook: {words} words need at least as many local features [n, D], not {list(features.shape)}; "
                "ask for fewer words, or give more images"
            )
        _expect_finite(features, "codebook")
        faiss = require("faiss", "cpu", "learn a codebook")
        kmeans = faiss.Kmeans(
            features.shape[1], words, niter=iterations, seed=seed, min_points_per_centroid=1,
            max_points_per_centroid=max(256, -(-len(features) // words)), spherical=spherical,
        )  # fmt: skip
        kmeans.train(features)
        return cls(np.asarray(kmeans.centroids).reshape(words, -1), space)

    def assign(self, features: Floats, count: int = DATABASE_ASSIGNMENT) -> Integers:
        """The nearest words of each feature by Euclidean distance.

        Args:
            features: float32 ``[n, D]``.
            count: words of each.

        Returns:
            int64 ``[n, min(count, words)]``, the nearest first.

        Raises:
            IncompatibleError: features of another dimension.
            DataError: a feature that is not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.dimension:
            raise IncompatibleError(
                f"local features {list(features.shape)}, but the codebook's words have {self.dimension} dimensions; "
                "use the model that it was learned with"
            )
        _expect_finite(features, "ASMK")
        count = min(count, self.words)
        found = np.empty((len(features), count), np.int64)
        half_norms = 0.5 * np.einsum("kd,kd->k", self.centroids, self.centroids)
        rows = max(1, BLOCK_VALUES // self.words)
        for start in range(0, len(features), rows):
            # The squared distance without what all words share, halved.
            distance = half_norms - features[start : start + rows] @ self.centroids.T
            if count < self.words:
                nearest = np.argpartition(distance, count - 1, axis=1)[:, :count]
            else:
                nearest = np.broadcast_to(np.arange(count), distance.shape)
            order = np.argsort(np.take_along_axis(distance, nearest, 1), axis=1, kind="stable")
            found[start : start + rows] = np.take_along_axis(nearest, order, 1)
        return found

    def aggregate(
        self, features: Floats, count: int = DATABASE_ASSIGNMENT, real_valued: bool = False
    ) -> tuple[Integers, Codes]:
        """An image's words and codes.

        Args:
            features: local features of one image, float32 ``[n, D]``.
            count: words that each feature counts for.
            real_valued: see below.

        Returns:
            words, int64 ``[u]``, rising; codes, uint32 ``[u, ceil(D / 32)]``: a bit for every positive sum of
            residuals, the first dimension the highest bit. Real-valued: the sums as unit vectors, float32 ``[u, D]``.
        """
        if len(features) == 0:
            return np.empty(0, np.int64), self.no_codes(real_valued)
        assigned = self.assign(features, count)
        order = np.argsort(assigned.ravel(), kind="stable")
        pairs = assigned.ravel()[order]
        starts = np.flatnonzero(np.diff(pairs, prepend=-1))
        words = pairs[starts]
        sums = np.add.reduceat(features[order // assigned.shape[1]], starts, axis=0)
        members = np.diff(starts, append=len(pairs)).astype(np.float32)
        means = members[:, None] * self.centroids[words]
        if not real_valued:
            return words, pack(sums > means)
        residuals = sums - means
        lengths = np.linalg.norm(residuals, axis=1, keepdims=True)
        return words, (residuals / np.where(lengths > 0, lengths, 1)).astype(np.float32)

    def no_codes(self, real_valued: bool) -> Codes:
        """The codes of an image without features."""
        if real_valued:
            return np.empty((0, self.dimension), np.float32)
        return np.empty((0, -(-self.dimension // PACK)), np.uint32)

    def save(self, path: str | Path) -> None:
        """Write ``.npz``, atomically."""
        _write_npz(path, {"centroids": self.centroids}, {"kind": "codebook", "space": self.space, **_stated(self)})

    @classmethod
    def load(cls, path: str | Path) -> Codebook:
        """Read what :meth:`save` wrote.

        Raises:
            ModelError: absent or no such file.
        """
        arrays, header = _read_npz(path, "codebook", ("centroids",))
        return _codebook(arrays, header, path)


def pack(signs: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    """Bits ``[n, D]`` to uint32 ``[n, ceil(D / 32)]``, the first bit the highest, zeros behind the last."""
    short = -signs.shape[1] % PACK
    octets = np.packbits(np.pad(signs, ((0, 0), (0, short))), axis=1)
    return octets.view(">u4").astype(np.uint32)


class AsmkIndex:
    """Images that can be searched by ASMK.

    Args:
        codebook: of the visual words.
        alpha: power of the similarity of two codes.
        threshold: similarity below which two codes count for nothing.
        real_valued: codes are unit vectors, 32 times as large, instead of bits.
        idf: rare words count for more.

    Attributes:
        names: of the images, in the order they were added.
        failures: name and reason of images that were to be added and gave no features; they are never found.
    """

    def __init__(
        self,
        codebook: Codebook,
        alpha: float = ALPHA,
        threshold: float = THRESHOLD,
        *,
        real_valued: bool = False,
        idf: bool = False,
    ) -> None:
        if not alpha > 0 or not 0 <= threshold < 1:
            raise UsageError(
                f"ASMK of alpha {alpha:g} and threshold {threshold:g}: needs alpha > 0, threshold in [0, 1)"
            )
        self.codebook = codebook
        self.alpha, self.threshold = float(alpha), float(threshold)
        self.real_valued, self.idf = real_valued, idf
        self.names: list[str] = []
        self.failures: dict[str, str] = {}
        self._added: list[tuple[Integers, Codes]] = []
        self._offsets = np.zeros(codebook.words + 1, np.int64)
        self._images = np.empty(0, np.int32)
        self._codes = codebook.no_codes(real_valued)
        self._norms = np.empty(0, np.float64)
        self._rare: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str, features: Floats, space: str | None = None) -> None:
        """Add one image.

        Args:
            name: of the image.
            features: its local features, float32 ``[n, D]``; none are allowed, such an image is never found.
            space: of the features; compared with the codebook's where both are known.

        Raises:
            IncompatibleError: features of another space or dimension.
            DataError: a feature that is not finite.
        """
        self._expect(space, name)
        try:
            self._added.append(self.codebook.aggregate(np.asarray(features, np.float32), real_valued=self.real_valued))
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        self.names.append(name)

    def search(
        self, features: Floats, count: int = QUERY_ASSIGNMENT, space: str | None = None
    ) -> npt.NDArray[np.float64]:
        """Scores of all images for one query.

        Args:
            features: local features of the query, float32 ``[n, D]``.
            count: words that each feature counts for.
            space: of the features.

        Returns:
            float64 ``[images]``, higher is more similar, in the order of :attr:`names`.

        Raises:
            IncompatibleError: features of another space or dimension.
        """
        self._expect(space, "query")
        self._finish()
        words, codes = self.codebook.aggregate(np.asarray(features, np.float32), count, self.real_valued)
        starts = self._offsets[words]
        lengths = self._offsets[words + 1] - starts
        total = int(lengths.sum())
        if not total:
            return np.zeros(len(self))
        # Rows of the inverted file under the query's words, and for each the query's code.
        before = np.cumsum(lengths) - lengths
        rows = np.arange(total) + np.repeat(starts - before, lengths)
        similarity = self._similarity(rows, codes, lengths)
        kept = similarity >= self.threshold
        worth = similarity[kept] ** self.alpha
        norms, query_norm = self._norms, np.sqrt(len(words))
        if self.idf:
            squared, norms = self._rarity()
            worth, query_norm = worth * np.repeat(squared[words], lengths)[kept], np.sqrt(squared[words].sum())
        votes = np.bincount(self._images[rows][kept], worth, minlength=len(self))
        whole = norms * query_norm
        scores: npt.NDArray[np.float64] = np.divide(votes, whole, out=np.zeros(len(self)), where=whole > 0)
        return scores

    def _similarity(self, rows: Integers, codes: Codes, lengths: Integers) -> npt.NDArray[np.float64]:
        """Of rows of the inverted file and the query's codes, each of which is compared with ``lengths`` rows."""
        against, found = np.repeat(codes, lengths, axis=0), self._codes[rows]
        if self.real_valued:
            cosines: npt.NDArray[np.float64] = np.einsum("nd,nd->n", found, against, dtype=np.float64)
            return cosines
        differing = _popcount(found ^ against)
        alike: npt.NDArray[np.float64] = 1.0 - differing * (2.0 / (PACK * codes.shape[1]))
        return alike

    def _rarity(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The square of ln(images / images that have it) of each word, as if one had it that none has; and the norms of
        the images by that. Kept until images are added."""
        if self._rare is None:
            having = np.diff(self._offsets)
            squared = np.log(len(self) / np.maximum(having, 1)) ** 2
            norms = np.sqrt(np.bincount(self._images, np.repeat(squared, having), len(self)))
            self._rare = squared, norms
        return self._rare

    def rank(
        self, queries: Iterable[Floats], count: int = QUERY_ASSIGNMENT, top: int | None = None, space: str | None = None
    ) -> tuple[Integers, npt.NDArray[np.float64]]:
        """The best images of each query.

        Args:
            queries: local features of each, float32 ``[n, D]``.
            count: words that each feature counts for.
            top: images to return; all by default.
            space: of the features.

        Returns:
            rows of :attr:`names`, int64 ``[queries, top]``, the best first, of equal ones the first added; and scores.
        """
        top = len(self) if top is None else min(top, len(self))
        ranks, scores = [], []
        for features in queries:
            row = self.search(features, count, space)
            best = np.argsort(-row, kind="stable")[:top]
            ranks.append(best)
            scores.append(row[best])
        if not ranks:
            return np.empty((0, top), np.int64), np.empty((0, top))
        return np.stack(ranks), np.stack(scores)

    def save(self, path: str | Path) -> None:
        """Write codebook, names and inverted file as ``.npz``, atomically."""
        self._finish()
        header = {
            "kind": "asmk", "space": self.codebook.space, "names": self.names,
            "alpha": self.alpha, "threshold": self.threshold,
            **({"real_valued": True} if self.real_valued else {}), **({"idf": True} if self.idf else {}),
            **({"failures": self.failures} if self.failures else {}),
            **_stated(self.codebook),
        }  # fmt: skip
        arrays: dict[str, npt.NDArray[Any]] = {
            "centroids": self.codebook.centroids, "offsets": self._offsets, "images": self._images,
            "codes": self._codes, "norms": self._norms,
        }  # fmt: skip
        _write_npz(path, arrays, header)

    @classmethod
    def load(cls, path: str | Path) -> AsmkIndex:
        """Read what :meth:`save` wrote; more images can be added.

        Raises:
            ModelError: absent, no such file, or its parts do not fit together.
        """
        arrays, header = _read_npz(path, "asmk", ("centroids", "offsets", "images", "codes", "norms"))
        try:
            codebook, real_valued = _codebook(arrays, header, path), header.get("real_valued", False)
            more = {"real_valued": real_valued is True, "idf": header.get("idf", False) is True}
            index = cls(codebook, header["alpha"], header["threshold"], **more)
            index.names = [str(name) for name in header["names"]]
            index.failures = {str(name): str(reason) for name, reason in dict(header.get("failures", {})).items()}
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path}: the description of the ASMK index is malformed ({error!r}); build it") from error
        offsets, images, codes, norms = (arrays[name] for name in ("offsets", "images", "codes", "norms"))
        fits = (
            offsets.shape == index._offsets.shape
            and offsets[0] == 0
            and (np.diff(offsets) >= 0).all()
            and offsets[-1] == len(images) == len(codes)
            and (codes.dtype, codes.shape[1:]) == (index._codes.dtype, index._codes.shape[1:])
            and norms.shape == (len(index),)
            and (not len(images) or 0 <= images.min() <= images.max() < len(index))
        )
        if not fits:
            raise ModelError(f"{path}: the parts of the ASMK index do not fit together; build it again")
        index._offsets, index._images, index._codes, index._norms = offsets, images, codes, norms
        return index

    def _finish(self) -> None:
        """Merge what was added into the inverted file."""
        if not self._added:
            return
        first = len(self) - len(self._added)
        counts = np.array([len(words) for words, _ in self._added])
        old_words = np.repeat(np.arange(self.codebook.words), np.diff(self._offsets))
        words = np.concatenate((old_words, *(words for words, _ in self._added)))
        images = np.concatenate((self._images, np.repeat(np.arange(first, len(self)), counts).astype(np.int32)))
        order = np.argsort(words, kind="stable")
        self._images = images[order]
        self._codes = np.concatenate((self._codes, *(codes for _, codes in self._added)))[order]
        self._offsets = np.concatenate(([0], np.cumsum(np.bincount(words, minlength=self.codebook.words))))
        # An image without a feature is never found; its norm only must not be 0.
        self._norms = np.concatenate((self._norms, np.sqrt(np.maximum(counts, 1))))
        self._added, self._rare = [], None

    def _expect(self, space: str | None, where: str) -> None:
        if space and self.codebook.space:
            expect_same_space(self.codebook.space, space, where)


def _stated(codebook: Codebook) -> dict[str, Any]:
    """The part of a header that says how images were resized."""
    return {} if codebook.input_rule is None else {"input_rule": to_json(codebook.input_rule)}


def _codebook(arrays: dict[str, npt.NDArray[Any]], header: dict[str, Any], path: str | Path) -> Codebook:
    rule = _rule(header, path)
    try:
        return Codebook(arrays["centroids"], str(header.get("space", "")), rule)
    except ModelError as error:
        raise ModelError(f"{path}: {error}; build it again") from error


def _rule(header: dict[str, Any], path: str | Path) -> InputRule | None:
    """What :func:`_stated` wrote; None in files from before."""
    try:
        return fill_dataclass(InputRule, header["input_rule"], "input_rule") if "input_rule" in header else None
    except UsageError as error:
        raise ModelError(f"{path}: the description is malformed ({error}); build it again") from error


def _popcount(codes: Codes) -> npt.NDArray[np.int64]:
    """Set bits of each row."""
    units: npt.NDArray[Any] = np.ascontiguousarray(codes).view(np.uint64) if codes.shape[1] % 2 == 0 else codes
    counts: npt.NDArray[np.int64] = np.bitwise_count(units).sum(axis=1, dtype=np.int64)
    return counts


def _expect_finite(features: Floats, what: str) -> None:
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise DataError(f"{what}: local feature {int(np.argmin(finite))} is not finite; extract it again")


def _write_npz(path: str | Path, arrays: dict[str, npt.NDArray[Any]], header: dict[str, Any]) -> None:
    write_npz(path, {**arrays, "header": np.frombuffer(json.dumps(header).encode(), np.uint8)})


def _read_npz(path: str | Path, kind: str, names: Sequence[str]) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"{file}: no such file")
    try:
        content = read_npz(file)
        header = load_json(content["header"].tobytes())
        arrays = {name: content[name] for name in names} if header["kind"] == kind else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file}: not a readable {kind} file ({error}); build it again") from error
    if not arrays:
        raise ModelError(f"{file}: holds '{header['kind']}', but '{kind}' is needed here")
    return arrays, header
