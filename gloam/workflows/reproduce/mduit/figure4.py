"""Figure 4: the image that each descriptor finds nearest to a query, of another domain than the map's.

The paper's picture is not known, only its text: the layout is ours. Images of the reference domain are the map; those
of the other domains are the queries, some of each of which are shown with the nearest map image by NetVLAD, by the
vector z, and by those that were trained without parts of its losses. A map image is a right one by position alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gloam.data.images import decode_image
from gloam.data.published.names import find_published
from gloam.data.sheets import FRAME, LINE, framed_picture
from gloam.data.town.drives.config import DrivesConfig
from gloam.data.weak_pairs.pair_file import PairedImage, WeakPairs
from gloam.errors import GloamError
from gloam.eval.retrieval.recall_distance import DistanceRecall, Points, recall_within
from gloam.files import write_json
from gloam.heartbeat import Say
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.extract import ExtractOptions
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.image_model import Pixels
from gloam.runtime.search.pairs import retrieve_pairs
from gloam.workflows.reproduce.localization.content import DRIVES
from gloam.workflows.reproduce.localization.request import MAX_SIDE
from gloam.workflows.reproduce.localization.supply import Weights
from gloam.workflows.reproduce.localization.table import SCALES
from gloam.workflows.reproduce.mduit.request import PAPER, MduitRequest
from gloam.workflows.reproduce.mduit.result import Figure, cell_size
from gloam.workflows.reproduce.mduit.runs import OpenPairs, open_pairs
from gloam.workflows.reproduce.models import RowEmbedder, open_embedder
from gloam.workflows.reproduce.nearest import describe_paired, positions_of
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.rows import CONTENT, Missing, row_files, row_source
from gloam.workflows.translation_grid import write_sheet

RIGHT = {False: 10.0, True: 5.0}  # metres from the query that a map image is a right one: of RobotCar, and of the town
SHOWN = 2  # queries of a domain
DRAW = 4  # of random numbers
SIDE = 256  # longer side of a picture that is shown, pixels
GREEN, RED = (30, 150, 60), (205, 40, 40)


@dataclass(frozen=True)
class Retrieved:
    """A row.

    Attributes:
        domain, query: of the query, and its name.
        nearest: name of the first map image, and metres from the query, by method.
    """

    domain: str
    query: str
    nearest: Mapping[str, tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class Figure4(Figure):
    """What came out.

    Attributes:
        right: metres within which a map image is a right one.
        queries: rows.
        scores: share of all queries whose first map image is a right one, by method, and by domain in it; with what a
            perfect ranking and a random one would have.
    """

    table: str = "figure4"
    right: float = 0.0
    queries: Sequence[Retrieved] = ()
    scores: Mapping[str, DistanceRecall] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        rows = [
            {
                "domain": row.domain,
                "query": row.query,
                "nearest": {
                    method: {"name": name, "metres": round(metres, 3), "right": metres <= self.right}
                    for method, (name, metres) in row.nearest.items()
                },
            }
            for row in self.queries
        ]
        scores = {method: found.to_dict() for method, found in self.scores.items()}
        return {**super().to_dict(), "right_within_m": self.right, "rows": rows, "scores": scores}

    def shares(self) -> list[tuple[str, list[float], int]]:
        """Of all queries, and of each domain's: name, % right by method with chance behind, and how many they are."""
        if not self.scores:
            return []
        first = next(iter(self.scores.values()))
        found = []
        for name in ("all", *first.conditions):
            of = [one if name == "all" else one.conditions[name] for one in self.scores.values()]
            found.append((name, [100 * one.recall[1][0] for one in of] + [100 * of[0].chance[0]], of[0].queries))
        return found

    def shown(self) -> list[str]:
        """Shares of right ones."""
        if not self.scores:
            return []
        heads = (*self.scores, "chance")
        lines = [f"{'queries':<20}" + "".join(f"{name:>18}" for name in heads) + f"{'count':>8}"]
        for name, values, count in self.shares():
            lines.append(f"{name:<20}" + "".join(f"{value:>18.1f}" for value in values) + f"{count:>8}")
        return [*lines, f"% of queries whose nearest image of {self.reference} was taken within {self.right:g} m", ""]


