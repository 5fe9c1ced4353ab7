"""Would the tests notice? Wrong programs of localization, features and matching, and the tests that mirror them.

One small change is made in the body of a function, in a copy of the package; then the quick tests that mirror the
module run. A program is noticed where they fail, or take many times as long. The draw is by module and seed, so that a
new module leaves the others' as they are. Networks are compared with their authors' programs on published weights:
without ``GLOAM_DATA`` more of their wrong programs pass.

It takes minutes on two cores. ``GLOAM_BENCH_ONLY`` names parts of the paths of the modules wanted; verdicts stay in
``GLOAM_BENCH_RUNS`` and hold for as long as neither package nor tests change.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from zlib import crc32

import numpy as np

from benchmarks.shared.forked_tests import ForkedTests
from benchmarks.shared.harmless import HARMLESS
from benchmarks.shared.mutations import Mutation, mutated, mutations
from benchmarks.shared.result import KEPT, Result, code_state
from gloam.files import sha256_json, write_text

ROOT = Path(__file__).parents[1]
ONLY = "GLOAM_BENCH_ONLY"
MODULES = (
    "gloam/runtime/localization/**/*.py",
    "gloam/eval/localization/*.py",
    "gloam/data/hloc_io.py",
    "gloam/data/kapture_io.py",
    "gloam/data/kapture_text.py",
    "gloam/data/images.py",
    "gloam/networks/local_features/*.py",
    "gloam/networks/matchers/*.py",
    "gloam/runtime/models/local_*.py",
    "gloam/runtime/models/matcher.py",
)
COPIED = ("gloam", "tests", "benchmarks", "docs", "README.md", "CHANGELOG.md", "Makefile", "hubconf.py")
COPIED += ("pyproject.toml",)
EACH = 4  # drawn of a module
LEAST = 100
TARGET = 0.9
SEED = 16
PATIENCE = (5, 20.0)  # times as long as the tests take, and seconds besides, before they are said to hang
FOREVER = 600.0
HUNG = "took too long"
PYTEST = ("-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--tb=line", "--disable-warnings")


@dataclass(frozen=True)
class Subject:
    """A module as it stands and the tests that mirror it, below the root."""

    module: str
    source: str
    tests: tuple[str, ...]
    drawn: tuple[Mutation, ...]


def modules(root: Path = ROOT) -> list[str]:
    """The modules that are changed, those of :data:`MODULES`."""
    found = {path.relative_to(root).as_posix() for pattern in MODULES for path in root.glob(pattern)}
    chosen = os.environ.get(ONLY, "").replace(",", " ").split()
    return sorted(name for name in found if not chosen or any(part in name for part in chosen))


def mirror(module: str, root: Path = ROOT) -> tuple[str, ...]:
    """Test files of a module: those in the mirrored folder named for it, or all that are there, or those that are named
    for the folder."""
    path = root / "tests" / Path(module).relative_to("gloam")
    for folder, pattern in (
        (path.parent, f"test_{path.stem}*.py"),
        (path.parent, "test_*.py"),
        (path.parent.parent, f"test_{path.parent.name}*.py"),
    ):
        if found := sorted(file.relative_to(root).as_posix() for file in folder.glob(pattern)):
            return tuple(found)
    return ()


def draw(module: str, source: str, count: int = EACH) -> tuple[Mutation, ...]:
    """Some of a module's changes, without the harmless ones; the same every time."""
    every = [item for item in mutations(source) if not harmless(module, item)]
    rows = np.random.default_rng([SEED, crc32(module.encode())]).permutation(len(every))[:count]
    return tuple(every[row] for row in sorted(rows))


def harmless(module: str, change: Mutation) -> bool:
    """Whether a change is on the list of those that make no wrong program."""
    return (module, change.function, change.was, change.put) in HARMLESS


class Copies:
    """Copies of the package, one for each worker, in which a module is changed while its tests run."""

    def __init__(self, folder: Path, count: int) -> None:
        self.every = [ForkedTests(_copy(folder / str(number))) for number in range(count)]
        self._free: SimpleQueue[ForkedTests] = SimpleQueue()
        for item in self.every:
            self._free.put(item)

    def run(self, module: str, tests: Sequence[str], text: str | None, limit: float = FOREVER) -> tuple[str, str]:
        """Verdict and last words of the tests, with the module's text replaced unless it is None."""
        worker = self._free.get()
        path = worker.copy / module
        kept = path.read_bytes()
        try:
            if text is not None:
                path.write_text(text, encoding="utf-8")
            code, words = worker.run([*PYTEST, *tests], limit)
        finally:
            path.write_bytes(kept)
            self._free.put(worker)
        if code is None:
            return "noticed", HUNG
        return ("noticed" if code else "survived"), words

    def close(self) -> None:
        """End the workers."""
        for item in self.every:
            item.close()


