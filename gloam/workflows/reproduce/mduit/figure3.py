"""Figure 3: an image in the appearance of an example, by each method.

The paper's picture is not known, only its text: the layout is ours. A row is a photograph of the reference domain, an
example of another domain, which is every other domain once, and what each method makes of the two. Where the pairs have
a partner of the source in that domain, the example is that partner, so that a reader sees the place as it looked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gloam.data.images import decode_image
from gloam.data.town.drives.config import DrivesConfig
from gloam.data.weak_pairs.pair_file import PairedImage, WeakPairs
from gloam.errors import GloamError
from gloam.files import write_json
from gloam.heartbeat import Say
from gloam.runtime.models.image_model import Pixels
from gloam.workflows.reproduce.localization.content import DRIVES
from gloam.workflows.reproduce.localization.supply import Weights
from gloam.workflows.reproduce.mduit.request import ABSENT, MUNIT, PAPER, TRANSLATORS, MduitRequest
from gloam.workflows.reproduce.mduit.result import Figure, cell_size
from gloam.workflows.reproduce.mduit.runs import MduitRuns, given_file, open_pairs
from gloam.workflows.reproduce.mduit.translators import Method, open_method
from gloam.workflows.reproduce.published import published
from gloam.workflows.reproduce.rows import Missing
from gloam.workflows.translation_grid import write_sheet

SIDE = 256  # longer side of what is translated, pixels: that of the recipes' crops; the paper states none
DRAW = 3  # of random numbers


@dataclass(frozen=True)
class Example:
    """A row.

    Attributes:
        domain: of the example.
        source, example: names of the images.
        paired: whether both show one place.
    """

    domain: str
    source: str
    example: str
    paired: bool


@dataclass(frozen=True, kw_only=True)
class Figure3(Figure):
    """What came out.

    Attributes:
        examples: rows.
    """

    table: str = "figure3"
    examples: Sequence[Example] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**super().to_dict(), "side": SIDE, "rows": [vars(example) for example in self.examples]}

    def shown(self) -> list[str]:
        """A line for each row."""
        return [f"{example.source} like {example.example}" for example in self.examples]


def reproduce_figure_3(
    request: MduitRequest, town_minutes: float | None = None, say: Say | None = None, drives: DrivesConfig = DRIVES
) -> Figure3:
    """Draw every column that there is something for; the same call carries on.

    Args:
        request: what and with what.
        town_minutes: processor time of each method, at most, on the town; None for the pair file of the data folder.
        say: gets one line per step.
        drives: of the town.

    Raises:
        UsageError: the pairs do not have the reference.
        GloamError: pairs that cannot be read. A method that fails is a note instead.
    """
    tell = say or (lambda line: None)
    figure = Figure3(published=published(PAPER, "figure3"), output=request.output)
    pairs = open_pairs(request, town_minutes, tell, drives)
    if isinstance(pairs, list):
        return _written(replace(figure, missing=pairs))
    chosen = choose_examples(pairs.images, pairs.reference, request.seed)
    pictures = [(_read(source), _read(example), domain) for domain, source, example, _ in chosen]
    missing: list[Missing] = []
    notes = [f"Images are reduced to a longer side of {SIDE} px; a translation has the size of its source."]
    columns: dict[str, list[Pixels]] = {}
    made_by: dict[str, Mapping[str, Any]] = {}
    for row in request.asked:
        try:
            method, absent = _method(request, row, pairs.runs)
            missing += absent
            if method is not None:
                tell(f"{row}: translating {len(pictures)} images")
                columns[row] = [method.make(*picture) for picture in pictures]
                made_by[row] = method.facts
            elif not absent:
                notes.append(f"{row}: {ABSENT[row]}")
        except GloamError as error:
            notes.append(f"{row}: {error}")
    examples = [Example(domain, one.item.name, like.item.name, paired) for domain, one, like, paired in chosen]
    figure = replace(
        figure, reference=pairs.reference, made_by=made_by, missing=missing, notes=notes, examples=examples
    )
    return _written(figure, pictures, columns)


def choose_examples(images: WeakPairs, reference: str, seed: int) -> list[tuple[str, PairedImage, PairedImage, bool]]:
    """For each domain but the reference its name, a source of the reference, an example, and whether they are paired.

    Args:
        images: with their pairs.
        reference: domain of the sources; no source stands twice where there are enough.
        seed: of what is drawn.
    """
    of = images.domains.index(reference)
    every = [one for one in images.images if one.label == of]
    found: list[tuple[str, PairedImage, PairedImage, bool]] = []
    for label, domain in enumerate(images.domains):
        if label == of:
            continue
        random = np.random.default_rng([seed, DRAW, label])
        used = {source.item.name for _, source, _, _ in found}
        both = [
            (a, b) for pair in images.pairs for a, b in (pair[:2], pair[1::-1]) if (a.label, b.label) == (of, label)
        ]
        partners = [(a, b) for a, b in both if a.item.name not in used] or both
        if partners:
            found.append((domain, *partners[random.integers(len(partners))], True))
            continue
        sources = [one for one in every if one.item.name not in used] or every
        others = [one for one in images.images if one.label == label]
        if sources and others:
            found.append((domain, sources[random.integers(len(sources))], others[random.integers(len(others))], False))
    return found


def _method(request: MduitRequest, row: str, runs: MduitRuns) -> tuple[Method | None, list[Missing]]:
    """A column's translator; None where it is missing, or is none of gloam's."""
    if row == MUNIT and row in request.weights:
        given = Weights([given_file(request.weights[row], "")], "given with --weights")
        return open_method(given, request.output, request.device), []
    if row in ABSENT:
        return None, []
    weights, missing = runs.find(row, TRANSLATORS[row], "translator")
    return None if weights is None else open_method(weights, request.output, request.device), missing


def _read(image: PairedImage) -> Pixels:
    return decode_image(image.item.read(), max_side=SIDE)


def _written(
    figure: Figure3,
    pictures: Sequence[tuple[Pixels, Pixels, str]] = (),
    columns: Mapping[str, Sequence[Pixels]] | None = None,
) -> Figure3:
    if figure.ran and columns:
        size = cell_size(pictures[0][0])
        cells: list[list[Pixels | None]] = [
            [source, example, *(made[at] for made in columns.values())]
            for at, (source, example, _) in enumerate(pictures)
        ]
        labels = [f"{figure.reference} to {domain}" for _, _, domain in pictures]
        write_sheet(figure.sheet, ("source", "example", *columns), labels, cells, size)
    write_json(figure.json, figure.to_dict())
    return figure
