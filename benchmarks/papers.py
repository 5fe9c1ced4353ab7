"""Rows of all tables of the five papers that ``gloam reproduce --town`` fills, over all that can be had.

Those that need networks or generators of others are listed with the reason. All of it takes ``GLOAM_PAPERS_MINUTES``
(120) of processor time, shared out over the tables and their trainings. A folder named by ``GLOAM_BENCH_RUNS`` keeps
every row, and the same command carries on; ``GLOAM_BENCH_ONLY`` names tables, separated by commas, to run those alone,
for example ``dark-side 5,thesis 5.1``.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.shared.result import KEPT, Result, code_state
from gloam.errors import GloamError
from gloam.files import sha256_json, write_json
from gloam.heartbeat import to_stderr
from gloam.training.run_record import installed
from gloam.workflows.reports.localization import reproduce_localization
from gloam.workflows.reports.mduit import reproduce_mduit
from gloam.workflows.reports.retrieval_table import reproduce_retrieval
from gloam.workflows.reports.weakly_paired import reproduce_weakly_paired
from gloam.workflows.reproduce.localization.protocol import Protocol
from gloam.workflows.reproduce.localization.request import LOCALIZED, TableRequest
from gloam.workflows.reproduce.mduit.request import ABSENT, MduitRequest
from gloam.workflows.reproduce.mduit.request import ROWS as MDUIT_ROWS
from gloam.workflows.reproduce.published import TABLES
from gloam.workflows.reproduce.records import Budget, processor_seconds
from gloam.workflows.reproduce.request import RetrievalRequest
from gloam.workflows.reproduce.town.rows import GENERATORS, TOWN_TABLES
from gloam.workflows.reproduce.weakly_paired.figure7 import METHODS, UNTRANSLATED, Figure7
from gloam.workflows.reproduce.weakly_paired.miniature import Miniature
from gloam.workflows.reproduce.weakly_paired.request import RECIPES, WeaklyPairedRequest

MINUTES, USUAL = "GLOAM_PAPERS_MINUTES", 120.0
ONLY = "GLOAM_BENCH_ONLY"
STUDY, WEAKLY = "cyclegan-study", "weakly-paired"
# Rows of figures, of which their papers print no numbers.
DRAWN: dict[tuple[str, str], tuple[str, ...]] = {
    (WEAKLY, "figure7"): (UNTRANSLATED, *METHODS),
    **{("mduit", figure): tuple(rows) for figure, rows in MDUIT_ROWS.items()},
}
# Shares of the time: trainings of the tables of retrieval and generators together, then the others. What they leave
# goes to describing and judging, which no budget shortens.
RETRIEVAL = 0.4
OTHERS = {
    (STUDY, "1"): 0.05,
    ("dark-side", "3"): 0.18,
    ("mduit", "1"): 0.07,
    ("mduit", "figure3"): 0.015,
    ("mduit", "figure4"): 0.005,
    (WEAKLY, "2"): 0.07,
    (WEAKLY, "figure7"): 0.04,
}
TRAINED = 0.5  # of a table's time: its trainings, where the table does not share it out by itself
LOCALIZED_GENERATORS = {("dark-side", "3"): 2, ("mduit", "1"): 4}
Rows = dict[str, str]  # of a table: "" where it is filled, else why not


def run() -> Result:
    """Fill the tables, and count."""
    minutes = float(os.environ.get(MINUTES, USUAL))
    only = {name.strip() for name in filter(None, os.environ.get(ONLY, "").split(","))}
    kept = os.environ.get(KEPT)
    with tempfile.TemporaryDirectory(prefix="gloam-papers-") as temporary:
        folder = Path(kept) / "papers" if kept else Path(temporary)
        tables = {}
        for key in TABLES:
            name = " ".join(key)
            if key not in TOWN_TABLES and key not in OTHERS:
                tables[name] = {"rows": dict.fromkeys(TABLES[key].rows, "networks of others, which no town can train")}
            elif not only or name in only:
                tables[name] = _kept(
                    folder / f"{'-'.join(key)}-{minutes:g}.json", lambda key=key: _table(key, minutes, folder)
                )
    needed = {name: _needed(tuple(name.split(" ", 1)), found["rows"]) for name, found in tables.items()}
    filled = sum(reason == "" for rows in needed.values() for reason in rows.values())
    wanted = sum(map(len, needed.values()))
    value = filled / wanted if wanted else None
    spent = sum(found.get("minutes", 0.0) for found in tables.values())
    detail = {
        "filled": filled,
        "rows": wanted,
        "empty": {name: {row: why for row, why in rows.items() if why} for name, rows in needed.items()},
        "not to be had": {
            name: {row: why for row, why in found["rows"].items() if row not in needed[name]}
            for name, found in tables.items()
        },
        "minutes": {name: found.get("minutes", 0.0) for name, found in tables.items()},
        "minutes in all": round(spent, 1),
        "budget": minutes,
    }
    whole = not only and minutes == USUAL
    met = value == 1.0 and spent <= minutes
    return Result(value, "rows filled over rows that can be", "1.0", met if whole else None, detail)


def _needed(key: Any, rows: Mapping[str, str]) -> Rows:
    """The rows that need nothing which cannot be had."""
    if key not in TOWN_TABLES and key not in OTHERS:
        return {}
    stated = TOWN_TABLES.get(key, ((), {}))[1]
    absent = {row for row, town in stated.items() if town.reason} | (ABSENT.keys() if key in DRAWN else set())
    return {row: why for row, why in rows.items() if row not in absent}


def _table(key: tuple[str, str], minutes: float, folder: Path) -> dict[str, Any]:
    """The rows of a table, and what its time was."""
    began = processor_seconds()
    to_stderr(f"{' '.join(key)}")
    try:
        rows = _runner(key)(key, minutes, folder / "-".join(key), folder)
    except GloamError as error:
        rows = dict.fromkeys(DRAWN.get(key, TABLES[key].rows), str(error))
    return {"rows": rows, "minutes": round((processor_seconds() - began) / 60, 2)}


def _runner(key: tuple[str, str]) -> Callable[[tuple[str, str], float, Path, Path], Rows]:
    if key in LOCALIZED:
        return _localized
    if key[0] == "mduit":
        return _mduit_figure
    return _weakly_paired if key[0] == WEAKLY else _retrieval


def _retrieval(key: tuple[str, str], minutes: float, output: Path, folder: Path) -> Rows:
    nowhere = folder / "no data"
    if key[0] == STUDY:
        request = RetrievalRequest(*key, nowhere, output, town=True, budget=minutes * OTHERS[key])
    else:
        request = RetrievalRequest(*key, nowhere, output, town=True, runs=folder / "runs", shares=shares(minutes))
    table = reproduce_retrieval(request, to_stderr)
    printed = (row for row in table.rows if row.name in TABLES[key].rows)
    return {row.name: "" if row.scores else row.reason or "no numbers" for row in printed}


def shares(minutes: float) -> tuple[float, float]:
    """Minutes of each generator and each embedder of the tables of retrieval, which share them."""
    rows = [row for _, table in TOWN_TABLES.values() for row in table.values()]
    makers = {name for row in rows for name in (row.maker, row.to_day, row.detector) if name in GENERATORS}
    embedders = {(row.recipe, row.maker, row.label, row.detector) for row in rows if row.recipe}
    detectors = {spec.detector for spec in GENERATORS.values()} - {""}
    found = Budget(minutes * RETRIEVAL).shares(len(makers) + len(detectors), len(embedders))
    assert found is not None  # of a budget with minutes
    return found


def _localized(key: tuple[str, str], minutes: float, output: Path, folder: Path) -> Rows:
    each = TRAINED * minutes * OTHERS[key] / LOCALIZED_GENERATORS[key]
    protocol = Protocol(top_k=5, min_inliers=12, verify_queries=True, workers=1)
    request = TableRequest(*key, folder / "no data", output, protocol=protocol)
    table = reproduce_localization(request, town_minutes=each, say=to_stderr)
    printed = (row for row in table.rows if row.name in TABLES[key].rows)
    return {
        row.name: "" if all(cell.ours for cell in row.cells.values()) else row.reason or "no numbers" for row in printed
    }


def _mduit_figure(key: tuple[str, str], minutes: float, output: Path, folder: Path) -> Rows:
    # Minutes and folder are the table's, whose networks both figures show; AdaIN alone is trained beside them.
    each = TRAINED * minutes * OTHERS["mduit", "1"] / LOCALIZED_GENERATORS["mduit", "1"]
    found = reproduce_mduit(MduitRequest(key[1], folder / "no data", folder / "mduit-1"), each, to_stderr)
    reasons = dict(note.split(": ", 1) for note in found.notes if note.split(": ", 1)[0] in DRAWN[key])
    return {row: "" if row in found.made_by else reasons.get(row, "no column") for row in DRAWN[key]}


def _weakly_paired(key: tuple[str, str], minutes: float, output: Path, folder: Path) -> Rows:
    share = OTHERS[WEAKLY, "2"] + OTHERS[WEAKLY, "figure7"]
    miniature = Miniature(minutes=TRAINED * minutes * share / len(RECIPES), workers=1)
    # One folder for both, which share the drives and three of the generators.
    found = reproduce_weakly_paired(
        WeaklyPairedRequest(key[1], folder / "no data", folder / WEAKLY), miniature, to_stderr
    )
    reasons = dict(note.split(": ", 1) for note in found.notes if note.split(": ", 1)[0] in RECIPES)
    if isinstance(found, Figure7):
        there = {curve.method for curve in found.curves}
        return {row: "" if row in there else reasons.get(row, "no curve") for row in DRAWN[key]}
    return {row: "" if row in found.ours else reasons.get(row, "no numbers") for row in RECIPES}


def _kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a table gave; read where an earlier run of the same code and versions filled all of it.

    Else it is run again with its time added; its own folder keeps the rows whose recipes did not change.
    """
    key = sha256_json([code_state("gloam", "benchmarks"), installed()])
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if found.get("key") == key and not any(found["rows"].values()):
        return found
    made = make() | {"key": key}
    made["minutes"] = round(made["minutes"] + found.get("minutes", 0.0), 2)
    write_json(file, made)
    return made
