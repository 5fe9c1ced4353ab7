"""``gloam reproduce``: a paper's table of retrieval again, from whatever data and weights are present.

A row is public weights or a trained recipe; a column a benchmark. What is there is described (three scales, whitening,
CLAHE where the weights ask for it; HOW: local features and ASMK) and scored; what is not is named with the place that
has it. Whatever is wrong with a row, or with a test set, empties its own cells alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gloam.errors import DataError, GloamError, ModelError, UsageError, require_all
from gloam.eval.retrieval.streamed import evaluate_streamed
from gloam.eval.retrieval.tokyo import combinations, lightings_by_order
from gloam.files import sha256_file
from gloam.heartbeat import Say
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.source import DescriptorArray, DescriptorSource, failures_of
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from gloam.workflows.evaluation.retrieval import every_name, fit_names
from gloam.workflows.reproduce.costs import training_parameters
from gloam.workflows.reproduce.generators import NOTE as GENERATOR_NOTE
from gloam.workflows.reproduce.generators import FidColumn
from gloam.workflows.reproduce.images import MAX_SIDE, OpenBenchmark, open_benchmark
from gloam.workflows.reproduce.local import local_facts, score_local
from gloam.workflows.reproduce.models import RowEmbedder, open_embedder
from gloam.workflows.reproduce.published import PublishedTable, published
from gloam.workflows.reproduce.records import Budget, Scored, origin_of_run, run_row
from gloam.workflows.reproduce.request import RetrievalRequest
from gloam.workflows.reproduce.result import RetrievalTable, TableRow
from gloam.workflows.reproduce.rows import (
    BENCHMARKS,
    EXPERIMENTS,
    PACKAGES,
    SOURCES,
    TRAINED,
    Missing,
    RowSource,
    experiment,
    missing_of_benchmark,
    missing_of_codebook,
    network_of,
    row_files,
    row_source,
)
from gloam.workflows.reproduce.trainings import Trainings

PERCENT = 100.0
NIGHT_TO_DAY = "night2day.safetensors"


def reproduce(request: RetrievalRequest, say: Say | None = None) -> RetrievalTable:
    """Evaluate the rows of a table for which there are weights, on the benchmarks that are there.

    Args:
        request: what and with what.
        say: gets one line per step.

    Raises:
        UsageError: no such table or row, or table 6 without an order of the lightings.
    """
    tell = say or (lambda line: None)
    paper, table = request.paper, request.table
    found = published(paper, table)
    for row in request.rows:
        row_source(paper, table, row)
    _expect_weights(request)
    if (paper, table) == ("dark-side", "8"):
        return _costs(request, found)
    require_all(PACKAGES, "reproduce a table")
    if "day>night" in found.columns and request.order is None:
        raise UsageError("table 6 needs --order, the lightings of a scene's images by name, e.g. day,sunset,night")
    names = list(request.rows or found.rows)
    budget = Budget.of(request)
    run = _Run.of(request, found, names, budget, tell)
    rows = []
    for name in names:
        source = row_source(paper, table, name)
        seeds = [request.seed + at for at in range(request.seeds)] if run.trains(source, name) else [0]
        rows.append(run_row(request, name, _seeded(run, name), budget, tell, seeds=seeds))
    notes = [GENERATOR_NOTE] if run.fid is not None else []
    return RetrievalTable(
        paper,
        table,
        found,
        found.columns,
        rows,
        missing=list(dict.fromkeys(run.missing)),
        notes=notes,
        pictures=[] if run.fid is None else run.fid.sheet(),
    )


def _seeded(run: _Run, name: str) -> Any:
    return lambda seed: run.scored(name, seed)


def _expect_weights(request: RetrievalRequest) -> None:
    """Refuse weights of what is neither a row of the table nor a part of one."""
    paper, table = request.paper, request.table
    parts = {part for row in published(paper, table).rows for part in row_source(paper, table, row).parts}
    for name in request.weights:
        if name not in parts:
            row_source(paper, table, name)


@dataclass
class _Run:
    """What all rows of a table share.

    Attributes:
        request, table, say: of the table.
        opened: the test sets that are there and whole.
        problems: of a column what is wrong with its test set.
        trainings: of what rows lack; None where nothing is trained.
        fid: the column of generators, where the table has it.
        missing: for the table.
    """

    request: RetrievalRequest
    table: PublishedTable
    say: Say
    opened: list[OpenBenchmark] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    trainings: Trainings | None = None
    fid: FidColumn | None = None
    missing: list[Missing] = field(default_factory=list)

    @classmethod
    def of(
        cls, request: RetrievalRequest, table: PublishedTable, names: Sequence[str], budget: Budget, say: Say
    ) -> _Run:
        run = cls(request, table, say)
        six = "day>night" in table.columns
        for benchmark in BENCHMARKS[:1] if six else BENCHMARKS:
            if not six and benchmark.column not in table.columns:
                continue
            absent = missing_of_benchmark(benchmark, request.data)
            if absent:
                run.missing += absent
                run.problems[benchmark.column] = f"{absent[0].path} is not there"
                continue
            try:
                run.opened.append(open_benchmark(benchmark, request.data, request.output))
            except GloamError as error:
                run.problems[benchmark.column] = str(error)
        if request.train:
            recipes = {row_source(request.paper, request.table, name).recipe for name in names} - {""}
            shares = budget.shares(len(recipes), len(recipes) * request.seeds)
            run.trainings = Trainings(request.data, say, shares, request.embedder_changes, request.generator_changes)
        if "FID" in table.columns:
            run.fid = FidColumn(request, say)
        return run

    @property
    def retrieves(self) -> bool:
        """Whether the table has columns of test sets."""
        return "day>night" in self.table.columns or any(item.column in self.table.columns for item in BENCHMARKS)

    def trains(self, source: RowSource, name: str) -> bool:
        """Whether a row is of trainings, which have seeds."""
        if name in self.request.weights or not source.recipe:
            return False
        trained = (experiment(self.request.data, source.recipe, self.request.seed) / TRAINED).is_file()
        files, _ = row_files(RowSource(source.published), name, self.request.data, {})
        return trained or not (source.published and files)

    def scored(self, name: str, seed: int) -> Scored:
        """Numbers of a row by one seed; of test sets that are not there, or not whole, there are none.

        Raises:
            GloamError: why there are none at all.
        """
        request = self.request
        source = row_source(request.paper, request.table, name)
        reasons = [f"{column}: {problem}" for column, problem in self.problems.items()]
        scores: dict[str, float] = {}
        facts: dict[str, Any] = {}
        if self.fid is not None:  # of the generator, whatever becomes of the embedder
            try:
                found = self.fid.of(source.recipe, self.trainings)
                if found is not None:
                    scores, facts = (
                        dict(found.figures),
                        {"nights": found.to_dict(), "members": [self.fid.facts(source.recipe)]},
                    )
            except GloamError as error:
                reasons.append(f"FID: {error}")
                self.missing += self.fid.missing(source.recipe)
        trained: list[Path] = []
        try:
            if self.retrieves:
                self._retrieved(name, source, seed, scores, facts, reasons, trained)
        except GloamError as error:
            if not scores:
                raise
            reasons.append(str(error))
        if "Avg" in self.table.columns and all(item.column in scores for item in BENCHMARKS):
            scores["Avg"] = float(np.mean([scores[item.column] for item in BENCHMARKS]))
        kept = {column: scores[column] for column in self.table.columns if column in scores}
        return Scored(kept, facts, trained, "; ".join(reasons))

    def _retrieved(
        self,
        name: str,
        source: RowSource,
        seed: int,
        scores: dict[str, float],
        facts: dict[str, Any],
        reasons: list[str],
        trained: list[Path],
    ) -> None:
        """Put a row's numbers of retrieval, and what it is made by, into mappings."""
        request = self.request
        root, place = request.data, request.output
        members, absent = members_of(
            request.paper, request.table, name, root, request.weights, self.trainings, self.say, seed
        )
        if source.local:
            absent += missing_of_codebook(root)
        translator = _translator(source, name, root, request.weights) if source.to_day else None
        if translator is not None and not translator.exists():
            absent.append(Missing(translator, source.how or "gloam train translator --recipe cyclegan"))
        if absent:
            self.missing += absent
            known = absent[0].path != Path(name)
            more = f", and {len(absent) - 1} more" if len(absent) > 1 else ""
            raise DataError(f"{absent[0].path}: is not there{more}; {absent[0].where}" if known else absent[0].where)
        if not self.opened:
            raise DataError("; ".join(reasons) or "none of the test sets is there")
        facts.setdefault("members", [])
        embedders: list[RowEmbedder] = []
        for files, part in zip(members, source.parts if len(members) == len(source.parts) else (name,), strict=True):
            of_part = source if part == name else _part(request.paper, request.table, part)
            where = _from(files, part, of_part, request.weights)
            trained += [files[0].parent] if files[0].is_relative_to(root / EXPERIMENTS) else []
            if source.local:
                facts["members"].append(local_facts(files[0], place, where, request.words))
                continue
            embedder = open_embedder(files, place, where)
            _expect_network(embedder.facts["network"], files[0], part, of_part)
            embedders.append(embedder)
            facts["members"].append(dict(embedder.facts))
        if translator is not None:
            stated = {"weights": [{"file": str(translator), "sha256": sha256_file(translator)}]}
            facts["members"].append(stated | {"network": "translator of the queries by night"})
        images = facts["images"] = {}
        for opened in self.opened:
            column = opened.benchmark.column
            self.say(f"{name}: {opened.benchmark.name}")
            try:
                if source.local:
                    mean = score_local(
                        members[0][0],
                        opened,
                        root,
                        place,
                        request.words,
                        self.say,
                        request.features_per_image,
                    )
                    scores[column] = PERCENT * mean
                elif translator is not None:
                    scores |= self._by_day(embedders[0], translator, opened)
                else:
                    scores |= self._score(embedders, opened)
                images[column] = f"{len(opened.truth.query_names)} queries, {len(opened.truth.map_names)} of the map"
            except GloamError as error:
                reasons.append(f"{column}: {error}")
        if not images and not scores:
            raise DataError("; ".join(reasons))

    def _score(self, embedders: Sequence[RowEmbedder], opened: OpenBenchmark) -> dict[str, float]:
        described = [_describe(embedder, opened, self.request.output) for embedder in embedders]
        queries, database = (joined([pair[side] for pair in described]) for side in (0, 1))
        truth = fit_names(opened.truth, every_name(queries), every_name(database))
        if "day>night" not in self.table.columns:
            return {opened.benchmark.column: PERCENT * evaluate_streamed(queries, database, {"": truth})[""].mAP}
        assert self.request.order is not None  # asked for before
        sets = combinations(truth, lightings_by_order(truth, self.request.order))
        return {name: PERCENT * item.mAP for name, item in evaluate_streamed(queries, database, sets).items()}

    def _by_day(self, embedder: RowEmbedder, translator: Path, opened: OpenBenchmark) -> dict[str, float]:
        """Tokyo with its queries by night translated to day; the map is as it is. Nothing of the other sets."""
        if not opened.benchmark.queries_are_the_map:
            return {}
        if self.request.order is None:
            raise DataError("which images are by night is told by --order, e.g. --order day,sunset,night")
        from gloam.training.embedders.nights import open_night_maker

        _, database = _describe(embedder, opened, self.request.output)
        truth = fit_names(opened.truth, every_name(database), every_name(database))
        nights = set(lightings_by_order(truth, self.request.order)["night"])
        loaded = Embedder.load(embedder.model)
        through = Embedder(loaded.session, loaded.card.photometric, open_night_maker(translator))
        items = [item for item in opened.items if item.name in nights]
        folder = self.request.output / "by-day" / f"{loaded.fingerprint[:12]}-{sha256_file(translator)[:12]}"
        extract(items, through, folder, ExtractOptions(max_side=MAX_SIDE), grow=True)
        made = DescriptorStore.open(folder)
        kept = dict(zip(database.names, np.concatenate([block for _, block in database.blocks()]), strict=True))
        asked = {name: row for name, row in kept.items() if name not in nights}
        asked |= dict(zip(made.names, made.load(), strict=True))
        queries = DescriptorArray(
            list(asked),
            np.stack(list(asked.values())).astype(np.float32),
            database.space,
            failures=failures_of(database),
        )
        return {opened.benchmark.column: PERCENT * evaluate_streamed(queries, database, {"": truth})[""].mAP}


