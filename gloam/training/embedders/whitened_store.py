"""A store whitened as it is asked for: by a whitening that is given, or by one learned from a sample of a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gloam.errors import DataError, UsageError
from gloam.files import sha256_file
from gloam.heartbeat import Say, log, to_stderr
from gloam.model_card import expect_same_space
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.descriptors.whiten_store import LEARNED, WhitenedStore, whiten_store
from gloam.runtime.descriptors.whitening import Whitening
from gloam.runtime.output_folder import MANIFEST, refuse_nesting
from gloam.training.embedders.whitening import expect_memory, learn_pca, machine_memory

SAMPLES = 20_000  # images learned from by default; memory does not grow with the store


@dataclass(frozen=True)
class WhitenRequest:
    """What to whiten, by what.

    Attributes:
        store: folder of descriptors.
        output: folder of the new store.
        whitening: ``.npz`` or ``.safetensors`` file; None learns PCA.
        learn_from: store to learn from; by default the one to whiten.
        dimension: values to keep; all by default.
        shrinkage: see :func:`gloam.training.embedders.whitening.learn_pca`.
        exponent: likewise: 1 whitens, 0 only rotates.
        samples: images to learn from, drawn without replacement; 20 000 by default.
        seed: of that draw.
        trust: see :meth:`gloam.runtime.descriptors.store.DescriptorStore.open`.

    Raises:
        UsageError: options that do not go together.
    """

    store: Path
    output: Path
    whitening: Path | None = None
    learn_from: Path | None = None
    dimension: int | None = None
    shrinkage: int | None = None
    exponent: float | None = None
    samples: int | None = None
    seed: int = 0
    trust: bool = False

    def __post_init__(self) -> None:
        learned = (self.learn_from, self.shrinkage, self.exponent, self.samples)
        if self.whitening is not None and any(value is not None for value in learned):
            raise UsageError(
                "--whitening gives what is learned elsewhere; leave out --learn-from, --shrinkage, --exponent and "
                "--samples"
            )
        if self.samples is not None and self.samples < 2:
            raise UsageError(f"--samples {self.samples} must be at least 2")


def whiten(request: WhitenRequest, progress: bool = False) -> WhitenedStore:
    """Learn where nothing is given, and write the whitened store; the same call carries on after a kill.

    Args:
        request: which store, by what, and where to.
        progress: say on stderr what is done and how far it is.

    Raises:
        UsageError: a dimension, shrinkage or exponent that cannot be, or more memory than the machine has.
        StoreError, IncompatibleError, DataError: see :func:`gloam.runtime.descriptors.whiten_store.whiten_store`.
        ModelError: no whitening in the file.
    """
    store = DescriptorStore.open(request.store, trust=request.trust)
    refuse_nesting(store.folder, request.output)
    if request.whitening is None:
        learned = _learned(request, store, to_stderr if progress else log)
        return whiten_store(store, learned, request.output, keep=True, progress=progress)
    given = Whitening.load(request.whitening)
    given = given if request.dimension is None else given.reduced(request.dimension)
    return whiten_store(store, given, request.output, progress=progress)


def _learned(request: WhitenRequest, store: DescriptorStore, say: Say) -> Whitening:
    """PCA of a sample, or what a killed run of the same request has learned."""
    source = store
    if request.learn_from is not None:
        source = DescriptorStore.open(request.learn_from, trust=request.trust)
        expect_same_space(store.space, source.space, str(source.folder), (store.input_rule, source.input_rule))
    count = min(len(source), request.samples or SAMPLES)
    if count < 2:
        raise DataError(f"{source.folder}: {len(source)} descriptors are too few to learn a whitening from")
    exponent = 1.0 if request.exponent is None else request.exponent
    asked = {
        "dimension": request.dimension,
        "shrinkage": request.shrinkage,
        "exponent": exponent,
        "seed": request.seed,
        "samples": count,
        "manifest_sha256": sha256_file(source.folder / MANIFEST),
    }
    kept = request.output / LEARNED
    if kept.is_file() and (found := Whitening.load(kept)).provenance.get("asked") == asked:
        return found
    expect_memory(count, source.dimension, request.dimension, request.shrinkage is not None, machine_memory())
    say(f"learning from {count} descriptors of {source.folder}")
    rows = np.sort(np.random.default_rng(request.seed).choice(len(source), count, replace=False))
    learned = learn_pca(source.take(rows), request.dimension, shrinkage=request.shrinkage, exponent=exponent)
    return learned.said({"space": source.space, "asked": asked})
