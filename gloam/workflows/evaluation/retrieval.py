"""A retrieval evaluation from stores and files: reads a protocol's ground truth, scores."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from gloam.data.kapture_io import read_conditions
from gloam.data.sources.items import IMAGE_SUFFIXES
from gloam.errors import UsageError
from gloam.eval.retrieval.ground_truth import GroundTruth, read_ground_truth, read_ground_truth_sets
from gloam.eval.retrieval.places import ground_truth_of_places, places_by_folder, read_place_table, read_vpr_bench
from gloam.eval.retrieval.recall_distance import DISTANCES, read_positions, recall_within
from gloam.eval.retrieval.scores import KS
from gloam.eval.retrieval.streamed import evaluate_streamed
from gloam.eval.retrieval.tokyo import combinations, condition_matrix, lightings_by_order, read_tokyo
from gloam.runtime.descriptors.source import DescriptorSource, failures_of
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.workflows.evaluation.retrieval_result import RetrievalEvaluation

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
        distances: ``distance``: metres; :data:`DISTANCES` by default.
        query_images, map_images: folders, for the report's gallery.
        trust: see :meth:`gloam.runtime.descriptors.store.DescriptorStore.open`.
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
    distances: Sequence[float] | None = None
    query_images: Path | None = None
    map_images: Path | None = None
    trust: bool = False

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
        of_distance = (self.query_positions, self.map_positions, self.distances)
        if self.protocol != "distance" and any(value is not None for value in of_distance):
            raise UsageError(
                "--query-positions, --map-positions and --distances belong to the protocol distance; leave them out"
            )
        given = [folder.resolve() for folder in (self.map, *self.distractors)]
        if len(set(given)) < len(given):
            raise UsageError("--distractors names the map, or a store twice; its images would be found as wrong ones")
        if self.map_conditions is not None and self.conditions is None:
            raise UsageError("--map-conditions needs --conditions, the lists of the queries")


def evaluate_retrieval(options: RetrievalOptions) -> RetrievalEvaluation:
    """Score two stores by a protocol.

    Raises:
        DataError, IncompatibleError, StoreError, UsageError: in one line, see the modules of the protocols.
    """
    query, database, *distractors = (
        DescriptorStore.open(folder, trust=options.trust)
        for folder in (options.query, options.map, *options.distractors)
    )
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
    groups = None if conditions is None else fitted_lists(conditions, every_name(query))
    if options.protocol == "distance":
        assert options.query_positions is not None
        assert options.map_positions is not None
        places = read_positions(options.query_positions), read_positions(options.map_positions)
        found = recall_within(query, database, *places, distances=options.distances or DISTANCES, conditions=groups)
        return replace(blank, distance=found)
    asked, shown = every_name(query), every_name(database)
    truths = {name: fit_names(truth, asked, shown) for name, truth in read_truths(options, query, database).items()}
    first = next(iter(truths.values()))
    matrix: dict[str, GroundTruth] = {}
    if options.protocol == "tokyo" and (groups or options.order):
        matrix = combinations(first, groups or lightings_by_order(first, options.order or ()))
    elif groups is not None and options.map_conditions is not None:
        matrix = condition_matrix(first, groups, fitted_lists(read_conditions(options.map_conditions), shown))
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
        # An image that failed and has no place of its own, a stray file for one, is asked by nobody.
        placed = [name for source in (query, database) for name in images_of(source) if "/" in name]
        place_of = (
            places_by_folder([*query.names, *database.names, *placed]) if path is None else read_place_table(path)
        )
        asked, shown = (
            [*source.names, *(name for name in images_of(source)[len(source.names) :] if name in place_of)]
            for source in (query, database)
        )
        return {"places": ground_truth_of_places(asked, shown, place_of)}
    assert path is not None
    if options.protocol == "vpr-bench":
        return {"vpr-bench": read_vpr_bench(path, images_of(query), images_of(database))}
    if options.protocol == "tokyo":
        return {"tokyo": read_tokyo(path)}
    if options.protocol == "revisited":
        sets = read_ground_truth_sets(path)
        if set(sets) != {"easy", "medium", "hard"}:
            raise UsageError(f"{path}: has no easy, medium and hard images; use the protocol sets")
        return {name: sets[name] for name in ("medium", "easy", "hard")}
    return {options.set or path.name.split(".")[0]: read_ground_truth(path, options.set)}


def every_name(source: DescriptorSource) -> list[str]:
    """Names of all that a source was made of: those that have a descriptor, then those that failed."""
    stored = set(source.names)
    return [*source.names, *sorted(name for name in failures_of(source) if name not in stored)]


def images_of(source: DescriptorSource) -> list[str]:
    """:func:`every_name` without failures that are no images by their suffix, such as a text file beside them."""
    return [
        name
        for row, name in enumerate(every_name(source))
        if row < len(source.names) or PurePosixPath(name).suffix.lower() in (*IMAGE_SUFFIXES, "")
    ]


def fit_names(truth: GroundTruth, query_names: Sequence[str], map_names: Sequence[str]) -> GroundTruth:
    """A ground truth with the stores' names, where it leaves out folders and suffixes, as those of the benchmarks do.

    See :func:`fitted_lists`. What is found nowhere stays as it is, and the scoring then names it.

    Args:
        truth: of the benchmark.
        query_names, map_names: of all images that were to be described, the failed ones among them.
    """
    asked = fitted_lists({"": truth.query_names}, query_names)[""]
    shown = fitted_lists({"": truth.map_names}, map_names)[""]
    renamed = dict(zip(truth.query_names, asked, strict=True))
    conditions = {name: tuple(renamed[item] for item in members) for name, members in truth.conditions.items()}
    return replace(truth, query_names=asked, map_names=shown, conditions=conditions)


def fitted_lists(lists: Mapping[str, Sequence[str]], stored: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Lists of names with the store's names.

    A name that a store has stays. Any other becomes the one stored name that ends with it, whole folders and file name,
    the suffix left out where the list leaves it out: ``x`` and ``b/x.jpg`` mean ``a/b/x.jpg``, and neither ``c/x.jpg``
    nor ``x.png`` does. Folders that all names of the lists share may be absent from the store. A name that two stored
    images end with means neither.

    Args:
        lists: names by key.
        stored: of all images that were to be described, the failed ones among them.
    """
    known = set(stored)
    wanted = {name for names in lists.values() for name in names}
    if wanted <= known:
        return {key: tuple(names) for key, names in lists.items()}
    folders = [name.split("/")[:-1] for name in (min(wanted), max(wanted))]  # what these two share, all share
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*folders, strict=False)))
    alone = {"/".join(name.split("/")[shared:]) for name in wanted} if shared else set()
    ending: dict[str, str | None] = {}  # two of an ending: neither is meant
    whole: dict[str, str | None] = {}
    for name in stored:
        parts = name.split("/")
        bare = [*parts[:-1], _without_suffix(parts[-1])]
        for start in range(len(parts)):
            for end in {"/".join(parts[start:]), "/".join(bare[start:])}:
                if end in wanted:
                    ending[end] = None if end in ending else name
                if not start and end in alone:
                    whole[end] = None if end in whole else name

    def fitted(name: str) -> str:
        if name in known:
            return name
        if name in ending:
            return ending[name] or name
        return whole.get("/".join(name.split("/")[shared:])) or name

    return {key: tuple(fitted(name) for name in names) for key, names in lists.items()}


def _without_suffix(base: str) -> str:
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
