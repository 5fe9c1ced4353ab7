"""ASMK over image files: learn a codebook, index a map, search it (Tolias et al. 2020, sections 3 and 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.data.sources import ImageItem, find_images
from gloam.errors import DataError, ImageError, ModelError, UsageError, require
from gloam.files import expect_output
from gloam.heartbeat import progress_bar
from gloam.model_card import InputRule, expect_same_space
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.local_features import STRONGEST, LocalExtractor
from gloam.runtime.search.asmk import WORDS, AsmkIndex, Codebook

SHOWN = 5  # failures in a report
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

    def __iter__(self) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Name and features, float32 ``[n, D]``, of each image that has some."""
        with progress_bar(len(self.items)) as bar:
            for item in self.items:
                try:
                    if item.problem is not None:
                        raise ImageError(item.problem)
                    rule = self.extractor.input_rule
                    pixels = decode_image(item.read(), rule=rule)
                    found = self.extractor([pixels])[0].descriptors
                    if not np.isfinite(found).all():
                        raise ImageError("a local feature is not finite")
                    yield item.name, found
                except ImageError as error:
                    self.failures[item.name] = str(error)
                bar.update(1)


@dataclass(frozen=True)
class LocalImages:
    """Images by their local features, as they are asked for.

    Attributes:
        model: exported, of kind ``local_features``.
        source: folder, text list or kapture dataset.
        root: folder that a list's names are relative to; the list's by default.
        max_side: longer side after reduction, pixels; 0 keeps native sizes. None: the model's own input rule.
        strongest: local features of each image.
        placement: of the model.
    """

    model: Path
    source: Path
    root: Path | None = None
    max_side: int | None = None
    strongest: int = STRONGEST
    placement: Placement = field(default_factory=Placement)

    def open(self) -> Extracted:
        """Load the model and find the images."""
        rule = None if self.max_side is None else InputRule.of(self.max_side)
        extractor = LocalExtractor.load(self.model, self.placement, strongest=self.strongest, input_rule=rule)
        if extractor.card.keypoints is not None:
            raise ModelError(
                f"{self.model}: gives keypoints for poses, not features for ASMK; export a HOW network with "
                "--local-features"
            )
        return Extracted(extractor, find_images(self.source, self.root))


@dataclass(frozen=True)
class AsmkRequest:
    """An index to build.

    Attributes:
        images: of the map.
        output: ``.npz`` file to write.
        train: source of the images that a codebook is learned from; the map's by default.
        codebook: file to read, or to keep the learned one in.
        words: of a codebook to learn, :data:`~gloam.runtime.search.asmk.WORDS` by default; of one that is read, what
            it must have.
        seed: of a codebook to learn.
    """

    images: LocalImages
    output: Path
    train: Path | None = None
    codebook: Path | None = None
    words: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class BuiltAsmk:
    """An index that was written.

    Attributes:
        output: the file.
        images, words: how many it has.
        learned_from: source of the codebook's images; None where the codebook was read.
        failures: name and reason of each image that gave no features.
    """

    output: Path
    images: int
    words: int
    learned_from: str | None
    failures: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "index": str(self.output),
            "images": self.images,
            "words": self.words,
            "failures": dict(self.failures),
        }

    def __str__(self) -> str:
        """Lines for people."""
        learned = "read" if self.learned_from is None else f"learned from {self.learned_from}"
        text = f"{self.output}: {self.images} images, {self.words} words, {learned}"
        return "\n".join([text, *said_failures(self.failures)])


def said_failures(failures: Mapping[str, str]) -> list[str]:
    """The first reasons in lines for people, and how many more there are."""
    shown = [f"no features: {name}: {reason}" for name, reason in list(failures.items())[:SHOWN]]
    return [*shown, *([f"and {len(failures) - SHOWN} more"] if len(failures) > SHOWN else [])]


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
    require("faiss", "cpu", "learn a codebook")  # before any feature is found
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
    index.failures = dict(images.failures)
    return index


def build_asmk(request: AsmkRequest) -> BuiltAsmk:
    """Index a map by a codebook that is read where it is there, and learned where not; write the index.

    Raises:
        DataError: no image gave features, or fewer than words.
        ModelError, IncompatibleError: the model or the codebook is damaged, or the codebook is of other features.
        UsageError: an output that is no ``.npz`` file, or the codebook itself; or another number of words.
        StoreError: not writable.
    """
    failures: dict[str, str] = {}
    codebook, train = request.codebook, request.train
    given = codebook is not None and codebook.is_file()
    training = None if given or train is None else replace(request.images, source=train).open()
    images = request.images.open()
    _expect_files(request)
    if codebook is not None and given:
        learned = Codebook.load(codebook)
        if request.words not in (None, learned.words):
            raise UsageError(
                f"{codebook}: has {learned.words} words, and --words {request.words} are asked for; leave --words out, "
                "or name another codebook"
            )
    else:
        training = training or images
        learned = learn_codebook(training, request.words or WORDS, request.seed)
        failures |= training.failures
        if codebook is not None:
            learned.save(codebook)
    index = index_images(images, learned)
    index.save(request.output)
    source = None if given else str(train or "the map itself")
    return BuiltAsmk(request.output, len(index), learned.words, source, failures | images.failures)


def _expect_files(request: AsmkRequest) -> None:
    expect_output(request.output, ".npz", "an index")
    if request.codebook is not None and request.codebook.resolve() == request.output.resolve():
        raise UsageError(f"{request.output}: is the codebook; name another file for the index")
    if request.words is not None and request.words < 1:
        raise UsageError(f"--words {request.words}: a codebook has 1 or more")


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
