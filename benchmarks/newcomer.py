"""Commands of README and of the documentation that fail where a newcomer types them, in the order of the pages.

Each page has a folder of its own, in which its blocks run one after the other. What a reader has beforehand lies there
as small stand-ins, and what would take long is shortened, both as comments above the blocks say (see
:mod:`benchmarks.shared.documented`). A command that needs what is not here is listed with what it needs and why:
``GLOAM_NEWCOMER_HAS`` names what there is beyond what can be seen, such as ``network,time``. ``GLOAM_BENCH_ONLY`` names
pages, separated by commas, with ``.md`` or without; ``GLOAM_BENCH_RUNS`` keeps the stand-ins, the pages' folders and
what became of the pages without failures, which the same command then passes over.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.documented import ROOT, Block, blocks, matches, pages
from benchmarks.shared.result import KEPT, Result, kept_rows
from benchmarks.shared.stand_ins import StandIns
from gloam.errors import DataError
from gloam.files import sha256_file, sha256_json

MADE = {"__pycache__", "node_modules"}  # folders that running the checkout makes in it
ONLY, HAS = "GLOAM_BENCH_ONLY", "GLOAM_NEWCOMER_HAS"
PATIENCE = 3600.0  # seconds for a command
SHOWN = 300  # characters of an output
LEAST = 0.55  # of all commands, that are run at least: what a machine without network, GPU and data packs can


def run() -> Result:
    """Run what can be run, and count what fails."""
    kept = os.environ.get(KEPT)
    only = [name.strip() for name in os.environ.get(ONLY, "").split(",") if name.strip()]
    chosen = chosen_pages(only)
    if kept:
        return judged(run_pages(chosen, Path(kept).resolve() / "newcomer"), whole=not only)
    with tempfile.TemporaryDirectory() as folder:
        return judged(run_pages(chosen, Path(folder)), whole=not only)


def chosen_pages(only: Sequence[str]) -> list[Path]:
    """The pages of these names, with or without ``.md``; all where none is named.

    Raises:
        DataError: no page has such a name.
    """
    every = pages()
    named = [name.removesuffix(".md") for name in only]
    if unknown := set(named) - {page.stem for page in every}:
        raise DataError(f"{ONLY}: no page {sorted(unknown)[0]}; there are {', '.join(page.stem for page in every)}")
    return [page for page in every if not named or page.stem in named]


def judged(found: Sequence[Mapping[str, Any]], whole: bool) -> Result:
    """The number of failures, with every failure and every command that was not run."""
    failed = [row for row in found if row["outcome"] == "failed"]
    left = [row for row in found if row["outcome"] == "not run"]
    needs = sorted({row["needs"] for row in left})
    share = 1 - len(left) / len(found) if found else 0.0
    detail = {
        "commands": len(found),
        "run": len(found) - len(left),
        "share run": round(share, 3),
        "failed": failed,
        "not run, by need": {need: sum(row["needs"] == need for row in left) for need in needs},
        "not run": left,
        "seconds": {
            page: round(sum(row["seconds"] for row in found if row["page"] == page), 1) for page in _seen(found)
        },
        "all pages": whole,
    }
    met = None if not failed and not whole else not failed and share >= LEAST
    return Result(float(len(failed)), "commands", f"0, with {LEAST:.0%} of all run at least", met, detail)


def _seen(found: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(row["page"]) for row in found))


def run_pages(chosen: Sequence[Path], folder: Path) -> list[dict[str, Any]]:
    """What became of every command: ``outcome`` is ``done``, ``failed`` or ``not run``.

    Args:
        chosen: pages.
        folder: for stand-ins and the pages' folders.
    """
    stand_ins = StandIns(folder / "stand-ins")
    environment = _environment(folder / "bin")
    found = []
    for page in chosen:
        key = [page.name, sha256_file(page), os.environ.get(HAS, ""), checkout_state(ROOT)]
        make = functools.partial(_page_rows, page, folder / page.stem, stand_ins, environment)
        found += kept_rows("newcomer-pages", key, make, lambda rows: all(row["outcome"] != "failed" for row in rows))
    return found


def checkout_state(root: Path) -> str:
    """Changes with what commands read of a checkout beyond the code that every kept row is bound to."""
    named = [path for name in ("examples", "docker", "tests") for path in sorted((root / name).rglob("*"))]
    files = [root / "Makefile", root / "pyproject.toml", *(path for path in named if not MADE & set(path.parts))]
    return sha256_json([[path.relative_to(root).as_posix(), sha256_file(path)] for path in files if path.is_file()])


def _page_rows(page: Path, place: Path, stand_ins: StandIns, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    found = []
    for block in blocks(page):
        rows = run_block(block, place, stand_ins, environment)
        print(f"{block.page}:{block.line}: {', '.join(row['outcome'] for row in rows)}", file=sys.stderr, flush=True)
        found += rows
    return found


def run_block(block: Block, place: Path, stand_ins: StandIns, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """What became of every command of a block, in a page's folder."""
    found: list[dict[str, Any]] = []
    printed: list[str] = []
    ready = False
    for command in block.commands:
        row = {"page": block.page, "line": block.line, "command": "a program of Python" if block.python else command}
        needed = block.needed(command)
        if needed is not None and not met(needed[0]):
            found.append(row | {"outcome": "not run", "needs": needed[0], "why": needed[1], "seconds": 0.0})
            continue
        if not ready:
            _prepare(block, place, stand_ins, environment)
            ready = True
        clock = time.perf_counter()
        if block.python:
            words = [sys.executable, "-c", "\n".join([*block.define, command])]
        else:
            words = ["bash", "-c", block.as_run(command)]
        try:
            done = subprocess.run(
                words, cwd=place, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            right = done.returncode == block.exit_code(command)
            said = f"exit code {done.returncode}: {done.stderr.strip()[-SHOWN:]}"
            printed.append(done.stdout)
        except subprocess.TimeoutExpired:
            right, said = False, f"not done after {PATIENCE:.0f} s"
        row["seconds"] = time.perf_counter() - clock
        found.append(row | ({"outcome": "done"} if right else {"outcome": "failed", "said": said}))
    everything = all(row["outcome"] == "done" for row in found)
    if block.prints is not None and everything and not matches(block.prints, "".join(printed)):
        found[-1] |= {"outcome": "failed", "said": f"prints another text than the page: {''.join(printed)[-SHOWN:]}"}
    return found


def _prepare(block: Block, place: Path, stand_ins: StandIns, environment: Mapping[str, str]) -> None:
    for name, stand_in in block.give:
        _lay(stand_ins.get(stand_in), place / name, place)
    for words in block.before:
        done = subprocess.run(["bash", "-ec", words], cwd=place, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise DataError(f"{block.page}:{block.line}: what comes before cannot be done ({done.stderr.strip()})")


def met(needs: str) -> bool:
    """Whether needs of :data:`benchmarks.shared.documented.NEEDS`, with commas between them, are met here."""
    return all(map(_met, needs.split(",")))


def _met(need: str) -> bool:
    if need in os.environ.get(HAS, "").split(","):
        return True
    what, _, path = need.partition(":")
    if what == "GLOAM_DATA":
        return "GLOAM_DATA" in os.environ and (Path(os.environ["GLOAM_DATA"]) / path).exists()
    if what == "rtx":
        return importlib.util.find_spec("tensorrt_rtx") is not None
    if what == "bf16":
        from gloam.runtime.backends.processor import find_processor

        return bool(find_processor().bf16)
    return False


def _lay(source: Path, name: Path, place: Path) -> None:
    """A copy, for commands write beside what they read; what an earlier block of the page left goes."""
    if name.is_symlink() or name.is_file():
        name.unlink()
    elif name != place:
        shutil.rmtree(name, ignore_errors=True)
    name.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, name, dirs_exist_ok=True) if source.is_dir() else shutil.copy(source, name)


def _environment(folder: Path) -> dict[str, str]:
    """This interpreter's gloam and python before all others."""
    folder.mkdir(parents=True, exist_ok=True)
    python = re.sub(r"'", r"'\\''", sys.executable)
    for name, words in (("gloam", "-m gloam.cli.main "), ("python", "")):
        (folder / name).write_text(f"#!/bin/sh\nexec '{python}' {words}\"$@\"\n")
        (folder / name).chmod(0o755)
    paths = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **paths}