def reproduce_figure_4(
    request: MduitRequest, town_minutes: float | None = None, say: Say | None = None, drives: DrivesConfig = DRIVES
) -> Figure4:
    """Retrieve by every method that there is something for; the same call carries on.

    Args:
        request: what and with what.
        town_minutes: processor time of each vector's training, at most, on the town; None for the pair file of the data
            folder.
        say: gets one line per step.
        drives: of the town.

    Raises:
        UsageError: the pairs do not have the reference.
        DataError: pairs that cannot be read, or without positions. A method that fails is a note instead.
    """
    tell = say or (lambda line: None)
    figure = Figure4(
        published=published(PAPER, "figure4"), output=request.output, right=RIGHT[town_minutes is not None]
    )
    pairs = open_pairs(request, town_minutes, tell, drives)
    if isinstance(pairs, list):
        return _written(replace(figure, missing=pairs))
    setting = _Setting.of(pairs, figure.right)
    shown = choose_queries(pairs.images, pairs.reference, request.seed)
    missing: list[Missing] = []
    notes = [
        f"A map image is a right one within {figure.right:g} m of the query by the positions of the pairs, whichever "
        f"way it looks; {len(setting.map)} map images of {pairs.reference}, {len(setting.queries)} queries."
    ]
    if pairs.supply is not None:
        notes.append("Streets of the town lie a kilometre apart; compare the order of columns, beside chance.")
    made_by: dict[str, Mapping[str, Any]] = {}
    scores: dict[str, DistanceRecall] = {}
    nearest: dict[str, Mapping[str, str]] = {}
    for row in request.asked:
        try:
            weights, absent = _weights(request, row, pairs)
            missing += absent
            if weights is None:
                continue
            embedder = open_embedder(weights.files, request.output, weights.origin, SCALES[PAPER])
            tell(f"{row}: {len(setting.queries)} queries in {len(setting.map)} map images")
            scores[row], nearest[row] = setting.search(embedder, request)
            made_by[row] = embedder.facts
        except GloamError as error:
            notes.append(f"{row}: {error}")
    rows = [
        Retrieved(
            domain,
            one.item.name,
            {
                row: (found[one.item.name], setting.apart(one.item.name, found[one.item.name]))
                for row, found in nearest.items()
                if one.item.name in found
            },
        )
        for domain, one in shown
    ]
    figure = replace(
        figure,
        reference=pairs.reference,
        made_by=made_by,
        missing=missing,
        notes=notes,
        queries=rows,
        scores=scores,
    )
    return _written(figure, {one.item.name: one for one in pairs.images.images})


def choose_queries(images: WeakPairs, reference: str, seed: int) -> list[tuple[str, PairedImage]]:
    """Queries that are shown, of every domain but the reference :data:`SHOWN` or all, with their domain.

    Args:
        images: of all domains.
        reference: domain of the map.
        seed: of what is drawn.
    """
    found = []
    for label, domain in enumerate(images.domains):
        if domain == reference:
            continue
        every = [one for one in images.images if one.label == label]
        drawn = np.random.default_rng([seed, DRAW, label]).permutation(len(every))[:SHOWN]
        found += [(domain, every[at]) for at in sorted(drawn.tolist())]
    return found


@dataclass(frozen=True)
class _Setting:
    """Map and queries, and where they were taken."""

    map: Sequence[PairedImage]
    queries: Sequence[PairedImage]
    conditions: Mapping[str, Sequence[str]]
    positions: Mapping[str, Points]
    right: float

    @classmethod
    def of(cls, pairs: OpenPairs, right: float) -> _Setting:
        names = pairs.images.domains
        every = pairs.images.images
        by_domain = {name: [one for one in every if names[one.label] == name] for name in names}
        there = by_domain.pop(pairs.reference)
        asked = [one for found in by_domain.values() for one in found]
        conditions = {name: [one.item.name for one in found] for name, found in by_domain.items() if found}
        return cls(there, asked, conditions, positions_of([*there, *asked]), right)

    def search(self, embedder: RowEmbedder, request: MduitRequest) -> tuple[DistanceRecall, dict[str, str]]:
        """Scores of a method, and the first map image of each query that has a descriptor."""
        loaded = Embedder.load(embedder.model, Placement(device=request.device))
        options = ExtractOptions(max_side=None if embedder.own_size else MAX_SIDE, dtype="float32")
        stores = request.output / "stores" / request.table
        here, there = (describe_paired(images, loaded, stores, options) for images in (self.queries, self.map))
        scores = recall_within(
            here, there, self.positions, self.positions, distances=(self.right,), ks=(1,), conditions=self.conditions
        )
        return scores, {pair.query: pair.mapping for pair in retrieve_pairs(here, there, 1)}

    def apart(self, query: str, found: str) -> float:
        """Metres between two images."""
        return float(np.linalg.norm(self.positions[query] - self.positions[found]))


def _weights(request: MduitRequest, row: str, pairs: OpenPairs) -> tuple[Weights | None, list[Missing]]:
    """Of a row's embedder, or what is missing for it."""
    if row in CONTENT:
        return pairs.runs.find(row, CONTENT[row], "embedder")
    if pairs.supply is not None and row not in request.weights:
        return pairs.supply.weights(row), []
    source = row_source(PAPER, "1", row)
    files, missing = row_files(source, row, request.data, request.weights)
    origin = "given with --weights" if row in request.weights else find_published(source.published).urls[0]
    return (Weights(files, origin) if files else None), missing


def _written(figure: Figure4, images: Mapping[str, PairedImage] | None = None) -> Figure4:
    if figure.ran and figure.queries and images:
        first = _read(images[figure.queries[0].query])
        size = cell_size(first)
        cells: list[list[Pixels | None]] = []
        for row in figure.queries:
            line: list[Pixels | None] = [framed_picture(_read(images[row.query]), size, None, "")]
            for method in figure.made_by:
                found = row.nearest.get(method)
                line.append(None if found is None else _framed(images[found[0]], found[1], figure.right, size))
            cells.append(line)
        whole = (size[0] + 2 * FRAME, size[1] + 2 * FRAME + LINE)
        write_sheet(figure.sheet, ("query", *figure.made_by), [row.domain for row in figure.queries], cells, whole)
    write_json(figure.json, figure.to_dict())
    return figure


def _framed(image: PairedImage, metres: float, right: float, size: tuple[int, int]) -> Pixels:
    fine = metres <= right
    return framed_picture(_read(image), size, GREEN if fine else RED, f"{'right' if fine else 'wrong'}, {metres:.1f} m")


def _read(image: PairedImage) -> Pixels:
    return decode_image(image.item.read(), max_side=SIDE)
