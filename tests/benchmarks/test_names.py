"""Every benchmark that the command lists can be imported, and has something to run."""

from __future__ import annotations

import importlib

import pytest

from benchmarks.__main__ import names


@pytest.mark.parametrize("name", names())
def test_every_benchmark_imports(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").run)


def test_what_they_share_is_no_benchmark() -> None:
    assert names()
    assert not {"shared", "result", "__main__"} & set(names())
