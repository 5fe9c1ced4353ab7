"""Faults planted one at a time in a small workspace, the commands that a user would run next, and what became of them.

A fault is **named** where a command ends with an error whose line names the file, image or record, or states it as a
failure; **healed** where the same command ends with what a fresh run on the inputs as they now are gives, or what was
there before the damage; **silent** where it ends well with something else; a **crash** where an exception or a signal
ends it. An error that names nothing is **vague**. Every fault has a generator of its own, of a fixed seed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.faults.inputs import input_faults
from benchmarks.shared.faults.later import later_faults
from benchmarks.shared.faults.records import record_faults
from benchmarks.shared.faults.scenarios import SCENARIOS, Scenario
from benchmarks.shared.faults.stored import Fault, stored_faults
from benchmarks.shared.faults.workspace import Ran, Workspace, make_bulk, make_places, make_training
from benchmarks.shared.faults.workspace import run as gloam
from benchmarks.shared.result import Result

SEED = 14
LEAST = 300
BAD = ("silent", "vague", "crash")


def faults() -> list[Fault]:
    """All, in a fixed order; the place in it is a part of a fault's seed."""
    return [*stored_faults(), *input_faults(), *record_faults(), *later_faults()]


def ran(scenario: Scenario, space: Workspace) -> tuple[list[Ran], Any]:
    """What the commands did, and the result where all ended well."""
    did: list[Ran] = []
    for words in scenario.steps:
        did.append(gloam(words, space.work))
        if did[-1].code or did[-1].crash:
            return did, None
    return did, scenario.result(space.work, did[-1])


def afresh(scenario: Scenario, space: Workspace) -> Any:
    """The result of commands that find none of their outputs; None where one fails."""
    for name in scenario.outputs:
        path = space.work / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return ran(scenario, space)[1]


def judge(fault: Fault, marks: Sequence[str], did: Sequence[Ran], found: Any, truth: Any) -> str:
    """What became of a fault."""
    last = did[-1]
    if last.crash or last.code < 0 or last.code > 2:
        return "crash"
    said = any(mark in part.said for mark in marks for part in did)
    if last.code:
        return "named" if said else "vague"
    if truth is not None and found == truth:
        return "healed"
    return "named" if fault.truth == "named" and said else "silent"


def one(fault: Fault, number: int, space: Workspace, made: dict[str, Any]) -> dict[str, Any]:
    """Plant a fault, run, judge, and put the workspace back."""
    scenario = SCENARIOS[fault.scenario]
    try:
        marks = fault.plant(space.work, np.random.default_rng([SEED, number]))
        did, found = ran(scenario, space)
        truth = None
        if did[-1].code == 0 and not did[-1].crash:
            truth = {"made": made[fault.scenario], "named": None}.get(fault.truth)
            truth = afresh(scenario, space) if fault.truth == "fresh" else truth
        outcome = judge(fault, marks, did, found, truth)
    finally:
        space.restore()
    row = {"kind": fault.kind, "what": fault.what, "run": fault.scenario, "outcome": outcome}
    if outcome != "healed":
        lines = (did[-1].crash or did[-1].said).strip().splitlines() or [""]
        row |= {"code": did[-1].code, "line": lines[-1].replace(str(space.work), "W")[:300]}
    return row


def controls(space: Workspace, wanted: Iterable[str]) -> dict[str, Any]:
    """The result of every scenario without a fault.

    Raises:
        RuntimeError: one fails, or a second run gives something else.
    """
    made: dict[str, Any] = {}
    for name in wanted:
        for _ in range(2):
            did, found = ran(SCENARIOS[name], space)
            if (found is None and did[-1].code) or did[-1].crash:
                raise RuntimeError(f"{name}, without a fault: {did[-1].crash or did[-1].said}")
            if made.setdefault(name, found) != found:
                raise RuntimeError(f"{name}, without a fault: two runs differ")
            space.restore()
    return made


def run(wanted: Callable[[Fault], bool] = lambda fault: True, places: bool = True, training: bool = True) -> Result:
    """How many faults are silent, crash a command, or are refused without a name."""
    chosen = [(number, fault) for number, fault in enumerate(faults()) if wanted(fault)]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="gloam-integrity-") as temporary:
        space = Workspace(Path(temporary))
        make_bulk(space)
        if places:
            make_places(space)
        if training:
            make_training(space)
        space.keep()
        made = controls(space, dict.fromkeys(fault.scenario for _, fault in chosen))
        for number, fault in chosen:
            row = {"number": number, **one(fault, number, space, made)}
            rows.append(row)
            if row["outcome"] in BAD:
                print(row, file=sys.stderr, flush=True)
    return summed(rows)


def summed(rows: Sequence[dict[str, Any]]) -> Result:
    """The benchmark's figure, with the list of faults."""
    counts = Counter(row["outcome"] for row in rows)
    by_kind = {
        kind: dict(Counter(row["outcome"] for row in rows if row["kind"] == kind))
        for kind in sorted({row["kind"] for row in rows})
    }
    bad = sum(counts[name] for name in BAD)
    detail = {"faults": len(rows), "outcomes": dict(counts), "kinds": by_kind, "seed": SEED, "list": rows}
    return Result(
        bad, "silent faults, crashes and vague errors", f"0 of {LEAST} or more", not bad and len(rows) >= LEAST, detail
    )
