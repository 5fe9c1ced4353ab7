"""A Ray cluster of two hosts that loses one in the middle of a run; the bytes are those of a run without Ray.

The hosts are network namespaces joined by a cable, with a folder that both see. Extraction and translation each begin
on both; once the far host has made some shards its cable is pulled, or it is powered off, and the near one is left. A
host whose cable is pulled still works and writes what it was given, as one on another network's storage may.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import gloam
from benchmarks.shared.hosts import Host, problem, two_hosts
from benchmarks.shared.result import Result
from benchmarks.shared.tiny import embedder_and_translator
from gloam.data.sources import find_images
from gloam.errors import MissingExtraError
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.bulk.on_ray.cluster import Cluster, import_ray
from gloam.runtime.bulk.on_ray.extract import extract_on_ray
from gloam.runtime.bulk.on_ray.pictures import run_images_on_ray
from gloam.runtime.bulk.on_ray.worker import ShardReport
from gloam.runtime.bulk.pictures import run_images
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.image_model import ImageOperation
from gloam.runtime.models.translator import Translator

IMAGES, SHARD, SIZE = 120, 4, (64, 48)
PAUSE = 0.15  # seconds that an image takes beside the model's own, so that a run has a middle
BEFORE = 3  # shards that the far host makes before it is lost
PORT = 6379
END = 300.0  # seconds in which a run must end
LOSSES: dict[str, Callable[[Host], None]] = {"cable pulled": Host.pull, "powered off": Host.kill}
# Ray looks for lost hosts; by its defaults it takes a minute to give one up.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
}
TARGET = "1.0, both hosts at work in each of 4 runs"
CHILD = "import sys; from benchmarks.two_hosts import child; child(*sys.argv[1:])"


def slow_embedder(model: Path) -> Embedder:
    """An embedder that takes its time."""
    embedder = Embedder.load(model, Placement(threads=1))
    run_batch = embedder.run_batch

    def run(images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        time.sleep(PAUSE * len(images))
        return run_batch(images)

    embedder.run_batch = run  # type: ignore[method-assign]  # the same, later
    return embedder


class SlowTranslator(Translator):
    """A translator that takes its time."""

    def __call__(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
        time.sleep(PAUSE * len(images))
        return super().__call__(images)


def slow_translator(model: Path) -> ImageOperation:
    """See above."""
    return SlowTranslator.load(model, Placement(threads=1))


def child(kind: str, root: str, out: str, address: str, told: str) -> None:
    """On the near host: one run on Ray; a line of JSON per shard into ``told``."""

    def note(report: ShardReport) -> None:
        with open(told, "a", encoding="utf-8") as file:
            file.write(json.dumps({"shard": report.shard, "node": report.node, "ended": report.ended}) + "\n")

    folder, cluster = Path(root), Cluster(address=address)
    items = find_images(folder / "images")
    if kind == "extract":
        load = partial(slow_embedder, folder / "embedder.onnx")
        extract_on_ray(items, load, out, ExtractOptions(shard_size=SHARD), cluster=cluster, on_shard=note)
    else:
        translator = partial(slow_translator, folder / "translator.onnx")
        run_images_on_ray(items, translator, out, tar_size=SHARD, cluster=cluster, on_shard=note)


@contextlib.contextmanager
def cluster_of(near: Host, far: Host, logs: Path) -> Iterator[dict[str, str]]:
    """Ray on both hosts, a core each; the near one is the head. Gives the environment of who belongs to it.

    Raises:
        RuntimeError: it does not come up.
    """
    environment = {
        "PYTHONPATH": str(Path(gloam.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",  # of this cluster alone, whatever the user's own clusters have
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        **HEALTH,
    }
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    size = ["--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats", "--block"]
    head = [f"--node-ip-address={near.address}", f"--port={PORT}", "--include-dashboard=false"]
    address = f"{near.address}:{PORT}"
    join = [f"--address={address}", f"--node-ip-address={far.address}"]
    for nodes, host, more in ((1, near, ["--head", *head]), (2, far, join)):
        _up(host, near, nodes, [*ray, "start", *more, *size], environment, logs)
    yield environment


def _up(host: Host, near: Host, nodes: int, words: Sequence[str], environment: Mapping[str, str], logs: Path) -> None:
    """Start Ray on a host, again where it gives up, as it does on a busy machine; wait until so many are there."""
    log, started = logs / "up.log", host.start(words, environment, logs / f"{host.name}.log")
    address = f"'{near.address}:{PORT}'"
    count = f"import ray; ray.init({address}, log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"
    deadline = time.monotonic() + END
    while time.monotonic() < deadline:
        log.unlink(missing_ok=True)
        asked = near.start([sys.executable, "-c", count], environment, log)
        if asked.wait() == 0 and log.read_text().split()[-1:] == [str(nodes)]:
            return
        if started.poll() is not None:
            started = host.start(words, environment, logs / f"{host.name}.log")
        time.sleep(1)
    raise RuntimeError(f"a cluster of {nodes} hosts does not come up: {log.read_text()[-500:]}")


def lost(kind: str, loss: str, root: Path, whole: Path) -> dict[str, Any]:
    """One run that loses the far host; what became of it."""
    out, told, logs = root / f"out-{kind}-{loss}", root / f"told-{kind}-{loss}", root / f"logs-{kind}-{loss}"
    logs.mkdir()
    with two_hosts() as (near, far), cluster_of(near, far, logs) as environment:
        words = [sys.executable, "-c", CHILD, kind, str(root), str(out), f"{near.address}:{PORT}", str(told)]
        run = near.start(words, environment, logs / "run.log")
        clock = time.monotonic()
        while run.poll() is None and sum(row["node"] == far.name for row in rows(told)) < BEFORE:
            if time.monotonic() - clock > END:
                break
            time.sleep(0.05)
        made = rows(told)
        LOSSES[loss](far)
        clock = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(END)
        seconds, code = time.monotonic() - clock, run.poll()
        if code is None:
            run.kill()
        far.kill()  # what it still wrote, without its cable, is compared, too
    last = (logs / "run.log").read_text(errors="replace").strip().splitlines()[-1:]
    equal, shards, others = compared(out, whole)
    return {
        "exit code": code,
        "seconds to the end, after the loss": round(seconds, 1),
        "shards": shards,
        "equal": equal,
        "other files that differ": others,
        "made by the far host before": sum(row["node"] == far.name for row in made),
        "made in all before": len(made),
        **({} if code == 0 else {"said": last}),
    }


def rows(told: Path) -> list[dict[str, Any]]:
    """What the run has told so far; the last line may be half."""
    if not told.exists():
        return []
    return [json.loads(line) for line in told.read_text(encoding="utf-8").split("\n")[:-1]]


def compared(folder: Path, whole: Path) -> tuple[int, int, list[str]]:
    """How many shards have the bytes of another folder's, how many there are, and which other files differ."""
    found, truth = contents(folder), contents(whole)
    differing = {name for name in {*found, *truth} if found.get(name) != truth.get(name)}
    shards = sorted({Path(name).name.partition(".")[0] for name in truth if Path(name).name.startswith("part-")})
    harmed = {Path(name).name.partition(".")[0] for name in differing}
    others = sorted(name for name in differing if Path(name).name.partition(".")[0] not in shards)
    return sum(shard not in harmed for shard in shards), len(shards), others


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes by its name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def prepare(root: Path) -> None:
    """Images, models, and the runs without Ray."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    for number in range(IMAGES):
        pixels = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number:04d}.png")
    (root / "images" / "0017.png").write_bytes(b"no image")
    models = embedder_and_translator(root)
    items, one = find_images(root / "images"), Placement(threads=1)
    extract(items, Embedder.load(models["embedder"], one), root / "extract", ExtractOptions(shard_size=SHARD))
    run_images(items, Translator.load(models["translator"], one), root / "translate", tar_size=SHARD)


def run() -> Result:
    """Extraction and translation, each losing a host in both ways; or why that cannot be done here."""
    why = problem()
    with contextlib.suppress(MissingExtraError):
        import_ray()
    if "ray" not in sys.modules and why is None:
        why = "Ray is not installed; pip install 'gloam[ray]'"
    if why is not None:
        return Result(None, "share of shards", TARGET, None, {"not run": "a cluster that loses a host", "why": why})
    detail: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gloam-hosts-") as temporary:
        root = Path(temporary)
        prepare(root)
        for kind in ("extract", "translate"):
            for loss in LOSSES:
                row = detail[f"{kind}, {loss}"] = lost(kind, loss, root, root / kind)
                print(f"{kind}, {loss}: {row}", file=sys.stderr, flush=True)
                if keep := os.environ.get("GLOAM_BENCH_RUNS"):
                    shutil.copytree(
                        root / f"logs-{kind}-{loss}", Path(keep) / f"two_hosts-{kind}-{loss}", dirs_exist_ok=True
                    )
    done = list(detail.values())
    share = sum(row["equal"] for row in done) / sum(row["shards"] for row in done)
    ended = all(row["exit code"] == 0 and not row["other files that differ"] for row in done)
    both = all(0 < row["made by the far host before"] < row["made in all before"] < row["shards"] for row in done)
    detail["looking for lost hosts"] = HEALTH
    return Result(share, "share of shards", TARGET, share == 1.0 and ended and both, detail)
