"""``gloam reproduce dark-side 3`` and ``mduit 1``: localization, of whatever benchmarks and weights are there.

What is there is localized and written for its server; the hidden poses are the server's, so a number of ours is read
back from its answer. Where somebody has the poses, as of a look-alike, gloam scores them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gloam.data.localization_sets.dataset import LocalizationSet, SetName
from gloam.data.localization_sets.read import read_localization_set
from gloam.data.localization_sets.sources import LICENCES, parts_of
from gloam.data.scene import Pose
from gloam.errors import DataError, GloamError, UsageError, require_all
from gloam.eval.localization.request import LocalizeRequest, open_matched
from gloam.eval.localization.scores import aggregate
from gloam.eval.localization.server_scores import Scores, read_server_scores
from gloam.heartbeat import Say
from gloam.runtime.backends.placement import Placement
from gloam.runtime.localization.features.sources import pixel_origin
from gloam.runtime.localization.maps.datasets import read_poses
from gloam.workflows.reproduce.localization.embedders import by_chance, describe, open_embedder
from gloam.workflows.reproduce.localization.protocol import Protocol, SetLocalizer, retrieve_within
from gloam.workflows.reproduce.localization.result import LocalizationTable, Row, Triple, triples
from gloam.workflows.reproduce.localization.runner import (
    Described,
    Group,
    RowInput,
    SetRun,
    answered_cell,
    percent,
    score_by_condition,
)
from gloam.workflows.reproduce.localization.supply import PublishedSupply, Supply
from gloam.workflows.reproduce.published import kapture_context, published
from gloam.workflows.reproduce.rows import PACKAGES, Missing, row_source

MAX_SIDE = 1024  # of the embedders' test protocol, pixels
SETS = Path("localization")  # of the benchmarks, under the data folder
NEEDS = (*PACKAGES, "pycolmap")


@dataclass(frozen=True)
class SetOfTable:
    """A benchmark of a table.

    Attributes:
        prefix: of its rows' names; "" where the table has one benchmark.
        names: of the sets that it may be, the paper's first.
    """

    prefix: str
    names: tuple[SetName, ...]

    @property
    def single(self) -> bool:
        """Whether it has one condition by day and one by night."""
        return self.names[0].startswith("aachen")


AACHEN = SetOfTable("Aachen", ("aachen-v1.1",))
ROBOTCAR = SetOfTable("RobotCar", ("robotcar-v1", "robotcar-v2"))
BY_NIGHT = (Group("top-1", "top-1", "night"), Group("2a", "2a", "night"), Group("2b", "2b", "night"))
LOCALIZED: dict[tuple[str, str], tuple[tuple[SetOfTable, ...], tuple[Group, ...]]] = {
    ("dark-side", "3"): ((AACHEN, ROBOTCAR), BY_NIGHT),
    ("mduit", "1"): (
        (replace(ROBOTCAR, prefix=""),),
        (Group("Day-All", "top-1", "day"), Group("Night-All", "top-1", "night")),
    ),
}


@dataclass(frozen=True)
class TableRequest:
    """What to reproduce, and with what.

    Attributes:
        paper, table: of :data:`LOCALIZED`.
        data: folder with weights in the layout of cirtorch, and the benchmarks in ``localization/NAME``.
        output: for models, stores, features, matches, maps, poses and the servers' files; the same call carries on.
        rows: some rows; all by default.
        weights: embedders by row, in place of the known ones; a name without its benchmark is of both.
        sets: folders of benchmarks by name, wherever they lie.
        truth: kapture datasets with the queries' true poses, by name of the benchmark: of a look-alike.
        protocol: see :class:`Protocol`.
        features, matcher, max_keypoints, photometric: local features, as ``gloam localize`` has them.
        placement: where models run.
        max_side: longer side of the images that an embedder describes, pixels.
        scores: a server's answers, see :mod:`gloam.eval.localization.server_scores`.
        train: train recipes whose weights are missing.
    """

    paper: str
    table: str
    data: Path
    output: Path
    rows: Sequence[str] = ()
    weights: Mapping[str, Path] = field(default_factory=dict)
    sets: Mapping[str, Path] = field(default_factory=dict)
    truth: Mapping[str, Path] = field(default_factory=dict)
    protocol: Protocol = field(default_factory=Protocol)
    features: str = "sift"
    matcher: str = "mutual"
    max_keypoints: int = 4096
    photometric: Literal["none", "clahe"] | None = None
    placement: Placement = field(default_factory=Placement)
    max_side: int = MAX_SIDE
    scores: Path | None = None
    train: bool = False


@dataclass(frozen=True)
class OpenSet:
    """A benchmark of a table: where it could be read, why not, and true poses where they were given."""

    benchmark: LocalizationSet | None = None
    problem: str = ""
    truth: Mapping[str, Pose] | None = None


@dataclass(frozen=True)
class Control:
    """A row that no paper has, to read the others by.

    Attributes:
        name: of the row, behind its benchmark's.
        weights: of the embedder; None for retrieval by chance.
    """

    name: str
    weights: Callable[[], Path] | None = None


def localize_table(
    request: TableRequest, say: Say, supply: Supply | None = None, controls: Sequence[Control] = ()
) -> tuple[LocalizationTable, list[SetRun]]:
    """Localize the rows of a table for which there are weights, on the benchmarks that are there.

    Args:
        request: what and with what.
        say: gets one line per step.
        supply: of weights; public and trained ones by default.
        controls: rows for each benchmark behind the paper's.

    Returns:
        the table, and of each benchmark that is there all that was found.

    Raises:
        UsageError: no such table or row, or a benchmark that the table does not have.
        DataError: scores, or true poses, that cannot be read. A benchmark, row or file that cannot be used empties its
            own rows, with the reason.
    """
    found = published(request.paper, request.table)
    sets, groups = LOCALIZED[request.paper, request.table]
    for row in request.rows:
        row_source(request.paper, request.table, row)
    given = given_weights(request, list(found.rows))
    _expect_sets(request, sets)
    if supply is None:
        supply = PublishedSupply(request.paper, request.table, request.data, given, request.train, say)
    printed = triples(found, [group.name for group in groups])
    scores = _scores(request, list(found.rows), groups)
    rows: dict[str, Row] = {}
    missing: list[Missing] = []
    notes: list[str] = []
    detail: dict[str, Any] = {}
    runs = []
    for spec in sets:
        named = [row for row in found.rows if row.startswith(spec.prefix) and row in (request.rows or found.rows)]
        if not named:
            continue
        missing += [item for row in named for item in supply.lacking(row)]
        opened = _open(request, spec)
        if opened.benchmark is None:
            missing += _missing_set(request, spec, opened)
            rows |= {row: _unrun(row, groups, printed[row], scores, spec, opened.problem) for row in named}
            continue
        require_all(NEEDS, "localize the rows of a table")
        run = SetRun(_localizer(request, opened.benchmark), groups, printed, request.output, opened.truth, scores, say)
        runs.append(run)
        wanted = [_input(request, row, supply, run) for row in named]
        wanted += [_control(request, control, f"{spec.prefix} {control.name}".strip(), run) for control in controls]
        for item in wanted:
            rows[item.name] = run.row(item)
            reason = rows[item.name].reason
            say(f"{item.name}: {f'not whole, {reason}' if reason else 'done'}")
        notes += set_notes(spec.prefix or "RobotCar", run)
        detail[opened.benchmark.name] = run_detail(run)
        if opened.benchmark.known_query is not None:
            lines = _known(request, run, named, supply)
            detail["known images"] = lines
            notes += [f"{opened.benchmark.name}, images with known poses, the local check: {line}" for line in lines]
    table = LocalizationTable(
        request.paper,
        request.table,
        found,
        tuple(group.name for group in groups),
        [rows[row] for row in (*found.rows, *(rows.keys() - found.rows.keys())) if row in rows],
        kapture_context() if request.paper == "dark-side" else (),
        list(dict.fromkeys(missing)),
        [*notes, *protocol_notes(request.protocol, groups)],
        detail,
    )
    return table, runs


def _unrun(
    row: str,
    groups: Sequence[Group],
    printed: Mapping[str, Triple],
    scores: Scores,
    spec: SetOfTable,
    problem: str,
) -> Row:
    """A row of a benchmark that is not there, with what its server answered."""
    cells = {
        group.name: answered_cell(scores, row, group, printed.get(group.name), None, spec.single) for group in groups
    }
    return Row(row, cells, {}, "" if all(cell.ours for cell in cells.values()) else problem)


def _localizer(request: TableRequest, benchmark: LocalizationSet, known: bool = False) -> SetLocalizer:
    query = benchmark.known_query if known and benchmark.known_query is not None else benchmark.query
    scenes = (benchmark.mapping, query)
    origin = next((scene.origin for scene in scenes if scene.origin is not None), None)
    shift = None
    if request.features == "sift" and origin is None:
        shift = pixel_origin(camera for scene in scenes for camera in scene.cameras.values())
    asked = LocalizeRequest(
        benchmark.mapping.root,
        query.root,
        request.output,
        pairs=request.output / "retrieved",  # by descriptors of each row
        features=request.features,
        matcher=request.matcher,
        max_keypoints=request.max_keypoints,
        photometric=request.photometric,
        pixel_shift=shift,
        placement=request.placement,
    )
    source, rule = open_matched(asked, *scenes)
    return SetLocalizer(benchmark, source, rule, request.protocol, request.output / "workspace", query)


def _input(request: TableRequest, row: str, supply: Supply, run: SetRun) -> RowInput:
    """A row by its weights."""

    def described() -> Described:
        weights = supply.weights(row)
        return _described(request, weights.files, weights.origin, run)

    return RowInput(row, described)


def _control(request: TableRequest, control: Control, name: str, run: SetRun) -> RowInput:
    """A row that no paper has."""

    def described() -> Described:
        if control.weights is None:
            scenes = (run.benchmark.mapping, run.localizer.query)
            return by_chance(scenes, request.protocol.seed), {"network": "none, random descriptors"}
        return _described(request, [control.weights()], control.name, run)

    return RowInput(name, described)


def _described(request: TableRequest, files: Sequence[Path], origin: str, run: SetRun) -> Described:
    embedder = open_embedder(files, request.output, origin)
    benchmark = run.benchmark
    scenes = {"map": benchmark.mapping, "query": benchmark.query.part(run.localizer.names)}
    if benchmark.known_query is not None:
        scenes["known"] = benchmark.known_query
    place = request.output / "stores" / benchmark.name
    return describe(embedder, scenes, place, request.max_side, request.placement), embedder.facts


def _known(request: TableRequest, run: SetRun, rows: Sequence[str], supply: Supply) -> list[str]:
    """A line for each row and method: recalls of the images whose poses are known and that are no part of the map."""
    benchmark = run.benchmark
    query = benchmark.known_query
    assert query is not None  # asked for such a benchmark alone
    localizer = _localizer(request, benchmark, known=True)
    names = localizer.names
    lines = []
    for row in rows:
        if row not in run.retrieved:  # its reason is the row's
            continue
        try:
            descriptors, _ = _described(request, *_files_and_origin(supply, row), run)
            ks = [k for _, k in request.protocol.labels.values()]
            retrieved = retrieve_within(benchmark, query, names, descriptors, max(ks), request.protocol.within)
            wanted = {group.method for group in run.groups}
            for label, (method, _) in request.protocol.labels.items():
                if method not in wanted:
                    continue
                run.say(f"{row}: {label} of {len(names)} images with known poses")
                scores = score_by_condition(benchmark, localizer.poses(label, retrieved), benchmark.known, query)
                for what, part in (("day", benchmark.day), ("night", benchmark.night)):
                    if set(part) & scores.keys():
                        item = aggregate(scores, part)
                        recalls = " / ".join(f"{value:.1f}" for value in percent(item.recalls))
                        lines.append(f"{row}, {label}, {what}, {item.queries} images: {recalls}")
        except GloamError as error:
            lines.append(f"{row}: {error}")
    return lines


def _files_and_origin(supply: Supply, row: str) -> tuple[Sequence[Path], str]:
    weights = supply.weights(row)
    return weights.files, weights.origin


def given_weights(request: TableRequest, rows: Sequence[str]) -> dict[str, Path]:
    """The embedders that were given, by whole row name.

    Raises:
        UsageError: for no row of the table.
    """
    found: dict[str, Path] = {}
    for name, file in request.weights.items():
        meant = [row for row in rows if name == row or row.split(" ", 1)[-1] == name]
        if not meant:
            row_source(request.paper, request.table, name)  # says which rows there are
        found |= dict.fromkeys(meant, file)
    return found


def _expect_sets(request: TableRequest, sets: Sequence[SetOfTable]) -> None:
    known = [name for spec in sets for name in spec.names]
    for option, names in (("--set", request.sets), ("--truth", request.truth)):
        for name in names:
            if name not in known:
                raise UsageError(
                    f"{option} {name}=...: {request.paper}, table {request.table}, is of {', '.join(known)}"
                )


def _scores(request: TableRequest, rows: Sequence[str], groups: Sequence[Group]) -> Scores:
    """The server's answers by row and method.

    Raises:
        DataError: of a row or method that the table does not have.
    """
    if request.scores is None:
        return {}
    methods = list(dict.fromkeys(group.method for group in groups))
    found: Scores = {}
    for (row, method), conditions in read_server_scores(request.scores).items():
        if not row and len(request.rows) == 1 and len(methods) == 1:
            row, method = request.rows[0], methods[0]
        if row not in rows or method not in methods:
            said = f"{row}, {method}" if row or method else "no row and method"
            raise DataError(
                f"{request.scores}: scores of {said}; a line [ROW, METHOD] says of what they are, with a row of "
                f"{', '.join(rows)}, and a method of {', '.join(methods)}"
            )
        found[row, method] = conditions
    return found


def _open(request: TableRequest, spec: SetOfTable) -> OpenSet:
    """A benchmark from where it was given or lies by default."""
    name, path = set_folder(request, spec)
    if not path.exists():
        return OpenSet(problem=f"{path}: {name} is not there")
    try:
        benchmark = read_localization_set(name, path)
    except GloamError as error:
        return OpenSet(problem=str(error))
    truth = request.truth.get(name)
    if truth is None:
        return OpenSet(benchmark)
    return OpenSet(benchmark, truth=read_poses(truth).poses)


def set_folder(request: TableRequest, spec: SetOfTable) -> tuple[SetName, Path]:
    """Name and folder of a table's benchmark: what was given, else what is there, else where it would be."""
    for name in spec.names:
        if name in request.sets:
            return name, request.sets[name]
    for name in spec.names:
        if (request.data / SETS / name).exists():
            return name, request.data / SETS / name
    return spec.names[0], request.data / SETS / spec.names[0]


