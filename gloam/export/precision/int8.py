"""Static int8 in an ONNX file: Quantize/DequantizeLinear pairs around convolutions, ranges from calibration images.

Weights are int8 per output channel, activations symmetric int8, biases float32, which is what TensorRT 10 and 11 and
ONNX Runtime all take; TensorRT refuses int32 biases, and ONNX Runtime makes them itself when it loads a file. Weights
use 7 of the 8 bits: processors without VNNI add products of 8 bits in 16, which overflow. A convolution in front of a
ReLU gets the range behind it, since what is cut off there need not be told apart. Pooling, powers, norms,
L2 and whitening keep float32. Which convolutions stay in float32 too is measured: groups of them are quantised alone,
and those that cost most cosine are left out until the whole loses no more than is allowed. Of the groups left out each
convolution is then quantised alone, and as many as the tolerance allows return, the cheapest first. ONNX Runtime's
quantiser does the arithmetic; NNCF gives OpenVINO models, which no other backend reads.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import ModelError, UsageError, require

Feed = Mapping[str, npt.NDArray[Any]]
QUANTIZED = ("Conv", "MaxPool", "Relu", "Add")  # a sum or maximum between two convolutions, so that int8 passes through
LEAST_CALIBRATION = 8  # images; fewer say little about the range of a layer
RANGES = "ranges"  # the file of calibrated ranges, JSON of ONNX Runtime's
GROUPS = 10  # of convolutions that are measured alone


@dataclass(frozen=True)
class Int8Report:
    """What a quantisation did.

    Attributes:
        quantized, kept: convolutions in int8, and those left in float32 because they cost too much.
        loss: 1 - cosine, the worst of the images that ``measure`` looked at.
        group_losses: the same with one group of convolutions quantised, by the group's first; empty where all are.
        losses: the same with one convolution quantised, of the groups that cost too much or of all where every group
            does, by its name; of the images that ``rank`` looked at.
        returned: how many of those are in int8 all the same.
        float32: names of the convolutions left in float32, in the graph's order.
    """

    quantized: int
    kept: int
    loss: float
    group_losses: dict[str, float]
    losses: dict[str, float] = field(default_factory=dict)
    returned: int = 0
    float32: tuple[str, ...] = ()


def to_int8(
    proto: Any,
    calibration: Sequence[Feed],
    measure: Callable[[Any], float],
    tolerance: float,
    rank: Callable[[Any], float] | None = None,
) -> tuple[Any, Int8Report]:
    """Quantise as many convolutions as the tolerance allows.

    Args:
        proto: float32 ``ModelProto``; left as it is.
        calibration: inputs of the graph, one image each, by input name.
        measure: worst 1 - cosine of a quantised ``ModelProto`` against the float32 one, on other images.
        tolerance: what ``measure`` may give.
        rank: the same, maybe on fewer images: it orders single convolutions and decides nothing else. ``measure`` by
            default.

    Returns:
        the quantised model and what was done. Where even the cheapest convolution costs too much, the group with the
        least loss is quantised all the same; the caller sees the loss and decides.

    Raises:
        UsageError: too few calibration images.
        ModelError: no convolution; or an operator that cannot be quantised (ONNX Runtime's reason).
    """
    if len(calibration) < LEAST_CALIBRATION:
        raise UsageError(
            f"{len(calibration)} calibration images: int8 needs {LEAST_CALIBRATION} at least, better 100, of the kind "
            "that the model will see"
        )
    model, convolutions = _named(proto)
    if not convolutions:
        raise ModelError("the model has no convolution, so there is nothing to quantise")
    with tempfile.TemporaryDirectory(prefix="gloam-int8-") as temporary:
        quantizer = _Quantizer(model, calibration, Path(temporary))

        def tried(kept: Collection[str]) -> _Tried:
            made = quantizer.quantize(kept)
            return _Tried(made, tuple(name for name in convolutions if name in set(kept)), measure(made))

        def alone(group: Collection[str], judge: Callable[[Any], float]) -> float:
            return judge(quantizer.quantize([name for name in convolutions if name not in group]))

        found = tried(())
        of_groups: dict[str, float] = {}
        of_single: dict[str, float] = {}
        returned = 0
        if found.loss > tolerance:
            size = -(-len(convolutions) // GROUPS)
            groups = [convolutions[at : at + size] for at in range(0, len(convolutions), size)]
            of_groups = {group[0]: alone(group, measure) for group in groups}
            found = _without_costly(sorted(groups, key=lambda group: -of_groups[group[0]]), found, tried, tolerance)
            # Of the groups left out, or of all where every group alone costs too much.
            held = found.loss <= tolerance
            candidates = found.kept if held else tuple(convolutions)
            of_single = {name: alone((name,), rank or measure) for name in candidates}
            before = len(convolutions) - len(found.kept) if held else 0
            found = _with_cheap(sorted(candidates, key=lambda name: of_single[name]), found, tried, tolerance)
            returned = len(convolutions) - len(found.kept) - before if found.loss <= tolerance else 0
        report = Int8Report(
            len(convolutions) - len(found.kept), len(found.kept), found.loss, of_groups, of_single, returned, found.kept
        )
        return found.made, report


@dataclass(frozen=True)
class _Tried:
    """A quantised model, the convolutions that it leaves in float32, and its loss."""

    made: Any
    kept: tuple[str, ...]
    loss: float


def _without_costly(
    costly: Sequence[Sequence[str]], whole: _Tried, tried: Callable[[Collection[str]], _Tried], tolerance: float
) -> _Tried:
    """Groups out of int8, the costliest first, until the loss is allowed; else the attempt with the least loss."""
    kept: list[str] = []
    best = whole
    for group in costly[:-1]:
        kept += group
        found = tried(kept)
        if found.loss <= tolerance:
            return found
        best = min(best, found, key=lambda attempt: attempt.loss)
    return best


def _with_cheap(
    cheap: Sequence[str], found: _Tried, tried: Callable[[Collection[str]], _Tried], tolerance: float
) -> _Tried:
    """Convolutions back to int8, the cheapest first, as many as are allowed; found by halving."""
    allowed, refused = 0, len(cheap)  # so many may return; that all may was tried with the whole model
    while refused - allowed > 1:
        middle = (allowed + refused) // 2
        attempt = tried(cheap[middle:])
        if attempt.loss <= tolerance:
            allowed, found = middle, attempt
        else:
            refused = middle
    return found


class _Quantizer:
    """ONNX Runtime's static quantiser on one graph; ranges are collected once."""

    def __init__(self, model: Any, calibration: Sequence[Feed], folder: Path) -> None:
        self.quantization = require("onnxruntime.quantization", "cpu", "quantise a model")
        self.onnx = require("onnx", "train", "quantise a model")
        self.model, self.calibration, self.folder = model, calibration, folder
        self.overrides: dict[str, list[dict[str, Any]]] = {}
        self.quantize(())  # collects the ranges
        self.overrides = _ranges_behind(model, self.folder / RANGES)

    def quantize(self, excluded: Collection[str]) -> Any:
        """The graph in int8 but for the named convolutions."""
        library, made = self.quantization, self.folder / "int8.onnx"
        copied = type(self.model)()
        copied.CopyFrom(self.model)
        try:
            with _quiet():
                library.quantize_static(
                    copied,
                    made,
                    _reader(library, self.calibration),
                    quant_format=library.QuantFormat.QDQ,
                    op_types_to_quantize=list(QUANTIZED),
                    per_channel=True,
                    activation_type=library.QuantType.QInt8,
                    weight_type=library.QuantType.QInt8,
                    nodes_to_exclude=[*excluded, *_float_between(copied, excluded)],
                    reduce_range=True,
                    extra_options={
                        "ActivationSymmetric": True,
                        "WeightSymmetric": True,
                        "QuantizeBias": False,
                        "TensorQuantOverrides": copy.deepcopy(self.overrides),
                    },
                    calibration_cache_path=self.folder / RANGES,
                )
        except Exception as error:  # the quantiser's exceptions share no base class
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(f"the model cannot be quantised ({reason}); choose --precision fp16") from error
        return self.onnx.load(made)


def _ranges_behind(model: Any, ranges: Path) -> dict[str, list[dict[str, Any]]]:
    """For each convolution that a ReLU alone reads, with or without an upper end: the range of the ReLU's output.

    Where the padding is zeroed behind the ReLU, what the ranges are measured of is the product with the masks. Where
    only float operators read it, as behind the last convolution, nothing is measured, and the ReLU's own ends count.
    """
    measured = json.loads(ranges.read_text(encoding="utf-8"))["data"]
    constants = {item.name: item for item in model.graph.initializer}
    to_array = require("onnx.numpy_helper", "train", "quantise a model").to_array
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def ends(name: str) -> tuple[np.float32, np.float32]:
        return np.float32(measured[name]["lowest"]["data"][0]), np.float32(measured[name]["highest"]["data"][0])

    found = {}
    for node in model.graph.node:
        behind = readers.get(node.output[0], [])
        if node.op_type != "Conv" or len(behind) != 1 or behind[0].op_type not in ("Relu", "Clip"):
            continue
        name = behind[0].output[0]
        while name not in measured and [reader.op_type for reader in readers.get(name, [])] == ["Mul"]:
            name = readers[name][0].output[0]
        if name in measured:
            lowest, highest = ends(name)
        elif node.output[0] in measured:
            given = [to_array(constants[name]) if name in constants else None for name in behind[0].input[1:]]
            least, most = ([*given, None, None] if behind[0].op_type == "Clip" else [np.float32(0), None])[:2]
            lowest, highest = ends(node.output[0])
            lowest = lowest if least is None else max(lowest, np.float32(least))
            highest = highest if most is None else min(highest, np.float32(most))
        else:
            continue
        found[node.output[0]] = [{"rmin": lowest, "rmax": highest}]
    return found


def _reader(library: Any, feeds: Sequence[Feed]) -> Any:
    """Calibration inputs as the library wants them: one by one, then None."""

    class Reader(library.CalibrationDataReader):  # type: ignore[misc]  # a class of an untyped, optional library
        def __init__(self) -> None:
            self.rest: Iterator[Feed] = iter(feeds)

        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            feed = next(self.rest, None)
            return None if feed is None else dict(feed)

    return Reader()


def _named(proto: Any) -> tuple[Any, list[str]]:
    """A copy whose nodes all have names of their own, and the names of its convolutions in order."""
    model = type(proto)()
    model.CopyFrom(proto)
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)
    return model, [node.name for node in model.graph.node if node.op_type == "Conv"]


