"""ASMK over image files: learn a codebook, index a map, search it (Tolias et al. 2020, sections 3 and 5)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from gloam.data.images import decode_image
from gloam.data.sources import ImageItem, find_images
from gloam.errors import DataError, ImageError
from gloam.model_card import InputRule, expect_same_space
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.local_features import STRONGEST, LocalExtractor
from gloam.runtime.search.asmk import WORDS, AsmkIndex, Codebook

SAMPLED = 4_000_000  # local features that a codebook is learned from, at most: 2 GiB of 128 values


@dataclass
class Extracted:
    """Local features of image files, one image after the other.

    Args:
        extractor: a loaded HOW model.
        items: the images.

    Attributes:
        failures: name and reason of each image that gave no features.
    """

    extractor: LocalExtractor
    items: Sequence[ImageItem]
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        model: str | Path,
        source: Path,
        root: Path | None = None,
        *,
        max_side: int | None = None,
        strongest: int = STRONGEST,
        placement: Placement | None = None,
    ) -> Extracted:
        """Load the model and find the images.

        Args:
            model: exported, of kind ``local_features``.
            source: folder, text list or kapture dataset.
            root: folder that a list's names are relative to; the list's by default.
            max_side: longer side after reduction, pixels; 0 keeps native sizes. None: the model's own input rule.
            strongest: local features of each image.
            placement: of the model.
        """
        rule = None if max_side is None else InputRule.of(max_side)
        extractor = LocalExtractor.load(model, placement, strongest=strongest, input_rule=rule)
        return cls(extractor, find_images(source, root))

    def __iter__(self) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Name and features, float32 ``[n, D]``, of each image that has some."""
        for item in tqdm(self.items, unit="img", disable=not sys.stderr.isatty()):
            try:
                if item.problem is not None:
                    raise ImageError(item.problem)
                rule = self.extractor.input_rule
                pixels = decode_image(item.read(), max_side=rule.max_side, stretch=rule.stretch)
                found = self.extractor([pixels])[0].descriptors
                if not np.isfinite(found).all():
                    raise ImageError("a local feature is not finite")
                yield item.name, found
            except ImageError as error:
                self.failures[item.name] = str(error)


def learn_codebook(images: Extracted, words: int = WORDS, seed: int = 0, sampled: int = SAMPLED) -> Codebook:
    """A codebook from the local features of training images.

    Args:
        images: not of the map, where the benchmark is to be honest.
        words: visual words.
        seed: of k-means and of the choice of features.
        sampled: features to keep in memory at most; as many of each image.

    Raises:
        DataError: fewer features than words.
    """
    random = np.random.default_rng([seed, 31])
    share = max(sampled // max(len(images.items), 1), 1)
    kept = []
    for _, features in images:
        rows = np.sort(random.permutation(len(features))[:share])
        kept.append(features[rows])
    if not kept:
        raise DataError(f"codebook: none of {len(images.items)} images gave local features; see the reasons")
    learned = Codebook.learn(np.concatenate(kept), words, seed=seed, space=images.extractor.space)
    return replace(learned, input_rule=images.extractor.input_rule)


def index_images(images: Extracted, codebook: Codebook) -> AsmkIndex:
    """Add every image to a new index.

    Raises:
        IncompatibleError: the codebook is of other features.
        DataError: no image gave features.
    """
    _expect_same_sizes(images, codebook)
    index = AsmkIndex(codebook)
    for name, features in images:
        index.add(name, features, images.extractor.space)
    if not len(index):
        raise DataError(f"none of {len(images.items)} images gave local features; see the reasons")
    return index


def build_asmk(
    images: Extracted,
    *,
    train: Extracted | None = None,
    codebook: Path | None = None,
    words: int = WORDS,
    seed: int = 0,
) -> tuple[AsmkIndex, dict[str, str]]:
    """Index a map by a codebook that is read where it is there, and learned where not.

    Args:
        images: of the map.
        train: images to learn from; the map's by default.
        codebook: file to read, or to keep the learned one in.
        words, seed: of a codebook to learn.

    Returns:
        the index, and name and reason of each image that gave no features.

    Raises:
        DataError: no image gave features, or fewer than words.
        ModelError, IncompatibleError: the codebook is damaged, or of other features.
    """
    failures: dict[str, str] = {}
    if codebook is not None and codebook.is_file():
        learned = Codebook.load(codebook)
    else:
        training = train or images
        learned = learn_codebook(training, words, seed)
        failures |= training.failures
        if codebook is not None:
            learned.save(codebook)
    index = index_images(images, learned)
    return index, failures | images.failures


def ranking(
    scores: Mapping[str, npt.NDArray[np.float64]], names: Sequence[str], k: int
) -> dict[str, list[tuple[str, float]]]:
    """The ``k`` best images of each query, of equal ones the first indexed.

    Args:
        scores: of :func:`search_images`.
        names: of the index.
        k: images of each query.
    """
    best = {query: np.argsort(-row, kind="stable")[:k] for query, row in scores.items()}
    return {query: [(names[at], float(scores[query][at])) for at in rows] for query, rows in best.items()}


def search_images(images: Extracted, index: AsmkIndex) -> dict[str, npt.NDArray[np.float64]]:
    """Scores of all indexed images for each query, float64 ``[len(index)]`` by the query's name.

    Raises:
        IncompatibleError: features of another space than the index's.
    """
    _expect_same_sizes(images, index.codebook)
    return {name: index.search(features, space=images.extractor.space) for name, features in images}


def _expect_same_sizes(images: Extracted, codebook: Codebook) -> None:
    """Refuse, before anything is extracted and with both rules named, features of images of other sizes."""
    extractor = images.extractor
    if codebook.space:
        rules = codebook.input_rule, extractor.input_rule
        expect_same_space(codebook.space, extractor.space, extractor.card.name, rules)
