"""What matching a list of pairs will take, from a few pairs that are timed on this machine."""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from gloam.heartbeat import spelled
from gloam.runtime.localization.colmap import write_match_database
from gloam.runtime.localization.features.sources import to_arrays
from gloam.runtime.localization.matches.lru import Lru
from gloam.runtime.localization.matches.match_files import MatchedPairs, MatchOutput, MatchRequest, open_stage
from gloam.runtime.localization.matches.pair_stage import MEMORY, Pair, nbytes

SAMPLE = 96  # pairs at most that are timed
SECONDS = 5.0  # after which no more are begun
BLOCK = 4096  # bytes that a file takes at least, and a folder

Item = TypeVar("Item")


@dataclass(frozen=True)
class Estimate:
    """What work will take.

    Attributes:
        images, pairs: how many there are.
        seconds: of a run that begins anew.
        disk: bytes that it leaves, workspace and output.
        memory: bytes of the process, at most.
        timed: pairs that it is told from.
        parts: seconds of each part of the work.
        cpu: seconds of all processors together, which tell a machine that others use too from a wrong estimate; None
            where they are not told.
    """

    images: int
    pairs: int
    seconds: float
    disk: int
    memory: int
    timed: int
    parts: dict[str, float]
    cpu: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(vars(self))

    def __str__(self) -> str:
        parts = ", ".join(f"{what} {spelled(seconds)}" for what, seconds in self.parts.items())
        return (
            f"{self.pairs} pairs of {self.images} images: about {spelled(self.seconds)} ({self.seconds / 3600:.2f} h), "
            f"{size(self.disk)} of disk, {size(self.memory)} of memory\n{parts}; told from {self.timed} pairs"
        )


def estimate_matching(request: MatchRequest) -> Estimate:
    """What :func:`gloam.runtime.localization.matches.match_files.match_pairs` will take; nothing is left of the trial.

    Raises:
        as :func:`gloam.runtime.localization.matches.match_files.match_pairs`.
    """
    clock = time.perf_counter()
    # Nothing that was read for one trial may be read again in the next: the limit of the run itself is reckoned with.
    with TemporaryDirectory(prefix="gloam-estimate-") as temporary:
        folder = Path(temporary)
        wanted, stage = open_stage(replace(request, memory=MEMORY), folder / "workspace")
        MatchOutput(request, stage)  # an output of something else is refused here as it is there
        opened = time.perf_counter() - clock
        sample = random.Random(0).sample(wanted, min(SAMPLE, len(wanted)))
        with ThreadPoolExecutor(request.workers or len(os.sched_getaffinity(0)), "estimate") as pool:
            warm, trial = sample[: len(sample) // 4], sample[len(sample) // 4 :] or sample
            timed_in(lambda part: stage.match_all(part, pool), warm, 4 * stage.batch, SECONDS / 2)  # and its images
            names = sorted({name for pair in trial for name in pair} - stage.known) or sorted(set(trial[0]))
            key, _ = timed_in(lambda part: list(pool.map(stage.key, part)), names, 8, SECONDS)
            load, _ = timed_in(lambda part: list(pool.map(stage.features, part)), names, 8, SECONDS)
            ready = [pair for pair in trial if all(stage.holds(name) for name in pair)]
            match, count = timed_in(lambda part: stage.match_all(part, pool), ready, 4 * stage.batch, SECONDS)
            done = ready[:count]
            place = folder / (request.output.name if request.written != "kapture" else "kapture")
            output = MatchOutput(replace(request, output=place), stage)
            write, _ = timed_in(lambda part: output.write(part, pool), done, len(done), SECONDS)
        images = sorted({name for pair in wanted for name in pair})
        held = [nbytes(to_arrays(stage.features(name))) for name in {name for pair in done for name in pair}]
        found = [nbytes(stage.pair(pair)) for pair in done]
        feature_bytes, pair_bytes = sum(held) / len(held), sum(found) / len(found)
        parts = {
            "opening": opened,
            "reading": key * len(images) + load * reads(wanted, request.memory, feature_bytes, pair_bytes),
            "matching": match * len(wanted),
            "writing": write * len(wanted),
        }
        return Estimate(
            len(images),
            len(wanted),
            sum(parts.values()),
            _disk(request, stage, folder, place, done, wanted, images),
            peak() + round(min(request.memory, feature_bytes * len(images) + pair_bytes * len(wanted))) - stage.bytes,
            len(done),
            parts,
        )


def _disk(
    request: MatchRequest,
    stage: MatchedPairs,
    folder: Path,
    place: Path,
    done: Sequence[Pair],
    wanted: Sequence[Pair],
    images: Sequence[str],
) -> int:
    """Bytes of the workspace and of the output."""
    kept = sorted((folder / "workspace" / stage.stage).rglob("*.npz"))
    total = blocks(kept) / len(kept) * len(wanted) + min(256, len(wanted)) * BLOCK
    if request.written == "kapture":
        files = list(place.rglob("*.matches"))
        return round(total + blocks(files) / len(files) * len(wanted) + len({first for first, _ in wanted}) * BLOCK)
    rows = sum(len(stage.pair(pair)["matches"]) for pair in done) / len(done)
    if request.written == "colmap":
        points = [len(stage.features(name)) for name in {name for pair in done for name in pair}]
        own = 8 * rows * (2 if request.verify else 1) + 100
        empty = folder / "empty.db"
        write_match_database(empty, [], [], request.verify)
        keypoints = 8 * sum(points) / len(points) * len(images)
        return round(total + empty.stat().st_size + own * len(wanted) + keypoints)
    return round(total + place.stat().st_size / len(done) * len(wanted))


def timed_in(
    work: Callable[[Sequence[Item]], object], items: Sequence[Item], at_once: int, seconds: float
) -> tuple[float, int]:
    """Seconds of an item, and how many were done: part by part, until the time is over.

    Args:
        work: does a part.
        items: to be done.
        at_once: of a part.
        seconds: after which no further part is begun.
    """
    clock = time.perf_counter()
    count = 0
    while count < len(items) and (count == 0 or time.perf_counter() - clock < seconds):
        part = items[count : count + max(at_once, 1)]
        work(part)
        count += len(part)
    return (time.perf_counter() - clock) / max(count, 1), count


def reads(pairs: Iterable[Pair], memory: int, feature_bytes: float, pair_bytes: float) -> int:
    """How many times features are read from the disk, where so many bytes are held of what was used last."""
    held: Lru[bool] = Lru(memory)
    count = 0
    for pair in pairs:
        for name in pair:
            if held.get(name) is None:
                count += 1
                held.put(name, True, round(feature_bytes))
        key: Hashable = pair
        held.put(key, True, round(pair_bytes))
    return count


def blocks(paths: Iterable[Path]) -> int:
    """Bytes that files take on the disk."""
    return sum(-(-path.stat().st_size // BLOCK) * BLOCK for path in paths)


def peak() -> int:
    """Bytes that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
