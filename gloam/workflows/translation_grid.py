"""Pictures of translators between many domains, as Figures 5 and 6 of weakly-paired translation (BMVC 2020) show them.

From images: each source beside its translation into every domain, the attention masks beneath, white where the source
stays; or, of a model by example, into the appearance of every example, which stand above. From weak pairs: for each
domain a source, its translation by every method, right-most the weakly paired image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gloam.data.images import decode_image
from gloam.data.sheets import draw_sheet
from gloam.data.sources import ImageItem, find_images
from gloam.errors import UsageError
from gloam.eval.translation.domains import judged_domains
from gloam.files import expect_output, write_bytes
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.pictures import encode
from gloam.runtime.models.image_model import ImageOperation
from gloam.runtime.models.translator import load_translator
from gloam.workflows.evaluation.domains import open_towards, read_domains

Pixels = npt.NDArray[np.uint8]
ROWS = 6
PAIR_FILES = (".json", ".csv")


@dataclass(frozen=True)
class GridRequest:
    """What to show.

    Attributes:
        source: images (a folder, list, ...), or a file of weak pairs, or with ``beside`` a folder with a folder for
            each domain.
        model: a translator of several domains: a native checkpoint or the folder of a run, which have attention masks
            to be shown, or an exported file, which has none.
        output: ``.png`` to write.
        root: folder that a list's or a pair file's names are relative to.
        domain: the one to show; None for all.
        like: example images, a column each, of a model that takes their appearance; exported.
        appearance: the encoder that reads it off them.
        beside: name and model of further methods, from weak pairs alone.
        rows: most sources, or for each domain of weak pairs the number of pairs.
        size: (width, height) of a cell, to which images are stretched before they are translated, pixels.
        noise: seed of what models that take noise are given; None for zeros.
        seed: of the pairs that are drawn.
        device: where the models run.

    Raises:
        UsageError: values out of range, or another kind of file.
    """

    source: Path | str
    model: str
    output: Path
    root: Path | None = None
    domain: str | None = None
    like: Sequence[Path | str] = ()
    appearance: Path | str | None = None
    beside: Sequence[tuple[str, str]] = ()
    rows: int | None = None
    size: tuple[int, int] = (256, 192)
    noise: int | None = None
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        expect_output(self.output, ".png", "a grid of pictures")
        if self.rows is not None and self.rows < 1:
            raise UsageError(f"{self.rows} rows of pictures: 1 or more are needed")
        if self.device not in ("cpu", "cuda"):
            raise UsageError(f"a grid is drawn on cpu or cuda, not on {self.device}")
        if (self.like or self.appearance) and self.paired:
            raise UsageError("--like: a model by example is shown on images, not on weak pairs; give a folder or list")
        if min(self.size) < 32:
            raise UsageError(f"pictures of {self.size[0]}x{self.size[1]} px: 32 px a side at least")

    @property
    def paired(self) -> bool:
        """Whether methods are compared on weak pairs."""
        return bool(self.beside) or Path(self.source).suffix in PAIR_FILES


@dataclass(frozen=True)
class Grid:
    """What was drawn.

    Attributes:
        output: the picture.
        columns: over the pictures.
        rows: names of the sources.
        masks: whether attention masks are beneath.
    """

    output: Path
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    masks: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "output": str(self.output),
            "columns": list(self.columns),
            "rows": list(self.rows),
            "masks": self.masks,
        }

    def to_text(self) -> str:
        """Lines for people."""
        masks = "attention masks beneath, white where the source stays" if self.masks else "no attention masks"
        return f"{self.output}: {len(self.rows)} rows of {', '.join(self.columns)}; {masks}"


def draw_grid(request: GridRequest) -> Grid:
    """Translate, and write one PNG.

    Raises:
        UsageError: the model has no several domains, or not the one that is asked for (its own are listed).
        DataError: no images, or no pairs.
        ImageError: one cannot be read.
        ModelError: the model cannot be loaded.
        MissingExtraError: torch is needed and not installed.
    """
    if request.paired:
        return _draw_methods(request)
    return _draw_examples(request) if request.like or request.appearance else _draw_domains(request)


def _sources(request: GridRequest) -> tuple[list[str], list[Pixels]]:
    """Names and images of as many as are to be shown, spread over all."""
    items = find_images(request.source, request.root)
    chosen = np.linspace(0, len(items) - 1, min(request.rows or ROWS, len(items))).round().astype(int)
    return [Path(items[at].name).stem for at in chosen], [_read(items[at], request.size) for at in chosen]


def _draw_examples(request: GridRequest) -> Grid:
    def towards(like: Sequence[Path | str]) -> ImageOperation:
        placement, encoder = Placement(request.device), request.appearance
        return load_translator(request.model, placement, request.domain, request.noise, like, encoder)

    operations = [towards([file]) for file in request.like] or [towards(())]  # which says what goes together
    names, images = _sources(request)
    columns = [images, *(operation(images) for operation in operations)]
    examples: list[Pixels | None] = [_read(ImageItem(str(file), Path(file)), request.size) for file in request.like]
    cells: list[list[Pixels | None]] = [[None, *examples]]
    for row in range(len(images)):
        cells.append([column[row] for column in columns])
    titles = ("source", *(Path(file).stem for file in request.like))
    _write(request, titles, ["example", *names], cells)
    return Grid(request.output, titles, tuple(names), False)


def _draw_domains(request: GridRequest) -> Grid:
    wanted = () if request.domain is None else (request.domain,)
    towards = open_towards(request.model, wanted, request.device, request.noise)
    domains = wanted or towards.domains
    if not towards.domains:
        raise UsageError(f"{request.model}: translates into one domain alone; a grid is of a model of several")
    names, images = _sources(request)
    columns, masks = [images], list[list[Pixels] | None]([None])
    for domain in domains:
        operation: Any = towards(domain)
        columns.append(operation(images))
        seen = operation.masks(images) if hasattr(operation, "masks") else None
        masks.append(None if seen is None else [_grey(mask) for mask in seen])
    shown = any(column is not None for column in masks)
    cells: list[list[Pixels | None]] = []
    for row in range(len(images)):
        cells.append([column[row] for column in columns])
        if shown:
            cells.append([None if column is None else column[row] for column in masks])
    titles = ("source", *domains)
    labels = [text for name in names for text in ([name, "mask"] if shown else [name])]
    _write(request, titles, labels, cells)
    return Grid(request.output, titles, tuple(names), shown)


def _draw_methods(request: GridRequest) -> Grid:
    source = Path(request.source)
    domains, images, pairs = read_domains(source, "test" if source.suffix == ".json" else None, request.root)
    wanted = domains if request.domain is None else (request.domain,)
    judged = judged_domains(domains, images, pairs, targets=wanted)
    methods = {}
    for name, model in (("model", request.model), *request.beside):
        if name in methods:
            raise UsageError(f"two methods are called {name!r}; give each a name of its own")
        methods[name] = open_towards(model, wanted, request.device, request.noise)
    random = np.random.default_rng([request.seed, 5])
    cells: list[list[Pixels | None]] = []
    labels, names = [], []
    for domain in judged:
        for at in sorted(random.permutation(len(domain.pairs))[: request.rows or 1].tolist()):
            pair = domain.pairs[at]
            image = _read(pair.source, request.size)
            made = [towards(domain.name)([image])[0] for towards in methods.values()]
            cells.append([image, *made, _read(pair.target, request.size)])
            labels.append(f"{pair.origin} to {domain.name}")
            names.append(pair.source.name)
    titles = ("source", *methods, "weakly paired")
    _write(request, titles, labels, cells)
    return Grid(request.output, titles, tuple(names), False)


def _read(item: ImageItem, size: tuple[int, int]) -> Pixels:
    return decode_image(item.read(), stretch=size)


def _grey(mask: npt.NDArray[np.float32]) -> Pixels:
    grey: Pixels = np.rint(mask * 255).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _write(
    request: GridRequest, titles: Sequence[str], labels: Sequence[str], cells: Sequence[Sequence[Pixels | None]]
) -> None:
    write_bytes(request.output, encode(draw_sheet(cells, titles, labels, request.size), "png"))
