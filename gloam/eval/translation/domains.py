"""Translation between many domains judged domain by domain, as Table 2 of weakly-paired translation (BMVC 2020) is.

For each domain: FID (and MMD, where the features are embeddings) between its real images and images of other domains
translated into it, and the SIFT distance of each translation to the weakly paired image of its place. The paper does
not state which sources feed a domain, how many images there are, nor their size; here they are part of what comes out.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from gloam.data.images import decode_image
from gloam.data.sources import ImageItem
from gloam.errors import DataError, ImageError, UsageError
from gloam.eval.translation.features import (
    EmbeddingExtractor,
    FeatureExtractor,
    Features,
    distance_meaning,
)
from gloam.eval.translation.frechet import frechet_distance
from gloam.eval.translation.images import Pixels
from gloam.eval.translation.mmd import gaussian_discrepancy
from gloam.eval.translation.sift import SiftDistance, pair_distance
from gloam.runtime.models.image_model import ImageOperation

UNTOUCHED = "untouched"
BATCH = 16  # images that are read, translated and described together
DRAW = 811  # keeps these random numbers apart from others of the same seed
Item = TypeVar("Item")
Towards = Callable[[str], ImageOperation]  # by the name of a domain


class JudgedPair(NamedTuple):
    """A source of one domain, and the weakly paired image of another that its translation is compared with."""

    source: ImageItem
    origin: str
    target: ImageItem


@dataclass(frozen=True)
class JudgedDomain:
    """What a domain is judged on.

    Attributes:
        name: of the domain.
        real: its images.
        pairs: sources of other domains.
    """

    name: str
    real: Sequence[ImageItem]
    pairs: Sequence[JudgedPair]


class DomainScore(NamedTuple):
    """One method in one domain; a figure is None where it has no value."""

    fid: float | None
    sift: float | None
    undefined: float | None
    images: int
    real: int
    mmd: float | None = None


FIGURES = ("FID", "SIFT")  # of the paper


@dataclass(frozen=True)
class DomainTable:
    """Figures by method and domain.

    Attributes:
        cells: scores by domain, by method.
        sources: how many images of each domain were translated, by domain that they were translated into.
        protocol: how it was measured, in words and numbers.
    """

    cells: Mapping[str, Mapping[str, DomainScore]]
    sources: Mapping[str, Mapping[str, int]]
    protocol: Mapping[str, Any] = field(default_factory=dict)

    @property
    def domains(self) -> tuple[str, ...]:
        """In the order of the table."""
        return tuple(self.sources)

    @property
    def figures(self) -> tuple[str, ...]:
        """What stands in the table: MMD too where the features are embeddings."""
        known = any(score.mmd is not None for scores in self.cells.values() for score in scores.values())
        return (*FIGURES, "undefined", "MMD") if known else (*FIGURES, "undefined")

    def mean(self, method: str, figure: str) -> float | None:
        """Plain mean over the domains that have a value; None where none has."""
        values = self._values(method, figure)
        return statistics.fmean(values) if values else None

    def std(self, method: str, figure: str) -> float | None:
        """Their sample standard deviation (ddof 1); None for fewer than two."""
        values = self._values(method, figure)
        return statistics.stdev(values) if len(values) > 1 else None

    def value(self, method: str, domain: str, figure: str) -> float | None:
        """``FID``, ``SIFT``, ``undefined`` or ``MMD`` of one method in one domain."""
        score = self.cells[method].get(domain)
        if score is None:
            return None
        return {"FID": score.fid, "SIFT": score.sift, "MMD": score.mmd, "undefined": score.undefined}[figure]

    def _at(self, domain: str, method: str, figure: str) -> float | None:
        return self.value(method, domain, figure)

    def _values(self, method: str, figure: str) -> list[float]:
        found = (self.value(method, domain, figure) for domain in self.domains)
        return [value for value in found if value is not None]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "protocol": dict(self.protocol),
            "sources": {name: dict(counts) for name, counts in self.sources.items()},
            "methods": {
                method: {
                    "domains": {domain: score._asdict() for domain, score in scores.items()},
                    "mean": {figure: self.mean(method, figure) for figure in self.figures},
                    "std": {figure: self.std(method, figure) for figure in self.figures},
                }
                for method, scores in self.cells.items()
            },
        }

    def to_csv(self) -> str:
        """A row for each method and domain, and for its mean and deviation."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["method", "domain", *self.figures, "translated", "real"])
        for method, scores in self.cells.items():
            for domain, score in scores.items():
                figures = (self.value(method, domain, what) for what in self.figures)
                writer.writerow([method, domain, *map(_exact, figures), score.images, score.real])
            for name, of in (("Mean", self.mean), ("Std", self.std)):
                writer.writerow([method, name, *(_exact(of(method, what)) for what in self.figures), "", ""])
        return text.getvalue()

    def to_text(self) -> str:
        """Domains by methods: FID, SIFT distance, in per cent the pairs that have none, and MMD where known."""
        methods = list(self.cells)
        width = max(map(len, (*self.domains, "Mean"))) + 2
        figures = self.figures
        heads = "FID    SIFT  no %" + ("     MMD" if "MMD" in figures else "")
        columns = [max(len(method) + 2, len(heads) + 5) for method in methods]

        def line(name: str, of: Callable[[str, str], float | None]) -> str:
            cells = (_cell(*(of(method, figure) for figure in figures)) for method in methods)
            return f"{name:<{width}}" + "".join(f"{cell:>{room}}" for cell, room in zip(cells, columns, strict=True))

        lines = [
            " " * width + "".join(f"{method:>{room}}" for method, room in zip(methods, columns, strict=True)),
            " " * width + "".join(f"{heads:>{room}}" for room in columns),
            *(line(domain, partial(self._at, domain)) for domain in self.domains),
            line("Mean", self.mean),
            line("Std", self.std),
        ]
        counts = [
            f"{domain}: {sum(found.values())} images ({', '.join(f'{n} {name}' for name, n in found.items())}) against "
            f"{next(iter(self.cells.values()))[domain].real} real"
            for domain, found in self.sources.items()
        ]
        stated = [f"{key}: {value}" for key, value in self.protocol.items()]
        note = "Lower is better. Std has ddof 1. SIFT is the mean over the pairs that have a distance; no % have none."
        return "\n".join([*lines, "", note, *stated, *counts])


