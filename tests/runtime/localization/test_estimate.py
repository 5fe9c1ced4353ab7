"""What matching will take is what it then takes, and nothing is left of the trial."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gloam.cli.main import main
from gloam.data.hloc_io import ImageFeatures, write_hloc_features
from gloam.data.kapture_io import write_scene
from gloam.data.scene import Camera, Record, Scene
from gloam.errors import IncompatibleError
from gloam.runtime.localization import estimate
from gloam.runtime.localization.estimate import Estimate, blocks, estimate_matching, reads, size, timed_in
from gloam.runtime.localization.features.stored import HlocFeatures
from gloam.runtime.localization.matches.match_files import MatchRequest, match_pairs, open_stage
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.localization.matches.pair_stage import nbytes

NAMES = [f"{row:02d}.png" for row in range(7)]
PAIRS = list(itertools.combinations(NAMES, 2))


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[..., MatchRequest]:
    """Requests about the pairs of seven images, all of one shape."""
    camera = Camera("PINHOLE", 640, 480, (500.0, 500.0, 320.0, 240.0))
    write_scene(Scene(tmp_path / "set", {"c": camera}, {name: Record("c", row) for row, name in enumerate(NAMES)}))
    rng = np.random.default_rng(0)

    def images() -> Any:
        for name in NAMES:
            words = rng.normal(size=(80, 16)).astype(np.float32)
            yield name, ImageFeatures(rng.uniform(1, 470, (80, 2)).astype(np.float32), words, words[:, 0], (640, 480))

    write_hloc_features(tmp_path / "feats.h5", "made", "", images())
    (tmp_path / "pairs.txt").write_text("".join(f"{first} {second}\n" for first, second in PAIRS))

    def made(output: str, **given: Any) -> MatchRequest:
        place = tmp_path / output
        fields = {"datasets": [tmp_path / "set"], "workers": 2, **given}
        return MatchRequest(tmp_path / "pairs.txt", str(tmp_path / "feats.h5"), place, **fields)

    return made


@pytest.fixture
def slow_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading an image and matching a pair take what they take, however busy the machine is."""
    for kind, name, seconds in ((HlocFeatures, "features", 0.1), (MutualMatcher, "match_pairs", 0.4)):
        work = getattr(kind, name)

        def slow(*arguments: Any, work: Any = work, seconds: float = seconds) -> Any:
            time.sleep(seconds)
            return work(*arguments)

        monkeypatch.setattr(kind, name, slow)


@pytest.mark.slow
@pytest.mark.usefixtures("slow_work")
def test_the_time_is_what_a_run_takes(request_of: Any) -> None:
    told = estimate_matching(request_of("m.h5"))
    done = match_pairs(request_of("m.h5"))
    assert told.seconds == pytest.approx(done.seconds, rel=0.2)
    assert done.seconds > len(PAIRS) * 0.4 / 2


