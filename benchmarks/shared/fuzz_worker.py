"""Reads damaged files in a process of its own: ``python -m benchmarks.shared.fuzz_worker FOLDER``.

A case is asked for by a line ``KIND NUMBER`` on stdin; its outcome comes back as a line of JSON on stdout. Nothing else
is written there, whatever the libraries print.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import traceback
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.fuzz_mutations import mutate
from benchmarks.shared.fuzz_seeds import Seed, seeds
from gloam.errors import GloamError

SEED = 20_240_229


def damaged(kind: str, number: int, found: Sequence[Seed]) -> tuple[Seed, bytes]:
    """The seed of a case and what becomes of its target; a pure function of kind and number."""
    random = np.random.default_rng([SEED, zlib.crc32(kind.encode()), number])
    seed = found[number % len(found)]
    other = found[int(random.integers(len(found)))]
    return seed, mutate(seed.files[seed.target], other.files[other.target], random)


def run_case(kind: str, number: int, known: Mapping[str, Sequence[Seed]], folder: Path) -> dict[str, Any]:
    """Write one case below ``folder`` and read it.

    Returns:
        ``outcome``: ``read``, ``refused`` (one line), or the faults ``lines`` (a refusal of several) and ``traceback``;
        ``said``: the message; ``seed``: the file; ``peak_mib``: most memory of the process while it was read.
    """
    seed, content = damaged(kind, number, known[kind])
    shutil.rmtree(folder, ignore_errors=True)
    for name, whole in {**seed.files, seed.target: content}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole)
    _forget_peak()
    outcome, said = "read", ""
    try:
        seed.read(folder)
    except GloamError as error:
        said = str(error)
        outcome = "lines" if "\n" in said else "refused"
    except BaseException as error:  # whatever it is, it is what is looked for
        frame = traceback.extract_tb(error.__traceback__)[-1]
        outcome, said = "traceback", f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
    return {
        "kind": kind,
        "number": number,
        "seed": seed.target,
        "outcome": outcome,
        "said": said[:400],
        "peak_mib": _peak(),
    }


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    folder = Path(sys.argv[1])
    known = seeds(folder / "seeds")
    print(json.dumps({kind: len(found) for kind, found in known.items()}), file=answers, flush=True)
    for line in sys.stdin:
        kind, number = line.split()
        print(json.dumps(run_case(kind, int(number), known, folder / "case")), file=answers, flush=True)


def _forget_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as handle:
        handle.write("5")


def _peak() -> float:
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii") as status:
        return round(int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) / 1024, 1)
    return 0.0


if __name__ == "__main__":
    main()