def _missing_set(request: TableRequest, spec: SetOfTable, opened: OpenSet) -> list[Missing]:
    """Parts of a benchmark that are not there, and where they come from; or what is wrong with it."""
    name, path = set_folder(request, spec)
    found = [
        Missing(path / part.name, f"{part.source} ({LICENCES[name]}), or --set {name}=PATH where it lies elsewhere")
        for part in parts_of(path, name, "kapture")
        if part.needed and not part.there
    ]
    return found if found and not path.exists() else [*found, Missing(path, opened.problem)]


def set_notes(prefix: str, run: SetRun) -> list[str]:
    """What a reader must know of one benchmark of a table."""
    benchmark, localizer = run.benchmark, run.localizer
    scored = set(benchmark.scored_queries)
    counts = ", ".join(f"{name} {len(scored & set(names))}" for name, names in benchmark.conditions.items())
    cameras = f", of the cameras {', '.join(benchmark.scored)}" if benchmark.scored else ""
    lines = [
        f"{prefix}: {benchmark.name} at {benchmark.root} ({benchmark.layout} form), {len(benchmark.mapping.records)} "
        f"map images, {len(scored)} scored queries{cameras} ({counts})."
    ]
    if any(group.method == "2b" for group in run.groups) and "world" in vars(localizer):
        lines.append(f"{prefix}: one map for all rows of 2b: {localizer.world[1]}.")
    return lines


