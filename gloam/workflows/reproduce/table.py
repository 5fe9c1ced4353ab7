"""``gloam reproduce``: a paper's table again, from whatever data and weights are present.

A row is public weights or a trained recipe; a column a benchmark. What is there is described (three scales, whitening,
CLAHE where the weights ask for it; HOW: local features and ASMK) and scored; what is not is named with the place that
has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gloam.errors import DataError, UsageError, require_all
from gloam.eval.retrieval.streamed import evaluate_streamed
from gloam.eval.retrieval.tokyo import combinations, lightings_by_order
from gloam.heartbeat import Say
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.source import DescriptorArray, DescriptorSource, failures_of
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.search.asmk import WORDS
from gloam.training.train import train as run_training
from gloam.workflows.evaluation.retrieval import every_name, fit_names
from gloam.workflows.reproduce.costs import training_parameters
from gloam.workflows.reproduce.images import MAX_SIDE, read_images, read_truth
from gloam.workflows.reproduce.local import score_local
from gloam.workflows.reproduce.models import load_embedder, model_folder
from gloam.workflows.reproduce.published import PublishedTable, published
from gloam.workflows.reproduce.rows import (
    BENCHMARKS,
    EXPERIMENTS,
    PACKAGES,
    SOURCES,
    Benchmark,
    Missing,
    RowSource,
    missing_of_benchmark,
    missing_of_codebook,
    row_files,
    row_source,
)

PERCENT = 100.0


@dataclass(frozen=True)
class Reproduced:
    """A table with what came out.

    Attributes:
        paper, table: which.
        published: the paper's numbers.
        ours: by row, by column; absent where nothing could be run.
        missing: files that rows or columns need.
        notes: what a reader must know of this run.
    """

    paper: str
    table: str
    published: PublishedTable
    ours: Mapping[str, Mapping[str, float]]
    missing: Sequence[Missing] = ()
    notes: Sequence[str] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON form: published, ours and difference of every cell that has any."""
        rows: dict[str, Any] = {}
        for row, values in self.published.rows.items():
            cells = {}
            for column, value in zip(self.published.columns, values, strict=True):
                ours = self.ours.get(row, {}).get(column)
                difference = None if value is None or ours is None else ours - value
                cells[column] = {"published": value, "ours": ours, "difference": difference}
            rows[row] = cells
        return {
            "paper": self.paper,
            "table": self.table,
            "rows": rows,
            "missing": [{"path": str(item.path), "where": item.where} for item in self.missing],
            "notes": list(self.notes),
            **({"detail": dict(self.detail)} if self.detail else {}),
        }

    def to_text(self) -> str:
        """Every row with published, ours and difference per column, then what is missing."""
        data = self.to_dict()["rows"]
        width = max(len(row) for row in data) + 2
        heads = [f"{column:^24}" for column in self.published.columns]
        lines = [f"{self.paper}, table {self.table}: {self.published.title}", "", " " * width + "".join(heads)]
        lines.append(" " * width + f"{'paper':>8}{'ours':>8}{'diff':>8}" * len(heads))
        for row, cells in data.items():
            text = "".join(
                _cell(cell["published"]) + _cell(cell["ours"]) + _cell(cell["difference"], sign=True)
                for cell in cells.values()
            )
            lines.append(f"{row:<{width}}{text}")
        lines += ["", *([self.published.note] if self.published.note else []), *self.notes]
        if self.missing:
            lines += ["", f"missing, {len(self.missing)} files or folders:"]
            lines += [f"  {item.path}\n      {item.where}" for item in self.missing]
        return "\n".join(lines)


def reproduce(
    paper: str,
    table: str,
    data: str | Path,
    output: str | Path,
    *,
    rows: Sequence[str] = (),
    weights: Mapping[str, Path] | None = None,
    order: Sequence[str] | None = None,
    train: bool = False,
    words: int = WORDS,
    say: Say | None = None,
) -> Reproduced:
    """Evaluate the rows of a table for which there are weights, on the benchmarks that are there.

    Args:
        paper, table: see :data:`gloam.workflows.reproduce.published.TABLES`.
        data: folder in the layout of cirtorch: ``test/roxford5k`` and so on, ``train``, ``networks``.
        output: for exported models and descriptor stores; what an earlier run made there is used again.
        rows: some rows; all by default.
        weights: embedders by row name, in place of the known ones.
        order: table 6: lightings of a scene's three images in the order of their names.
        train: train recipes whose weights are missing, into the data folder; days on a GPU.
        words: visual words of the codebook of rows with local features.
        say: gets one line per step.

    Raises:
        UsageError: no such table or row, or table 6 without ``order``.
        DataError, ModelError: a file that is there and cannot be used.
    """
    tell = say or (lambda line: None)
    found = published(paper, table)
    given = dict(weights or {})
    for row in (*rows, *given):
        row_source(paper, table, row)
    if (paper, table) == ("dark-side", "8"):
        return _costs(found)
    require_all(PACKAGES, "reproduce a table")
    root, place = Path(data), Path(output)
    needed = [item for item in BENCHMARKS if item.column in found.columns]
    lightings = "day>night" in found.columns
    if lightings:
        needed = [BENCHMARKS[0]]
        if order is None:
            raise UsageError("table 6 needs --order, the lightings of a scene's images by name, e.g. day,sunset,night")
    missing = [item for benchmark in needed for item in missing_of_benchmark(benchmark, root)]
    present = [item for item in needed if not missing_of_benchmark(item, root)]
    ours: dict[str, dict[str, float]] = {}
    notes = []
    for row in rows or found.rows:
        members, absent = members_of(paper, table, row, root, given, train, tell)
        local = row_source(paper, table, row).local
        if local:
            absent += missing_of_codebook(root)
        missing = list(dict.fromkeys([*missing, *absent]))
        if absent or not present:
            continue
        if not local and any(len(files) < 2 for files in members):
            notes.append(f"{row}: no whitening was found beside its weights, so none is applied")
        scores: dict[str, float] = {}
        for benchmark in present:
            tell(f"{row}: {benchmark.name}")
            if local:
                scores[benchmark.column] = PERCENT * score_local(members[0][0], benchmark, root, place, words, tell)
            else:
                scores |= _score(members, benchmark, root, place, order if lightings else None)
        if "Avg" in found.columns and len(scores) == len(BENCHMARKS):
            scores["Avg"] = float(np.mean([scores[item.column] for item in BENCHMARKS]))
        ours[row] = {column: value for column, value in scores.items() if column in found.columns}
    return Reproduced(paper, table, found, ours, missing, notes)


