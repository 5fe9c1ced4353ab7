"""What ``import gloam`` costs: seconds over an interpreter that imports nothing, and the modules that it loads.

Processes are started in turn, so that a busy machine is busy for both; the best of each counts. Beside it stands
``gloam --help``, which builds the parser of every verb, and which heavy packages it loads.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from benchmarks.shared.result import Result

ROUNDS = 9
TARGET = 0.02  # seconds
HEAVY = ("numpy", "torch", "cv2", "onnxruntime")
PROGRAMS = {
    "nothing": "pass",
    "gloam": "import gloam",
    "help": "import sys; from gloam.cli.main import main; sys.exit(main(['--help']))",
}
# What a program loads goes to stderr, for help has stdout.
LOADED = """
import sys
before = {{*sys.modules, "__main__"}}
try:
    exec({program!r})
except SystemExit:
    pass
print(*sorted(set(sys.modules) - before), file=sys.stderr)
"""


def run() -> Result:
    """Seconds of ``import gloam`` over an empty program."""
    best = {name: float("inf") for name in PROGRAMS}
    for _ in range(ROUNDS):
        for name, program in PROGRAMS.items():
            best[name] = min(best[name], seconds(program))
    helped = loaded(PROGRAMS["help"])
    heavy = [name for name in HEAVY if name in helped]
    detail: dict[str, Any] = {
        "best of": ROUNDS,
        "seconds": best,
        "modules of import gloam": loaded(PROGRAMS["gloam"]),
        "gloam --help": {"seconds": best["help"], "modules": len(helped), "heavy packages": heavy},
    }
    value = best["gloam"] - best["nothing"]
    return Result(value, "s", f"<= {TARGET}, and no {', '.join(HEAVY)} in help", value <= TARGET and not heavy, detail)


def seconds(program: str) -> float:
    """Of a Python process that runs a program, from its start to its end."""
    clock = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - clock


def loaded(program: str) -> list[str]:
    """The modules that a program loads, beyond the interpreter's."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(program=program)], check=True, capture_output=True, text=True
    )
    return done.stderr.split()
