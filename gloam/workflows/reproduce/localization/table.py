"""``gloam reproduce dark-side 3`` and ``mduit 1``: localization, of whatever benchmarks and weights are there.

What is there is localized and written for its server; the hidden poses are the server's, so a number of ours is read
back from its answer. Where somebody has the poses, as of a look-alike, gloam scores them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gloam.data.localization_sets.dataset import LocalizationSet, SetName
from gloam.data.localization_sets.read import read_localization_set
from gloam.data.localization_sets.sources import LICENCES, parts_of
from gloam.data.scene import Pose
from gloam.errors import DataError, GloamError, UsageError, require_all
from gloam.eval.localization.request import LocalizeRequest, open_matched
from gloam.eval.localization.server_scores import Scores, read_server_scores
from gloam.heartbeat import Say
from gloam.runtime.localization.features.sources import pixel_origin
from gloam.runtime.localization.maps.datasets import read_poses
from gloam.workflows.reproduce.localization.embedders import by_chance, describe
from gloam.workflows.reproduce.localization.notes import protocol_notes, run_detail, set_notes
from gloam.workflows.reproduce.localization.protocol import SetLocalizer, retrieve_within
from gloam.workflows.reproduce.localization.request import LOCALIZED, SETS, SetOfTable, TableRequest
from gloam.workflows.reproduce.localization.result import LocalizationTable, Row, Triple, triples
from gloam.workflows.reproduce.localization.runner import (
    Described,
    Group,
    RowInput,
    SetRun,
    answered_cell,
    day_and_night,
    percent,
    score_by_condition,
)
from gloam.workflows.reproduce.localization.supply import PublishedSupply, Supply
from gloam.workflows.reproduce.models import open_embedder
from gloam.workflows.reproduce.published import kapture_context, published
from gloam.workflows.reproduce.rows import PACKAGES, Missing, row_source

SCALES = {"mduit": (1.0,)}  # NetVLAD is described at one scale, as its authors do; others at dark-side's three
NEEDS = (*PACKAGES, "pycolmap")


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
        run = None
        if opened.benchmark is not None:
            posed = any(group.method != "top-1" for group in groups)
            require_all(NEEDS if posed else PACKAGES, "localize the rows of a table")
            try:
                localizer = _localizer(request, opened.benchmark)
            except GloamError as error:
                opened = replace(opened, problem=str(error))
            else:
                run = SetRun(localizer, groups, printed, request.output, opened.truth, scores, say)
        if run is None:
            missing += _missing_set(request, spec, opened) if opened.benchmark is None else []
            rows |= {row: _unrun(row, groups, printed[row], scores, spec, opened.problem) for row in named}
            continue
        runs.append(run)
        wanted = [_input(request, row, supply, run) for row in named]
        wanted += [_control(request, control, f"{spec.prefix} {control.name}".strip(), run) for control in controls]
        for item in wanted:
            rows[item.name] = run.row(item)
            reason = rows[item.name].reason
            say(f"{item.name}: {f'not whole, {reason}' if reason else 'done'}")
        notes += set_notes(spec.prefix or "RobotCar", run)
        detail[run.benchmark.name] = run_detail(run)
        if run.benchmark.known_query is not None:
            lines = _known(request, run, named, supply)
            detail["known images"] = lines
            notes += [f"{run.benchmark.name}, images with known poses, the local check: {line}" for line in lines]
    table = LocalizationTable(
        request.paper,
        request.table,
        found,
        tuple(group.name for group in groups),
        [rows[row] for row in (*found.rows, *(row for row in rows if row not in found.rows)) if row in rows],
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
    shift = request.pixel_shift
    if request.features == "sift" and origin is None and shift is None:
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
    embedder = open_embedder(files, request.output, origin, SCALES.get(request.paper))
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
                for what, item in day_and_night(benchmark, scores).items():
                    recalls = " / ".join(f"{value:.1f}" for value in percent(item.recalls))
                    lines.append(f"{row}, {label}, {what} of {item.queries} images: {recalls}")
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
        sets = LOCALIZED[request.paper, request.table][0]
        meant = [row for row in rows if name == row or name in {spec.of(row) for spec in sets}]
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
