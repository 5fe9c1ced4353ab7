"""One map for every retrieval: triangulated once, from pairs that no retrieval chose, and kept by content."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from gloam.data.npz import read_npz, write_npz
from gloam.files import sha256_json
from gloam.heartbeat import progress_bar
from gloam.runtime.localization.colmap import Triangulation
from gloam.runtime.localization.maps.mapping import PairMatcher, build_map

ARRAYS = ("key", "points", "names", "counts", "observed", "error")


def fixed_map(
    matcher: PairMatcher, pairs: Sequence[tuple[str, str]], pool: ThreadPoolExecutor, *, progress: bool = False
) -> Triangulation:
    """The map of pairs of mapping images, read where the matcher's cache has it.

    Args:
        matcher: of the datasets.
        pairs: of mapping images; order and repeats do not matter.
        pool: of threads, to match in.
        progress: say how far it is, on stderr.

    Raises:
        DataError: nothing can be triangulated, or an image without pose, intrinsics or features.
    """
    wanted = sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
    key = sha256_json(["map", [[*pair, matcher.pair_key(pair)] for pair in wanted]])
    path = None if matcher.cache is None else matcher.cache / "maps" / f"{key}.npz"
    if path is not None:
        try:
            kept = read_npz(path, ARRAYS)
            if str(kept["key"]) == key:
                parts = np.split(kept["observed"], np.cumsum(kept["counts"])[:-1])
                observed = dict(zip(kept["names"].tolist(), parts, strict=True))
                return Triangulation(kept["points"], observed, float(kept["error"]))
        except (OSError, ValueError):
            pass  # never made, or damaged: made again and written over
    with progress_bar(len(wanted), "matching the map", "pairs", shown=progress) as bar:
        matcher.match_all(wanted, pool, bar.update)
    with matcher.holding_nothing():  # what is matched is read once, and COLMAP needs the memory
        world = build_map(matcher, wanted)
    if path is not None:
        names = sorted(world.observed)
        write_npz(
            path,
            {
                "key": key,
                "points": world.points,
                "names": np.array(names),
                "counts": np.array([len(world.observed[name]) for name in names], np.int64),
                "observed": np.concatenate([world.observed[name] for name in names]),
                "error": world.mean_error,
            },
        )
    return world
