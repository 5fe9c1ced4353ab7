"""An ONNX file of another program, read safely: one graph of one image input, its weights inside or beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gloam.errors import ModelError, UsageError, require
from gloam.files import bad_name, printable, sha256_file
from gloam.model_card import METADATA_KEY

WHY = "adopt a model"
MOST_BYTES = (1 << 31) - 1  # of a protobuf message, which a model in one file is
OLDEST_OPSET = 9
OWN_DOMAINS = ("", "ai.onnx")
IMAGE_DTYPES = ("float32", "float16", "float64", "uint8")
SHOWN = 60  # characters of a foreign name


@dataclass(frozen=True)
class Port:
    """An input or output of the graph.

    Attributes:
        name: as the file has it.
        dtype: numpy's name.
        shape: a length each axis, or None where it is free.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        axes = ", ".join("?" if axis is None else str(axis) for axis in self.shape)
        return f"{printable(self.name[:SHOWN])} {self.dtype} [{axes}]"


@dataclass(frozen=True)
class Foreign:
    """A file of another program.

    Attributes:
        path: of the file.
        proto: ``ModelProto`` with all weights inside and no functions.
        sha256: of the file, hex.
        images: the image input.
        output: the descriptors.
    """

    path: Path
    proto: Any
    sha256: str
    images: Port
    output: Port

    @property
    def weights_sha256(self) -> str:
        """Hex sha256 of the initialisers' names, types and values, in the order of their names."""
        numpy_helper = require("onnx", "train", WHY).numpy_helper
        running = hashlib.sha256()
        for item in sorted(self.proto.graph.initializer, key=lambda item: str(item.name)):
            values = np.ascontiguousarray(numpy_helper.to_array(item))
            running.update(f"{item.name}\n{values.dtype}\n{values.shape}\n".encode())
            running.update(values.tobytes())
        return running.hexdigest()

    @property
    def precision(self) -> str:
        """Of the weights, as a card names it: ``fp32``, ``fp16``, ``bf16`` or ``int8``."""
        kinds = require("onnx", "train", WHY).TensorProto
        if any(
            "QuantizeLinear" in node.op_type or node.op_type.startswith("QLinear") for node in self.proto.graph.node
        ):
            return "int8"
        names = {kinds.FLOAT16: "fp16", kinds.BFLOAT16: "bf16"}
        sizes = {"fp32": 1, "fp16": 0, "bf16": 0}
        for item in self.proto.graph.initializer:
            if item.data_type in (kinds.FLOAT, kinds.DOUBLE, *names):
                sizes[names.get(item.data_type, "fp32")] += int(np.prod(item.dims, dtype=np.int64))
        return max(sizes, key=lambda name: sizes[name])


def read_foreign(path: str | Path, output: str | None = None) -> Foreign:
    """Read a file of another program.

    Args:
        path: ``.onnx`` file; weights may lie in files beside it.
        output: name of the output that is the descriptor, where the graph has several.

    Raises:
        ModelError: no such file, damaged, with a card of gloam's, larger than one file may be, of custom operators, of
            an opset before :data:`OLDEST_OPSET`, weights outside its folder, or not of one image input.
        UsageError: several outputs and none is named, or none of that name.
    """
    file = Path(path)
    onnx = require("onnx", "train", WHY)
    proto = _parsed(file, onnx)
    if any(entry.key == METADATA_KEY for entry in proto.metadata_props):
        raise ModelError(f"{file}: has a model card already; gloam runs it as it is, `gloam check` says whether well")
    _take_weights_in(proto, file, onnx)
    if proto.functions:
        proto = require("onnx.inliner", "train", WHY).inline_local_functions(proto)
    _expect_standard(proto, file)
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"{file}: not a valid ONNX model ({str(error).splitlines()[0][:200]})") from error
    weights = {item.name for item in proto.graph.initializer}
    inputs = [_port(value, file, onnx) for value in proto.graph.input if value.name not in weights]
    outputs = [_port(value, file, onnx) for value in proto.graph.output]
    return Foreign(file, proto, sha256_file(file), _images(inputs, file), _descriptors(outputs, output, file))


def _parsed(file: Path, onnx: Any) -> Any:
    if not file.is_file():
        raise ModelError(f"{file}: no such model file")
    if file.suffix in (".safetensors", ".pth", ".pt", ".ckpt", ".pkl"):
        raise ModelError(f"{file}: weights, where an exported ONNX graph is needed; run `gloam export`")
    size = file.stat().st_size
    if size > MOST_BYTES:
        raise ModelError(f"{file}: {size} bytes, where one file of ONNX has at most {MOST_BYTES}; save it in fp16")
    try:
        proto = onnx.ModelProto.FromString(file.read_bytes())
    except Exception as error:  # protobuf's errors share no base class
        raise ModelError(f"{file}: not a readable ONNX model, or truncated") from error
    if not proto.graph.node:
        raise ModelError(f"{file}: not an ONNX model, for it has no graph")
    return proto


