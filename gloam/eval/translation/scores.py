"""All metrics of a set of translated images, and of its controls, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gloam.errors import DataError, ImageError
from gloam.eval.translation.cycle import cycle_error
from gloam.eval.translation.features import (
    ClassExtractor,
    EmbeddingExtractor,
    FeatureExtractor,
    Features,
    distance_meaning,
    expect_pair,
)
from gloam.eval.translation.frechet import frechet_distance
from gloam.eval.translation.images import ImageSet
from gloam.eval.translation.inception_score import inception_score
from gloam.eval.translation.kernel import kernel_distance
from gloam.eval.translation.mmd import gaussian_discrepancy
from gloam.eval.translation.prd import precision_recall
from gloam.eval.translation.sift import SiftDistance, pair_distance
from gloam.eval.translation.structural import multi_scale_ssim, set_similarity, ssim


@dataclass(frozen=True)
class Figure:
    """One number of one set.

    Attributes:
        value: None where it is undefined; ``note`` then says why.
        images: how many images of the set, or pairs, it is over.
        against: what it is measured against, e.g. ``20 real images``.
        spread: standard deviation, where there is one.
        undefined: share of pairs without a value, where that can happen.
        of_features: whether the extractor's weights belong beside it.
        note: why there is no value.
    """

    value: float | None
    images: int
    against: str = ""
    spread: float | None = None
    undefined: float | None = None
    of_features: bool = False
    note: str = ""


@dataclass(frozen=True)
class TranslationScores:
    """Figures by set and metric.

    Attributes:
        sets: set name -> metric name -> figure; ``real`` holds what real images score by themselves.
        resize: how all images were read, in words.
        features: name of the extractor.
        weights_sha256: of its weights or its file.
        meaning: of distances whose name does not say the space, in words, by name.
    """

    sets: Mapping[str, Mapping[str, Figure]]
    resize: str
    features: str
    weights_sha256: str
    meaning: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON form: every figure with its N, resize mode and, where it has any, weights."""
        return {
            "features": self.features,
            "weights_sha256": self.weights_sha256,
            "resize": self.resize,
            "meaning": dict(self.meaning),
            "sets": {
                name: {metric: self._figure(figure) for metric, figure in figures.items()}
                for name, figures in self.sets.items()
            },
        }

    def _figure(self, figure: Figure) -> dict[str, Any]:
        found = {key: value for key, value in vars(figure).items() if value not in (None, "") and key != "of_features"}
        found |= {"value": figure.value, "resize": self.resize}
        return found | ({"weights_sha256": self.weights_sha256} if figure.of_features else {})


@dataclass(frozen=True)
class Partners:
    """Other images of the same names, for metrics of pairs; each may be absent.

    Attributes:
        day: the day image that each fake (and each control image) was made of.
        target: a real night photograph of its place.
        day_cycle: ``day`` after day→night→day.
        real_cycle: the real images after night→day→night.
    """

    day: ImageSet | None = None
    target: ImageSet | None = None
    day_cycle: ImageSet | None = None
    real_cycle: ImageSet | None = None


@dataclass(frozen=True)
class _Described:
    features: Features
    logits: Features | None