def judged_domains(
    domains: Sequence[str],
    images: Sequence[tuple[ImageItem, int]],
    pairs: Sequence[tuple[int, int]],
    *,
    targets: Sequence[str] = (),
    origins: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
) -> list[JudgedDomain]:
    """What each domain is judged on, drawn from weak pairs.

    Args:
        domains: names.
        images: each with the index of its domain.
        pairs: rows of ``images`` that show one place in two domains.
        targets: domains to judge; all by default.
        origins: domains whose images are translated; all others of a pair by default.
        limit: most pairs and most real images of a domain, drawn by ``seed``; all by default.
        seed: 0 or more.

    Raises:
        UsageError: an unknown domain; the known ones are named. A limit under 2, of which there is no FID.
        DataError: a target without pairs of these origins.
    """
    for name in (*targets, *origins):
        if name not in domains:
            raise UsageError(f"unknown domain {name!r}; the images are of {', '.join(domains)}")
    if limit is not None and limit < 2:
        raise UsageError(f"{limit} images of a domain: 2 or more are needed for a distance of sets")
    found = []
    for name in targets or domains:
        label = domains.index(name)
        both = [(a, b) for pair in pairs for a, b in (pair, pair[::-1]) if images[b][1] == label]
        chosen = [(a, b) for a, b in both if not origins or domains[images[a][1]] in origins]
        if not chosen:
            raise DataError(f"domain {name!r} has no pairs with {', '.join(origins) or 'others'}; pair them first")
        real = [item for item, of in images if of == label]
        random = np.random.default_rng([seed, DRAW, label])
        kept = [chosen[at] for at in _drawn(len(chosen), limit, random)]
        shown = [real[at] for at in _drawn(len(real), limit, random)]
        judged = [JudgedPair(images[a][0], domains[images[a][1]], images[b][0]) for a, b in kept]
        found.append(JudgedDomain(name, shown, judged))
    return found


