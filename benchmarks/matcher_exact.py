"""Learned matchers on batches of pairs of unequal numbers of keypoints against each pair alone, on real features.

Real photographs by day and by night, and each by day with itself at three quarters of its size, so that there is much
to match. Of every image the strongest 50 to 2048 keypoints are kept, by a fixed seed. A pair alone has no padding.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.shared.matching_models import MATCHERS, MOST, extractor_of, learned_matcher
from benchmarks.shared.result import Result
from benchmarks.shared.wxbs_pairs import wxbs_pairs
from gloam.runtime.models.local_features import LocalFeatures

FEWEST = 50  # keypoints of an image
SEED = 0
BATCH = 4  # pairs; an attention of 2048 keypoints takes 67 MB of each
TARGET = 0.999


def run() -> Result:
    """Share of the matches found either way that are found both ways."""
    rng = np.random.default_rng(SEED)
    pictures = []
    for pair in wxbs_pairs():
        day = pair.images[0]
        size = (day.shape[1] * 3 // 4, day.shape[0] * 3 // 4)
        pictures += [pair.images, (day, cv2.resize(day, size, interpolation=cv2.INTER_AREA))]
    rows: dict[str, Any] = {}
    shared = all_ = 0
    with tempfile.TemporaryDirectory(prefix="gloam-matchers-") as temporary:
        for name, how in MATCHERS.items():
            extract = extractor_of(name, Path(temporary), MOST)
            pairs = []
            for images in pictures:
                counts = np.exp(rng.uniform(*np.log((FEWEST, MOST)), 2)).astype(int)
                first, second = map(_strongest, extract(list(images)), counts)
                pairs.append((first, second))
            alone, together = (learned_matcher(name, Path(temporary), size).match_pairs(pairs) for size in (1, BATCH))
            found = [[set(map(tuple, matches.tolist())) for matches, _ in each] for each in (alone, together)]
            both = sum(len(one & batched) for one, batched in zip(*found, strict=True))
            either = sum(len(one | batched) for one, batched in zip(*found, strict=True))
            shared, all_ = shared + both, all_ + either
            rows[f"{name} + {how}"] = {
                "pairs": len(pairs),
                "keypoints": [[len(first), len(second)] for first, second in pairs],
                "matches either way": either,
                "both ways": both,
                "score, largest difference": max(
                    float(np.abs(one[1] - batched[1]).max(initial=0))
                    for one, batched in zip(alone, together, strict=True)
                    if np.array_equal(one[0], batched[0])
                ),
            }
    value = shared / max(all_, 1)
    return Result(value, "share of equal matches", f">= {TARGET}", value >= TARGET and all_ > 0, rows)


def _strongest(features: LocalFeatures, count: int) -> LocalFeatures:
    """The first ``count``, which are the strongest."""
    return dataclasses.replace(
        features,
        keypoints=features.keypoints[:count],
        scores=features.scores[:count],
        descriptors=features.descriptors[:count],
    )
