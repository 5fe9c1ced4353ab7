"""Shared by the benchmarks of night-robust embedders: what made nights gain over training without, and how surely.

Not a benchmark of its own. Seeds are paired: a row is set against a control of the same seed. Intervals resample whole
groups (places, cameras), after the mean over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.shared.intervals import group_bootstrap

NIGHT, DAY = "night>day", "day>day"
ByQuery = Mapping[str, float]  # average precision by the query's name
Found = Mapping[str, Mapping[str, Sequence[ByQuery]]]  # by row and direction, one of each seed


def table(found: Found, group: Callable[[str], str]) -> dict[str, Any]:
    """mAP of every row and direction: mean and deviation over seeds, by seed, interval over groups."""
    return {
        label: {name: _summary([_values(one) for one in seeds], sorted(seeds[0]), group) for name, seeds in row.items()}
        for label, row in found.items()
    }


def strongest(found: Found, controls: Sequence[str]) -> str:
    """The control of the highest mAP by night, mean over seeds."""
    return max(controls, key=lambda label: np.mean([_values(one).mean() for one in found[label][NIGHT]]))


def gains(found: Found, rows: Sequence[str], control: str, group: Callable[[str], str]) -> dict[str, Any]:
    """What rows gain over a control of as many seeds, by night and by day."""
    made = {}
    for label in rows:
        made[label] = {
            name: _summary(
                [_values(a) - _values(b) for a, b in zip(found[label][name], found[control][name], strict=True)],
                sorted(found[label][name][0]),
                group,
            )
            for name in (NIGHT, DAY)
        }
    return made


def pooled_spread(found: Found, one: str, other: str) -> float:
    """Deviation over seeds of two rows' mAP by night, pooled."""
    groups = [[_values(seed).mean() for seed in found[label][NIGHT]] for label in (one, other)]
    return float(np.sqrt(np.mean([np.var(group, ddof=1) for group in groups])))


def _values(by_query: ByQuery) -> npt.NDArray[np.float64]:
    return np.array([by_query[name] for name in sorted(by_query)], np.float64)


def _summary(by_seed: Sequence[npt.NDArray[Any]], names: Sequence[str], group: Callable[[str], str]) -> dict[str, Any]:
    means = [float(values.mean()) for values in by_seed]
    interval = group_bootstrap(np.mean(by_seed, axis=0), [group(name) for name in names])
    return {
        "mean": float(np.mean(means)),
        "sd": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "by seed": means,
        "95 % over groups": list(interval),
        "queries": len(names),
    }