def _take_weights_in(proto: Any, file: Path, onnx: Any) -> None:
    """Read what lies in other files; names that leave the file's folder are refused before anything is opened."""
    helper = onnx.external_data_helper
    outside = [tensor for tensor in _tensors(proto) if helper.uses_external_data(tensor)]
    if not outside:
        return
    root, total = file.resolve().parent, file.stat().st_size
    needed: set[Path] = set()
    for tensor in outside:
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        if reason := bad_name(location):
            raise ModelError(
                f"{file}: takes weights from {printable(location[:SHOWN])!r}, whose name {reason}; save the model as "
                "one file"
            )
        beside = root / location
        if beside.is_symlink() or not beside.resolve().is_relative_to(root):
            raise ModelError(f"{file}: takes weights from {location}, a link; put the file itself there")
        if not beside.is_file():
            raise ModelError(f"{file}: takes weights from {location}, which is not beside it; copy both")
        needed.add(beside)
    total += sum(beside.stat().st_size for beside in needed)
    if total > MOST_BYTES:
        raise ModelError(
            f"{file}: {total} bytes with {', '.join(sorted(beside.name for beside in needed))}, where one file of ONNX "
            f"has at most {MOST_BYTES}; save it in fp16"
        )
    try:
        onnx.load_external_data_for_model(proto, str(root))
    except Exception as error:  # of a length or an offset that the file does not have
        raise ModelError(
            f"{file}: weights in other files cannot be read ({str(error).splitlines()[0][:200]})"
        ) from error


def _tensors(proto: Any) -> Iterator[Any]:
    graphs = [proto.graph]
    while graphs:
        graph = graphs.pop()
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                graphs.extend([attribute.g, *attribute.graphs])
    for function in proto.functions:
        for node in function.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)


def _expect_standard(proto: Any, file: Path) -> None:
    opset = max((item.version for item in proto.opset_import if item.domain in OWN_DOMAINS), default=0)
    if opset < OLDEST_OPSET:
        raise ModelError(
            f"{file}: of opset {opset}, {OLDEST_OPSET} or later is needed; lift it by `onnx.version_converter`"
        )
    graphs = [proto.graph]
    while graphs:
        graph = graphs.pop()
        for node in graph.node:
            if node.domain not in OWN_DOMAINS:
                advice = "adopt the file from before ONNX Runtime's optimiser" if "microsoft" in node.domain else ""
                raise ModelError(
                    f"{file}: has a custom operator, {printable(f'{node.domain[:SHOWN]}::{node.op_type[:SHOWN]}')}, "
                    f"which other runtimes lack; {advice or 'export it with operators of ONNX alone'}"
                )
            for attribute in node.attribute:
                graphs.extend([attribute.g, *attribute.graphs])


def _port(value: Any, file: Path, onnx: Any) -> Port:
    if value.type.WhichOneof("value") != "tensor_type":
        raise ModelError(f"{file}: {printable(value.name[:SHOWN])} is no tensor; export images to descriptors alone")
    tensor = value.type.tensor_type
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    except (KeyError, TypeError) as error:
        raise ModelError(f"{file}: {printable(value.name[:SHOWN])} has no element type that is known") from error
    axes = (int(axis.dim_value) if axis.HasField("dim_value") else None for axis in tensor.shape.dim)
    return Port(value.name, dtype, tuple(None if axis is not None and axis < 1 else axis for axis in axes))


def _images(inputs: list[Port], file: Path) -> Port:
    listed = ", ".join(map(str, inputs)) or "nothing"
    images = [port for port in inputs if len(port.shape) == 4 and port.dtype in IMAGE_DTYPES]
    if not images:
        hint = ""
        if any(len(port.shape) == 3 for port in inputs):
            hint = "; an image without a batch axis is one of three axes, export it with four"
        raise ModelError(f"{file}: takes {listed}, and no batch of images of four axes{hint}")
    if len(images) > 1:
        raise ModelError(f"{file}: takes {len(images)} images ({listed}); an embedder takes one")
    if len(inputs) > 1:
        raise ModelError(f"{file}: takes {listed}; an embedder takes images alone, make the others constants")
    return images[0]


def _descriptors(outputs: list[Port], name: str | None, file: Path) -> Port:
    listed = ", ".join(map(str, outputs))
    if name is not None:
        found = next((port for port in outputs if port.name == name), None)
        if found is None:
            raise UsageError(f"{file}: --vector {printable(name[:SHOWN])} is no output; there are {listed}")
        return found
    if len(outputs) > 1:
        raise UsageError(f"{file}: gives {listed}; name the one that is the descriptor with --vector")
    if not outputs:
        raise ModelError(f"{file}: gives nothing")
    return outputs[0]
