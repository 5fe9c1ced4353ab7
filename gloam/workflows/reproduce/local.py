"""HOW's rows of a paper's table: local features, a codebook of the training images, ASMK (Tolias et al. 2020).

The codebook is learned from the strongest features, at one scale, of the first 20 000 training images. The paper takes
1000 of each; here at most 4 million in all are held, which is 200 of each image, drawn from its 1000, unless more are
asked for. Queries and map
have features of seven scales. What an earlier run made below the output folder, of the same images, is used again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gloam.data.retrieval_sets.sfm import read_sfm
from gloam.errors import DataError, ModelError
from gloam.eval.retrieval.scores import evaluate_scores
from gloam.files import sha256_file
from gloam.model_card import InputRule
from gloam.runtime.models.local_features import LocalExtractor
from gloam.runtime.search.asmk import WORDS, AsmkIndex, Codebook
from gloam.runtime.search.asmk_images import SAMPLED, Extracted, index_images, learn_codebook, search_images
from gloam.workflows.evaluation.retrieval import fit_names
from gloam.workflows.reproduce.images import MAX_SIDE, OpenBenchmark, made_of
from gloam.workflows.reproduce.models import model_folder, open_weights, photometric_of
from gloam.workflows.reproduce.rows import TRAINING_IMAGES, TRAINING_TABLE

TRAINED_ON = 20_000  # images, the first of the set
SCALE = (1.0,)  # of the codebook's features


def score_local(
    weights: Path,
    opened: OpenBenchmark,
    root: Path,
    place: Path,
    words: int = WORDS,
    say: Callable[[str], None] = print,
    features_per_image: int | None = None,
) -> float:
    """mAP of a HOW network by ASMK, on 0..1; of revisited sets the medium setup.

    Args:
        weights: of the network, native or published.
        opened, root: the test set and the data folder.
        place: for models, codebooks and indexes.
        words: of the codebook.
        say: gets one line per image that gave no features.
        features_per_image: of a training image, for the codebook; None for as many as 4 million in all allow.

    Raises:
        ModelError: the weights hold no HOW network.
        DataError: no codebook can be learned, or an image of the ground truth is absent.
    """
    whole, single = (_extractor(weights, place, scales) for scales in (None, SCALE))
    folder = model_folder([weights], place)
    queries, items = opened.queries, opened.items
    training = _training(single, root)
    sampled = SAMPLED if features_per_image is None else features_per_image * len(training.items)
    learned = made_of(training.items) + ("" if features_per_image is None else f"-{features_per_image}")
    file = folder / f"codebook-{words}-{learned}.npz"
    if not file.is_file():
        found = learn_codebook(training, words, sampled=sampled)
        # The same network at one scale: its words serve the features of all scales.
        dataclasses.replace(found, space=whole.space).save(file)
    codebook = Codebook.load(file)
    path = folder / opened.benchmark.name / f"asmk-{words}-{learned}-{made_of(items)}.npz"
    if not path.is_file():
        images = Extracted(whole, items)
        made = index_images(images, codebook)
        for name, reason in images.failures.items():
            say(f"{name}: left out, {reason}")
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save(path)
    index = AsmkIndex.load(path)
    asked = Extracted(whole, queries)
    scores = search_images(asked, index)
    for name, reason in asked.failures.items():
        say(f"{name}: counts as not found, {reason}")
    every = [item.name for item in items]
    truth = fit_names(opened.truth, [item.name for item in queries], every)
    failed = {*asked.failures, *every} - set(index.names) - set(scores)
    return evaluate_scores(scores, index.names, truth, failed=failed).mAP


def local_facts(weights: Path, place: Path, origin: str, words: int) -> dict[str, Any]:
    """What a reader must know of a HOW network and its search.

    Raises:
        ModelError: the weights hold no HOW network.
    """
    card = _extractor(weights, place, None).card
    return {
        "weights": [{"file": str(weights), "sha256": sha256_file(weights)}],
        "network": card.name,
        "from": origin,
        "dimension": card.dimension,
        "recipe": card.provenance.get("recipe"),
        "whitened": f"local, ASMK of {words} words",
        "scales": list(card.scales),
        "photometric": card.photometric.name,
    }


def _extractor(weights: Path, place: Path, scales: Sequence[float] | None) -> LocalExtractor:
    from gloam.export.local_features import export_local_features
    from gloam.networks.embedders.how import HOW, SCALES

    folder = model_folder([weights], place)
    model = folder / ("local.onnx" if scales is None else "local-one-scale.onnx")
    if not model.is_file():
        network, provenance, _ = open_weights(weights)
        if not isinstance(network, HOW):
            raise ModelError(f"{weights}: holds no HOW network; this row is searched by local features")
        photometric = photometric_of(provenance)
        export_local_features(network, model, scales=scales or SCALES, photometric=photometric, provenance=provenance)
    return LocalExtractor.load(model, input_rule=InputRule.of(MAX_SIDE))


def _training(extractor: LocalExtractor, root: Path) -> Extracted:
    images = read_sfm(root / TRAINING_TABLE, root / TRAINING_IMAGES, "train").images
    if not images:
        raise DataError(f"{root / TRAINING_TABLE}: the training part has no images to learn a codebook from")
    return Extracted(extractor, images[:TRAINED_ON])
