"""What it costs that every graph casts its uint8 image first and moves it then, as TensorRT's parser wants it.

One export, and the same graph with the Cast behind the first move, as it was before; TensorRT refuses the second. From
there on both compute the same, so the two moves are timed by themselves and their difference is set against the time of
the whole: where a session's memory happens to lie changes the whole by several per cent, as two sessions of one file
show. The wholes are timed beside, in sessions opened anew for every round. One thread, processor time.
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
ROUNDS = 9  # each with sessions of its own
RUNS = 4  # of each whole, and one that warms up
MOVES = 40  # of each move alone
SAME = 1e-6  # ONNX Runtime's optimiser may take another way through the masks of a fixed profile
# Options of the export, and batch, height and width of what it is timed on.
FILES: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "gem_resnet18, dynamic": ({"network": "gem_resnet18"}, (1, 480, 640)),
    "gem_mobilenet_v2, dynamic": ({"network": "gem_mobilenet_v2"}, (1, 480, 640)),
    "gem_resnet18, fixed": ({"network": "gem_resnet18", "profile": "fixed", "sides": (512,)}, (2, 512, 512)),
    "resnet generator, dynamic": ({"network": "resnet", "options": {"width": 32}}, (1, 256, 256)),
}


def run() -> Result:
    """Worst of the files: one and the difference of the two moves, as a share of the whole; outputs must agree."""
    rows = {}
    with tempfile.TemporaryDirectory(prefix="gloam-cast-") as folder:
        for name, (options, shape) in FILES.items():
            first, later = Path(folder) / "first.onnx", Path(folder) / "later.onnx"
            export_weights(ExportRequest(first, random_init=0, **options))
            moved = moved_first(first, later)
            wholes, outputs = timed({"first": first, "later": later, "again": first}, shape, RUNS)
            moves, _ = timed(
                {label: move_of(path, moved) for label, path in (("first", first), ("later", later))}, shape, MOVES
            )
            rows[name] = compared(wholes, moves, shape) | {
                "largest difference": max(
                    float(np.abs(a - b).max()) for a, b in zip(outputs["first"], outputs["later"], strict=True)
                )
            }
    worst = max(row["ratio"] for row in rows.values())
    agree = all(row["largest difference"] <= SAME for row in rows.values())
    detail = {"rounds": ROUNDS, "threads": 1, "files": rows}
    return Result(worst, "ratio", f"<= {TARGET}, outputs within {SAME:g}", worst <= TARGET and agree, detail)


def moved_first(source: Path, output: Path) -> str:
    """The same graph with the image's Cast behind the transposition that reads it; the name of what both give."""
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
    return str(cast.output[0])


def move_of(path: Path, output: str) -> Path:
    """The cast and the move alone, as a file beside the whole."""
    alone = path.with_suffix(".move.onnx")
    onnx.utils.extract_model(path, alone, ["images"], [output])
    return alone


def timed(
    files: dict[str, Path], shape: tuple[int, int, int], runs: int
) -> tuple[dict[str, list[float]], dict[str, list[Any]]]:
    """Least seconds of each file in each round, taking turns; and what they give for the same random images."""
    batch, height, width = shape
    images = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
    given = {"images": images, "sizes": np.array([[height, width]] * batch, np.int32)}
    least: dict[str, list[float]] = {label: [] for label in files}
    outputs: dict[str, list[Any]] = {}
    for number in range(ROUNDS):
        order = [list(files)[(number + step) % len(files)] for step in range(len(files))]
        sessions = {label: _session(files[label]) for label in order}
        times: dict[str, list[float]] = {label: [] for label in files}
        for turn in range(runs + 1):
            for label in order if turn % 2 else order[::-1]:
                inputs = {item.name: given[item.name] for item in sessions[label].get_inputs()}
                clock = time.process_time()
                outputs[label] = sessions[label].run(None, inputs)
                times[label].append(time.process_time() - clock)
        for label, values in times.items():
            least[label].append(min(values[1:]))
    return least, outputs


def compared(
    wholes: dict[str, list[float]], moves: dict[str, list[float]], shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Medians over the rounds of the cost, and of the wholes' own ratios."""
    whole = statistics.median(wholes["first"])
    first, later = (statistics.median(moves[label]) for label in ("first", "later"))
    return {
        "shape": list(shape),
        "ratio": 1 + (first - later) / whole,
        "milliseconds, whole": 1e3 * whole,
        "milliseconds, cast first and move": 1e3 * first,
        "milliseconds, move first and cast": 1e3 * later,
        **{
            f"wholes' ratio, {what}": statistics.median(
                a / b for a, b in zip(wholes["first"], wholes[label], strict=True)
            )
            for what, label in (("cast first over move first", "later"), ("a file over itself", "again"))
        },
    }


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)
