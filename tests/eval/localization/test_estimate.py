"""What localization will take: every image, pair and query counts, and nothing is left of the trial."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gloam.cli.main import main
from gloam.data.kapture_io import write_scene
from gloam.data.scene import Record, Scene
from gloam.eval.localization import estimate as module
from gloam.eval.localization import request as front
from gloam.eval.localization.localize import estimate, localize
from gloam.eval.localization.request import LocalizeRequest
from gloam.model_card import FeatureRule
from gloam.runtime.localization.estimate import blocks
from gloam.runtime.localization.features.sources import to_arrays
from gloam.runtime.localization.matches.pair_stage import nbytes
from gloam.runtime.models.local_features import LocalFeatures
from tests.runtime.localization.exact_world import MAP, POINTS, Projected, scenes


class Made(Projected):
    """The made-up world's features, that take a while."""

    gives = FeatureRule("projected", 32)
    seconds = 0.0

    def features(self, scene: Scene, name: str) -> LocalFeatures:
        time.sleep(self.seconds)
        return super().features(scene, "q.png" if name.startswith("q") else name)


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LocalizeRequest]:
    mapping, query = scenes(tmp_path)
    query.records.update({f"q{row}.png": Record("c", 10 + row) for row in range(5)})
    for scene in (mapping, query):
        write_scene(scene)
    (tmp_path / "pairs.txt").write_text("".join(f"{name} {image}\n" for name in query.names for image in MAP))
    monkeypatch.setattr(front, "_features", lambda *given: Made())

    def made(**given: Any) -> LocalizeRequest:
        fields = {"pairs": tmp_path / "pairs.txt", "workers": 2, **given}
        return LocalizeRequest(mapping.root, query.root, tmp_path / "out", **fields)

    return made


def test_every_image_pair_and_query_counts(request_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.5, 0.125, 2.0, 4.0, 8.0, 16.0])  # to find, to read, a query's pair, a map's pair, poses
    given, at_once, threads, of_map = [], [], [], []
    pool, world = module.ThreadPoolExecutor, module._world

    def told_before(work: Any, items: Any, at: int, limit: float) -> tuple[float, int]:
        work(items)
        given.append(list(items))
        at_once.append(at)
        return next(seconds), len(items) - (len(given) in (1, 4))  # the time was over before the last one

    def counted(workers: int, name: str) -> Any:
        threads.append(workers)
        return pool(workers, name)

    def noted(matcher: Any, pairs: Any) -> Any:
        of_map.extend(pairs)
        return world(matcher, pairs)

    monkeypatch.setattr(module, "timed_in", told_before)
    monkeypatch.setattr(module, "ThreadPoolExecutor", counted)
    monkeypatch.setattr(module, "_world", noted)
    monkeypatch.setattr(module, "reads", lambda pairs, memory, *sizes: len(pairs) * (memory == 77))
    told = estimate(request_of(methods=("2b", "2a", "top1"), memory=77, workers=3))
    assert (told.images, told.pairs) == (4 + 6, 6 * 4 + 6)
    assert told.parts["features"] == 10 * 0.5 + (30 - 10) * 0.125  # what was just found is not read
    assert told.parts["matching"] == 24 * 2 + 6 * 4
    assert told.parts["map"] > 0
    known = [name for name in given[1] if name in MAP]
    assert len(known) == 3  # of the four of a query, and of their six pairs three
    assert (told.parts["poses by 2b"], told.parts["poses by 2a"]) == (6 * 8 * 4 / 3, 6 * 16 * 6 / 3)
    assert told.seconds == pytest.approx(sum(told.parts.values()))
    assert threads[0] == 3
    assert given[1] == ["q.png", *given[0][:-1]]  # the first warms up, the last was not begun
    queries = [name for name in given[1] if name.startswith("q")]
    assert given[4:] == [queries, queries]
    assert set(given[3]) == set(itertools.combinations(sorted(known), 2))
    assert of_map == given[3][:-1]
    assert told.timed == len(given[2]) + 1 + len(of_map)
    assert at_once[0] == 4 * 3  # of each thread a few, so that none waits for the last


def test_without_a_map_the_pairs_of_map_images_are_those_that_a_query_retrieved(request_of: Any) -> None:
    told = estimate(request_of(methods=("2a",)))
    assert (told.pairs, list(told.parts)) == (24 + 6, ["opening", "features", "matching", "poses by 2a"])


def test_the_disk_is_what_a_run_leaves(request_of: Any, tmp_path: Path) -> None:
    told = estimate(request_of())
    localize(request_of())
    left = list((tmp_path / "out" / "workspace").rglob("*"))
    files, folders = blocks(path for path in left if path.is_file()), sum(path.is_dir() for path in left)
    assert told.disk == pytest.approx(files + 4096 * folders, rel=0.2)
    assert told.memory > 10**7


def test_the_memory_is_what_a_run_holds_at_once_and_no_more_than_it_may(
    request_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "peak", lambda: 10**9)
    monkeypatch.setattr(module, "_of_map", lambda *given: 0)
    bounded, whole = (estimate(request_of(memory=memory)).memory for memory in (1000, 10**12))
    mapping = scenes(Path("nowhere"))[0]
    largest = max(nbytes(to_arrays(Made().features(mapping, name))) for name in MAP)
    few = 30 * len(POINTS)  # of 30 pairs no more matches than points
    assert largest * 10 < whole - bounded + 1000 < largest * 10 + few * 64


def test_nothing_is_left_and_nothing_written(
    request_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    before = sorted(tmp_path.rglob("*"))
    given = request_of()
    verb = ["localize", "--mapping", str(given.mapping), "--query", str(given.query), "--pairs", str(given.pairs)]
    assert main([*verb, "-o", str(given.output), "--dry-run"]) == 0
    assert "30 pairs of 10 images: about" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


def test_what_needs_no_features_needs_no_trial(request_of: Any) -> None:
    told = estimate(request_of(methods=("top1",)))
    assert (told.images, told.pairs, told.timed, list(told.parts)) == (10, 24, 0, ["opening"])


@pytest.mark.slow
def test_the_time_is_what_a_run_takes(request_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Made, "seconds", 1.0)
    told = estimate(request_of())
    clock = time.perf_counter()
    localize(request_of())
    assert told.seconds == pytest.approx(time.perf_counter() - clock, rel=0.2)