def members_of(
    paper: str,
    table: str,
    row: str,
    root: Path,
    given: Mapping[str, Path],
    trainings: Trainings | None,
    say: Say,
    seed: int = 0,
) -> tuple[list[list[Path]], list[Missing]]:
    """The files of every descriptor of a row, and what is missing of them.

    Args:
        paper, table, row: of the table.
        root: the data folder.
        given: embedders by row, or by part of an ensemble, in place of the known ones.
        trainings: that train what is missing; None trains nothing.
        say: gets one line per step.
        seed: of the training.

    Raises:
        GloamError: a training that cannot be done.
    """
    source = row_source(paper, table, row)
    members: list[list[Path]] = []
    missing: list[Missing] = []
    whole = not source.parts or (row in given and not source.to_day)
    for name in (row,) if whole else source.parts:
        part = source if name == row else _part(paper, table, name)
        files, absent = row_files(part, name, root, given, seed)
        if trainings is not None and part.recipe and name not in given:
            if absent:
                say(f"{name}: recipe {part.recipe}")
                files, absent = [trainings.embedder(part.recipe, seed)], []
            if files and len(files) < 2 and not part.local and files[0].is_relative_to(root / EXPERIMENTS):
                files = [files[0], trainings.whitening(files[0])]
        members.append(files)
        missing += absent
    return members, missing


