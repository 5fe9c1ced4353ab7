"""One folder for each row: what it was made from and gave, enough to run it again; and the time that a table may take.

A killed run loses the row that it was at, and of that row only what its trainings had not saved.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gloam.errors import GloamError, StoreError
from gloam.files import read_json, write_json, write_where_changed
from gloam.heartbeat import Say
from gloam.record import to_json
from gloam.training.run_record import RECORD_FILE, installed
from gloam.workflows.reproduce.request import RetrievalRequest, recorded_request
from gloam.workflows.reproduce.result import TableRow

ROWS, ROW_FILE, RUNS = Path("rows"), "row.json", "runs"
RENDERED = 0.15  # of a budget: for what is rendered, described and judged
GENERATOR = 3.0  # times the minutes of an embedder


def slug(name: str) -> str:
    """A name as that of a file or folder."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_")


def generator_minutes(minutes: float, budget: float | None, generators: int) -> float:
    """Minutes of each generator of a table whose budget is not shared out row by row: half of it is for the rest.

    Args:
        minutes: without a budget.
        budget: of the whole table; None for no limit.
        generators: that are trained.
    """
    return minutes if budget is None else 0.5 * budget / max(generators, 1)


@dataclass(frozen=True)
class Scored:
    """What one seed of a row gave.

    Attributes:
        scores: by column.
        facts: see :class:`TableRow`.
        trained: folders of the runs behind it, whose records are kept with the row's.
        reason: why a part is empty.
    """

    scores: Mapping[str, float]
    facts: Mapping[str, Any]
    trained: Sequence[Path] = ()
    reason: str = ""


def processor_seconds() -> float:
    """Of this process and its finished children so far."""
    return sum(os.times()[:4])


@dataclass
class Budget:
    """Processor time of a table, all its calls together.

    Attributes:
        minutes: of all; None for no limit.
        before: seconds that earlier calls used.
        stated: minutes of each generator and each embedder: the request's, or as they were shared out.
    """

    minutes: float | None
    before: float = 0.0
    stated: tuple[float, float] | None = None
    _began: float = field(default_factory=processor_seconds)

    @classmethod
    def of(cls, request: RetrievalRequest) -> Budget:
        """What is left of it after the table's rows that the output folder has."""
        used = sum(_seconds(kept, request) for kept in _kept_rows(request.output))
        return cls(request.budget, used, request.shares)

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self.minutes is not None and self.before + processor_seconds() - self._began >= 60 * self.minutes

    def shares(self, generators: int, embedders: int) -> tuple[float, float] | None:
        """Minutes for each generator and each embedder of the table; None without a limit."""
        if self.minutes is not None and self.stated is None:
            unit = (1 - RENDERED) * self.minutes / max(GENERATOR * generators + embedders, 1.0)
            self.stated = GENERATOR * unit, unit
        return self.stated


