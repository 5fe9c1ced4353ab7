"""The formulas of self-tests: what is fed to a model, and what is kept of its outputs; the same in any language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import ModelError
from gloam.model_card import FeatureRule, KeypointRule, ModelCard, SelfTest, TensorSpec
from gloam.model_card.selftest import CONDITIONS, FEATURES, IMAGES, FeatureFormula, Formula, formula_of_kind


def selftest_images(
    shape: tuple[int, int, int], sizes: Sequence[tuple[int, int]], formula: Formula = IMAGES, beyond: int = 255
) -> npt.NDArray[np.uint8]:
    """The self-test's input by closed formula, the same in any language.

    By default ``image[b, y, x, c] = (x*x*3 + y*y*5 + x*y*7 + 37*b + 59*c) // 97 % 256`` inside the valid size and 255
    beyond it, so that a model that reads its padding fails the test.

    Args:
        shape: batch, height, width.
        sizes: valid (h, w) per image.
        formula: as a card states it.
        beyond: the valid size.

    Returns:
        uint8 ``[B, H, W, 3]``.
    """
    batch, height, width = shape
    b, y, x, c = np.ogrid[:batch, :height, :width, :3]
    values = np.broadcast_to(formula.values(b=b, y=y, x=x, c=c), (*shape, 3))
    images: npt.NDArray[np.uint8] = values.astype(np.uint8)
    for row, (valid_height, valid_width) in enumerate(sizes):
        images[row, valid_height:] = beyond
        images[row, :, valid_width:] = beyond
    return images


def selftest_inputs(card: ModelCard, test: SelfTest) -> dict[str, npt.NDArray[Any]]:
    """What a self-test feeds, by the names of the graph's inputs."""
    formula = card.formula
    if card.takes is not None:
        return selftest_features(card.takes, test.shape, test.sizes, formula.features or FEATURES)
    images = selftest_images(test.shape, test.sizes, formula.images or IMAGES, formula.beyond)
    inputs: dict[str, npt.NDArray[Any]] = {"images": images[..., : int(card.inputs[0].shape[3])]}
    if any(spec.name == "sizes" for spec in card.inputs):
        inputs["sizes"] = np.asarray(test.sizes, np.int32)
    return inputs | selftest_conditions(card.inputs, test.shape, formula.conditions or CONDITIONS)


def selftest_conditions(
    specs: Sequence[TensorSpec], shape: tuple[int, int, int], formula: Formula = CONDITIONS
) -> dict[str, npt.NDArray[Any]]:
    """What a self-test feeds to the inputs that have a default, by closed formula, the same in any language.

    A default of several values, the code of a domain, is turned by as many places as the image has before it: image b
    gets ``default[(k - b) % K]``. An input of one value gets by default ``((k*k*3 + 7*k + 37*b) % 97 - 48) / 24`` at
    its k-th number in C order.

    Args:
        specs: inputs of a card; those without a default are left out.
        shape: batch, height, width.
        formula: as a card states it.

    Returns:
        arrays by name, of the dtypes that the card states.
    """
    made: dict[str, npt.NDArray[Any]] = {}
    for spec in specs:
        if spec.default is None:
            continue
        filled = spec.filled(*shape)
        if len(spec.default) > 1:
            made[spec.name] = np.stack([np.roll(row, at, -1) for at, row in enumerate(filled)])
            continue
        b, k = np.ogrid[: shape[0], : filled[0].size]
        values = np.broadcast_to(formula.values(b=b, k=k), (shape[0], filled[0].size))
        made[spec.name] = values.reshape(filled.shape).astype(filled.dtype)
    return made


def selftest_features(
    takes: FeatureRule,
    shape: tuple[int, int, int],
    sizes: Sequence[tuple[int, int]],
    formula: FeatureFormula = FEATURES,
) -> dict[str, npt.NDArray[Any]]:
    """The features of a matcher's self-test by closed formula, the same in any language.

    Of the features that a :class:`FeatureFormula` describes either image shows some, in an order of its own; those of
    the second are a little elsewhere and a little other. The padding holds 9999 throughout, so that a model that reads
    it fails the test.

    Args:
        takes: what the matcher is for.
        shape: pairs, and padded numbers of keypoints of the first and the second image.
        sizes: numbers of keypoints of each pair, at most those of the formula.
        formula: as a card states it.

    Returns:
        arrays by the names and dtypes of ``matcher_inputs``.

    Raises:
        ModelError: more keypoints than the formula has.
    """
    pairs, number = shape[0], formula.number
    if max(map(max, sizes)) > number:
        raise ModelError(f"the self-test feeds {max(map(max, sizes))} keypoints of {number} features")
    b, g, j = np.ogrid[:pairs, :number, : takes.dimension]
    places = np.stack(
        [np.broadcast_to(side.values(g=g, b=b), (pairs, number, 1))[..., 0] for side in (formula.x, formula.y)], -1
    )
    values = np.broadcast_to(formula.descriptor.values(g=g, j=j, b=b), (pairs, number, takes.dimension))
    inputs: dict[str, npt.NDArray[Any]] = {}
    for at in (0, 1):
        order = formula.order[at].values(i=np.arange(number))
        seen = values.astype(np.float64) + formula.blend[at] * np.roll(values, -1, 1)
        rows = {
            "keypoints": places + formula.shift[at] + takes.origin,
            "descriptors": seen / np.linalg.norm(seen, axis=2, keepdims=True),
        }
        if takes.oriented:
            turns = {"scales": formula.scale, "orientations": formula.orientation}
            rows |= {name: np.broadcast_to(each.values(g=g)[..., 0], (pairs, number)) for name, each in turns.items()}
        for name, each in rows.items():
            padded = np.full((pairs, shape[1 + at], *each.shape[2:]), formula.beyond, np.float32)
            for pair, counts in enumerate(sizes):
                padded[pair, : counts[at]] = each[pair, order[: counts[at]]]
            inputs[f"{name}{at}"] = padded
        inputs[f"sizes{at}"] = np.broadcast_to(np.array(formula.sizes[at], np.int32), (pairs, 2)).copy()
    return inputs | {"counts": np.asarray(sizes, np.int32)}