def members_of(
    paper: str, table: str, row: str, root: Path, given: Mapping[str, Path], train: bool, say: Say
) -> tuple[list[list[Path]], list[Missing]]:
    """The files of every descriptor of a row, and what is missing of them.

    Args:
        paper, table, row: of the table.
        root: the data folder.
        given: embedders by row name, in place of the known ones.
        train: train recipes whose weights are missing.
        say: gets one line per step.
    """
    source = row_source(paper, table, row)
    members: list[list[Path]] = []
    missing: list[Missing] = []
    for name in source.parts if source.parts and row not in given else (row,):
        part = source if name == row else _part(paper, table, name)
        files, absent = row_files(part, name, root, given)
        if absent and train and part.recipe:
            run_training("metric", part.recipe, None, root / EXPERIMENTS / part.recipe, data=root, say=say)
            files, absent = row_files(RowSource(recipe=part.recipe), name, root, given)
        members.append(files)
        missing += absent
    return members, missing


def _part(paper: str, table: str, name: str) -> RowSource:
    return SOURCES.get((paper, "1"), {}).get(name) or row_source(paper, table, name)


def _score(
    members: Sequence[Sequence[Path]], benchmark: Benchmark, root: Path, place: Path, order: Sequence[str] | None
) -> dict[str, float]:
    described = [_describe(files, benchmark, root, place) for files in members]
    queries, database = (side_by_side([pair[side] for pair in described]) for side in (0, 1))
    truth = fit_names(read_truth(benchmark, root), every_name(queries), every_name(database))
    if order is None:
        return {benchmark.column: PERCENT * evaluate_streamed(queries, database, {"": truth})[""].mAP}
    sets = combinations(truth, lightings_by_order(truth, order))
    return {name: PERCENT * item.mAP for name, item in evaluate_streamed(queries, database, sets).items()}


def side_by_side(sources: Sequence[DescriptorSource]) -> DescriptorSource:
    """Descriptors of the same images as one: concatenated and of length 1 again."""
    if len(sources) == 1:
        return sources[0]
    rows = [np.concatenate([block for _, block in source.blocks()]) for source in sources]
    if any(source.names != sources[0].names for source in sources):
        raise DataError("descriptors of different images cannot be put side by side; describe the same folder")
    joined = np.concatenate(rows, axis=1)
    joined /= np.linalg.norm(joined, axis=1, keepdims=True)
    space = "+".join(source.space for source in sources)
    return DescriptorArray(sources[0].names, joined, space, failures=failures_of(sources[0]))


def _describe(
    files: Sequence[Path], benchmark: Benchmark, root: Path, place: Path
) -> tuple[DescriptorSource, DescriptorSource]:
    """Queries and database of a benchmark by one embedder; Tokyo's queries are its database."""
    from gloam.export.embedder import export_embedder

    folder = model_folder(files, place)
    model = folder / "model.onnx"
    if not model.is_file():
        network, photometric, provenance = load_embedder(files)
        export_embedder(network, model, photometric=photometric, provenance=provenance)
    embedder = Embedder.load(model)
    options = ExtractOptions(max_side=MAX_SIDE)
    stores = folder / benchmark.name
    queries, items = read_images(benchmark, root, place)
    extract(items, embedder, stores / "map", options, grow=True)  # what an earlier run made of other images is its own
    database = DescriptorStore.open(stores / "map")
    if benchmark.queries_are_the_map:
        return database, database
    extract(queries, embedder, stores / "query", options, grow=True)
    return DescriptorStore.open(stores / "query"), database


def _costs(table: PublishedTable) -> Reproduced:
    counts = training_parameters()
    ours = {row: {"parameters, M": counts[row] / 1e6} for row in table.rows if row in counts}
    notes = [
        "Parameters are counted from the networks that the recipes train; hours are of the machine that trains: "
        "--town trains the miniature here and states its own."
    ]
    return Reproduced("dark-side", "8", table, ours, notes=notes)


def _cell(value: float | None, sign: bool = False) -> str:
    if value is None:
        return f"{'-':>8}"
    return f"{value:>+8.1f}" if sign else f"{value:>8.1f}"
