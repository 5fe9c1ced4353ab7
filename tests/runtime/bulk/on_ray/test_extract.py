"""Extraction on Ray: the bytes of a local run, whoever makes a shard, however many workers die."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gloam.data.sources import ImageItem, find_images
from gloam.errors import (
    ClusterError,
    DataError,
    GloamError,
    IncompatibleError,
    ModelError,
    StoreError,
)
from gloam.model_card import Photometric
from gloam.padding import PaddingProfile
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.extract import ExtractOptions, Part, extract
from gloam.runtime.bulk.on_ray import extract as ray_extract
from gloam.runtime.bulk.on_ray import run as ray_run
from gloam.runtime.bulk.on_ray import travel
from gloam.runtime.bulk.on_ray import worker as ray_worker
from gloam.runtime.bulk.on_ray.cluster import Cluster
from gloam.runtime.bulk.on_ray.extract import RaySummary, extract_on_ray
from gloam.runtime.bulk.on_ray.travel import TRIES
from gloam.runtime.bulk.on_ray.worker import ShardReport, Work, make_shard
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.formulas import create_classic
from tests.fakes.ray import FakeRay
from tests.runtime.bulk.test_extract import content, write_images
from tests.runtime.bulk.test_tasks import pack
from tests.tiny_models import write_tiny_embedder

OPTIONS = ExtractOptions(shard_size=4)


def load(model: Path, clahe: bool = False) -> Embedder:
    return Embedder.load(model, Placement(threads=1), photometric=Photometric("clahe") if clahe else None)


def load_translated(model: Path) -> Embedder:
    return Embedder.load(model, Placement(threads=1), translator=create_classic("gamma:0.2"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_tiny_embedder(tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()

    @contextlib.contextmanager
    def connect(cluster: Cluster) -> Iterator[FakeRay]:
        yield fake

    monkeypatch.setattr(ray_run, "connected", connect)
    monkeypatch.setattr(ray_worker, "import_ray", lambda: fake)
    monkeypatch.setattr(ray_run, "SETTLE_SECONDS", 0.0)
    return fake


def images(folder: Path, count: int = 22) -> Any:
    """A source of tars, with an image that is none and a name that is there twice."""
    write_images(folder / "images", count)
    (folder / "images" / "0009.png").write_bytes(b"no image")
    pack(folder / "images", folder / "tars", 8)
    shutil.copy(folder / "tars" / "000000.tar", folder / "tars" / "999999.tar")
    return find_images(folder / "tars")


def report(shard: int = 0, **changes: Any) -> ShardReport:
    given = {"node": "n", "worker": 1, "succeeded": 3, "failed": 1, "reduced": 0, "run_pixels": 9, "valid_pixels": 9}
    seconds = {"total": 0.0, "read": 1.0, "infer": 2.0, "write": 0.5}
    return ShardReport(**{"shard": shard, "began": 0.0, "ended": 1.0, "seconds": seconds, **given, **changes})


def test_the_store_is_that_of_a_local_run(tmp_path: Path, model: Path, ray: FakeRay) -> None:
    items = images(tmp_path)
    local = extract(items, load(model), tmp_path / "whole", OPTIONS)
    told: list[ShardReport] = []
    run = extract_on_ray(items, partial(load, model), tmp_path / "out", OPTIONS, on_shard=told.append)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    summary = run.summary
    assert (summary.images, summary.described, summary.failed) == (local.images, local.described, local.failed)
    assert (summary.reused, summary.complete, summary.workers) == (0, True, 2)
    assert summary.backend == local.backend
    assert (run.model, run.job.space) == ("tiny", load(model).space)
    assert [said.shard for said in told] == list(range(8))
    assert ray.puts == 1  # the list travels once, whatever the number of shards
    assert (ray.asked["num_cpus"], ray.asked["max_retries"], ray.asked["max_calls"]) == (1, TRIES, 0)
    assert ray.at_once == 2


@pytest.mark.parametrize(
    "options",
    [
        ExtractOptions(None, (64, 48), "float32", 5),
        ExtractOptions(40, fast_decode=True, shard_size=7),
        ExtractOptions(None, shard_size=100),
    ],
)
def test_every_option_gives_the_store_of_a_local_run(
    tmp_path: Path, model: Path, ray: FakeRay, options: ExtractOptions
) -> None:
    write_images(tmp_path / "images", 12)
    items, fixed = find_images(tmp_path / "images"), tmp_path / "fixed.onnx"
    write_tiny_embedder(fixed, PaddingProfile.fixed((256,), (256,)))
    translated = partial(load_translated, model)
    for number, loader in enumerate([partial(load, model, clahe=True), partial(load, fixed), translated]):
        local = extract(items, loader(), tmp_path / f"whole{number}", options)
        there = extract_on_ray(items, loader, tmp_path / f"out{number}", options, decode_threads=3).summary
        assert content(tmp_path / f"out{number}") == content(tmp_path / f"whole{number}")
        assert there.padded_share == pytest.approx(local.padded_share)


def test_only_missing_shards_are_given_out(tmp_path: Path, model: Path, ray: FakeRay) -> None:
    items = images(tmp_path)
    extract(items, load(model), tmp_path / "whole", OPTIONS)
    extract(items, load(model), tmp_path / "out", OPTIONS, part=Part(1, 3))
    damaged = tmp_path / "out" / "shards" / "part-000004.npy"
    damaged.write_bytes(damaged.read_bytes()[:-2])
    run = extract_on_ray(items, partial(load, model), tmp_path / "out", OPTIONS)
    assert ray.scheduled == [0, 2, 3, 4, 5, 6]
    assert run.summary.reused == 4 + 2
    assert run.summary.described + run.summary.failed == run.summary.images == 30
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    again = extract_on_ray(items, partial(load, model), tmp_path / "out", OPTIONS).summary
    assert (again.reused, again.workers, again.complete) == (30, 0, True)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_changed_images_are_given_out_again(tmp_path: Path, model: Path, ray: FakeRay) -> None:
    write_images(tmp_path / "images", 12)
    (tmp_path / "images" / "0010.png").write_bytes(b"no image")
    run = partial(extract_on_ray, load=partial(load, model), folder=tmp_path / "out", options=OPTIONS)
    run(find_images(tmp_path / "images"))
    (tmp_path / "images" / "0001.png").write_bytes((tmp_path / "images" / "0002.png").read_bytes())
    summary = run(find_images(tmp_path / "images")).summary
    assert (summary.changed, summary.retried, summary.reused, summary.failed) == (1, 1, 8, 1)
    assert ray.scheduled[-1:] == [0]
    (tmp_path / "images" / "0010.png").write_bytes((tmp_path / "images" / "0002.png").read_bytes())
    write_images(tmp_path / "images" / "more", 1)
    with pytest.raises(IncompatibleError, match="--grow"):
        run(find_images(tmp_path / "images"))
    summary = run(find_images(tmp_path / "images"), grow=True).summary
    assert (summary.reused, summary.failed, summary.complete) == (8, 0, True)
    extract(find_images(tmp_path / "images"), load(model), tmp_path / "whole", OPTIONS)
    for store in ("out", "whole"):
        shutil.rmtree(tmp_path / store / "sources")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_no_more_workers_than_shards_or_than_asked_for(tmp_path: Path, model: Path, ray: FakeRay) -> None:
    items = images(tmp_path)
    for number, (workers, shard_size, room, most) in enumerate(
        [(None, 20, 16, 2), (3, 4, 16, 3), (5, 4, 2, 5), (None, 4, 4, 4)]
    ):
        ray.at_once, ray._nodes = 0, [{"CPU": room / 2}, {"CPU": room / 2}]
        cluster, options = Cluster(workers=workers), ExtractOptions(shard_size=shard_size)
        extract_on_ray(items, partial(load, model), tmp_path / f"out{number}", options, cluster=cluster)
        assert ray.at_once == most


def test_times_are_those_of_the_average_worker_and_counts_those_of_all() -> None:
    summary = RaySummary(images=8, workers=2)
    for shard in range(2):
        summary.count(report(shard))
    assert (summary.described, summary.failed) == (6, 2)
    assert [summary.seconds[stage] for stage in ("total", "read", "infer", "write")] == [0, 1, 2, 0.5]
    summary.seconds["total"] = 4.0
    assert summary.idle_share == 0.5
    with pytest.raises(StoreError, match=r"^node n7: out/x: the disk is full$"):
        summary.count(report(2, node="n7", error="out/x: the disk is full", kind="StoreError"))
    with pytest.raises(GloamError, match="odd"):
        summary.count(report(2, error="odd", kind="require"))  # a name of the module that is no error


def test_what_a_worker_meets_is_said_with_its_node(tmp_path: Path, model: Path, ray: FakeRay) -> None:
    items = images(tmp_path)
    with pytest.raises(ModelError, match=r"^node .*absent\.onnx: no such model file$"):
        extract_on_ray(items, partial(load, tmp_path / "absent.onnx"), tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="no images"):
        extract_on_ray([], partial(load, model), tmp_path / "out", OPTIONS)
    nothing = [ImageItem("a.jpg", tmp_path / "a.jpg")]
    with pytest.raises(DataError, match=r"none of 1 images.*failures\.csv"):
        extract_on_ray(nothing, partial(load, model), tmp_path / "none", OPTIONS)
    extract_on_ray(items, partial(load, model), tmp_path / "out", OPTIONS)
    before = content(tmp_path / "out")
    with pytest.raises(IncompatibleError, match="another space"):
        extract_on_ray(items, partial(load, model, clahe=True), tmp_path / "out", OPTIONS)
    assert content(tmp_path / "out") == before


def test_a_node_that_sees_something_else_stops_the_run(
    tmp_path: Path, model: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, begin = images(tmp_path), ray_worker._open

    def elsewhere(change: Any) -> None:
        def opened(work: Work, listed: Any) -> Any:
            change(work)
            return begin(work, listed)

        monkeypatch.setattr(ray_worker, "_open", opened)

    def lose_output(work: Work) -> None:
        shutil.rmtree(work.place, ignore_errors=True)

    def lose_images(work: Work) -> None:
        shutil.rmtree(tmp_path / "tars", ignore_errors=True)

    def other_model(work: Work) -> None:
        write_tiny_embedder(model, weights="another")

    def other_version(work: Work) -> None:
        monkeypatch.setattr(travel, "__version__", "99.0")

    for change, kind, said in (
        (lose_output, StoreError, "not the output folder that the run began with"),
        (other_model, IncompatibleError, "another space, fingerprint"),
        (other_version, ClusterError, r"gloam 99\.0, but"),
        (lose_images, DataError, r"0000\.png: cannot be read here, but could where the run began"),
    ):
        elsewhere(change)
        with pytest.raises(kind, match=said):
            extract_on_ray(items, partial(load, model), tmp_path / change.__name__, OPTIONS)
        assert not list((tmp_path / change.__name__ / "shards").glob("*"))
        assert not list((tmp_path / change.__name__).glob(".tmp-*"))
        monkeypatch.undo()
        write_tiny_embedder(model)
        monkeypatch.setattr(ray_run, "connected", lambda cluster: contextlib.nullcontext(ray))
        monkeypatch.setattr(ray_worker, "import_ray", lambda: ray)


def test_a_shard_that_kills_its_workers_is_given_up(tmp_path: Path, model: Path, ray: FakeRay) -> None:
    items = images(tmp_path)
    counts: list[int] = []

    class Dies(BaseException):
        pass

    class Deadly(ray_extract.ShardMaker):
        def make(self, shards: Any, *rest: Any) -> None:
            if list(shards) == [3]:
                counts.append(3)
                raise Dies  # no GloamError: nothing is cleaned up, as after a kill
            super().make(shards, *rest)

    ray.deadly = Dies
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_extract, "ShardMaker", Deadly)
        with pytest.raises(ClusterError, match=f"shard 3: {TRIES} workers died over it.*begin with number 12"):
            extract_on_ray(items, partial(load, model), tmp_path / "out", OPTIONS)
    assert len(counts) == TRIES
    extract(items, load(model), tmp_path / "whole", OPTIONS)
    extract_on_ray(items, partial(load, model), tmp_path / "out", OPTIONS)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_an_error_of_rays_own_is_one_line(tmp_path: Path, model: Path, ray: FakeRay) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Traceback:\n  File x\nActorDiedError: the node is gone\n\n")

    ray.put = fails  # type: ignore[method-assign]  # a cluster that gives up
    with pytest.raises(ClusterError, match=r"^Ray gave up: ActorDiedError: the node is gone; --debug"):
        extract_on_ray(images(tmp_path), partial(load, model), tmp_path / "out", OPTIONS)


def test_a_worker_that_comes_late_changes_nothing(tmp_path: Path, model: Path, ray: FakeRay) -> None:
    extract_on_ray(images(tmp_path), partial(load, model), tmp_path / "out", OPTIONS)
    before = content(tmp_path / "out")
    work, listed = ray.given
    said = json.loads(make_shard(work, listed, 0))
    assert "not the output folder that the run began with" in said["error"]
    work.place.mkdir()
    said = json.loads(make_shard(work, listed, 0))  # given out again, but it is there
    assert (said["error"], said["succeeded"]) == ("", 4)
    work.place.rmdir()
    assert content(tmp_path / "out") == before  # above all, the manifest does not state the store unfinished


def test_a_run_that_is_stopped_ends_what_is_under_way(tmp_path: Path, model: Path, ray: FakeRay) -> None:
    def stop(said: ShardReport) -> None:
        raise KeyboardInterrupt

    ray._nodes = [{"CPU": 3.0}]
    with pytest.raises(KeyboardInterrupt):
        extract_on_ray(images(tmp_path), partial(load, model), tmp_path / "out", OPTIONS, on_shard=stop)
    assert ray.cancelled == 2
    assert not list((tmp_path / "out").glob(".tmp-*"))


# With Ray itself. The loaders stand for workers that meet their end: a worker that kills itself is killed by SIGKILL.


def dying(model: Path, tmp: Path, deaths: int) -> Embedder:
    """Kills its process at the tenth image, so many times."""
    embedder, seen = load(model), []
    run_batch = embedder.run_batch

    def run(batch):  # type: ignore[no-untyped-def]  # as the method it stands for
        seen.append(len(batch))
        time.sleep(0.01)
        before = len(list(tmp.glob("death-*")))
        if len(seen) == 10 and before < deaths:
            (tmp / f"death-{before}-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return run_batch(batch)

    embedder.run_batch = run  # type: ignore[method-assign]  # dies or passes on
    return embedder


def poisoned(model: Path) -> Embedder:
    """Kills its process at every batch."""
    embedder = load(model)
    embedder.run_batch = lambda batch: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment,method-assign,return-value]
    return embedder


@pytest.mark.slow
@pytest.mark.timeout(300)  # some 20 s; a busy machine takes its time to start Ray
def test_two_workers_make_the_bytes_of_a_local_run(tmp_path: Path, model: Path, capfd: Any) -> None:
    items = images(tmp_path, 90)
    extract(items, load(model), tmp_path / "whole", OPTIONS)
    cluster = Cluster(workers=2)
    told: list[ShardReport] = []
    run = extract_on_ray(
        items, partial(dying, model, tmp_path, 0), tmp_path / "out", OPTIONS, cluster=cluster, on_shard=told.append
    )
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert len({said.worker for said in told}) == 2
    assert sorted(said.shard for said in told) == list(range(25))
    assert (run.summary.workers, run.summary.described + run.summary.failed) == (2, 98)
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.timeout(300)  # some 20 s; a busy machine takes its time to start Ray
def test_a_killed_worker_loses_nothing(tmp_path: Path, model: Path) -> None:
    items = images(tmp_path, 90)
    extract(items, load(model), tmp_path / "whole", OPTIONS)
    told: list[ShardReport] = []
    cluster, maker = Cluster(workers=2), partial(dying, model, tmp_path, 1)
    run = extract_on_ray(items, maker, tmp_path / "out", OPTIONS, cluster=cluster, on_shard=told.append)
    (death,) = tmp_path.glob("death-*")
    killed = int(death.name.rpartition("-")[2])
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert sorted(said.shard for said in told) == list(range(25))
    assert [said.shard for said in told if said.worker == killed] != []  # it had made some, and died over another
    assert run.summary.described + run.summary.failed == 98


@pytest.mark.slow
@pytest.mark.timeout(300)  # some 20 s; a busy machine takes its time to start Ray
def test_a_run_that_was_stopped_goes_on_where_it_stood(tmp_path: Path, model: Path) -> None:
    items = images(tmp_path, 90)
    extract(items, load(model), tmp_path / "whole", OPTIONS)
    cluster, maker = Cluster(workers=2), partial(load, model)

    def stop(said: ShardReport) -> None:
        if len(list((tmp_path / "out" / "shards").glob("*.parquet"))) >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_on_ray(items, maker, tmp_path / "out", OPTIONS, cluster=cluster, on_shard=stop)
    there = len(list((tmp_path / "out" / "shards").glob("*.parquet")))
    assert not list((tmp_path / "out").glob(".tmp-*"))
    told: list[ShardReport] = []
    extract_on_ray(items, maker, tmp_path / "out", OPTIONS, cluster=cluster, on_shard=told.append)
    assert 6 <= there < 25
    assert len(told) == 25 - there
    assert {name: data for name, data in content(tmp_path / "out").items() if ".tmp-" not in name} == content(
        tmp_path / "whole"
    )


@pytest.mark.slow
@pytest.mark.timeout(300)  # some 20 s; a busy machine takes its time to start Ray
def test_a_shard_that_kills_every_worker_ends_the_run(tmp_path: Path, model: Path) -> None:
    write_images(tmp_path / "images", 3)
    items, cluster = find_images(tmp_path / "images"), Cluster(workers=1)
    with pytest.raises(ClusterError, match=f"shard 0: {TRIES} workers died over it"):
        extract_on_ray(items, partial(poisoned, model), tmp_path / "out", OPTIONS, cluster=cluster)