def score_translation(
    real: ImageSet,
    sets: Sequence[ImageSet],
    extractor: FeatureExtractor,
    partners: Partners = Partners(),
    *,
    seed: int = 0,
    advance: Callable[[int], object] = lambda count: None,
) -> TranslationScores:
    """Every metric that the given images allow.

    Args:
        real: real images of the target domain.
        sets: the translated images first, then the controls, which get the same metrics.
        extractor: of the features.
        partners: for the metrics of pairs.
        seed: of subsets, clusterings and drawn pairs.
        advance: called with the number of images described so far since the last call.

    Raises:
        ImageError: an image that cannot be read.
        DataError: partners without a name in common, or features that are not finite.
    """
    _check(real, sets, partners)
    truth = _describe(real, extractor, advance)
    results = {real.name: _alone(real, truth, seed)}
    for each in sets:
        described = _describe(each, extractor, advance)
        figures = _distances(truth.features, described.features, extractor, seed) | _alone(each, described, seed)
        for partner in (partners.day, partners.target):
            if partner is not None:
                figures |= _paired(each, partner)
        results[each.name] = figures
    main = results[sets[0].name]
    if partners.day is not None and partners.day_cycle is not None:
        main |= _cycle("cycle L1 of day", partners.day_cycle, partners.day)
    if partners.real_cycle is not None:
        main |= _cycle("cycle L1 of real", partners.real_cycle, real)
    return TranslationScores(
        results, str(real.resize), extractor.name, extractor.weights_sha256, distance_meaning(extractor)
    )


def compare_features(real: Features, fake: Features, seed: int = 0) -> dict[str, Figure]:
    """FID, KID and PRD's two summaries.

    Args:
        real: ``[n, D]``.
        fake: ``[m, D]``.
        seed: of subsets and clusterings.

    Raises:
        DataError: not two tables of finite features of one width. Too few images is a note instead.
    """
    expect_pair(real, fake)
    count, against = len(fake), f"{len(real)} real"

    def distance() -> Figure:
        return Figure(frechet_distance(real, fake), count, against, of_features=True)

    def kernel() -> Figure:
        found = kernel_distance(real, fake, seed=seed)
        spread = found.std if found.subsets > 1 else None
        return Figure(found.mean, count, against, spread, of_features=True)

    figures = {"FID": _or_note(distance, count), "KID": _or_note(kernel, count)}
    try:
        curve = precision_recall(real, fake, seed=seed)
    except DataError as error:
        return figures | {name: Figure(None, count, note=str(error)) for name in ("F_8 recall", "F_1/8 precision")}
    against = f"{curve.images} real"  # sets of equal size
    return figures | {
        "F_8 recall": Figure(curve.f_recall, curve.images, against, of_features=True),
        "F_1/8 precision": Figure(curve.f_precision, curve.images, against, of_features=True),
    }


def _distances(real: Features, fake: Features, extractor: FeatureExtractor, seed: int) -> dict[str, Figure]:
    """:func:`compare_features` by the names of the space, and MMD where its rows are embeddings."""
    found = compare_features(real, fake, seed)
    if not isinstance(extractor, EmbeddingExtractor):
        return found
    count = len(fake)

    def discrepancy() -> Figure:
        return Figure(gaussian_discrepancy(real, fake), count, f"{len(real)} real", of_features=True)

    named = {extractor.frechet if name == "FID" else name: figure for name, figure in found.items()}
    return named | {"MMD": _or_note(discrepancy, count)}


