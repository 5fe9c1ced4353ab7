"""Which cluster: how many workers it has room for, and one line for every one that cannot be had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gloam.cli.main import main
from gloam.errors import ClusterError, GloamError, MissingExtraError, UsageError
from gloam.runtime.bulk.on_ray.cluster import Cluster, connected


@pytest.mark.parametrize(
    ("cluster", "nodes", "room"),
    [
        (Cluster(), [{"CPU": 4.0}, {"CPU": 3.0, "GPU": 1.0}, {}], 7),
        (
            Cluster(cpus_per_worker=3),
            [{"CPU": 4.0}, {"CPU": 6.0}],
            3,
        ),  # a worker lies on one node
        (Cluster(gpus_per_worker=1), [{"CPU": 4.0}, {"CPU": 4.0, "GPU": 2.0}], 2),
        (Cluster(gpus_per_worker=0.5), [{"CPU": 3.0, "GPU": 2.0}], 3),
    ],
)
def test_room(cluster: Cluster, nodes: list[dict[str, float]], room: int) -> None:
    assert cluster.room(nodes) == room


def test_a_worker_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(UsageError, match=r"2 CPUs and 1 GPUs fits no node of the cluster \(8 CPUs, 0 GPUs"):
        Cluster(cpus_per_worker=2, gpus_per_worker=1).room([{"CPU": 8.0}, {"CPU": 1.0, "GPU": 1.0}])
    with pytest.raises(UsageError, match="it has none"):
        Cluster().room([])


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"cpus_per_worker": 0}, {"gpus_per_worker": -1.0}])
def test_sizes_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"per-worker|--workers"):
        Cluster(**wrong)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "2"], "--workers goes with --on ray"),
        (["--address", "auto"], "--address goes with --on ray"),
        (["--gpus-per-worker", "0"], "--gpus-per-worker goes with --on ray"),
        (["--on", "ray", "--shard-index", "0", "--num-shards", "2"], "leave out --shard-index"),
        (["--on", "ray", "--finish"], "leave out --shard-index, --finish"),
        (["--on", "ray", "--workers", "0"], "--workers must be 1 or more"),
        (["--on", "ray", "--device", "cuda", "--gpus-per-worker", "0"], "needs a GPU in every worker"),
    ],
)
def test_options_that_exclude_each_other(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["extract", str(tmp_path / "a"), "-o", str(tmp_path / "out"), "--model", "absent.onnx", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("127.0.0.1:1", ClusterError, "no Ray answers there"),
        ("head", UsageError, "HOST:PORT"),
        ("ray://head:10001", UsageError, "must begin on a node"),
    ],
)
def test_an_address_where_no_ray_is(address: str, kind: type[GloamError], said: str) -> None:
    with pytest.raises(kind, match=said), connected(Cluster(address=address)):
        pass


def test_without_ray_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gloam\[ray\]'"), connected(Cluster()):
        pass
    assert main(["extract", str(tmp_path / "a"), "-o", str(tmp_path / "o"), "--model", "m.onnx", "--on", "ray"]) == 2
    assert "gloam[ray]" in capsys.readouterr().err


def test_nothing_imports_ray_before_it_is_asked_for() -> None:
    code = (
        "import sys; import gloam.runtime.bulk.extract, gloam.runtime.bulk.on_ray.run, gloam.cli.main;"
        "gloam.cli.main.build_parser(); sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