def _part(paper: str, table: str, name: str) -> RowSource:
    return SOURCES.get((paper, "1"), {}).get(name) or row_source(paper, table, name)


def _translator(source: RowSource, name: str, root: Path, given: Mapping[str, Path]) -> Path:
    """What translates queries by night."""
    if name in given or source.to_day == "given":
        return given.get(name, Path(name))
    return root / EXPERIMENTS / source.to_day / NIGHT_TO_DAY


def _from(files: Sequence[Path], name: str, source: RowSource, given: Mapping[str, Path]) -> str:
    """Where weights are from, in words."""
    from gloam.data.published.names import find_published

    if name in given:
        return "given with --weights"
    if files[0].name == TRAINED:
        return origin_of_run(files[0].parent, source.recipe)
    return find_published(source.published).urls[0]


def _expect_network(found: Any, file: Path, row: str, source: RowSource) -> None:
    """Refuse weights of another network than the row's.

    Raises:
        ModelError: naming both.
    """
    wanted = source.network or (network_of(source.recipe) if source.recipe else "")
    if wanted and found != wanted:
        raise ModelError(f"{file}: holds {found}, and the row {row} is of {wanted}; give weights of that network")


def joined(sources: Sequence[DescriptorSource]) -> DescriptorSource:
    """Descriptors of the same images as one: concatenated and of length 1 again."""
    if len(sources) == 1:
        return sources[0]
    rows = [np.concatenate([block for _, block in source.blocks()]) for source in sources]
    if any(source.names != sources[0].names for source in sources):
        raise DataError("descriptors of different images cannot be put side by side; describe the same folder")
    found = np.concatenate(rows, axis=1)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    space = "+".join(source.space for source in sources)
    return DescriptorArray(sources[0].names, found, space, failures=failures_of(sources[0]))


