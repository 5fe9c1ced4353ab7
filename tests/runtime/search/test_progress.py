"""Index, pairs and search say how far they are: all that there is to do is counted, and nothing under ``--json``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from gloam.cli.main import main
from gloam.runtime.search import pairs, queries
from gloam.runtime.search.index import build
from tests.tiny_models import write_tiny_embedder


def test_what_is_done_is_counted_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int, bool]] = []

    @contextlib.contextmanager
    def bar(total: int, what: str, unit: str = "images", *, shown: bool) -> Iterator[Any]:
        done: list[int] = []
        yield SimpleNamespace(update=done.append)
        seen.append((what, total, sum(done), shown))

    for module in (pairs, queries, build):
        monkeypatch.setattr(module, "progress_bar", bar)
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 40), (80 * number, 50, 0)).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"none")
    write_tiny_embedder(tmp_path / "m.onnx")
    images, model, store, index = (str(tmp_path / name) for name in ("in", "m.onnx", "store", "index"))
    assert main(["extract", images, "--model", model, "-o", store]) == 0
    for more in ([], ["--json"]):
        assert main(["index", store, "-o", index, *more]) == 0
        assert main(["pairs", "--query", store, "--map", store, "-o", str(tmp_path / "pairs.txt"), *more]) == 0
        assert main(["search", index, "--images", images, "--model", model, "-k", "1", *more]) == 0
    every = [("indexing", 3, 3), ("comparing", 9, 9), ("describing", 4, 4)]
    assert seen == [(*one, True) for one in every] + [(*one, False) for one in every]
