"""Figure 7: the share of queries whose nearest neighbour was taken within d metres, by what the queries pass first.

Images of a reference domain are the map. Those of the other references are the queries: as they are, or translated into
the map's domain by each method. The map's own images are left as they are, for they are of the domain already.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloam.data.weak_pairs.pair_file import PairedImage, read_pair_file
from gloam.errors import GloamError, UsageError, require_all
from gloam.eval.retrieval.recall_distance import DistanceRecall, recall_within
from gloam.files import write_json, write_text
from gloam.heartbeat import Say
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.extract import ExtractOptions
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from gloam.workflows.evaluation.domains import SIZE, Method, open_towards
from gloam.workflows.reproduce.nearest import describe_paired, positions_of
from gloam.workflows.reproduce.published import PublishedTable, published
from gloam.workflows.reproduce.rows import PACKAGES, Missing
from gloam.workflows.reproduce.weakly_paired.miniature import Miniature, write_town_pairs
from gloam.workflows.reproduce.weakly_paired.networks import find_networks
from gloam.workflows.reproduce.weakly_paired.request import (
    PAIRS,
    PAPER,
    Generators,
    WeaklyPairedRequest,
    generators_of_papers,
    missing_pairs,
)

REFERENCES = ("WDO-1", "WDSn", "WDSu")  # overcast, snow, sun; which of the paper's overcast ones is not stated
OF_TOWN = ("overcast", "snow", "sun")
UNTRANSLATED = "no translation"
METHODS = ("FINAL", "SPADE_org", "GANimation")  # of the figure
DISTANCES = tuple(float(metres) for metres in (1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50))
FILES = ("figure7.csv", "figure7.json")


@dataclass(frozen=True)
class Curve:
    """One line of the figure.

    Attributes:
        network: that describes the images.
        reference: domain of the map.
        method: that the queries pass.
        scores: of all queries, and by their domain.
    """

    network: str
    reference: str
    method: str
    scores: DistanceRecall


@dataclass(frozen=True)
class Figure7:
    """What came out.

    Attributes:
        published: what is known of the paper's figure.
        curves: by network, reference and method.
        size: (width, height) that images were stretched to, pixels.
        missing: files that curves need.
        notes: to be read with it.
        output: folder of its files.
        page: with the curves; None where there is none.
    """

    published: PublishedTable
    curves: Sequence[Curve]
    size: tuple[int, int]
    missing: Sequence[Missing]
    notes: Sequence[str]
    output: Path = field(default_factory=Path)
    page: Path | None = None

    @property
    def ran(self) -> bool:
        """Whether there is any curve."""
        return bool(self.curves)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "paper": PAPER,
            "table": "figure7",
            "curves": [
                {"network": one.network, "reference": one.reference, "method": one.method, **one.scores.to_dict()}
                for one in self.curves
            ],
            "size": list(self.size),
            "missing": [{"path": str(item.path), "where": item.where} for item in self.missing],
            "notes": list(self.notes),
        }

    def to_csv(self) -> str:
        """A row for each point of each curve, of all queries and by their domain."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["network", "reference", "method", "queries", "count", "metres", "accuracy", "reachable", "chance"]
        )
        for curve in self.curves:
            for name, scores in {"all": curve.scores, **curve.scores.conditions}.items():
                points = zip(scores.distances, scores.recall[1], scores.reachable, scores.chance, strict=True)
                for metres, *shares in points:
                    named = [curve.network, curve.reference, curve.method, name, scores.queries, f"{metres:g}"]
                    writer.writerow([*named, *(f"{share:.6g}" for share in shares)])
        return text.getvalue()

    def rows(self) -> list[list[str | int | float | None]]:
        """Accuracy in per cent at some distances, curve by curve."""
        found: list[list[str | int | float | None]] = []
        for curve in self.curves:
            named = [curve.network, curve.reference, curve.method]
            found.append([*named, *(round(100 * value, 1) for value in at_shown(curve.scores.recall[1]))])
        return found

    def to_text(self) -> str:
        """Accuracy at some distances, then what is missing and where the figure is."""
        lines = [f"{PAPER}, figure 7: {self.published.title}", ""]
        if self.curves:
            shown = [f"{metres:g} m" for metres in at_shown(DISTANCES)]
            lines.append(f"{'network':<22}{'map':<12}{'queries pass':<18}" + "".join(f"{text:>8}" for text in shown))
            for network, reference, method, *shares in self.rows():
                cells = "".join(f"{share:>8}" for share in shares)
                lines.append(f"{network:<22}{reference:<12}{method:<18}{cells}")
            lines.append("% of queries whose nearest neighbour was taken within the distance")
        lines += ["", self.published.note, *self.notes]
        if self.missing:
            lines += ["", f"missing, {len(self.missing)} files or folders:"]
            lines += [f"  {item.path}\n      {item.where}" for item in self.missing]
        return "\n".join(
            [*lines, *(str(self.output / name) for name in FILES), *([] if self.page is None else [str(self.page)])]
        )


