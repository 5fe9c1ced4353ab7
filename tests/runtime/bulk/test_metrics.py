"""What a run says of itself to Prometheus while it lasts."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gloam.data.sources import find_images
from gloam.errors import MissingExtraError, UsageError
from gloam.runtime.bulk.metrics import served_metrics
from gloam.runtime.bulk.pictures import PictureSummary, run_images
from gloam.runtime.bulk.stages import Queues
from gloam.runtime.models.formulas import LabInversion
from tests.runtime.bulk.test_pictures import write_images

parser = pytest.importorskip("prometheus_client.parser")


PORTS = itertools.count(20000 + 100 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))


def free_port() -> int:
    """Below those that the system gives to whoever asks for any, and another worker has others."""
    for port in PORTS:
        with socket.socket() as taken, contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", port))
            return port
    raise AssertionError


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = parser.text_string_to_metric_families(answer.read().decode())
        return {
            sample.name + "".join(f"/{value}" for value in sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }


def test_the_endpoint_follows_the_run_and_ends_with_it() -> None:
    summary, queues, port = PictureSummary(images=9), Queues(), free_port()
    with served_metrics(port, summary, queues):
        assert scrape(port)["gloam_images_done_total"] == 0
        summary.done, summary.failed, summary.reused, queues.waiting = 5, 2, 1, 7
        summary.seconds["infer"] = 1.5
        found = scrape(port)
    assert found["gloam_images"] == 9
    assert [found[f"gloam_images_{what}_total"] for what in ("done", "failed", "reused")] == [5, 2, 1]
    assert found["gloam_stage_seconds_total/infer"] == 1.5
    assert found["gloam_queue_length/waiting"] == 7
    with pytest.raises(urllib.error.URLError):
        scrape(port)


def test_no_queues_are_told_of_other_machines() -> None:
    port = free_port()
    with served_metrics(port, PictureSummary(images=9), None):
        found = scrape(port)
    assert found["gloam_images"] == 9
    assert not any(name.startswith("gloam_queue_length") for name in found)


def test_a_run_can_be_watched(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 6)
    port, seen = free_port(), []

    class Watched(LabInversion):
        def turn(self, image):  # type: ignore[no-untyped-def]  # as its base
            seen.append(scrape(port)["gloam_images"])
            return super().turn(image)

    run_images(find_images(tmp_path / "in"), Watched(), tmp_path / "out", metrics_port=port)
    assert seen == [6] * 6


def test_a_port_that_cannot_be_had_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for wrong in (port, 70000):
            with pytest.raises(UsageError, match=f"--metrics-port {wrong}: cannot be served") as error:
                served_metrics(wrong, PictureSummary(), Queues()).__enter__()
            assert len(str(error.value).splitlines()) == 1
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError, match=r"gloam\[metrics\]"):
        served_metrics(0, PictureSummary(), Queues()).__enter__()