def block_means(maps: npt.NDArray[Any], blocks: int = 8) -> npt.NDArray[np.float64]:
    """Means over a grid of ``blocks`` x ``blocks``: what a self-test keeps of an output image.

    Args:
        maps: ``[B, H, W]`` or ``[B, H, W, C]``, sides of at least ``blocks``; block i begins at ``i * H // blocks``.

    Returns:
        float64 ``[B, blocks, blocks]``, or with C behind.
    """
    sums = maps.astype(np.float64)
    for axis in (1, 2):
        starts = np.arange(blocks) * maps.shape[axis] // blocks
        counts = np.diff(starts, append=maps.shape[axis])
        shape = [1] * maps.ndim
        shape[axis] = blocks
        sums = np.add.reduceat(sums, starts, axis=axis) / counts.reshape(shape)
    return sums


def weighted_mean(features: npt.NDArray[Any], attention: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Mean of an image's local features, weighted by their attention: what a self-test keeps of them.

    Args:
        features: ``[B, N, D]``.
        attention: ``[B, N]``, not negative.

    Returns:
        float64 ``[B, D]``.
    """
    weights = attention.astype(np.float64)[..., None]
    mean: npt.NDArray[np.float64] = (features.astype(np.float64) * weights).sum(1) / weights.sum(1)
    return mean


def matched_scores(matches: npt.NDArray[Any], scores: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """What a self-test keeps of matches: the scores, and beside them which keypoint each goes to.

    Args:
        matches: ``[B, K]``, a row of the second image or -1.
        scores: ``[B, K]`` in [0, 1].

    Returns:
        float64 ``[B, 2, K]``: scores, and scores times ``(match + 1) / K``, which is 0 where there is none.
    """
    rows = (matches.astype(np.float64) + 1) / matches.shape[1]
    return np.stack((scores, scores * rows), 1).astype(np.float64)


def keypoint_summary(
    keypoints: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    descriptors: npt.NDArray[Any],
    count: npt.NDArray[Any],
    threshold: float = 0.0,
) -> npt.NDArray[np.float64]:
    """What a self-test keeps of keypoints: means that do not know their order, and to which the weakest add nothing.

    Two backends may swap keypoints of nearly equal scores, or one that just gets in for one that just does not. So a
    keypoint weighs what its score is above the weakest one's (above the threshold where there is room for more), by
    the largest of these. A place or descriptor that is wrong, or another keypoint's, moves the means by its weight.

    Args:
        keypoints: ``[B, K, 2]``, pixels.
        scores: ``[B, K]``.
        descriptors: ``[B, K, D]``.
        count: ``[B]``, of valid rows, which come first.
        threshold: of a score.

    Returns:
        float64 ``[B, 10 + 3 D]``: the largest score's share and the sum of the weights by the room; then weighted
        means: of x and y by 64 px, of sine and cosine of each at periods of 16 px and, of sines, 64 px; and of the
        descriptors, alone and times either sine of 64 px. All 0 where there is no keypoint.
    """
    rows = []
    for row in range(len(keypoints)):
        number = int(count[row])
        x, y = keypoints[row, :number].astype(np.float64).T
        score, described = scores[row, :number].astype(np.float64), descriptors[row, :number].astype(np.float64)
        if not number:
            rows.append(np.zeros(10 + 3 * descriptors.shape[2]))
            continue
        least = score.min() if number == scores.shape[1] else min(score.min(), threshold)
        most = score.max()
        weights = (score - least) / (most - least) if most > least else np.ones(number)
        slow = [np.sin(2 * np.pi * side / 64) for side in (x, y)]
        fast = [turn(2 * np.pi * side / 16) for side in (x, y) for turn in (np.sin, np.cos)]
        values = np.stack([x / 64, y / 64, *fast, *slow], 1)
        means = (weights @ values) / weights.sum()
        bound = np.concatenate([(weights * factor) @ described for factor in (1, *slow)]) / weights.sum()
        rows.append(np.concatenate(([most / (1 + abs(most)), weights.sum() / scores.shape[1]], means, bound)))
    return np.stack(rows)


def selftest_digest(
    kind: str, outputs: Sequence[npt.NDArray[Any]], keypoints: KeypointRule | None = None
) -> npt.NDArray[Any]:
    """What a self-test keeps of the outputs of a model.

    Args:
        kind: of the model.
        outputs: in the order of its card; one row an image.
        keypoints: of its card.

    Returns:
        one row an image: descriptors as they are, :func:`block_means` of images and maps, :func:`weighted_mean` of
        local features, :func:`keypoint_summary` of keypoints; one row a pair: :func:`matched_scores` of matches.
    """
    digest = formula_of_kind(kind, keypoints is not None).digest
    if digest == "matched_scores":
        return matched_scores(outputs[0], outputs[1])
    if digest == "keypoint_summary" and keypoints is not None:
        points, scores, descriptors, count = outputs
        return keypoint_summary(points, scores, descriptors, count, keypoints.threshold)
    if digest == "block_means":
        return block_means(outputs[0])
    return weighted_mean(outputs[0], outputs[1]) if digest == "weighted_mean" else outputs[0]
