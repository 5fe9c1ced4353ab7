"""Ray's workers fill the workspace of a run: its poses are those of one process, whoever dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.shared.long_street import write_street
from gloam.cli.main import main
from gloam.errors import ClusterError, DataError, GloamError, StoreError, UsageError
from gloam.eval.localization import on_ray, shards
from gloam.eval.localization.localize import localize
from gloam.eval.localization.on_ray import match_on_ray
from gloam.eval.localization.request import LocalizeRequest
from gloam.runtime.bulk.extract import Part
from gloam.runtime.bulk.on_ray.cluster import Cluster
from gloam.runtime.bulk.on_ray.travel import TRIES
from gloam.runtime.localization.matches.mutual import MutualMatcher
from tests.eval.localization.test_shards import Counted, request_of, source
from tests.fakes.ray import FakeRay

__all__ = ["source"]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay([{"CPU": 2.0}, {"CPU": 1.0}])

    @contextlib.contextmanager
    def connect(cluster: Cluster) -> Iterator[FakeRay]:
        yield fake

    monkeypatch.setattr(on_ray, "connected", connect)
    return fake


def test_workers_find_all_that_a_run_needs(
    source: Counted, ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = localize(request_of(tmp_path, "one")).result
    source.asked.clear()
    shared, parts = request_of(tmp_path, "shared"), []
    monkeypatch.setattr(
        on_ray, "match_shard", lambda request, part, **given: parts.append(part) or shards.match_shard(request, part)
    )
    done = match_on_ray(shared, progress=False)
    assert parts == [Part(index, 3) for index in range(3)]
    assert (done.workers, done.nodes, done.found, done.matched, done.pairs) == (3, 1, 10, 30, 30)
    assert len(source.asked) == len(set(source.asked)) == 10
    assert not list(shared.workspace.glob(".tmp-*"))
    monkeypatch.setattr(Counted, "features", None)
    monkeypatch.setattr(MutualMatcher, "match_pairs", None)
    assert localize(shared).result.poses == expected.poses
    again = match_on_ray(shared, Cluster(workers=2), progress=False)
    assert (again.workers, again.found, again.matched) == (2, 0, 0)


def test_progress_is_the_sum_of_what_the_workers_say(
    source: Counted, ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[int] = []

    class Bar:
        n = 0

        def update(self, count: int) -> None:
            self.n += count
            said.append(self.n)

    monkeypatch.setattr(on_ray, "progress_bar", lambda *given, **options: contextlib.nullcontext(Bar()))
    match_on_ray(request_of(tmp_path, "out"))
    assert said[-1] == 30


def _faulty(place: Path, kind: str) -> None:
    if kind == "no storage":
        place.rmdir()
    elif kind == "killed":
        (place / "shard-0.tries").write_bytes(b"." * TRIES)


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("no storage", StoreError, r"node .*: .*not the workspace that the run began with; images, model and output"),
        ("killed", ClusterError, rf"node .*: shard 0 of 1: {TRIES} workers died over it.*--memory"),
        ("an image", DataError, r"node .*: a\.png: damaged"),
    ],
)
def test_what_a_worker_meets_is_one_line_with_its_node(
    source: Counted,
    ray: FakeRay,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    kind: type[GloamError],
    said: str,
) -> None:
    def task(request: LocalizeRequest, part: Part, place: Path, *rest: Any) -> str:
        _faulty(place, fault)
        if fault == "an image":
            monkeypatch.setattr(Counted, "features", partial(_damaged))
        return real(request, part, place, *rest)

    real = on_ray._shard
    monkeypatch.setattr(ray, "remote", lambda **_: lambda _: Task(task))
    with pytest.raises(kind, match=said):
        match_on_ray(request_of(tmp_path, "out"), Cluster(workers=1), progress=False)


def _damaged(*_: Any) -> None:
    raise DataError("a.png: damaged")


class Task:
    """What Ray makes of a function, without pickling it."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def remote(self, *given: Any) -> bytes:
        import pickle

        return pickle.dumps(self._function(*given))


def test_what_cannot_be_given_out_is_refused(
    source: Counted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = request_of(tmp_path, "out", methods=("top1",))
    with pytest.raises(UsageError, match=r"^--on ray shares out matching, and top1 match nothing; leave it out$"):
        match_on_ray(given)  # no Ray is started for it
    verb = ["localize", "--mapping", str(given.mapping), "--query", str(given.query), "--pairs", str(given.pairs)]
    for more, message in (
        (["--address", "auto"], "--address goes with --on ray"),
        (["--on", "ray", "--num-shards", "0"], "--num-shards must be 1 or more"),
        (["--on", "ray", "--num-shards", "2", "--shard-index", "0"], "leave out --shard-index"),
        (["--on", "ray", "--dry-run"], "leave out --on ray"),
        (["--on", "ray", "--device", "cuda", "--gpus-per-worker", "0"], "needs a GPU in every worker"),
    ):
        assert main([*verb, "-o", str(given.output), *more]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1


def _dying(request: LocalizeRequest, part: Part, place: Path, *rest: Any) -> str:
    """The first worker of the second shard dies when it has matched something."""
    death = request.output / "death"
    if part.index == 1 and not death.exists():

        def told(done: int, total: int) -> None:
            if done:
                death.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        shards.match_shard(request, part, progress=False, told=told)
    return on_ray._shard(request, part, place, *rest)


@pytest.mark.slow
@pytest.mark.timeout(300)  # a busy machine takes its time to start Ray
def test_a_killed_worker_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_street(tmp_path, 24, 6)
    words = ["localize", "--mapping", str(tmp_path / "mapping"), "--query", str(tmp_path / "query"), "--json"]
    words += ["--pairs", str(tmp_path / "pairs.txt"), "--max-keypoints", "512", "--pixel-shift", "0.5"]
    assert main([*words, "-o", str(tmp_path / "one")]) == 0
    monkeypatch.setattr(on_ray, "_shard", _dying)
    assert main([*words, "-o", str(tmp_path / "shared"), "--on", "ray", "--num-shards", "2"]) == 0
    assert (tmp_path / "shared" / "death").exists()
    for path in sorted((tmp_path / "one").rglob("*")):
        if path.is_file() and path.name != "summary.json":
            assert (tmp_path / "shared" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes(), path
    summary = json.loads((tmp_path / "shared" / "summary.json").read_text())
    assert summary["methods"]["2b"]["localized"] == 6
