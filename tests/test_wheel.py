"""The wheel works alone: in a fresh environment, away from the sources, with the extras that it names itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("gloam", "pyproject.toml", "README.md", "LICENSE")
pytestmark = pytest.mark.foreign


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """In a folder without sources, and an environment that leads to none."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, timeout=1800)


def succeed(words: list[str], folder: Path) -> str:
    done = run(words, folder)
    assert done.returncode == 0, (words, done.stderr[-2000:])
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / "sources" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / "sources" / name)
    succeed([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", "dist", "./sources"], folder)
    (found,) = (folder / "dist").glob("gloam-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``installed(extras)`` brings the extras into one fresh environment and gives its ``bin``."""
    folder = tmp_path_factory.mktemp("fresh")
    succeed([sys.executable, "-m", "venv", "env"], folder)

    def bring(extras: str) -> Path:
        succeed([str(folder / "env/bin/python"), "-m", "pip", "install", "--quiet", f"{wheel}[{extras}]"], folder)
        return folder / "env" / "bin"

    return bring


def test_the_wheel_alone_runs_the_demo(installed: Callable[[str], Path], tmp_path: Path) -> None:
    gloam = str(installed("cpu") / "gloam")
    found = json.loads(succeed([gloam, "doctor", "--json"], tmp_path))
    complete = {extra["name"]: extra["complete"] for extra in found["extras"]}
    assert (complete["cpu"], complete["train"], complete["localization"]) == (True, False, False)
    refused = run([gloam, "demo"], tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "pip install 'gloam[localization]'" in refused.stderr
    assert not list(tmp_path.iterdir())
    installed("cpu,localization")
    said = json.loads(succeed([gloam, "demo", "--json"], tmp_path))
    assert said["localization"]
    assert (tmp_path / "gloam-demo").is_dir()
