"""What the metrics of translated images compare: features of images, and who extracts them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError

if TYPE_CHECKING:
    from gloam.runtime.models.embedder import Embedder

Features = npt.NDArray[np.floating[Any]]  # [n, D]
Images = Sequence[npt.NDArray[np.uint8]]  # [H, W, 3] RGB each


class FeatureExtractor(Protocol):
    """Images in, features out.

    Attributes:
        name: of the network, for tables.
        weights_sha256: of the weights or the model's file: figures of two hashes are of two spaces.
    """

    @property
    def name(self) -> str: ...

    @property
    def weights_sha256(self) -> str: ...

    def features(self, images: Images) -> Features:
        """Features of images.

        Args:
            images: uint8 ``[H, W, 3]`` RGB each.

        Returns:
            floating ``[n, D]``, in the order given.
        """
        ...


@runtime_checkable
class ClassExtractor(FeatureExtractor, Protocol):
    """An extractor that also predicts classes, as the Inception Score needs."""

    def features_and_logits(self, images: Images) -> tuple[Features, Features]:
        """Features ``[n, D]`` and class scores before the softmax ``[n, classes]``, from one run."""
        ...


@runtime_checkable
class EmbeddingExtractor(FeatureExtractor, Protocol):
    """An extractor of embeddings, whose directions tell images apart, so that MMD by CMMD's rule is of them too.

    Attributes:
        frechet: what the Fréchet distance of its space is called: ``FID``, but where the literature has a name of its
            own.
    """

    @property
    def frechet(self) -> str: ...


class EmbedderFeatures:
    """The space of a retrieval embedder: distances there say what a night image is for localization.

    Descriptors have length 1; as features they are scaled to length ``sqrt(D)``, so that a dimension has a mean square
    of 1 and ``x·y / D``, which KID's kernel cubes, is the cosine. On the descriptors as they are that kernel would see
    little more than the difference of the means. FID grows by the factor D.

    Args:
        embedder: a loaded one; judge with one that was not trained on the judged places.
    """

    frechet = "FID"

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.name = embedder.card.name
        self.weights_sha256 = embedder.fingerprint

    def features(self, images: Images) -> Features:
        """Scaled descriptors, float32 ``[n, D]``."""
        scaled: Features = self.embedder(images) * np.float32(np.sqrt(self.embedder.dimension))
        return scaled


def distance_meaning(extractor: FeatureExtractor, frechet: str | None = None) -> dict[str, str]:
    """What the distances of sets mean in the space of an extractor.

    Args:
        extractor: of the features.
        frechet: what a table calls the Fréchet distance; the extractor's own name for it by default.

    Returns:
        words by the distances' names; nothing of class features, whose distances say themselves what they are.
    """
    if not isinstance(extractor, EmbeddingExtractor):
        return {}
    there = f"in the space of {extractor.name}"
    own = "" if extractor.frechet in ("FID", frechet or extractor.frechet) else f"{extractor.frechet}, the "
    return {
        frechet or extractor.frechet: f"{own}Fréchet distance {there}",
        "MMD": f"by CMMD's rule (Gaussian kernel of sigma 10, unit length, biased, times 1000) {there}",
    }


def expect_pair(
    real: Features, fake: Features, at_least: int = 1
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both tables in float64, checked.

    Args:
        real: ``[n, D]``.
        fake: ``[m, D]``.
        at_least: rows that each must have.

    Raises:
        DataError: not tables, of different widths, too few rows, or values that are not finite.
    """
    tables = []
    for name, given in (("real", real), ("fake", fake)):
        table = np.asarray(given, np.float64)
        if table.ndim != 2 or table.shape[1] == 0:
            raise DataError(f"{name} features must be a table [n, D], not of shape {list(table.shape)}")
        if len(table) < at_least:
            raise DataError(f"{name}: {len(table)} image(s) are too few for this metric; give {at_least} or more")
        if not np.isfinite(table).all():
            raise DataError(f"{name} features hold NaN or infinite values; check the model they come from")
        tables.append(table)
    if tables[0].shape[1] != tables[1].shape[1]:
        raise DataError(
            f"real and fake features have {tables[0].shape[1]} and {tables[1].shape[1]} dimensions; "
            "take both from one model"
        )
    return tables[0], tables[1]