def _float_between(model: Any, excluded: Collection[str]) -> list[str]:
    """Sums and maxima that no int8 passes through: they do not lie between two convolutions in int8.

    A sum lies behind such convolutions if all that it adds does; one alone would gain nothing and cost its rounding. A
    sum with a constant is arithmetic of a formula, as in ``exp(x) + 1``, and its constant may be a bound elsewhere.
    """
    nodes = model.graph.node
    given = {item.name for item in model.graph.initializer}
    given.update(name for node in nodes if node.op_type == "Constant" for name in node.output)

    def touched(ordered: list[Any], forward: bool) -> set[str]:
        """Names of the nodes that have a convolution in int8 before them in this direction."""
        tensors: set[str] = set()
        found = set()
        for node in ordered:
            before, behind = (node.input, node.output) if forward else (node.output, node.input)
            if node.op_type == "Add" and given.intersection(node.input):
                continue
            hits = [name in tensors for name in before if name and name not in given]
            reached = all(hits) if forward and node.op_type == "Add" else any(hits)
            if reached and node.op_type != "Conv":
                found.add(node.name)
            if node.name in found or (node.op_type == "Conv" and node.name not in excluded):
                tensors.update(name for name in behind if name)
        return found

    between = touched(list(nodes), True) & touched(list(reversed(nodes)), False)
    others = [node for node in nodes if node.op_type in QUANTIZED and node.op_type != "Conv"]
    return [node.name for node in others if node.name not in between]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def worst_loss(found: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]) -> float:
    """Largest 1 - cosine between rows of equal index, ``[n, D]`` each; 1 where a row is not finite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(truth, axis=1)
        cosine = np.einsum("nd,nd->n", found.astype(np.float64), truth) / norms
    return float(1 - np.nan_to_num(cosine, nan=0.0).min())