def test_the_time_is_that_of_every_image_read_and_pair(request_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([100.0, 0.5, 0.25, 2.0, 0.125])  # what warms up, a key, a read, a match, what is written

    counts, threads, pool = [], [], estimate.ThreadPoolExecutor

    def told_before(work: Any, items: Any, at_once: int, limit: float) -> tuple[float, int]:
        work(items)
        counts.append(len(items))
        return next(seconds), len(items)

    def told_reads(pairs: Any, memory: int, feature: float, pair: float) -> int:
        assert feature > pair > 0
        return 10 * len(pairs) * (memory == 77)

    def counted(workers: int, name: str) -> Any:
        threads.append(workers)
        return pool(workers, name)

    monkeypatch.setattr(estimate, "timed_in", told_before)
    monkeypatch.setattr(estimate, "reads", told_reads)
    monkeypatch.setattr(estimate, "ThreadPoolExecutor", counted)
    told = estimate_matching(request_of("m.h5", memory=77, workers=3))
    assert (told.pairs, told.images) == (21, 7)
    assert told.parts["reading"] == 7 * 0.5 + 210 * 0.25
    assert told.parts["matching"] == 21 * 2
    assert told.parts["writing"] == 21 * 0.125
    assert told.seconds == pytest.approx(sum(told.parts.values()))
    assert 0 < told.parts["opening"] < 60
    assert counts[0] == 5  # a quarter of them
    assert counts[3:] == [told.timed] * 2
    assert 0 < told.timed <= 16
    assert threads == [3]


@pytest.mark.parametrize("output", ["out", "m.h5", "m.db"])
def test_the_disk_is_what_a_run_leaves(request_of: Any, tmp_path: Path, output: str) -> None:
    given = request_of(output)
    told = estimate_matching(given)
    match_pairs(given)
    left = [*(tmp_path / f"{output}.workspace").rglob("*"), *[tmp_path / output], *(tmp_path / output).rglob("*")]
    files = blocks(path for path in left if path.is_file())
    folders = 4096 * sum(path.is_dir() for path in left)
    assert told.disk == pytest.approx(files + folders, rel=0.2)


def test_nothing_is_left_and_nothing_written(request_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    before = sorted(tmp_path.rglob("*"))
    for output in ("out", "m.h5", "m.db"):
        estimate_matching(request_of(output))
    assert sorted(tmp_path.rglob("*")) == before
    match_pairs(request_of("m.h5"))
    with pytest.raises(IncompatibleError, match="holds matches of other features, another matcher"):
        estimate_matching(request_of("m.h5", ratio=0.8))  # as the run would be


def test_memory_is_the_process_and_what_may_be_held(request_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "peak", lambda: 10**9)
    wanted, stage = open_stage(request_of("m.h5"), Path("none"))
    feature = nbytes({what: np.asarray(value) for what, value in vars(stage.features(NAMES[0])).items()})
    small, large = (estimate_matching(request_of("m.h5", memory=memory)).memory for memory in (feature, 1 << 40))
    assert large - small > 5 * feature
    assert small < 10**9  # what the trial held itself is taken off
    assert len(wanted) == len(PAIRS)


@pytest.mark.parametrize("held", [0, 1, 3, 100])
def test_reads_are_those_of_a_run_in_the_order_of_the_pairs(
    request_of: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, held: int
) -> None:
    found = HlocFeatures.features
    asked: list[str] = []

    def counted(self: Any, scene: Scene, name: str) -> Any:
        asked.append(name)
        return found(self, scene, name)

    monkeypatch.setattr(HlocFeatures, "features", counted)
    wanted, stage = open_stage(request_of("m.h5"), tmp_path / "cache")
    example = {what: np.asarray(value) for what, value in vars(stage.features(NAMES[0])).items()}
    memory = max(held * nbytes(example), 1)
    wanted, stage = open_stage(request_of("m.h5", memory=memory), tmp_path / "cache")
    asked.clear()
    for pair in wanted:
        stage.pair(pair)
    pair_bytes = np.mean([nbytes(stage.pair(pair)) for pair in wanted])
    assert reads(wanted, memory, nbytes(example), float(pair_bytes)) == pytest.approx(len(asked), rel=0.05)


def test_no_part_is_begun_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def work(part: Any) -> None:
        done.extend(part)
        now[0] += 0.5 * len(part)

    for items, at_once, seconds, expected in ((range(10), 2, 2.5, 6), (range(3), 2, 9.0, 3), (range(9), 4, 0.0, 4)):
        done: list[int] = []
        assert timed_in(work, items, at_once, seconds) == (pytest.approx(0.5), expected)
        assert done == list(range(expected))
    assert timed_in(work, [], 3, 9.0) == (0.0, 0)


def test_what_is_said() -> None:
    told = Estimate(1000, 20_000, 3 * 3600 + 60, 12 * 10**9, 3_400_000_000, 64, {"opening": 2.0, "matching": 10_858.0})
    assert str(told).splitlines() == [
        "20000 pairs of 1000 images: about 3 h 01 min (3.02 h), 12 GB of disk, 3.4 GB of memory",
        "opening 2 s, matching 3 h 00 min; told from 64 pairs",
    ]
    assert [size(value) for value in (9, 1500, 2.5e6, 1e13)] == ["9 B", "1.5 KB", "2.5 MB", "1e+04 GB"]


def test_the_command(request_of: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--pairs", str(tmp_path / "pairs.txt"), "--features", str(tmp_path / "feats.h5")]
    assert main(["match", *given, "-o", str(tmp_path / "m.h5"), "--dry-run"]) == 0
    assert "21 pairs of 7 images: about" in capsys.readouterr().out
    assert not (tmp_path / "m.h5").exists()
