"""A slice of the planted faults on a tiny model; and that each is planted, judged and undone as it says."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.integrity import BAD, LEAST, controls, faults, judge, one, summed
from benchmarks.shared.faults.scenarios import SCENARIOS
from benchmarks.shared.faults.stored import Fault
from benchmarks.shared.faults.workspace import Ran, Workspace, make_pictures, make_stores
from gloam.runtime.backends.onnx_file import with_checksum
from tests.tiny_models import write_tiny_embedder

SLICE = ("extract", "extract --grow", "index", "search", "eval retrieval", "verify", "extract anew")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("integrity"))
    make_pictures(made.work)
    write_tiny_embedder(made.work / "embedder.onnx")
    (made.work / "embedder.onnx").write_bytes(with_checksum((made.work / "embedder.onnx").read_bytes()))
    make_stores(made)
    made.keep()
    return made


def test_no_fault_of_a_slice_is_silent(space: Workspace) -> None:
    made = controls(space, SLICE)
    there = [item for item in enumerate(faults()) if item[1].scenario in SLICE and "translator" not in item[1].what]
    drawn = np.random.default_rng(2).choice(len(there), 12, replace=False)
    rows = [one(there[at][1], there[at][0], space, made) for at in sorted(drawn)]
    assert [row for row in rows if row["outcome"] in BAD] == []
    assert {row["outcome"] for row in rows} == {"named", "healed"}


def test_there_are_enough_faults_and_each_has_a_command() -> None:
    assert len(faults()) >= LEAST
    assert {fault.scenario for fault in faults()} <= SCENARIOS.keys()
    assert {fault.truth for fault in faults()} == {"made", "fresh", "named"}


def test_a_workspace_goes_back_to_what_it_was(space: Workspace) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in space.work.rglob("*") if path.is_file()}
    (space.work / "list.txt").unlink()
    (space.work / "truth.json").write_text("{}")
    (space.work / "new" / "folder").mkdir(parents=True)
    (space.work / "new" / "folder" / "file").write_text("new")
    space.restore()
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in space.work.rglob("*") if path.is_file()}
    assert after == before
    assert not (space.work / "new").exists()


@pytest.mark.parametrize(
    ("ran", "found", "truth", "outcome"),
    [
        (Ran(0, "", ""), 1, 1, "healed"),
        (Ran(0, "", ""), 2, 1, "silent"),
        (Ran(0, "", ""), None, None, "silent"),
        (Ran(2, "", "gloam x: p1.png: broken"), None, None, "named"),
        (Ran(2, "", "gloam x: something is wrong"), None, None, "vague"),
        (Ran(-1, "", "", "Traceback"), None, None, "crash"),
        (Ran(139, "", ""), None, None, "crash"),
    ],
)
def test_the_verdicts(ran: Ran, found: object, truth: object, outcome: str) -> None:
    fault = Fault("kind", "what", "extract", lambda work, rng: ())
    assert judge(fault, ["p1.png"], [ran], found, truth) == outcome
    assert summed([{"kind": "kind", "outcome": outcome}]).value == (outcome in BAD)
