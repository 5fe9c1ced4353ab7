"""The programs of ``examples/`` that call a model from other languages: built, installed, and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.shared.result import KEPT
from gloam.errors import DataError
from gloam.export.written import read_graph, write_model
from gloam.files import sha256_file, sha256_json, write_text
from gloam.model_card import METADATA_KEY, ModelCard
from gloam.runtime.backends.onnx_file import read_card
from gloam.workflows import demo

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LANGUAGES = ("C++", "Node")
NEEDED = {"C++": ("g++", "cmake", "apt-get", "dpkg-deb"), "Node": ("node", "npm")}
SHIPPED = Path(demo.__file__).parent / "weights" / "look2-trained.onnx"


@dataclass(frozen=True)
class Called:
    """What a program printed.

    Attributes:
        code: its exit code.
        selftest: largest difference of the self-test, and the tolerance; None where the model was refused.
        descriptors: by file, as they were printed.
        errors: lines of stderr.
    """

    code: int
    selftest: tuple[float, float] | None
    descriptors: dict[str, npt.NDArray[np.float64]]
    errors: list[str]


def build(language: str, folder: Path) -> list[str]:
    """The command of a language's program, made in a folder, or below the one named by ``GLOAM_BENCH_RUNS``, where it
    is found again as long as its source is the same; nothing is written elsewhere.

    Raises:
        DataError: a tool is missing, or a step failed.
    """
    folder = Path(os.environ.get(KEPT) or folder) / "callers" / language.lower()
    program = folder / ("build/describe" if language == "C++" else "node/describe.mjs")
    command = [str(program)] if language == "C++" else ["node", str(program)]
    source = EXAMPLES / ("cpp" if language == "C++" else "node")
    state = sha256_json([[path.name, sha256_file(path)] for path in sorted(source.iterdir()) if path.is_file()])
    whole = folder / "whole"  # of which source
    if whole.is_file() and whole.read_text(encoding="utf-8") == state:
        return command
    folder.mkdir(parents=True, exist_ok=True)
    for tool in NEEDED[language]:
        if shutil.which(tool) is None:
            raise DataError(f"the {language} example needs {tool}, which is not installed")
    if language == "C++":
        _step(["sh", str(source / "dependencies.sh"), str(folder / "needed"), sys.executable])
        prefix = f"-DCMAKE_PREFIX_PATH={(folder / 'needed' / 'usr').resolve()}"
        _step(
            [
                "cmake",
                "-S",
                str(source),
                "-B",
                str(folder / "build"),
                prefix,
                "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON",
            ]
        )
        _step(["cmake", "--build", str(folder / "build")])
    else:
        ignored = shutil.ignore_patterns("node_modules")
        shutil.copytree(source, folder / "node", ignore=ignored, dirs_exist_ok=True)
        # The package's own script fetches CUDA libraries; the CPU's come with it.
        _step(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"], folder / "node")
    write_text(whole, state)
    return command


def call(command: Sequence[str], model: Path, files: Sequence[Path] = ()) -> Called:
    """Run a program on a model and images."""
    words = [*command, str(model), *map(str, files)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, env=environment)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    selftest = (lines[0]["selftest"], lines[0]["tolerance"]) if lines else None
    found = {line["file"]: np.array(line["descriptor"]) for line in lines[1:]}
    return Called(done.returncode, selftest, found, done.stderr.splitlines())


def write_explained(path: Path, change: Callable[[ModelCard], ModelCard] = lambda card: card) -> ModelCard:
    """The demo's embedder as an export of today would write it; its weights and graph are the shipped file's."""
    card = change(read_card(SHIPPED).explained())
    proto = read_graph(SHIPPED)
    kept = [entry for entry in proto.metadata_props if entry.key != METADATA_KEY]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    write_model(proto, card, path)
    return card


def write_ppm(path: Path, pixels: npt.NDArray[np.uint8]) -> Path:
    """Pixels as a binary PPM, which no decoder changes."""
    Image.fromarray(pixels).save(path, "PPM")
    return path


def _step(words: Sequence[str], folder: Path | None = None) -> None:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=900)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise DataError(f"{words[0]} failed: {' / '.join(said[-4:])[:600]}")