def score_domains(
    judged: Sequence[JudgedDomain],
    methods: Mapping[str, Towards],
    extractor: FeatureExtractor,
    size: tuple[int, int],
    advance: Callable[[int], object] = lambda count: None,
) -> DomainTable:
    """Translate, describe and compare.

    Args:
        judged: of :func:`judged_domains`.
        methods: what translates into a domain, by name; a control gives the same for every domain.
        extractor: of the features.
        size: (width, height) that every image is stretched to before it is translated, pixels.
        advance: called with the number of images that were described since the last call.

    Raises:
        ImageError: an image that cannot be read; the figures of the others would not be the set's.
        GloamError: whatever a method raises.
    """
    cells: dict[str, dict[str, DomainScore]] = {name: {} for name in methods}
    for domain in judged:
        described = []
        for part in _batches(domain.real):
            described.append(extractor.features([_read(item, size) for item in part]))
            advance(len(part))
        real = np.concatenate(described)
        for name, towards in methods.items():
            cells[name][domain.name] = _score(domain, towards(domain.name), real, extractor, size, advance)
    sources = {domain.name: dict(sorted(Counter(pair.origin for pair in domain.pairs).items())) for domain in judged}
    protocol = {
        "images": f"stretched to {size[0]}x{size[1]} px before they are translated",
        "features": extractor.name,
        "weights_sha256": extractor.weights_sha256,
        **distance_meaning(extractor, "FID"),
        "sources": "one source for each weak pair of a domain, translated into it and compared with its partner",
    }
    return DomainTable(cells, sources, protocol)


def _score(
    domain: JudgedDomain,
    operation: ImageOperation,
    real: Features,
    extractor: FeatureExtractor,
    size: tuple[int, int],
    advance: Callable[[int], object],
) -> DomainScore:
    described, distances = [], list[float | None]()
    for part in _batches(domain.pairs):
        made = operation([_read(pair.source, size) for pair in part])
        described.append(extractor.features(made))
        targets = (_read(pair.target, size) for pair in part)
        distances += [pair_distance(one, other) for one, other in zip(made, targets, strict=True)]
        advance(len(part))
    made_features = np.concatenate(described)
    fid, mmd = None, None
    try:
        fid = frechet_distance(real, made_features)
        if isinstance(extractor, EmbeddingExtractor):
            mmd = gaussian_discrepancy(real, made_features)
    except DataError:  # too few images
        pass
    sift = SiftDistance.of(distances)
    mean = None if sift.undefined == 1 else sift.mean
    return DomainScore(fid, mean, sift.undefined, len(distances), len(real), mmd)


def _read(item: ImageItem, size: tuple[int, int]) -> Pixels:
    try:
        if item.problem is not None:
            raise ImageError(item.problem)
        return decode_image(item.read(), stretch=size)
    except ImageError as error:
        raise ImageError(f"{item.path}: {error}; mend it or take it out of the pairs") from error


def _drawn(count: int, limit: int | None, random: np.random.Generator) -> list[int]:
    """Rows, ascending."""
    if limit is None or limit >= count:
        return list(range(count))
    return sorted(random.choice(count, limit, replace=False).tolist())


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[at : at + BATCH] for at in range(0, len(items), BATCH))


def _exact(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _cell(fid: float | None, sift: float | None, undefined: float | None, *mmd: float | None) -> str:
    one = "-" if fid is None else f"{fid:.3f}"
    other = "-" if sift is None else f"{sift:.3f}"
    share = "-" if undefined is None else f"{100 * undefined:.0f}"
    more = "".join(f"{'-' if value is None else f'{value:.3f}':>8}" for value in mmd)
    return f"{one}{other:>8}{share:>5}{more}"
