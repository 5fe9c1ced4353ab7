"""Does a foreign graph give the same twice, the same in other company, finite values, and unit vectors?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import require
from gloam.export.adopt.feeding import Feeding
from gloam.export.adopt.findings import Finding, refusal
from gloam.export.adopt.foreign import WHY, Foreign
from gloam.export.adopt.probe import BEFORE_L2, VIEWS, Runner, contrasts, pictures, random_nodes
from gloam.export.adopt.sizes import Sizes
from gloam.export.precision.half import lifted, rounding_twin

# Of a unit descriptor's values, by the weights' precision: how much company or a second run may change.
ROOM = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 2e-2, "int8": 2e-2}
UNIT = {"fp32": 1e-3, "fp16": 5e-3, "bf16": 2e-2, "int8": 5e-3}  # of a length
SEEN = ((120, 160), (97, 131), (128, 96))  # (height, width) of the pictures
ENLARGED = (256, 320)  # (height, width) of a second size for the contrasts


@dataclass(frozen=True)
class Behaviour:
    """What running it showed.

    Attributes:
        dimension: of the descriptor.
        normalised: whether it has unit length already.
        findings: that do not refuse the file.
    """

    dimension: int
    normalised: bool
    findings: tuple[Finding, ...]


def expect_repeats(runner: Runner, fed: npt.NDArray[Any]) -> None:
    """Refuse a graph that gives another descriptor for the same input.

    Raises:
        NotAdoptedError: it does.
    """
    first, second = (_unit(runner.describe(fed)) for _ in range(2))
    drawn = random_nodes(runner.foreign)
    moved = float(np.abs(first - second).max())
    if moved > ROOM[runner.foreign.precision] or drawn:
        why = f"the graph draws random numbers ({', '.join(drawn)})" if drawn else "the graph does not repeat itself"
        seen = f"the same image twice gives descriptors that differ by {moved:.1e}"
        if not moved:
            seen = "ONNX Runtime leaves them out here, others may not"
        raise refusal(runner.foreign.path, "dropout", f"{why}; {seen}; export it in eval mode")


def observe(runner: Runner, feeding: Feeding, sizes: Sizes) -> Behaviour:
    """Run pictures one by one, in two batches of other company, and look at lengths.

    Raises:
        NotAdoptedError: company changes a descriptor, or one is not finite.
    """
    foreign = runner.foreign
    shape = sizes.near(*SEEN[0])
    images = list(pictures([shape] * VIEWS))
    alone = np.concatenate([runner.describe(_fed(runner, feeding, image[None])) for image in images])
    lengths = np.linalg.norm(alone.astype(np.float64), axis=1)
    if not (np.isfinite(lengths).all() and lengths.all()):
        raise refusal(
            foreign.path,
            "half_overflow" if _halves(foreign) else "not_finite",
            "an ordinary picture gives values that are not finite, or nothing but zeros; is what is stated right?",
        )
    if sizes.batch[1] > 1:
        _expect_uncoupled(runner, feeding, np.stack(images), alone)
    normalised = bool(np.abs(lengths - 1).max() <= UNIT[foreign.precision])
    findings = []
    if not normalised:
        text = (
            f"descriptors have lengths of {lengths.min():.3g} to {lengths.max():.3g}; the written file normalises them"
        )
        findings.append(Finding("no_l2", "repaired", text))
    elif BEFORE_L2 in runner.watched:
        given = runner.watch(BEFORE_L2, _fed(runner, feeding, images[0][None])).reshape(-1)
        if given.size == alone.shape[1] and abs(np.linalg.norm(given) - 1) <= UNIT[foreign.precision]:
            text = "the graph normalises what has unit length already; the second changes nothing and stays"
            findings.append(Finding("double_l2", "noted", text))
    return Behaviour(alone.shape[1], normalised, tuple(findings))


def expect_finite(runner: Runner, feeding: Feeding, sizes: Sizes, proto: Any) -> None:
    """Refuse a graph that leaves the range of its numbers at strong contrasts.

    Halves are computed in float32 on a CPU, so a graph of halves is run by a float32 twin that rounds where it does.

    Args:
        runner: of the foreign graph.
        feeding, sizes: of it.
        proto: as it will be written.

    Raises:
        NotAdoptedError: a value is not finite.
    """
    foreign = runner.foreign
    half = _halves(foreign)
    twin = _twin(proto) if half else None
    shapes = {sizes.near(*SEEN[0]), sizes.near(*ENLARGED)}
    for height, width in sorted(shapes):
        for image in contrasts(height, width):
            found = runner.describe(_fed(runner, feeding, image[None])) if twin is None else _run(twin, image[None])
            if not np.isfinite(found).all():
                size = f"a picture of strong contrasts, {width}x{height}, gives values that are not finite"
                if half:
                    text = (
                        f"{size} where halves are rounded as a GPU does; keep pooling and L2 in float32, or adopt the "
                    )
                    raise refusal(
                        foreign.path,
                        "half_overflow",
                        f"{text}float32 file and let `gloam export --precision` convert it",
                    )
                raise refusal(foreign.path, "not_finite", f"{size}; add an epsilon where it divides")


def _halves(foreign: Foreign) -> bool:
    return foreign.precision == "fp16" or foreign.images.dtype == "float16"


def _expect_uncoupled(
    runner: Runner, feeding: Feeding, images: npt.NDArray[np.uint8], alone: npt.NDArray[np.float32]
) -> None:
    wanted, moved = _unit(alone), 0.0
    for rows in ((0, 1, 2), (3, 0, 4)):
        found = _unit(runner.describe(_fed(runner, feeding, images[list(rows)])))
        moved = max(moved, float(np.abs(found - wanted[list(rows)]).max()))
    if not moved <= ROOM[runner.foreign.precision]:
        raise refusal(
            runner.foreign.path,
            "batch_coupling",
            f"an image's descriptor changes by {moved:.1e} with the images that share its batch, so a store would "
            "depend on the order of a run; export it with a batch of 1, or in eval mode where batch norm is why",
        )


def _twin(proto: Any) -> Any | None:
    """A session of the graph with every half rounded; None where the graph cannot be turned into one."""
    ort = require("onnxruntime", "cpu", WHY)
    onnx = require("onnx", "train", WHY)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        twin = rounding_twin(onnx.shape_inference.infer_shapes(lifted(proto, "fp16")))
        return ort.InferenceSession(twin.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # of operators that have no float32 form, or of ONNX Runtime
        return None


def _run(session: Any, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = session.run(["descriptors"], {"images": images})[0]
    return found


def _fed(runner: Runner, feeding: Feeding, images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    return feeding.fed(images, runner.foreign.images.dtype)


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(lengths > 0, lengths, 1)
