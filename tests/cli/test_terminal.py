"""On a terminal bars are seen, and nothing is coloured; elsewhere nothing moves."""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.data.town import TownConfig, write_town
from tests.tiny_models import write_tiny_embedder

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A pseudo-terminal in the place of stderr."""

    def __init__(self, columns: int) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40 if columns else 0, columns, 0, 0))
        os.set_blocking(self.master, False)
        self.stream = os.fdopen(slave, "w", buffering=1)

    def shown(self) -> str:
        """All that was written to it."""
        found = b""
        while True:
            try:
                found += os.read(self.master, 1 << 16)
            except BlockingIOError:
                return found.decode()


@pytest.fixture(params=[120, 0], ids=["wide", "of unknown width"])
def terminal(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    monkeypatch.setenv("NO_COLOR", "1")
    made = Terminal(request.param)
    yield made
    made.stream.close()
    os.close(made.master)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for index in range(4):
        Image.fromarray(np.full((40, 50, 3), 40 * index, np.uint8)).save(tmp_path / f"images/{index}.png")
    write_tiny_embedder(tmp_path / "tiny.onnx")
    return tmp_path


def test_a_bar_is_seen_on_a_terminal(images: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.stream)  # here: pytest has its own for every fixture and test
    words = ["extract", str(images / "images"), "--model", str(images / "tiny.onnx"), "-o"]
    log = images / "run.log"
    assert main([*words, str(images / "store"), "--log-file", str(log)]) == 0
    shown = terminal.shown()
    assert "| 4/4 [" in shown
    assert "100%" in shown
    assert not COLOUR.search(shown)
    assert "%|" not in log.read_text()
    assert main([*words, str(images / "quiet"), "--quiet"]) == 0
    assert main([*words, str(images / "json"), "--json"]) == 0
    assert terminal.shown() == ""


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [0], indirect=True, ids=[""])
def test_rendering_and_localizing_show_bars(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    size = ["--length", "30", "--queries", "1", "--size", "64x48", "--conditions", "day", "--workers", "1"]
    assert main(["town", str(tmp_path / "town"), *size]) == 0
    assert re.search(r"rendering: 100%\|.*\| (\d+)/\1 \[", terminal.shown())
    town = write_town(
        tmp_path / "town", TownConfig(length=30.0, queries=1, width=64, height=48, focal=52.5, conditions=("day",))
    )
    (tmp_path / "pairs.txt").write_text(f"{town.query.names[0]} {town.mapping.names[0]}\n")
    words = ["localize", "--mapping", str(town.mapping.root), "--query", str(town.query.root)]
    assert main([*words, "--pairs", str(tmp_path / "pairs.txt"), "--method", "2a", "-o", str(tmp_path / "poses")]) == 0
    shown = terminal.shown()
    assert "matching queries: 100%" in shown
    assert "localizing by 2a: 100%" in shown


@pytest.mark.parametrize("terminal", [120], indirect=True, ids=[""])
def test_help_is_not_coloured(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    with pytest.raises(SystemExit):
        main(["extract", "--help"])
    with pytest.raises(SystemExit):
        main(["extract"])
    assert not COLOUR.search(out.getvalue() + terminal.shown())
