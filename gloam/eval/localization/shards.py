"""A share of a localization's features and matches, so that several machines fill one workspace.

What a shard finds lies in the workspace by the hash of all it depends on. Nothing is locked: what two shards find at
once is the same, and the last one to write it wins. The run without a shard finds it there, and does what is left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.errors import UsageError
from gloam.eval.localization.approximation import METHODS as APPROXIMATIONS
from gloam.eval.localization.pairs_of_run import PairsOfRun, pairs_of_run
from gloam.eval.localization.request import LocalizeRequest, opened
from gloam.heartbeat import progress_bar
from gloam.runtime.bulk.extract import Part
from gloam.runtime.localization.colmap import solver_version
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.localization.matches.pair_stage import mapped

BLOCK = 256  # pairs that follow one another and go to one shard, at most: they share images
ROUNDS = 4  # blocks of a shard, at least


@dataclass(frozen=True)
class ShardSummary:
    """What a shard did.

    Attributes:
        workspace: that it filled.
        part: which one it is.
        images, found: its images, and those of them whose features were found now.
        pairs, matched: its pairs, and those of them that were matched now.
        left: pairs of all shards that are not matched yet.
        seconds: that it took.
    """

    workspace: Path
    part: Part
    images: int
    found: int
    pairs: int
    matched: int
    left: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        own = {"workspace": str(self.workspace), "shard_index": self.part.index, "num_shards": self.part.count}
        return own | {what: value for what, value in vars(self).items() if what not in ("workspace", "part")}

    def __str__(self) -> str:
        then = (
            f"{self.left} pairs of other shards are left"
            if self.left
            else "every pair is matched: run the same command without --shard-index for map and poses"
        )
        return (
            f"{self.workspace}: shard {self.part.index} of {self.part.count}: features of {self.found} images found, "
            f"{self.images - self.found} kept; {self.matched} pairs matched, {self.pairs - self.matched} kept, "
            f"{self.seconds:.1f} s\n{then}"
        )


def match_shard(
    request: LocalizeRequest, part: Part, progress: bool = True, told: Callable[[int, int], None] | None = None
) -> ShardSummary:
    """Find features and matches of a part of a localization's pairs; the same call carries on where one stopped.

    Args:
        request: of the whole localization.
        part: of its images, every ``count``-th, and of its pairs, every ``count``-th block.
        progress: say how far it is, on stderr.
        told: gets the number of its pairs that are matched, and of its pairs, as it goes.

    Raises:
        UsageError: methods that match nothing.
        GloamError: as :func:`gloam.eval.localization.localize.localize`.
    """
    clock = time.perf_counter()
    matcher, pairs = shared_pairs(request, "--shard-index")
    block = max(1, min(BLOCK, len(pairs.every) // (ROUNDS * part.count)))
    own = [pair for row, pair in enumerate(pairs.every) if part.has(row // block)]
    images = pairs.images[part.index :: part.count]
    with (
        ThreadPoolExecutor(request.workers or len(os.sched_getaffinity(0)), "shard") as pool,
        progress_bar(len(own), "matching", "pairs", shown=progress) as bar,
    ):

        def more(count: int = 1) -> None:
            bar.update(count)
            if told is not None:
                told(bar.n, len(own))

        more(0)
        found = sum(not there for there in mapped(pool, matcher.has_features, images))
        for _ in mapped(pool, matcher.find, images):
            more(0)
        matched = sum(not there for there in mapped(pool, matcher.has_pair, own))
        matcher.match_all(own, pool, more)
        left = sum(not there for there in mapped(pool, matcher.has_pair, pairs.every))
    return ShardSummary(
        request.workspace, part, len(images), found, len(own), matched, left, time.perf_counter() - clock
    )


def shared_pairs(request: LocalizeRequest, option: str) -> tuple[PairMatcher, PairsOfRun]:
    """What matches the pairs of a localization into its workspace, and which pairs these are.

    Args:
        request: of the whole localization.
        option: that shares them out, as an error names it.

    Raises:
        as :func:`match_shard`.
    """
    if request.verify is None and not set(request.methods) - set(APPROXIMATIONS):
        raise UsageError(f"{option} shares out matching, and {', '.join(request.methods)} match nothing; leave it out")
    solver_version()  # a missing solver is said before any feature is found
    work = opened(request)
    # Whose pairs 2a needs is known when the images that were retrieved are verified: they are the last run's.
    methods = [method for method in work.methods if request.verify is None or method != "2a"]
    matcher = PairMatcher(
        work.features,
        work.mapping,
        work.query,
        request.workspace,
        work.rule,
        request.seed,
        work.verify_queries,
        request.memory,
    )
    return matcher, pairs_of_run(matcher, work.retrieved, methods, work.map_pairs, work.model)
