"""The rows of one benchmark: described, retrieved, localized, written for its server, scored where poses are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gloam.data.localization_sets.dataset import LocalizationSet
from gloam.data.scene import Pose, Scene
from gloam.errors import DataError, GloamError
from gloam.eval.localization.benchmark import Descriptors
from gloam.eval.localization.scores import (
    THRESHOLDS,
    Aggregate,
    ConditionScores,
    aggregate,
    pose_errors,
    score_conditions,
)
from gloam.eval.localization.server_scores import Scores
from gloam.eval.localization.submission import validate_submission, write_submission
from gloam.heartbeat import Say
from gloam.workflows.reproduce.localization.protocol import Poses, SetLocalizer, retrieve_within
from gloam.workflows.reproduce.localization.result import Cell, Row, Triple
from gloam.workflows.reproduce.records import slug

DEPTH = 20  # retrieved images that a report looks at, whatever the methods take
Part = Literal["day", "night"]
Described = tuple[Descriptors, Mapping[str, Any]]


@dataclass(frozen=True)
class Group:
    """Three columns of a table: a method, and whether they are of the queries by day or by night."""

    name: str
    method: str
    part: Part


@dataclass(frozen=True)
class RowInput:
    """A row to run, and how its images are described; a GloamError says why they cannot be."""

    name: str
    describe: Callable[[], Described]


@dataclass
class SetRun:
    """One benchmark of a table.

    Attributes:
        localizer: of the benchmark.
        groups: of columns.
        published: by row and group.
        place: output folder.
        truth: poses of the queries where somebody has them: of a look-alike.
        scores: of the server, by row and method.
        say: gets a line for each row and method.
        records: of each row and method the scores by condition, for the JSON and the page.
        retrieved: of each row the map images of every query, best first, :data:`DEPTH` or more; methods take fewer.
        cosines: of these images.
        found: of each row and method the poses.
        alarms: what :func:`gloam.eval.localization.submission.validate_submission` says of the files of the last row.
    """

    localizer: SetLocalizer
    groups: Sequence[Group]
    published: Mapping[str, Mapping[str, Triple]]
    place: Path
    truth: Mapping[str, Pose] | None
    scores: Scores
    say: Say
    records: dict[str, dict[str, dict[str, ConditionScores]]] = field(default_factory=dict)
    retrieved: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    cosines: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    found: dict[str, dict[str, Poses]] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)

    @property
    def benchmark(self) -> LocalizationSet:
        """That is localized."""
        return self.localizer.benchmark

    def row(self, given: RowInput) -> Row:
        """Run a row; whatever goes wrong empties its cells alone, and is its reason."""
        answered = {group.name: self._answer(given.name, group) for group in self.groups}
        try:
            self.say(f"{given.name}: descriptors")
            descriptors, facts = given.describe()
            names = self.localizer.names
            depth = max(DEPTH, *(k for _, k in self.localizer.protocol.labels.values()))
            retrieved = retrieve_within(
                self.benchmark, self.localizer.query, names, descriptors, depth, self.localizer.protocol.within
            )
            first = self.localizer.poses("top-1", retrieved)
        except GloamError as error:
            return Row(given.name, answered, {}, str(error))
        self.retrieved[given.name] = retrieved
        self.cosines[given.name] = {
            name: [float(descriptors.of(name) @ descriptors.of(image)) for image in images]
            for name, images in retrieved.items()
        }
        reasons = self.alarms = []
        cells = dict(answered)
        wanted = {group.method for group in self.groups}
        for label, (method, k) in self.localizer.protocol.labels.items():
            if method not in wanted:
                continue
            self.say(f"{given.name}: {label}")
            try:
                cells |= self._localized(given.name, label, method, k, retrieved, first, facts, answered)
            except GloamError as error:
                reasons.append(f"{label}: {error}")
        images = {"map images": len(self.benchmark.mapping.records), "queries": len(self.benchmark.scored_queries)}
        return Row(given.name, cells, {**facts, **images}, "; ".join(reasons))

    def _localized(
        self,
        row: str,
        label: str,
        method: str,
        k: int,
        retrieved: Mapping[str, Sequence[str]],
        first: Poses,
        facts: Mapping[str, Any],
        answered: Mapping[str, Cell],
    ) -> dict[str, Cell]:
        """Cells of one method, and its file; of a number of images that the table does not have the file alone."""
        poses = first if method == "top-1" else self.localizer.poses(label, retrieved)
        self.found.setdefault(row, {})[label] = poses
        protocol = self.localizer.protocol
        path = self.place / "submissions" / slug(row) / f"{slug(label)}.txt"
        written = write_submission(
            path,
            poses,
            self.benchmark,
            unlocalized=protocol.unlocalized,
            top1={name: pose for name, pose in first.items() if pose is not None},
            facts={"row": row, "method": label, "retrieved_within": protocol.within, "embedder": dict(facts)},
        )
        if written.localized or written.filled:
            for fault in validate_submission(path, self.benchmark).faults[:1]:
                self.alarms.append(f"{label}: {path}:{fault.line}: {fault.message}")
        sent = poses
        if protocol.unlocalized == "top1":
            sent = {name: first.get(name) if pose is None else pose for name, pose in poses.items()}
        scored = None if self.truth is None else score_by_condition(self.benchmark, sent, self.truth)
        if scored is not None:
            self.records.setdefault(row, {})[label] = scored
        cells = {}
        for group in self.groups:
            if group.method != method or k != (1 if method == "top-1" else protocol.top_k):
                continue
            cell = replace(
                answered[group.name],
                submission=path.relative_to(self.place).as_posix(),
                localized=written.localized,
                queries=written.queries,
            )
            if scored is not None and cell.ours is None:
                item = aggregate(scored, part_of(self.benchmark, group.part))
                ours, other = percent(item.recalls), percent(item.mean_of_conditions)
                cell = replace(cell, ours=ours, source="truth", other=other)
            cells[group.name] = cell
        return cells

    def _answer(self, row: str, group: Group) -> Cell:
        """The cell of a server's answer, or an empty one beside the published numbers."""
        published = self.published.get(row, {}).get(group.name)
        return answered_cell(self.scores, row, group, published, self.benchmark)