def table(scores: TranslationScores) -> str:
    """Metrics by sets, N in brackets, with what every row is against at its end; notes below."""
    metrics = list(dict.fromkeys(metric for figures in scores.sets.values() for metric in figures))
    rows, notes = [["", *scores.sets, "against"]], []
    for metric in metrics:
        found = {name: figures[metric] for name, figures in scores.sets.items() if metric in figures}
        notes += [f"{metric} of {name}: {figure.note}" for name, figure in found.items() if figure.note]
        shown = [figure for figure in found.values() if figure.value is not None] or list(found.values())
        against = dict.fromkeys([figure.against for figure in shown if figure.against])
        beside = [" or ".join(against), scores.resize]
        if any(figure.of_features for figure in shown):
            beside.append(f"weights {scores.weights_sha256[:12]}")
        cells = [_cell(found[name]) if name in found else "" for name in scores.sets]
        rows.append([metric, *cells, "; ".join(part for part in beside if part)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(f"features: {scores.features}, weights sha256 {scores.weights_sha256}")
    lines += [f"{name}: {meaning}" for name, meaning in scores.meaning.items()]
    lines.append("in brackets: images or pairs that the figure is over; compare only figures of equal N and resizing")
    return "\n".join(lines + notes)


def _cell(figure: Figure) -> str:
    if figure.value is None:
        return f"- [{figure.images}]"
    spread = "" if figure.spread is None else f" ± {figure.spread:.2g}"
    undefined = "" if figure.undefined is None else f", {figure.undefined:.0%} undefined"
    return f"{figure.value:.4g}{spread} [{figure.images}{undefined}]"


def _check(real: ImageSet, sets: Sequence[ImageSet], partners: Partners) -> None:
    """Refuse before anything is computed."""
    names = [real.name, *(each.name for each in sets)]
    if len(set(names)) < len(names):
        raise DataError(f"two sets of one name among {', '.join(names)}; name each control differently")
    if partners.day_cycle is not None and partners.day is None:
        raise DataError("a day cycle needs the day images that it started from")
    for each in sets:
        for partner in (partners.day, partners.target):
            if partner is not None:
                each.pairs(partner)


def _describe(images: ImageSet, extractor: FeatureExtractor, advance: Callable[[int], object]) -> _Described:
    features, logits = [], []
    for batch in images.batches():
        if isinstance(extractor, ClassExtractor):
            found, scores = extractor.features_and_logits(batch)
            logits.append(scores)
        else:
            found = extractor.features(batch)
        features.append(found)
        advance(len(batch))
    return _Described(np.concatenate(features), np.concatenate(logits) if logits else None)


def _alone(images: ImageSet, described: _Described, seed: int) -> dict[str, Figure]:
    """What needs one set: Inception Score and diversity."""
    figures, logits = {}, described.logits
    if logits is not None:

        def classes() -> Figure:
            found = inception_score(logits)
            return Figure(found.mean, len(images), spread=found.std, of_features=True)

        figures["Inception Score"] = _or_note(classes, len(images))
    figures["MS-SSIM within"] = _or_note(
        lambda: Figure(set_similarity(images.read, len(images), seed=seed), len(images), "random pairs"), len(images)
    )
    return figures


def _paired(images: ImageSet, partner: ImageSet) -> dict[str, Figure]:
    rows = images.pairs(partner)
    measures = {"SSIM": ssim, "MS-SSIM": multi_scale_ssim, "SIFT distance": pair_distance}
    values: dict[str, list[float | None]] = {name: [] for name in measures}
    notes: dict[str, str] = {}
    for mine, theirs in rows:
        pair = images.read(mine), partner.read(theirs)
        for name in [name for name in measures if name not in notes]:
            try:
                values[name].append(measures[name](*pair))
            except DataError as error:
                notes[name] = str(error)
    figures, count, against = {}, len(rows), f"{partner.name} images"
    for name in measures:
        if name in notes:
            figures[f"{name} to {partner.name}"] = Figure(None, count, note=notes[name])
            continue
        found = SiftDistance.of(values[name])
        value, note = (None, "undefined for every pair") if math.isnan(found.mean) else (found.mean, "")
        undefined = found.undefined if name == "SIFT distance" else None
        figures[f"{name} to {partner.name}"] = Figure(value, count, against, undefined=undefined, note=note)
    return figures


def _cycle(metric: str, cycled: ImageSet, source: ImageSet) -> dict[str, Figure]:
    rows = source.pairs(cycled)
    found = cycle_error((source.read(mine), cycled.read(theirs)) for mine, theirs in rows)
    return {
        f"{metric} [-1,1]": Figure(found.l1, found.images, f"{source.name} images"),
        f"{metric} [0,1]": Figure(found.l1_unit, found.images, f"{source.name} images"),
    }


def _or_note(measure: Callable[[], Figure], images: int) -> Figure:
    """A figure, or why there is none."""
    try:
        return measure()
    except ImageError:  # a figure over the images that happen to be readable would not be the set's
        raise
    except DataError as error:
        return Figure(None, images, note=str(error))
