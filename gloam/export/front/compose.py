"""Several graphs as one: each stage's inputs are inputs of the whole or outputs of an earlier stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gloam.errors import ModelError, require
from gloam.export.graph import OPSET


@dataclass(frozen=True)
class Stage:
    """One graph of several.

    Attributes:
        name: of its own among the stages; its tensors are called ``name.tensor`` in the whole.
        proto: ``ModelProto``; left as it is.
        links: its inputs that are not the whole's, each with the tensor that it reads, e.g. ``translate.translated``.
    """

    name: str
    proto: Any
    links: Mapping[str, str] = field(default_factory=dict)


def compose(stages: Sequence[Stage]) -> Any:
    """The stages one behind the other, as a ``ModelProto`` without metadata.

    Its inputs are those that no stage links, in the order in which they are met and typed as first met; its outputs are
    the last stage's. A stage may be fed another element type than its input states, as long as it casts it first.

    Raises:
        ModelError: a stage is of another opset, or holds functions of its own.
    """
    onnx = require("onnx", "train", "export a model")
    for stage in stages:
        versions = {item.domain: item.version for item in stage.proto.opset_import}
        if versions.get("", 0) != OPSET or stage.proto.functions:
            raise ModelError(
                f"{stage.name}: a graph of opset {versions.get('', 0)}, but {OPSET} is needed; export it again"
            )
    whole = onnx.helper.make_model(
        onnx.helper.make_graph([], stages[-1].name, [], []),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=max(stage.proto.ir_version for stage in stages),
    )
    graph, met = whole.graph, set()
    for stage in stages:
        last = stage is stages[-1]
        part = onnx.compose.add_prefix(
            stage.proto, f"{stage.name}.", rename_inputs=False, rename_outputs=not last, rename_functions=False
        ).graph
        for node in part.node:
            for at, name in enumerate(node.input):
                node.input[at] = stage.links.get(name, name)
        graph.node.extend(part.node)
        graph.initializer.extend(part.initializer)
        for value in part.input:
            if value.name not in stage.links and value.name not in met:
                met.add(value.name)
                graph.input.append(value)
        if last:
            graph.output.extend(part.output)
    return whole
