"""What it costs that every graph casts its uint8 image first and moves it then, as TensorRT's parser wants it.

One export, and the same graph with the Cast behind the first move, as it was before; both take turns on one thread, in
processor time. TensorRT refuses the second.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from benchmarks.shared.result import Result
from gloam.errors import DataError
from gloam.export.weights import ExportRequest, export_weights

TARGET = 1.01
ROUNDS = 31
SAME = 1e-6  # ONNX Runtime's optimiser may take another way through the masks of a fixed profile
# Options of the export, and batch, height and width of what it is timed on.
FILES: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "gem_resnet18, dynamic": ({"network": "gem_resnet18"}, (1, 480, 640)),
    "gem_mobilenet_v2, dynamic": ({"network": "gem_mobilenet_v2"}, (1, 480, 640)),
    "gem_resnet18, fixed": ({"network": "gem_resnet18", "profile": "fixed", "sides": (512,)}, (2, 512, 512)),
    "resnet generator, dynamic": ({"network": "resnet", "options": {"width": 32}}, (1, 256, 256)),
}


def run() -> Result:
    """Worst median of the rounds' ratios, cast first over cast behind the move; outputs must agree."""
    rows = {}
    with tempfile.TemporaryDirectory(prefix="gloam-cast-") as folder:
        for name, (options, shape) in FILES.items():
            first, later = Path(folder) / "first.onnx", Path(folder) / "later.onnx"
            export_weights(ExportRequest(first, random_init=0, **options))
            moved_first(first, later)
            rows[name] = compare(first, later, shape)
    worst = max(row["ratio"] for row in rows.values())
    agree = all(row["largest difference"] <= SAME for row in rows.values())
    detail = {"rounds": ROUNDS, "threads": 1, "files": rows}
    return Result(worst, "ratio", f"<= {TARGET}, outputs within {SAME:g}", worst <= TARGET and agree, detail)


def moved_first(source: Path, output: Path) -> None:
    """The same graph with the image's Cast behind the transposition that reads it."""
    model = onnx.load(source)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    cast = next(node for node in nodes if node.op_type == "Cast" and node.input[0] == "images")
    (move,) = (node for node in nodes if cast.output[0] in node.input)  # one node reads the cast image
    if move.op_type != "Transpose":
        raise DataError(
            f"{move.op_type} reads the image of the exported graph, not Transpose; this benchmark is of old"
        )
    levels = f"{move.output[0]}.levels"
    cast.output[0], move.output[0] = move.output[0], levels
    cast.input[0], move.input[0] = levels, "images"
    nodes.remove(cast)
    nodes.insert(nodes.index(move) + 1, cast)
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    onnx.save(model, output)


def compare(first: Path, later: Path, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Processor time of both files, one after the other in every round."""
    batch, height, width = shape
    rng = np.random.default_rng(0)
    given: dict[str, Any] = {"images": rng.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)}
    sessions = {label: _session(path) for label, path in (("first", first), ("later", later))}
    if "sizes" in {item.name for item in sessions["first"].get_inputs()}:
        given["sizes"] = np.array([[height, width]] * batch, np.int32)
    times: dict[str, list[float]] = {label: [] for label in sessions}
    outputs: dict[str, list[Any]] = {}
    for turn in range(ROUNDS + 1):
        order = list(sessions.items())
        for label, session in order if turn % 2 else reversed(order):
            clock = time.process_time()
            outputs[label] = session.run(None, given)
            times[label].append(time.process_time() - clock)
    kept = {label: values[1:] for label, values in times.items()}
    return {
        "shape": list(shape),
        "milliseconds, cast first": 1e3 * statistics.median(kept["first"]),
        "ratio": statistics.median(a / b for a, b in zip(kept["first"], kept["later"], strict=True)),
        "ratio of minima": min(kept["first"]) / min(kept["later"]),
        "largest difference": max(
            float(np.abs(a - b).max()) for a, b in zip(outputs["first"], outputs["later"], strict=True)
        ),
    }


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)
