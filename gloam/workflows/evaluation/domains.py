"""Translators between many domains, judged domain by domain on weak pairs beside the untouched sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gloam.data.day_night.domains import read_domain_folders
from gloam.data.sources import ImageItem
from gloam.data.weak_pairs.pair_file import USED, read_pair_file
from gloam.errors import DataError, UsageError, require
from gloam.eval.translation.domains import UNTOUCHED, DomainTable, judged_domains, score_domains
from gloam.files import write_json, write_text
from gloam.heartbeat import progress_bar
from gloam.runtime.backends.placement import Placement
from gloam.runtime.models.image_model import ImageOperation
from gloam.runtime.models.translator import Translator, load_translator
from gloam.workflows.evaluation.translation import INCEPTION, open_extractor

TABLE_CSV, TABLE_JSON = "domains.csv", "domains.json"
SIZE = (256, 192)  # the training size of the recipes, pixels; the paper states none


@dataclass(frozen=True)
class DomainOptions:
    """What to score.

    Attributes:
        pairs: file of weak pairs (``.json`` of ``gloam pair``, or ``.csv``), or a folder with a folder for each domain,
            in which images of one name show one place.
        methods: name and model of each: a native checkpoint or the folder of a run (torch), an exported file, or a
            formula as a control.
        untouched: the untouched sources as the first method.
        features: file of an exported embedder that was not trained on the judged places, a DINOv2 checkpoint
            (``.safetensors``), or ``inception``.
        weights: of Inception, instead of a download.
        domains: to judge; all by default.
        origins: whose images are translated; all other domains of a pair by default.
        part: of the pair file: ``test`` or ``train``; None for all of it.
        images: folder that a pair file's names are relative to, in place of its own.
        limit: most pairs, and most real images, of a domain.
        size: (width, height) that every image is stretched to first, pixels.
        noise: seed of what models that take noise are given; None for zeros.
        seed: of what is drawn where there is a limit.
        device: where methods and features are computed.
        output: folder for :data:`TABLE_CSV` and :data:`TABLE_JSON`; None writes nothing.

    Raises:
        UsageError: two methods of one name, or values out of range.
    """

    pairs: Path
    methods: Sequence[tuple[str, str]]
    features: str
    weights: Path | None = None
    domains: Sequence[str] = ()
    origins: Sequence[str] = ()
    part: Literal["test", "train"] | None = "test"
    images: Path | None = None
    limit: int | None = None
    size: tuple[int, int] = SIZE
    noise: int | None = None
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    output: Path | None = None
    untouched: bool = True

    def __post_init__(self) -> None:
        names = [UNTOUCHED, *(name for name, _ in self.methods)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"two methods are called {twice[0]!r}; give each a name of its own")
        if self.weights is not None and self.features != INCEPTION:
            raise UsageError(f"--weights belongs to --features {INCEPTION}; an exported embedder holds its own")
        if min(self.size) < 32:
            raise UsageError(f"--size {self.size[0]}x{self.size[1]}: 32 px a side at least")


@dataclass(frozen=True)
class DomainEvaluation:
    """How it came out, and where it was written."""

    table: DomainTable
    output: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.table.to_dict() | ({} if self.output is None else {"output": str(self.output)})

    def to_text(self) -> str:
        """One table, and its files."""
        files = [] if self.output is None else [f"{self.output / name}" for name in (TABLE_CSV, TABLE_JSON)]
        return "\n".join([self.table.to_text(), *files])


def evaluate_domains(options: DomainOptions) -> DomainEvaluation:
    """Score every method in every domain; progress goes to stderr.

    Raises:
        DataError: pairs that cannot be read, or a domain without any.
        UsageError: an unknown domain, of the images or of a method; the known ones are listed.
        ImageError: an image that cannot be read.
        ModelError: a method or the embedder cannot be loaded.
        MissingExtraError: torch is needed and not installed.
    """
    domains, images, pairs = read_domains(options.pairs, options.part, options.images)
    judged = judged_domains(
        domains,
        images,
        pairs,
        targets=options.domains,
        origins=options.origins,
        limit=options.limit,
        seed=options.seed,
    )
    wanted = [domain.name for domain in judged]
    methods = {UNTOUCHED: open_towards("none", wanted)} if options.untouched else {}
    methods |= {name: open_towards(model, wanted, options.device, options.noise) for name, model in options.methods}
    extractor = open_extractor(options.features, options.weights, options.device)
    total = sum(len(domain.real) + len(methods) * len(domain.pairs) for domain in judged)
    with progress_bar(total) as bar:
        table = score_domains(judged, methods, extractor, options.size, bar.update)
    drawn = (
        {}
        if options.limit is None
        else {"limit": f"{options.limit} pairs and real images, drawn by seed {options.seed}"}
    )
    stated = {
        "part": options.part or "all",
        "origins": ", ".join(options.origins) or "every other domain that a pair has",
        "noise": "zeros" if options.noise is None else f"drawn from seed {options.noise}",
        **drawn,
    }
    table = replace(table, protocol={**table.protocol, **stated})
    if options.output is not None:
        write_text(options.output / TABLE_CSV, table.to_csv())
        write_json(options.output / TABLE_JSON, table.to_dict())
    return DomainEvaluation(table, options.output)


def read_domains(
    source: Path, part: str | None = None, images: Path | None = None
) -> tuple[tuple[str, ...], list[tuple[ImageItem, int]], list[tuple[int, int]]]:
    """Domains, images with the index of theirs, and pairs of rows: of a pair file, or of a folder of domains' folders.

    Args:
        source: see :class:`DomainOptions`.
        part: of a pair file.
        images: folder of a pair file's images, in place of its own.

    Raises:
        DataError: unreadable, or without pairs.
    """
    if source.is_dir():
        domains = tuple(sorted(folder.name for folder in source.iterdir() if folder.is_dir()))
        if len(domains) < 2:
            raise DataError(
                f"{source}: holds {len(domains)} folders; a folder for each of two domains or more is needed"
            )
        found = read_domain_folders(source, domains)
        return domains, list(found.images), list(found.pairs)
    assert part is None or part in USED
    weak = read_pair_file(source, part, images=images)
    rows = {image.item.name: row for row, image in enumerate(weak.images)}
    pairs = [(rows[pair.first.item.name], rows[pair.second.item.name]) for pair in weak.pairs]
    return weak.domains, [(image.item, image.label) for image in weak.images], pairs


def open_towards(
    model: str | Path, domains: Sequence[str], device: Literal["cpu", "cuda"] = "cpu", noise: int | None = None
) -> Method:
    """What translates into a domain by its name.

    Args:
        model: a native checkpoint, the folder of a run, an exported file, or a formula.
        domains: that it must know, where it knows any.
        device: where it runs.
        noise: seed of what a model that takes noise is given; zeros by default.

    Raises:
        UsageError: a domain that it does not know; its own are listed.
        ModelError: it cannot be loaded.
    """
    whole: Any
    if Path(model).suffix == ".safetensors" or any(Path(model).glob("*.safetensors")):
        require("torch", "train", "run a native checkpoint")
        from gloam.training.embedders.nights import open_night_maker

        whole = open_night_maker(model, device, None, noise)
    else:
        whole = load_translator(model, Placement(device))
        whole = whole.drawing(noise) if isinstance(whole, Translator) and whole.noisy else whole
    known: tuple[str, ...] = getattr(whole, "domains", ())
    if absent := [name for name in domains if known and name not in known]:
        raise UsageError(f"{model}: knows no domain {absent[0]!r}; its domains are {', '.join(known)}")
    return Method(whole, known)


@dataclass(frozen=True)
class Method:
    """A translator, or a formula, that is asked for a domain.

    Attributes:
        whole: as it was loaded.
        domains: that it knows; empty for a formula or a translator of one direction, which give the same for each.
    """

    whole: Any
    domains: tuple[str, ...]

    def __call__(self, domain: str) -> ImageOperation:
        """What translates into a domain."""
        operation: ImageOperation = self.whole.towards(domain) if self.domains else self.whole
        return operation
