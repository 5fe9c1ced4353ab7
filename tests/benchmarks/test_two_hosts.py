"""The benchmark of two hosts: what it compares, and what it says where it cannot run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks import two_hosts
from benchmarks.shared import hosts


def folder(place: Path) -> Path:
    (place / "shards").mkdir(parents=True)
    for shard in range(3):
        for kind in ("npy", "parquet"):
            (place / "shards" / f"part-{shard:06d}.{kind}").write_text(f"{shard} {kind}")
    (place / "manifest.json").write_text("{}")
    return place


def test_a_shard_counts_where_all_its_files_are_equal(tmp_path: Path) -> None:
    whole, other = folder(tmp_path / "whole"), folder(tmp_path / "other")
    assert two_hosts.compared(other, whole) == (3, 3, [])
    (other / "shards" / "part-000001.npy").write_text("else")
    (other / "shards" / "part-000002.parquet").unlink()
    (other / ".tmp-left").write_text("")
    (other / "manifest.json").write_text("{ }")
    assert two_hosts.compared(other, whole) == (1, 3, [".tmp-left", "manifest.json"])
    assert two_hosts.compared(tmp_path / "absent", whole)[:2] == (0, 3)


def test_what_was_told_may_end_in_half_a_line(tmp_path: Path) -> None:
    told = tmp_path / "told"
    assert two_hosts.rows(told) == []
    told.write_text('{"shard": 0, "node": "far"}\n{"shard": 1, "no')
    assert two_hosts.rows(told) == [{"shard": 0, "node": "far"}]


def test_it_is_not_run_without_root_or_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = two_hosts.run()
    assert (result.value, result.met) == (None, None)
    assert result.detail["why"] == "network namespaces need root"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    assert "ip, unshare, nsenter, mount is not here" in str(hosts.problem())
