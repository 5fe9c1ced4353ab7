"""A retrieval evaluation from stores and files: reads a protocol's ground truth, scores, hands over to the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gloam.data.kapture_io import read_conditions
from gloam.errors import UsageError
from gloam.eval.retrieval.ground_truth import GroundTruth, read_ground_truth, read_ground_truth_sets
from gloam.eval.retrieval.places import ground_truth_of_places, places_by_folder, read_place_table, read_vpr_bench
from gloam.eval.retrieval.recall_distance import DISTANCES, read_positions, recall_within
from gloam.eval.retrieval.scores import KS
from gloam.eval.retrieval.streamed import evaluate_streamed
from gloam.eval.retrieval.tokyo import combinations, condition_matrix, lightings_by_order, read_tokyo
from gloam.runtime.descriptors.source import DescriptorSource
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.workflows.reports.retrieval import RetrievalEvaluation

PROTOCOLS = ("sets", "revisited", "tokyo", "clusters", "vpr-bench", "distance")
REVISITED_KS = (1, 5, 10)  # of the benchmarks' mP@k
BENCHMARKS = {"roxford5k": "ROxf", "rparis6k": "RPar"}  # a part of the file's name: column of the papers' tables


@dataclass(frozen=True)
class RetrievalOptions:
    """What to score.

    Attributes:
        query, map: descriptor stores.
        protocol: one of :data:`PROTOCOLS`.
        ground_truth: file of the protocol; ``clusters`` reads a table from it or, without it, takes folders as places,
            ``distance`` needs none.
        set: of a file of several.
        distractors: stores of further images, right for nothing.
        conditions, map_conditions: folders of ``<condition>.txt``, of the queries and of the map.
        order: ``tokyo``: lightings of a scene's three images in the order of their names.
        query_positions, map_positions: ``distance``: kapture datasets or tables.
        distances: ``distance``: metres.
        query_images, map_images: folders, for the report's gallery.
    """

    query: Path
    map: Path
    protocol: str = "sets"
    ground_truth: Path | None = None
    set: str | None = None
    distractors: Sequence[Path] = ()
    conditions: Path | None = None
    map_conditions: Path | None = None
    order: Sequence[str] | None = None
    query_positions: Path | None = None
    map_positions: Path | None = None
    distances: Sequence[float] = DISTANCES
    query_images: Path | None = None
    map_images: Path | None = None

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise UsageError(f"unknown protocol {self.protocol!r}; choose one of {', '.join(PROTOCOLS)}")
        needed = {"sets": "--ground-truth", "revisited": "--ground-truth", "tokyo": "--ground-truth"}
        needed |= {"vpr-bench": "--ground-truth"}
        if self.protocol in needed and self.ground_truth is None:
            raise UsageError(f"the protocol {self.protocol} needs {needed[self.protocol]}")
        if self.protocol == "distance" and (self.query_positions is None or self.map_positions is None):
            raise UsageError("the protocol distance needs --query-positions and --map-positions")
        if self.protocol == "distance" and self.distractors:
            raise UsageError("distractors have no positions; leave out --distractors with the protocol distance")
        if self.set is not None and self.protocol != "sets":
            raise UsageError(f"--set belongs to the protocol sets; the protocol {self.protocol} scores all of its own")
        if self.order is not None and self.protocol != "tokyo":
            raise UsageError("--order belongs to the protocol tokyo")
        if self.map_conditions is not None and self.conditions is None:
            raise UsageError("--map-conditions needs --conditions, the lists of the queries")


def evaluate_retrieval(options: RetrievalOptions) -> RetrievalEvaluation:
    """Score two stores by a protocol.

    Raises:
        DataError, IncompatibleError, StoreError, UsageError: in one line, see the modules of the protocols.
    """
    query, database = DescriptorStore.open(options.query), DescriptorStore.open(options.map)
    distractors = [DescriptorStore.open(folder) for folder in options.distractors]
    conditions = None if options.conditions is None else read_conditions(options.conditions)
    identity = {"protocol": options.protocol, "space": query.space}
    identity |= {"query fingerprint": query.fingerprint, "map fingerprint": database.fingerprint}
    identity |= {"map images": str(len(database)), "distractors": str(sum(len(store) for store in distractors))}
    if options.ground_truth is not None:
        identity["ground truth"] = options.ground_truth.name
    blank = RetrievalEvaluation(
        title=f"Retrieval, protocol {options.protocol}",
        queries=query,
        database=database,
        query_images=options.query_images,
        map_images=options.map_images,
        identity=identity,
    )
    groups = None if conditions is None else fitted_lists(conditions, query.names)
    if options.protocol == "distance":
        assert options.query_positions is not None
        assert options.map_positions is not None
        places = read_positions(options.query_positions), read_positions(options.map_positions)
        found = recall_within(query, database, *places, distances=options.distances, conditions=groups)
        return replace(blank, distance=found)
    truths = {
        name: fit_names(truth, query.names, database.names)
        for name, truth in read_truths(options, query, database).items()
    }
    first = next(iter(truths.values()))
    matrix: dict[str, GroundTruth] = {}
    if options.protocol == "tokyo" and (groups or options.order):
        matrix = combinations(first, groups or lightings_by_order(first, options.order or ()))
    elif groups is not None and options.map_conditions is not None:
        shown = fitted_lists(read_conditions(options.map_conditions), database.names)
        matrix = condition_matrix(first, groups, shown)
    ks = REVISITED_KS if options.protocol == "revisited" else KS
    if options.protocol == "tokyo" and matrix and groups is None:
        groups = {name: item.query_names for name, item in _by_query(matrix).items()}
    if groups is not None:
        truths = {name: replace(truth, conditions=_known(groups, truth)) for name, truth in truths.items()}
    scores = evaluate_streamed(query, database, {**truths, **matrix}, distractors=distractors, ks=ks)
    return replace(
        blank,
        truths=truths,
        scores={name: scores[name] for name in truths},
        matrix={name: scores[name] for name in matrix},
        benchmark=_benchmark(options),
    )


def read_truths(
    options: RetrievalOptions, query: DescriptorSource, database: DescriptorSource
) -> dict[str, GroundTruth]:
    """The sets of a protocol, the one that stands for it first."""
    path = options.ground_truth
    if options.protocol == "clusters":
        names = [*query.names, *database.names]
        place_of = places_by_folder(names) if path is None else read_place_table(path)
        return {"places": ground_truth_of_places(query.names, database.names, place_of)}
    assert path is not None
    if options.protocol == "vpr-bench":
        return {"vpr-bench": read_vpr_bench(path, sorted(query.names), sorted(database.names))}
    if options.protocol == "tokyo":
        return {"tokyo": read_tokyo(path)}
    if options.protocol == "revisited":
        sets = read_ground_truth_sets(path)
        if set(sets) != {"easy", "medium", "hard"}:
            raise UsageError(f"{path}: has no easy, medium and hard images; use the protocol sets")
        return {name: sets[name] for name in ("medium", "easy", "hard")}
    return {options.set or path.name.split(".")[0]: read_ground_truth(path, options.set)}


def fit_names(truth: GroundTruth, query_names: Sequence[str], map_names: Sequence[str]) -> GroundTruth:
    """A ground truth with the stores' names, where it leaves out folders and suffixes, as those of the benchmarks do.

    A name that a store has stays; any other becomes the one stored name with its stem, where there is exactly one.
    What is found nowhere stays as it is, and the scoring then names it.
    """
    asked = fitted_lists({"": truth.query_names}, query_names)[""]
    shown = fitted_lists({"": truth.map_names}, map_names)[""]
    renamed = dict(zip(truth.query_names, asked, strict=True))
    conditions = {name: tuple(renamed[item] for item in members) for name, members in truth.conditions.items()}
    return replace(truth, query_names=asked, map_names=shown, conditions=conditions)


def fitted_lists(lists: Mapping[str, Sequence[str]], stored: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Lists of names with the store's names; see :func:`fit_names`."""
    known = set(stored)
    if all(name in known for names in lists.values() for name in names):
        return {key: tuple(names) for key, names in lists.items()}
    of_stem: dict[str, str | None] = {}
    for name in stored:
        stem = _stem(name)
        of_stem[stem] = None if stem in of_stem else name  # two of a stem: neither is meant
    return {
        key: tuple(name if name in known else of_stem.get(_stem(name)) or name for name in names)
        for key, names in lists.items()
    }


def _stem(name: str) -> str:
    base = name.rsplit("/", 1)[-1]
    stem, dot, suffix = base.rpartition(".")
    return stem if dot and stem and len(suffix) <= 4 else base


def _known(groups: Mapping[str, Sequence[str]], truth: GroundTruth) -> dict[str, tuple[str, ...]]:
    known = set(truth.query_names)
    return {name: tuple(item for item in members if item in known) for name, members in groups.items()}


def _by_query(matrix: Mapping[str, GroundTruth]) -> dict[str, GroundTruth]:
    return {name.split(">")[0]: truth for name, truth in matrix.items()}


def _benchmark(options: RetrievalOptions) -> str:
    if options.protocol == "tokyo":
        return "Tokyo"
    name = options.ground_truth.name if options.ground_truth is not None else ""
    if options.protocol != "revisited" or options.distractors:
        return ""  # with distractors it is another benchmark
    return next((column for part, column in BENCHMARKS.items() if part in name), "")