def reproduce_figure_7(
    request: WeaklyPairedRequest, miniature: Miniature | None = None, say: Say | None = None
) -> Figure7:
    """Draw every curve that there is something for; the same call carries on.

    Args:
        request: what and with what.
        miniature: of the town, which is rendered and trained on; None for the pair file of the data folder.
        say: gets one line per step.

    Raises:
        UsageError: references that the pairs do not have, or fewer than two.
        GloamError: a file that is there and cannot be used. A method whose training cannot be done is a note instead.
    """
    tell = say or (lambda line: None)
    table = published(PAPER, "figure7")
    missing = [] if miniature is not None else missing_pairs(request)
    if missing:
        return _written(Figure7(table, (), SIZE, missing, (), request.output))
    require_all(PACKAGES, "reproduce a figure")
    learned = pairs = request.data / PAIRS
    size = SIZE
    if miniature is not None:
        learned, pairs = write_town_pairs(request.output / "town", miniature, tell)
        size = miniature.size
    images = read_pair_file(pairs, "test")
    references = _references(request, images.domains, miniature)
    supply = generators_of_papers(request, images.domains)
    if miniature is not None:
        supply = Generators(request, learned, request.output / "runs", images.domains, miniature.recipes())
    notes = [f"Images are stretched to {size[0]}x{size[1]} px; the map's are left untranslated, being of its domain."]
    methods: dict[str, Method | None] = {UNTRANSLATED: None}
    for row in request.rows or METHODS:
        try:
            model, absent = supply.find(row, tell)
            missing += absent
            if model is not None:
                methods[row] = open_towards(model, references, request.device)
        except GloamError as error:
            notes.append(f"{row}: {error}")
    networks, absent = find_networks(request, miniature, learned, tell)
    by_domain = {name: [one for one in images.images if images.domains[one.label] == name] for name in references}
    curves = []
    for name, file in networks.items():
        scorer = _Scorer(Embedder.load(file, Placement(device=request.device)), request.output / "stores", size, tell)
        for reference in references:
            curves += [
                Curve(name, reference, method, scorer.score(by_domain, reference, method, towards))
                for method, towards in methods.items()
            ]
    return _written(Figure7(table, curves, size, [*missing, *absent], notes, request.output))


@dataclass(frozen=True)
class _Scorer:
    embedder: Embedder
    stores: Path
    size: tuple[int, int]
    say: Say

    def score(
        self, images: Mapping[str, Sequence[PairedImage]], reference: str, method: str, towards: Method | None
    ) -> DistanceRecall:
        """The images of the other domains, by a method, in those of the reference."""
        queries = {name: found for name, found in images.items() if name != reference}
        asked = [one for found in queries.values() for one in found]
        embedder = self.embedder
        if towards is not None:
            embedder = Embedder(embedder.session, embedder.card.photometric, towards(reference))
        self.say(f"{self.embedder.card.name}, map {reference}, queries: {method}")
        database, described = self._described(self.embedder, images[reference]), self._described(embedder, asked)
        conditions = {name: [one.item.name for one in found] for name, found in queries.items()}
        places = (positions_of(asked), positions_of(images[reference]))
        return recall_within(described, database, *places, distances=DISTANCES, ks=(1,), conditions=conditions)

    def _described(self, embedder: Embedder, images: Sequence[PairedImage]) -> DescriptorStore:
        return describe_paired(images, embedder, self.stores, ExtractOptions(stretch=self.size))


def _references(request: WeaklyPairedRequest, known: Sequence[str], miniature: Miniature | None) -> tuple[str, ...]:
    wanted = tuple(request.references) or (REFERENCES if miniature is None else OF_TOWN)
    if absent := [name for name in wanted if name not in known]:
        raise UsageError(f"no reference {absent[0]!r} among the pairs; give --references of {', '.join(known)}")
    if len(set(wanted)) < 2 or len(set(wanted)) < len(wanted):
        raise UsageError(f"references {', '.join(wanted)}: two or more are needed, each once")
    return wanted


def at_shown(values: Sequence[float]) -> list[float]:
    """Of the distances that a table shows."""
    return [value for value, metres in zip(values, DISTANCES, strict=True) if metres in (1, 2, 5, 10, 25, 50)]


def _written(figure: Figure7) -> Figure7:
    write_text(figure.output / FILES[0], figure.to_csv())
    write_json(figure.output / FILES[1], figure.to_dict())
    return figure