def run_row(
    request: RetrievalRequest,
    name: str,
    one: Callable[[int], Scored],
    budget: Budget,
    say: Say,
    *,
    seeds: Sequence[int],
    key: str | None = None,
) -> TableRow:
    """Run a row, seed by seed, and write its record; whatever goes wrong empties this row alone, and is its reason.

    Args:
        request: of the table.
        name: of the row.
        one: scores a seed.
        budget: of the table.
        say: gets one line per step.
        seeds: of its trainings.
        key: what decides its numbers; seeds that an earlier run recorded under it are not run again, where they are the
            first of these. None runs all.
    """
    began = processor_seconds()
    folder = request.output / ROWS / slug(name)
    kept = _read(folder / ROW_FILE)
    used = _seconds(kept or {}, request)
    same = kept if kept and key is not None and kept.get("key") == key else {}
    if set(same.get("scores", ())) != {str(seed) for seed in seeds[: len(same.get("scores", ()))]}:
        same = {}  # of other seeds, which are no part of this mean
    scores: dict[str, dict[str, float]] = {seed: dict(found) for seed, found in same.get("scores", {}).items()}
    facts: dict[str, Any] = dict(same.get("facts", {}))
    reason = str(same.get("part", "")) if len(scores) == len(seeds) else ""
    part = reason

    def write() -> None:
        stated = {
            "row": name,
            # A row that is run again alone has the minutes that it had among the others.
            "request": replace(request, shares=budget.stated).to_record(),
            "key": key,
            "scores": scores,
            "facts": facts,
            "reason": reason,
            "part": part,
            "seconds": round(used + processor_seconds() - began, 1),
            "versions": installed(),
        }
        write_json(folder / ROW_FILE, to_json(stated))

    for seed in seeds:
        if str(seed) in scores:
            continue
        if budget.over:
            reason = (
                f"the budget of {budget.minutes:g} minutes is used up; the same command with a larger one carries on"
            )
            break
        try:
            found = one(seed)
        except GloamError as error:
            reason = str(error)
            break
        if not found.scores:
            reason = found.reason
            break
        scores[str(seed)] = {column: float(value) for column, value in found.scores.items()}
        facts = _joined(facts, found, seed, folder)
        reason = part = found.reason
        write()
    if reason:
        say(f"{name}: {reason}")
    write()
    return TableRow(name, scores, facts, reason, folder / ROW_FILE)


def recorded_row(file: Path, output: Path) -> RetrievalRequest:
    """The request of a row's record.

    Raises:
        StoreError: no such file, or not a row's record.
        UsageError, DataError: as :func:`recorded_request`.
    """
    kept = _read(file)
    if kept is None or not isinstance(kept.get("row"), str):
        raise StoreError(f"{file}: is not the record of a row; give the row.json below rows/ of an earlier run")
    return recorded_request(kept.get("request", {}), kept["row"], output, str(file))


def origin_of_run(folder: Path, recipe: str) -> str:
    """What a run was trained by, in words: the recipe and seed of its record, whatever is asked for now.

    Args:
        folder: of the run.
        recipe: that it is taken for, where it holds no record.
    """
    record = _read(folder / RECORD_FILE) or {}
    config = record.get("config")
    seed = config.get("seed") if isinstance(config, dict) else None
    stated = "a seed that no record states" if seed is None else f"seed {seed}"
    return f"trained by recipe {record.get('recipe', recipe)}, {stated}"


def _joined(facts: Mapping[str, Any], found: Scored, seed: int, folder: Path) -> dict[str, Any]:
    """The facts of all seeds: members and images of the first, and of each the weights; records are copied beside."""
    joined = dict(facts) if facts.get("members") else {**found.facts}
    of_seed = [one for member in found.facts.get("members", ()) for one in member.get("weights", ())]
    joined["seeds"] = {**facts.get("seeds", {}), str(seed): of_seed}
    records = dict(facts.get("trained", {}))
    for run in found.trained:
        record = run / RECORD_FILE
        if record.is_file():
            copy = folder / RUNS / f"{slug(run.name)}.json"
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_where_changed(copy, record.read_bytes())
            records[run.name] = str(copy.relative_to(folder))
    return joined | ({"trained": records} if records else {})


def _seconds(kept: Mapping[str, Any], request: RetrievalRequest) -> float:
    """What a row took so far; rows of another table in the same folder took none of this one's time."""
    stated = kept.get("request")
    same = isinstance(stated, Mapping) and all(
        stated.get(name) == getattr(request, name) for name in ("paper", "table", "town")
    )
    return float(kept.get("seconds", 0)) if same else 0.0


def _kept_rows(output: Path) -> list[dict[str, Any]]:
    found = (_read(path) for path in sorted((output / ROWS).glob(f"*/{ROW_FILE}")))
    return [kept for kept in found if kept is not None]


def _read(path: Path) -> dict[str, Any] | None:
    """A record; None where there is none, or one that cannot be read."""
    if not path.is_file():
        return None
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