def protocol_notes(protocol: Protocol, groups: Sequence[Group]) -> list[str]:
    """What a reader must know of the protocol."""
    methods = {group.method for group in groups}
    k = f", {protocol.top_k} images for 2a and 2b" if methods & {"2a", "2b"} else ""
    rigs = {
        "off": "",
        "fill": " A camera without a pose has it through its rig.",
        "joint": " The cameras of a rig share one pose.",
    }
    absent = (
        "is absent from the server's file and a failure"
        if protocol.unlocalized == "absent"
        else "has its first retrieved image's pose in the server's file, as in hloc"
    )
    lines = [
        f"Retrieval within the {protocol.within}{k}.{rigs[protocol.rig]} A query without a pose {absent}.",
    ]
    if "2a" in methods:
        lines.append("2a is the mini-map of the retrieved images, the paper's definition; see docs/dark_side_3.md.")
    if len({group.part for group in groups}) > 1:
        lines.append(
            "Day-All and Night-All are over all queries of their conditions, as the server has them; the mean of the "
            "conditions stands beside it in the JSON."
        )
    return lines


def run_detail(run: SetRun) -> dict[str, Any]:
    """Scores by row, method and condition, with both readings of an average, JSON-ready."""
    rows: dict[str, Any] = {}
    for row, methods in run.records.items():
        rows[row] = {}
        for label, scores in methods.items():
            parts = {
                name: aggregate(scores, part)
                for name, part in (("day-all", run.benchmark.day), ("night-all", run.benchmark.night))
                if set(part) & scores.keys()
            }
            rows[row][label] = {
                **{name: {"queries": item.queries, "localized": item.localized, "recalls": percent(item.recalls)}
                   for name, item in scores.items()},
                **{name: {"queries": item.queries, "recalls": percent(item.recalls),
                          "mean_of_conditions": percent(item.mean_of_conditions)} for name, item in parts.items()},
            }  # fmt: skip
    return {"root": str(run.benchmark.root), "scores": rows}