def _describe(embedder: RowEmbedder, opened: OpenBenchmark, place: Path) -> tuple[DescriptorSource, DescriptorSource]:
    """Queries and database of a benchmark by one embedder; Tokyo's queries are its database."""
    loaded = Embedder.load(embedder.model)
    options = ExtractOptions(max_side=None if embedder.own_size else MAX_SIDE)
    stores = place / "stores" / loaded.fingerprint[:12] / opened.benchmark.name
    # What an earlier run made of other images is its own.
    extract(opened.items, loaded, stores / "map", options, grow=True)
    database = DescriptorStore.open(stores / "map")
    if opened.benchmark.queries_are_the_map:
        return database, database
    extract(opened.queries, loaded, stores / "query", options, grow=True)
    return DescriptorStore.open(stores / "query"), database


def _costs(request: RetrievalRequest, table: PublishedTable) -> RetrievalTable:
    counts = training_parameters()
    rows = []
    for row in request.rows or table.rows:
        found = {"0": {"parameters, M": counts[row] / 1e6}} if row in counts else {}
        rows.append(TableRow(row, found, reason="" if found else "gloam has no trainer of it to count"))
    notes = [
        "Parameters are counted from the networks that the recipes train; hours are of the machine that trains: "
        "--town trains the miniature here and states its own."
    ]
    return RetrievalTable(request.paper, request.table, table, table.columns, rows, notes=notes)
