"""Runs of pytest in a copy of the package, each in a fork of one process that has imported what takes long.

The process reads jobs from its standard input, one JSON list of arguments a line with the seconds that they may take,
and answers each with a JSON list: exit code (None where it was stopped) and the last line that pytest printed.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# zlib before pycolmap, which brings its own. Nothing of the package itself: each fork imports it as it then stands.
HEAVY = ("zlib", "numpy", "cv2", "PIL.Image", "pytest", "hypothesis", "kapture", "pycolmap", "h5py", "onnx", "torch")
HEAVY += ("onnxruntime", "pyarrow.parquet", "kapture.io.csv", "scipy.ndimage")


class ForkedTests:
    """A process that runs the tests of one copy.

    Args:
        copy: folder of the package and its tests.
    """

    def __init__(self, copy: Path) -> None:
        # A compiled file is known by its time in whole seconds and its size, which two programs may share: none is
        # written.
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        self.copy = copy
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=copy,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments: Sequence[str], limit: float) -> tuple[int | None, str]:
        """Exit code, None where it took longer than the limit (seconds), and the last line printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([list(arguments), limit]) + "\n")
        self._process.stdin.flush()
        code, words = json.loads(self._process.stdout.readline())
        return code, words

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _fork(arguments: list[str], limit: float) -> list[Any]:
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed:
        child = os.fork()
        if not child:
            os.setsid()
            for number in (1, 2):
                os.dup2(printed.fileno(), number)
            code = 70
            try:
                code = int(importlib.import_module("pytest").main(arguments))
            finally:
                os._exit(code)
        end = time.monotonic() + limit
        code: int | None = None
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                break
            time.sleep(0.02)
        else:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
        printed.seek(0)
        return [code, (printed.read().strip().splitlines() or [""])[-1]]


def main() -> None:
    """Answer jobs until there are no more."""
    sys.path[0] = os.getcwd()  # not the folder of this file
    for name in HEAVY:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # an extra that is not installed; the tests say so
    for line in sys.stdin:
        print(json.dumps(_fork(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
