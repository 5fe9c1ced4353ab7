"""A matcher to ONNX: the local features of pairs of images in, matches and scores out, as one graph.

Numbers of keypoints differ within a batch; masks make each pair what it is alone. A ``dynamic`` file takes any numbers;
a ``fixed`` one, for engines, features padded to its ``sides``, which here are numbers of keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.export import Dim

from gloam.errors import ModelError
from gloam.export.graph import batch_axis, full_provenance, trace
from gloam.export.proved import write_proved
from gloam.export.written import flat
from gloam.model_card import ModelCard, SelfTest, TensorSpec, matcher_inputs
from gloam.networks.matchers import MatcherNetwork, Side
from gloam.padding import PaddingProfile
from gloam.runtime.backends.selftest_formulas import selftest_digest, selftest_features

TOLERANCE = {"fp32": 2e-3}  # of a probability; float32 alone moves its logarithm by 3e-4
MOST = 1 << 14  # keypoints of an image
# Pairs and numbers of keypoints: one pair whose numbers differ, then several of other numbers, with padding.
FIRST = ((61, 47),)
LARGER = ((67, 41), (5, 66), (40, 40))


def export_matcher(
    model: MatcherNetwork,
    path: str | Path,
    *,
    profile: PaddingProfile | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Export a matcher and return the card that the file carries.

    Args:
        model: put in eval mode, on the CPU.
        path: ``.onnx`` file to write, atomically.
        profile: ``dynamic``, or ``fixed`` with numbers of keypoints as its heights and widths; and the batch.
        provenance: ``recipe``, ``data``, ``licence``; the weights' sha256 is computed here.

    Raises:
        ModelError: no matcher, a network whose output is not finite, or a graph that gives other values than it.
    """
    if not isinstance(model, MatcherNetwork):
        raise ModelError(f"{getattr(model, 'name', type(model).__name__)}: is no matcher")
    model.eval()
    profile = profile or PaddingProfile.dynamic()
    takes = model.takes
    inputs = matcher_inputs(takes)
    card = ModelCard(
        kind="matcher",
        name=model.name,
        inputs=inputs,
        outputs=(
            TensorSpec("matches", "int32", ("batch", "keypoints0"), "row of the match in the second image, or -1"),
            TensorSpec("scores", "float32", ("batch", "keypoints0"), "probability of the likeliest partner"),
        ),
        profile=profile,
        network={"name": model.name, **model.options},
        mean=(),
        std=(),
        provenance=full_provenance(provenance or {}, model),
        metric="probability",
        selftest=_selftest(model, profile, FIRST),
        selftest_larger=_selftest(model, profile, LARGER),
        takes=takes,
    ).explained()  # fmt: skip
    axes = {
        "batch": batch_axis(profile.batch[1]),
        **{f"keypoints{at}": Dim(f"keypoints{at}", min=2, max=MOST) for at in (0, 1)},
    }
    shapes = {spec.name: {at: axes[axis] for at, axis in enumerate(spec.shape) if axis in axes} for spec in inputs}
    example = selftest_features(takes, (2, 11, 7), ((11, 7), (5, 6)))
    arguments = tuple(torch.from_numpy(example[spec.name]) for spec in inputs)
    proto = trace(model, arguments, shapes, [output.name for output in card.outputs], model.name)
    write_proved(proto, card, path)
    return card


def _selftest(model: MatcherNetwork, profile: PaddingProfile, counts: Sequence[tuple[int, int]]) -> SelfTest:
    """The truth is the plain twin's: each pair alone, without padding and without a mask."""
    counts = tuple(counts[: profile.batch[1]])
    shape = (len(counts), max(first for first, _ in counts), max(second for _, second in counts))
    if profile.kind == "fixed":
        at = 0 if counts == FIRST else 1  # of its smallest numbers, then of others where it has any
        height, width = (sides[min(at, len(sides) - 1)] for sides in (profile.heights, profile.widths))
        shape = (len(counts), height, width)
    features = selftest_features(model.takes, shape, counts)
    matches, scores = np.full(shape[:2], -1, np.int32), np.zeros(shape[:2], np.float32)
    for row, pair in enumerate(counts):
        with torch.inference_mode():
            found = model.match_pair(*(_alone(features, row, at, count) for at, count in enumerate(pair)))
        matches[row, : pair[0]], scores[row, : pair[0]] = (values[0].numpy() for values in found)
    return SelfTest(shape, counts, flat(selftest_digest("matcher", (matches, scores))), dict(TOLERANCE))


def _alone(features: Mapping[str, npt.NDArray[Any]], row: int, at: int, count: int) -> Side:
    """One image of one pair without padding."""

    def rows(name: str) -> Tensor | None:
        values = features.get(f"{name}{at}")
        return None if values is None else torch.from_numpy(values[row : row + 1, :count])

    keypoints, descriptors = rows("keypoints"), rows("descriptors")
    assert keypoints is not None  # every matcher takes both
    assert descriptors is not None
    size = torch.from_numpy(features[f"sizes{at}"][row : row + 1])
    return Side(keypoints, descriptors, size, rows("scales"), rows("orientations"))
