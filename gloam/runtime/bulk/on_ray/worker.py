"""What runs in the workers of a cluster: a model loaded once, whole shards made by the pipeline of a local run."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from gloam.data.sources import ImageItem
from gloam.errors import DataError, GloamError, ImageError, IncompatibleError, StoreError
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.bulk.on_ray.cluster import import_ray
from gloam.runtime.bulk.on_ray.travel import SHARED, Home, count_try
from gloam.runtime.bulk.stages import RunSummary


@dataclass(frozen=True)
class Made:
    """What became of a shard.

    Attributes:
        summary: counts and times.
        reduced: images that were made smaller first, where that is counted.
        run_pixels, valid_pixels: see :class:`gloam.runtime.bulk.extract.ShardMaker`, where they are counted.
    """

    summary: RunSummary
    reduced: int = 0
    run_pixels: int = 0
    valid_pixels: int = 0


@dataclass(frozen=True)
class Loaded:
    """A model in a worker, and what it makes.

    Attributes:
        name, backend: of the model.
        job: what it makes of the images, JSON-ready: that of the output's manifest.
        maker: of shards, given all images, the output's folder and the threads that decode. A shard that is there, by a
            worker that died before it could say so, is counted and not made again.
    """

    name: str
    backend: BackendFacts
    job: Mapping[str, Any]
    maker: Callable[[Sequence[ImageItem], Path, int], Callable[[int], Made]]


class Start(Protocol):
    """What a worker needs to say what an output will be; picklable.

    Attributes:
        home: where the run began.
    """

    @property
    def home(self) -> Home:
        """See above."""
        ...

    def loaded(self) -> Loaded:
        """In a worker: load the model."""
        ...


@dataclass(frozen=True)
class Work:
    """What a worker needs to make shards.

    Attributes:
        start: see :class:`Start`.
        job: of the output, as its first look said.
        folder: of the output.
        place: a folder inside it, of this run alone.
        shard_size: images of a shard.
        threads: that decode.
        witness: an image that can be read where the run began; None where there is none.
    """

    start: Start
    job: Mapping[str, Any]
    folder: Path
    place: Path
    shard_size: int
    threads: int
    witness: ImageItem | None


@dataclass(frozen=True)
class ShardReport:
    """What a worker says of a shard.

    Attributes:
        shard: its number.
        node, worker: name of the machine; process there.
        succeeded, failed, reduced: images.
        run_pixels, valid_pixels: see :class:`Made`.
        began, ended: by the node's clock, seconds since 1970; the model was loaded before.
        seconds: per stage, see :class:`gloam.runtime.bulk.stages.RunSummary`.
        error, kind: why the shard was not made, and the class of the error; both empty where it was.
    """

    shard: int
    node: str
    worker: int
    succeeded: int
    failed: int
    reduced: int
    run_pixels: int
    valid_pixels: int
    began: float
    ended: float
    seconds: Mapping[str, float]
    error: str = ""
    kind: str = ""


def look(start: Start) -> str:
    """A task: JSON of the output's job and of the model, or of why it cannot be loaded."""
    try:
        start.home.enter()
        loaded = start.loaded()
    except GloamError as error:
        return json.dumps({"node": socket.gethostname(), "error": str(error), "kind": type(error).__name__})
    return json.dumps({"job": loaded.job, "backend": loaded.backend.to_dict(), "name": loaded.name})


# The makers of the run that this process works for: a worker makes one shard after the other.
_kept: dict[Path, Callable[[int], Made]] = {}


def make_shard(work: Work, listed: Sequence[Any], shard: int) -> str:
    """A task: make a shard; JSON of its report. What fails is reported, so that it is not tried again.

    Args:
        work: what to do.
        listed: a reference to the list of all images, and nothing else: alone it would be fetched for every shard.
        shard: its number.
    """
    began, made, failure = time.time(), Made(RunSummary()), {}
    try:
        make = _kept.get(work.place) or _open(work, listed)
        began = time.time()
        _expect_shared(work)
        with _counted_tries(work, shard):
            made = make(shard)
    except GloamError as error:
        failure = {"error": str(error), "kind": type(error).__name__}
    summary = made.summary
    report = ShardReport(
        shard=shard,
        node=socket.gethostname(),
        worker=os.getpid(),
        succeeded=0 if failure else summary.succeeded,
        failed=summary.failed,
        reduced=made.reduced,
        run_pixels=made.run_pixels,
        valid_pixels=made.valid_pixels,
        began=began,
        ended=time.time(),
        seconds=summary.seconds,
        **failure,
    )
    return json.dumps(asdict(report))


def _open(work: Work, listed: Sequence[Any]) -> Callable[[int], Made]:
    _expect_shared(work)
    if work.witness is not None and not readable(work.witness):
        raise DataError(f"{work.witness.name}: cannot be read here, but could where the run began; {SHARED}")
    work.start.home.enter()
    loaded = work.start.loaded()
    found = json.loads(json.dumps(loaded.job))
    if differing := [key for key in {**work.job, **found} if found.get(key) != work.job.get(key)]:
        raise IncompatibleError(
            f"the model makes another output here than where the run began: another {', '.join(differing)}; {SHARED}"
        )
    _kept.clear()  # of an earlier run
    _kept[work.place] = loaded.maker(import_ray().get(listed[0]), work.folder, work.threads)
    return _kept[work.place]


def _expect_shared(work: Work) -> None:
    if not work.place.is_dir():
        raise StoreError(f"{work.folder}: not the output folder that the run began with; {SHARED}")


def readable(item: ImageItem) -> bool:
    """Whether the bytes of an image can be had here."""
    try:
        return item.problem is None and bool(item.read())
    except ImageError:
        return False


@contextlib.contextmanager
def _counted_tries(work: Work, shard: int) -> Iterator[None]:
    """See :func:`count_try`."""
    tries = work.place / f"shard-{shard}"
    first = work.shard_size * shard
    count_try(tries, f"shard {shard}", f"its images begin with number {first} of the source")
    yield
    with contextlib.suppress(OSError):
        tries.unlink()
