"""Localization at scale, at miniature size: what is measured is there, and faults are found."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import aachen_size, localize_scale
from benchmarks.shared import child_runs
from benchmarks.shared.child_runs import ChildRun, gloam_run
from benchmarks.shared.long_street import write_street
from gloam.cli.main import main


def here(words: Sequence[str], kill_after: float | None = None, **ignored: Any) -> ChildRun:
    """The command in this process, which is never killed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(list(words)) == 0
    return ChildRun(10.0, 9.0, 10**8, kill_after is not None, (10**8,) * 8, said.getvalue())


def test_the_scale_is_judged_by_time_memory_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOAM_BENCH_RUNS", str(tmp_path))
    monkeypatch.setattr(localize_scale, "gloam_run", here)
    monkeypatch.setattr(localize_scale, "KILLS", 1)
    monkeypatch.setattr(localize_scale, "PLANS", 1)
    found = localize_scale.run((4, 6), 2, 256)
    detail = found.detail
    assert detail["4"]["localized"] == detail["6"]["localized"] == detail["4"]["queries"] == 2
    assert detail["growth of memory"] == 0
    assert detail["4"]["seconds over plan"] == pytest.approx(10 / detail["plan"]["seconds"])
    assert found.met == (detail["time off the plan"] <= 0.2)
    assert detail["kills"]["other"] == []
    assert detail["kills"]["files"] > 8 + 2


def test_a_run_of_real_size_is_killed_gone_on_with_and_extrapolated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aachen_size, "gloam_run", here)
    write_street(tmp_path, 6, 2, top_k=3)
    words = ["localize", "--mapping", str(tmp_path / "mapping"), "--query", str(tmp_path / "query")]
    words += ["--pairs", str(tmp_path / "pairs.txt"), "--max-keypoints", "128", "--pixel-shift", "0.5"]
    found = aachen_size.measured(words, tmp_path / "out", 8.0)
    detail = found.detail
    assert found.met
    assert found.value == 0
    assert detail["done"] == [{"features": 0, "matches": 0}, *[{"features": 8, "matches": detail["plan"]["pairs"]}] * 2]
    assert detail["images a second"] == 8 / 20
    parts = detail["plan"]["parts"]
    assert detail["time over plan"] == pytest.approx(20 / (parts["features"] + parts["matching"]))
    assert aachen_size._growth((1, 2, 2, 4, 4, 4, 5, 3)) == pytest.approx(0.25)


def test_a_command_is_measured_and_killed(tmp_path: Path) -> None:
    done = gloam_run(["doctor", "--json"])
    assert (done.killed, done.cpu > 0, done.peak > 10**7) == (False, True, True)
    assert json.loads(done.output)
    assert gloam_run(["doctor"], kill_after=0.01).killed
    with pytest.raises(child_runs.GloamError, match="no such model file"):
        gloam_run(["bench", str(tmp_path / "none.onnx")])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_map(tmp_path: Path) -> None:
    peaks = []
    for images in (60, 180):
        write_street(tmp_path / str(images), images, 10)
        words = ["localize", "--mapping", str(tmp_path / str(images) / "mapping")]
        words += [
            "--query",
            str(tmp_path / str(images) / "query"),
            "--pairs",
            str(tmp_path / str(images) / "pairs.txt"),
        ]
        words += ["--max-keypoints", "256", "--pixel-shift", "0.5", "--memory", "8MiB", "--workers", "2"]
        peaks.append(gloam_run([*words, "-o", str(tmp_path / f"out{images}")]).peak)
    assert peaks[1] <= 1.1 * peaks[0]