def answered_cell(
    scores: Scores,
    row: str,
    group: Group,
    published: Triple | None,
    benchmark: LocalizationSet | None,
    single: bool = False,
) -> Cell:
    """A cell with what the server answered, where it did.

    Args:
        scores: of the server.
        row, group: of the cell.
        published: its numbers.
        benchmark: whose numbers of queries weigh conditions; None where it is not there.
        single: whether the benchmark has one condition by day and one by night.

    Raises:
        DataError: the conditions of the answer do not tell the number.
    """
    conditions = scores.get((row, group.method), {})
    whole = conditions.get(f"{group.part}-all")
    if whole is None and conditions:
        names = () if benchmark is None else part_of(benchmark, group.part)
        if (single or names == (group.part,)) and group.part in conditions:
            whole = conditions[group.part]
        elif benchmark is not None and names and set(names) <= conditions.keys():
            counts = [len(set(benchmark.scored_queries) & set(benchmark.conditions[name])) for name in names]
            columns = list(zip(*(conditions[name] for name in names), strict=True))
            weighed = [sum(n * v for n, v in zip(counts, column, strict=True)) / sum(counts) for column in columns]
            means = [sum(column) / len(column) for column in columns]
            return Cell(published, _triple(weighed), "server", _triple(means))
        else:
            raise DataError(
                f"the scores of {row}, {group.method} have no {group.part}-all; add a line {group.part}-all: ..."
            )
    return Cell(published, whole, "server" if whole is not None else "")


def score_by_condition(
    benchmark: LocalizationSet,
    poses: Mapping[str, Pose | None],
    truth: Mapping[str, Pose],
    query: Scene | None = None,
) -> dict[str, ConditionScores]:
    """Scores of the queries that a server would score, by condition.

    Args:
        benchmark: its conditions, and which cameras count.
        poses: by query.
        truth: true poses, of every one of them.
        query: other images than the benchmark's queries; their condition is a part of their path.

    Raises:
        DataError: a query without true pose.
    """
    if query is None:
        names, conditions = benchmark.scored_queries, dict(benchmark.conditions)
    else:
        cameras = benchmark.scored
        names = [name for name in query.names if cameras is None or query.records[name].camera_id in cameras]
        every = (*benchmark.day, *benchmark.night)
        conditions = {condition: [n for n in names if condition in n.split("/")] for condition in every}
    unknown = [name for name in names if name not in truth]
    if unknown:
        raise DataError(f"{len(unknown)} of {len(names)} queries have no true pose, first {unknown[0]!r}")
    errors = pose_errors({name: poses.get(name) for name in names}, {name: truth[name] for name in names})
    counted = set(names)
    chosen = {condition: [n for n in members if n in counted] for condition, members in conditions.items()}
    return score_conditions(
        errors, {condition: members for condition, members in chosen.items() if members}, THRESHOLDS
    )


def part_of(benchmark: LocalizationSet, part: Part) -> tuple[str, ...]:
    """The conditions by day or by night."""
    return benchmark.day if part == "day" else benchmark.night


def percent(recalls: Sequence[float]) -> Triple:
    """Shares as %."""
    return _triple([100 * recall for recall in recalls])


def day_and_night(benchmark: LocalizationSet, scores: Mapping[str, ConditionScores]) -> dict[str, Aggregate]:
    """Day-All and Night-All, of whichever there are queries."""
    parts = {"Day-All": benchmark.day, "Night-All": benchmark.night}
    return {name: aggregate(scores, part) for name, part in parts.items() if set(part) & scores.keys()}


def _triple(values: Sequence[float]) -> Triple:
    fine, medium, coarse = values
    return fine, medium, coarse