def _copy(folder: Path) -> Path:
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


def subjects(root: Path = ROOT) -> list[Subject]:
    """Modules that have anything to change, with what is drawn of each."""
    made = []
    for module in modules(root):
        source = (root / module).read_text(encoding="utf-8")
        made.append(Subject(module, source, mirror(module, root), draw(module, source)))
    return [item for item in made if item.drawn]


def patience(copies: Copies, subjects: Sequence[Subject], pool: ThreadPoolExecutor) -> dict[tuple[str, ...], float]:
    """Seconds after which the tests of modules hang, by the tests.

    Raises:
        RuntimeError: some fail as they are, or pass without their module.
    """

    def one(subject: Subject) -> tuple[tuple[str, ...], float]:
        clock = time.perf_counter()
        verdict, words = copies.run(subject.module, subject.tests, None)
        if verdict != "survived":
            raise RuntimeError(f"{subject.module}: its tests fail without any change: {words}")
        return subject.tests, PATIENCE[0] * (time.perf_counter() - clock) + PATIENCE[1]

    def used(subject: Subject) -> None:
        if copies.run(subject.module, subject.tests, "raise ImportError\n")[0] != "noticed":
            raise RuntimeError(f"{subject.module}: {', '.join(subject.tests)} do not use it")

    list(pool.map(used, subjects))
    return dict(pool.map(one, {subject.tests: subject for subject in subjects}.values()))


def run() -> Result:
    """The share of wrong programs that are noticed."""
    chosen = subjects()
    state = _state()
    workers = len(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory(prefix="gloam-mutants-") as temporary,
        closing(Copies(Path(temporary), workers)) as copies,
        ThreadPoolExecutor(workers) as pool,
    ):
        limits = patience(copies, [subject for subject in chosen if subject.tests], pool)

        def one(subject: Subject, change: Mutation) -> dict[str, Any]:
            row = {"module": subject.module, **asdict(change)}
            if not subject.tests:
                return {**row, "verdict": "survived", "words": "no tests mirror the module"}
            kept = _kept(sha256_json([state, row]))
            if kept is not None and kept.is_file():
                return {**row, "verdict": kept.read_text(encoding="utf-8"), "words": "kept"}
            text = mutated(subject.source, change.number)
            verdict, words = copies.run(subject.module, subject.tests, text, limits[subject.tests])
            if kept is not None:
                write_text(kept, verdict)
            if verdict == "survived":
                print(said({**row, "verdict": verdict}), file=sys.stderr, flush=True)
            return {**row, "verdict": verdict, "words": words}

        jobs = [(subject, change) for subject in chosen for change in subject.drawn]
        rows = list(pool.map(lambda job: one(*job), jobs))
    return summed(rows)


def said(row: dict[str, Any]) -> str:
    """A program in a line."""
    return f"{row['module']}:{row['line']}: {row['was']} -> {row['put']}"


def summed(rows: Sequence[dict[str, Any]]) -> Result:
    """The benchmark's figure, with every survivor."""
    counts = Counter((row["module"], row["verdict"]) for row in rows)
    by_module = {
        name: {"noticed": counts[name, "noticed"], "survived": counts[name, "survived"]}
        for name in sorted({row["module"] for row in rows})
    }
    noticed = sum(row["verdict"] == "noticed" for row in rows)
    detail = {
        "programs": len(rows),
        "noticed": noticed,
        "hung": sum(row["words"] == HUNG for row in rows),
        "seed": SEED,
        "data packs": "GLOAM_DATA" in os.environ,
        "modules": by_module,
        "survivors": [said(row) for row in rows if row["verdict"] == "survived"],
        "harmless, not drawn": [f"{key[0]}: {key[2]} -> {key[3]}: {reason}" for key, reason in HARMLESS.items()],
    }
    value = noticed / max(len(rows), 1)
    met = value >= TARGET and len(rows) >= LEAST
    return Result(value, "share of wrong programs noticed", f">= {TARGET} of {LEAST} or more", met, detail)


def _state() -> str:
    """Changes with the package, its tests, and whether they have the data packs."""
    return sha256_json(["GLOAM_DATA" in os.environ, code_state("gloam", "tests")])


def _kept(key: str) -> Path | None:
    folder = os.environ.get(KEPT)
    return Path(folder) / "mutants" / key if folder else None
