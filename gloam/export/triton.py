"""A model as NVIDIA Triton's repository wants it: a folder of the model's name, its configuration, and version 1."""

from __future__ import annotations

import re
from pathlib import Path

from gloam.errors import UsageError
from gloam.files import canonical_json, read_file, write_bytes, write_text
from gloam.model_card import ModelCard, TensorSpec
from gloam.record import to_json
from gloam.runtime.backends.onnx_file import model_sha256, read_card

CONFIG, MODEL = "config.pbtxt", "1/model.onnx"
TYPES = {"uint8": "TYPE_UINT8", "int32": "TYPE_INT32", "int64": "TYPE_INT64", "float32": "TYPE_FP32"}
TOLD = ("kind", "decoding", "input_rule", "photometric", "profile", "dimension", "metric", "keypoints", "takes")


def expect_model_folder(folder: Path) -> None:
    """Refuse a folder that is none of a repository's.

    Raises:
        UsageError: it is a file, or its name is no model's.
    """
    if folder.suffix == ".onnx" or (folder.exists() and not folder.is_dir()):
        raise UsageError(
            f"{folder}: --triton writes a folder of a model repository; name it as the model, without .onnx"
        )
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", folder.name):
        raise UsageError(f"{folder}: a model's name in Triton is of letters, digits and _ . - alone")


def copy_model(model: Path, folder: Path) -> ModelCard:
    """Put an exported file into the folder as it is.

    Raises:
        ModelError: unreadable, or damaged.
    """
    card = read_card(model)
    model_sha256(model)
    write_bytes(folder / MODEL, read_file(model))
    return card


def write_config(folder: Path, card: ModelCard) -> None:
    """Write ``config.pbtxt`` beside the version that is there.

    Triton's clients see no metadata of the file, so what the card says of the input goes along as a parameter.
    """
    most = card.profile.batch[1]
    batched = most > 1 and all(spec.shape[0] == "batch" for spec in (*card.inputs, *card.outputs))
    told = {key: value for key, value in to_json(card).items() if key in TOLD}
    lines = [
        f'name: "{folder.name}"',
        'backend: "onnxruntime"',
        f'default_model_filename: "{Path(MODEL).name}"',
        f"max_batch_size: {most if batched else 0}",
        *(_tensor("input", spec, batched, most) for spec in card.inputs),
        *(_tensor("output", spec, batched, most) for spec in card.outputs),
        *(("dynamic_batching { }",) if batched else ()),
        _parameter("gloam.space", card.space()),
        _parameter("gloam.fingerprint", card.fingerprint(model_sha256(folder / MODEL))),
        _parameter("gloam.card", canonical_json(told)),
    ]
    write_text(folder / CONFIG, "\n".join(lines) + "\n")


def _tensor(way: str, spec: TensorSpec, batched: bool, most: int) -> str:
    """One input or output. Triton leaves the batch out of the dimensions, and wants one where nothing is left."""
    free = {"batch": 1 if most == 1 else -1}
    shape = [free.get(axis, -1) if isinstance(axis, str) else axis for axis in spec.shape]
    dims = ", ".join(map(str, shape[1 if batched else 0 :]))
    stated = f"dims: [ {dims} ]" if dims else "dims: [ 1 ] reshape: { shape: [ ] }"
    return f'{way} [ {{ name: "{spec.name}" data_type: {TYPES[spec.dtype]} {stated} }} ]'


def _parameter(key: str, value: str) -> str:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'parameters {{ key: "{key}" value {{ string_value: "{quoted}" }} }}'
