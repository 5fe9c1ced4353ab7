"""An ONNX file written with its card and checksum, and read again; without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gloam import __version__
from gloam.errors import ModelError, require
from gloam.files import write_bytes
from gloam.model_card import METADATA_KEY, ModelCard
from gloam.runtime.backends.onnx_file import CHECKSUM_KEY, model_sha256, with_checksum


def write_model(proto: Any, card: ModelCard, path: str | Path) -> None:
    """Put the card into the graph, check the whole, and write the file with its checksum, atomically.

    Raises:
        ModelError: the graph is invalid.
    """
    onnx = require("onnx", "train", "export a model")
    for entry in [entry for entry in proto.metadata_props if entry.key == CHECKSUM_KEY]:
        proto.metadata_props.remove(entry)  # of the file that the graph comes from
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card.to_json()
    proto.producer_name, proto.producer_version, proto.doc_string = "gloam", __version__, ""
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"{path}: the exported graph is invalid ({str(error).splitlines()[0]})") from error
    write_bytes(path, with_checksum(proto.SerializeToString(deterministic=True)))


def read_graph(path: str | Path) -> Any:
    """The ``ModelProto`` of an exported model, as it was written: what is made of it gets a checksum of its own.

    Raises:
        ModelError: the file is damaged.
    """
    model_sha256(path)
    return require("onnx", "train", "export a model").load(path)


def flat(values: Any) -> tuple[float, ...]:
    """Numbers of an array or tensor in C order, as a self-test stores them.

    Raises:
        ModelError: one is NaN or infinite; what a diverged training leaves is not exported.
    """
    flattened: Sequence[Any] = values.reshape(-1).tolist()
    if not all(math.isfinite(value) for value in flattened):
        raise ModelError("the network's output is not finite; its weights come from a training that diverged")
    return tuple(float(value) for value in flattened)
