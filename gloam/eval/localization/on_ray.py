"""Features and matches of a localization found by the workers of a Ray cluster, each of which takes a shard.

What a worker finds lies in the workspace at once, which every node must share. One that dies is begun again, and finds
there what it had done.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gloam.errors import GloamError, StoreError
from gloam.eval.localization.request import LocalizeRequest
from gloam.eval.localization.shards import match_shard, shared_pairs
from gloam.files import write_failure
from gloam.heartbeat import progress_bar
from gloam.runtime.bulk.extract import Part
from gloam.runtime.bulk.on_ray.cluster import Cluster, connected, one_line_errors
from gloam.runtime.bulk.on_ray.travel import SHARED, TRIES, Home, count_try, of_worker, run_folder

LOOK = 1.0  # seconds between looks at how far the workers are


@dataclass(frozen=True)
class RayMatching:
    """What the workers did.

    Attributes:
        workers: that took a shard each.
        nodes: machines that these were on.
        found: images whose features were found now.
        matched: pairs that were matched now.
        pairs: of the run.
        seconds: that it took.
    """

    workers: int
    nodes: int
    found: int
    matched: int
    pairs: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.workers} Ray worker{'s' * (self.workers != 1)}: features of {self.found} images found, "
            f"{self.matched} of {self.pairs} pairs matched, the others kept, {self.seconds:.1f} s"
        )


def match_on_ray(request: LocalizeRequest, cluster: Cluster | None = None, progress: bool = True) -> RayMatching:
    """Find the features and matches of a localization; then :func:`gloam.eval.localization.localize.localize` finds
    them, and makes map and poses as if it had been alone. The same call carries on where one stopped.

    Args:
        request: of the whole localization; every node must read its datasets, models and output under the same path.
        cluster: where the workers run; this machine by default. Their number is that of the shards.
        progress: say how far it is, on stderr.

    Raises:
        ClusterError: the cluster cannot be reached, or its workers keep dying.
        MissingExtraError: Ray is not installed.
        UsageError: no worker fits the cluster, or methods that match nothing.
        GloamError: as :func:`gloam.eval.localization.shards.match_shard`, after the name of the node.
    """
    clock, cluster = time.perf_counter(), cluster or Cluster()
    matcher, pairs = shared_pairs(request, "--on ray")  # what is wrong is said before Ray is started
    images, every = pairs.images, pairs.every
    found, matched = sum(map(matcher.has_features, images)), sum(map(matcher.has_pair, every))
    try:
        request.workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(write_failure(request.workspace, error)) from error
    with (
        connected(cluster) as ray,
        run_folder(request.workspace) as place,
        progress_bar(len(every), "matching", "pairs", shown=progress) as bar,
        one_line_errors(),
    ):
        room = cluster.room(node["Resources"] for node in ray.nodes() if node["Alive"])
        count = cluster.workers or room
        task = ray.remote(num_cpus=cluster.cpus_per_worker, num_gpus=cluster.gpus_per_worker, max_retries=TRIES)(_shard)
        own = replace(
            request,
            workers=request.workers or cluster.cpus_per_worker,
            placement=cluster.placed(request.placement),
        )
        waiting = [task.remote(own, Part(index, count), place, Home()) for index in range(count)]
        nodes: set[str] = set()
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1, timeout=LOOK)
            for reference in ready:
                said = json.loads(ray.get(reference))
                if "error" in said:
                    raise of_worker(said["kind"], said["node"], said["error"])
                nodes.add(said["node"])
            bar.update(max(0, sum(map(_read_count, sorted(place.glob("shard-*.count")))) - bar.n))
    return RayMatching(
        workers=count,
        nodes=len(nodes),
        found=sum(map(matcher.has_features, images)) - found,
        matched=sum(map(matcher.has_pair, every)) - matched,
        pairs=len(every),
        seconds=time.perf_counter() - clock,
    )


def _shard(request: LocalizeRequest, part: Part, place: Path, home: Home) -> str:
    """A task: JSON of what was done, or of why it could not be; what is no fault of the machine is not tried again."""
    node = socket.gethostname()
    try:
        home.enter()
        if not place.is_dir():
            raise StoreError(f"{request.workspace}: not the workspace that the run began with; {SHARED}")
        mine = place / f"shard-{part.index}"
        count_try(mine.with_suffix(".tries"), f"shard {part.index} of {part.count}", "--memory limits what each holds")
        match_shard(request, part, progress=False, told=_Count(mine.with_suffix(".count")))
    except GloamError as error:
        return json.dumps({"node": node, "error": str(error), "kind": type(error).__name__})
    return json.dumps({"node": node})


class _Count:
    """Writes how many pairs of a shard are matched, for the process that the run began in; at most twice a look."""

    def __init__(self, path: Path) -> None:
        self._path, self._due = path, 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._due or done == total:
            self._due = now + LOOK / 2
            with contextlib.suppress(OSError):  # a sign of life is not worth an end
                self._path.write_text(str(done))


def _read_count(path: Path) -> int:
    try:
        return int(path.read_text() or 0)
    except (OSError, ValueError):  # at this moment
        return 0
