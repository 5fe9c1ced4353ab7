"""What every exporter of a torch module shares: its axes, and its trace to an ONNX graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from gloam.errors import ModelError, require
from gloam.networks.checkpoints import weights_sha256

OPSET = 20  # what the exporter of torch 2.13 verifies, read by TensorRT 10.3 and later
LARGEST_SIDE = 16384  # pixels


def batch_axis(largest: int) -> Any:
    """The free batch axis. torch never keeps a free axis of 1, so a bound of 2, the traced batch, would leave one value
    and freeze the axis."""
    return Dim("batch", min=1, max=max(3, largest))


def side_axis(name: str, multiple: int = 1, minimum: int = 1) -> Any:
    """A free height or width in pixels. With a multiple, outputs state the inputs' own size, e.g. ``4*height``.

    No bound is written to the graph. At the minimum itself a network's last map is one cell wide, which torch takes
    for a case of its own: it would trace the whole network, name the bound above, and be asked a second time.
    """
    if multiple == 1:
        return Dim(name, min=minimum + (minimum > 1), max=LARGEST_SIDE)
    return multiple * Dim(name, min=-(-minimum // multiple), max=max(LARGEST_SIDE // multiple, 4))


def trace(
    module: nn.Module,
    arguments: tuple[Tensor, ...],
    shapes: Mapping[str, Mapping[int, Any]],
    output: str | Sequence[str],
    name: str,
) -> Any:
    """Export a module to an ONNX ``ModelProto`` without a trace of the exporting machine.

    Args:
        module: in eval mode; takes ``arguments``.
        arguments: example inputs; every free axis is larger than 1.
        shapes: free axes of each input, by the input's name, in the order of ``arguments``.
        output: name of the output, or the names of several.
        name: the network's, for messages.
    """
    require("onnx", "train", "export a model")
    require("onnxscript", "train", "export a model")
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            arguments,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=list(shapes),
            output_names=[output] if isinstance(output, str) else list(output),
            dynamic_shapes=dict(shapes),
            verbose=False,
        )
    if program is None:
        raise ModelError(f"{name}: torch did not export a graph")
    proto = program.model_proto
    for node in proto.graph.node:  # stack traces of the exporting machine: paths, and bytes that differ by folder
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del value.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.metadata_props[:]
    return proto


def full_provenance(provenance: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """What is known, ``unknown`` where it is not, and the hash of the weights that are really exported."""
    unknown = dict.fromkeys(("recipe", "data", "licence"), "unknown")
    return {**unknown, **provenance, "weights_sha256": weights_sha256(model.state_dict())}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its progress on stdout and warns about its own internals."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
