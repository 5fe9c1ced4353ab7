"""A foreign graph run: what it takes, whether it repeats itself, and what happens at its front and at its end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.images import resize_image
from gloam.data.town import render_training_views
from gloam.errors import ModelError, require
from gloam.export.adopt.foreign import WHY, Foreign
from gloam.model_card import InputRule
from gloam.runtime.backends.processor import usable_cores

VIEWS = 5
STREET = 911  # of the rendered pictures; reserved, like the other streets
SILENT = 4  # of ONNX Runtime's log: what fails here is expected to
# What moves or scales pixels before a network looks at them.
LIGHT = frozenset(
    (
        "Add",
        "Cast",
        "CastLike",
        "Clip",
        "Concat",
        "DequantizeLinear",
        "Div",
        "Expand",
        "Gather",
        "GatherElements",
        "Identity",
        "Mul",
        "Neg",
        "Pad",
        "Reshape",
        "Resize",
        "Slice",
        "Split",
        "Squeeze",
        "Sub",
        "Sum",
        "Transpose",
        "Unsqueeze",
        "Upsample",
    )
)
SHAPES = frozenset(("Shape", "Size"))  # lead away from the pixels
PASSING = frozenset(("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"))  # what an L2 may stand before
FRONT, BEFORE_L2 = "front", "before_l2"

Fetched = dict[str, npt.NDArray[Any]]


class Runner:
    """A foreign graph on ONNX Runtime's CPU.

    Args:
        foreign: as it was read.
        beat: called before each run.

    Attributes:
        foreign: see above.
        watched: the graph's own names of :data:`FRONT`, the image where the network begins, and :data:`BEFORE_L2`, the
            descriptor before its last normalisation; absent where there is none.

    Raises:
        ModelError: ONNX Runtime does not load it.
    """

    def __init__(self, foreign: Foreign, beat: Callable[[], None] = lambda: None) -> None:
        onnx = require("onnx", "train", WHY)
        ort = require("onnxruntime", "cpu", WHY)
        self.foreign, self._beat = foreign, beat
        self.watched: dict[str, str] = {}
        front, before = front_tensor(foreign), tensor_before_l2(foreign)
        graph = foreign.proto.graph
        known = {foreign.output.name, *(value.name for value in graph.output)}
        model = onnx.ModelProto()
        model.CopyFrom(foreign.proto)
        for role, name in ((FRONT, front), (BEFORE_L2, before)):
            if name is None:
                continue
            self.watched[role] = name
            if name not in known and name != foreign.images.name:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
                known.add(name)
        options = ort.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = SILENT
        options.enable_mem_pattern = False
        try:
            self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ModelError(f"{foreign.path}: ONNX Runtime does not load it ({_line(error)})") from error

    def describe(self, fed: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Descriptors as the graph gives them, axes of one cell dropped.

        Args:
            fed: the graph's input.

        Returns:
            float32 ``[B, D]``.

        Raises:
            ModelError: it does not run on that, or gives no row an image.
        """
        found = self.fetch([self.foreign.output.name], fed)[self.foreign.output.name]
        rows = found.reshape(len(found), -1) if _one_cell(found) and len(found) else found
        if rows.ndim != 2 or len(rows) != len(fed):
            raise ModelError(
                f"{self.foreign.path}: gives values of shape {list(found.shape)} for {len(fed)} images, and no "
                "descriptor an image"
            )
        return rows.astype(np.float32)

    def runs(self, fed: npt.NDArray[Any]) -> str | None:
        """Why it does not run on that, in a line; None where it does."""
        try:
            self.describe(fed)
        except ModelError as error:
            return str(error)
        return None

    def watch(self, role: str, fed: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """A watched tensor."""
        name = self.watched[role]
        found = fed if name == self.foreign.images.name else self.fetch([name], fed)[name]
        values: npt.NDArray[np.float32] = found.astype(np.float32)
        return values

    def fetch(self, names: Sequence[str], fed: npt.NDArray[Any]) -> Fetched:
        """Outputs by name.

        Raises:
            ModelError: it does not run on that.
        """
        self._beat()
        try:
            values = self._session.run(list(names), {self.foreign.images.name: fed})
        except Exception as error:  # as above
            raise ModelError(f"{self.foreign.path}: does not run on {list(fed.shape)} ({_line(error)})") from error
        return dict(zip(names, values, strict=True))


def front_tensor(foreign: Foreign) -> str | None:
    """The tensor that the first node takes which does more to an image than move or scale its pixels."""
    reached = {foreign.images.name}
    for node in foreign.proto.graph.node:
        taken = [name for name in node.input if name in reached]
        if not taken or node.op_type in SHAPES:
            continue
        if node.op_type not in LIGHT:
            return str(taken[0])
        reached.update(name for name in node.output if name)
    return None


def tensor_before_l2(foreign: Foreign) -> str | None:
    """What the last node divides by a length, or None where the graph does not end so."""
    made = {name: node for node in foreign.proto.graph.node for name in node.output}
    name = foreign.output.name
    while name in made and made[name].op_type in PASSING:
        name = made[name].input[0]
    node = made.get(name)
    if node is None or node.op_type not in ("Div", "LpNormalization"):
        return None
    return str(node.input[0])


def patch_of(foreign: Foreign) -> int | None:
    """Side of a vision transformer's patch: of a first convolution whose stride is its kernel, 8 px or more."""
    for node in foreign.proto.graph.node:
        if node.op_type == "Conv":
            given = {item.name: list(item.ints) for item in node.attribute}
            kernel, stride = given.get("kernel_shape", []), given.get("strides", [])
            whole = len(kernel) == 2 and kernel == stride and kernel[0] == kernel[1] >= 8
            return int(kernel[0]) if whole else None
    return None


def random_nodes(foreign: Foreign) -> list[str]:
    """Operators that draw random numbers when the graph runs, by name."""
    found = []
    to_array = require("onnx", "train", WHY).numpy_helper.to_array
    values = {item.name: item for item in foreign.proto.graph.initializer}
    for node in foreign.proto.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            values[node.output[0]] = node.attribute[0].t
    for node in foreign.proto.graph.node:
        mode = node.input[2] if node.op_type == "Dropout" and len(node.input) > 2 else ""
        training = bool(mode) and (mode not in values or bool(to_array(values[mode])))
        if node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial") or training:
            found.append(node.op_type)
    return sorted(set(found))


def position_tokens(foreign: Foreign) -> tuple[int, bool] | None:
    """The positions that a transformer adds to its tokens.

    Returns:
        how many there are, and whether the graph cuts them to the number of tokens, which is wrong for every grid but
        their own; None where it adds none.
    """
    graph = foreign.proto.graph
    sizes = {item.name: list(item.dims) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            sizes[node.output[0]] = list(node.attribute[0].t.dims)
    tables = {name: dims[-2] for name, dims in sizes.items() if dims[:-2] in ([], [1]) and len(dims) >= 2}
    cut: dict[str, int] = {}
    for node in graph.node:
        if node.op_type == "Slice" and node.input[0] in tables and any(name not in sizes for name in node.input[1:3]):
            cut[node.output[0]] = tables[node.input[0]]
    for node in graph.node:
        if node.op_type != "Add":
            continue
        for name in node.input:
            if name in cut:
                return cut[name], True
            if name in tables and tables[name] > 1 and len(sizes[name]) == 3:
                return tables[name], False
    return None


def pictures(sizes: Sequence[tuple[int, int]]) -> Iterator[npt.NDArray[np.uint8]]:
    """Rendered street views, unlike one another; :data:`VIEWS` at most.

    Args:
        sizes: (height, width) of each, pixels.

    Yields:
        uint8 RGB ``[H, W, 3]`` each.
    """
    for view, (height, width) in zip(_views(), sizes, strict=False):
        yield resize_image(view, InputRule.of(stretch=(width, height)))


@functools.cache
def _views() -> tuple[npt.NDArray[np.uint8], ...]:
    return tuple(render_training_views(STREET, places=VIEWS, views_per_place=1, size=(160, 120)).images)


def contrasts(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Pictures of the strongest contrasts: white, checkerboards of 1 and 8 px, a step, and white noise.

    Returns:
        uint8 RGB ``[5, H, W, 3]``.
    """
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(5).integers(0, 2, (height, width, 3))
    planes = [np.ones_like(x), (x + y) % 2, (x // 8 + y // 8) % 2, x >= width // 2]
    whole = [np.repeat(plane[..., None], 3, 2) for plane in planes]
    images: npt.NDArray[np.uint8] = (np.stack([*whole, noise]) * 255).astype(np.uint8)
    return images


def _one_cell(found: npt.NDArray[Any]) -> bool:
    """Whether all axes but the first have one cell, but for one."""
    return sum(side > 1 for side in found.shape[1:]) <= 1 and found.ndim > 2


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[-200:]
