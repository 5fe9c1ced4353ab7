"""The model card of an ONNX file, read past its graph: at once, and also where no backend here runs the model.

The file is one protobuf message whose fields follow one another, each behind its number and its length, so everything
but the metadata is skipped. Written here because a reader of the whole format is no part of a runtime: the onnx package
comes with training, and ONNX Runtime shows metadata only of a session, which it starts only where it has every kernel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gloam.errors import ModelError
from gloam.model_card import METADATA_KEY, ModelCard

METADATA = 14  # field of ModelProto: entries, each with a key (1) and a value (2)
KEY, VALUE = 1, 2
VARINT, BYTES = 0, 2  # protobuf's wire types; the others have a length of their own
FIXED = {1: 8, 5: 4}
LONGEST_VARINT = 10  # bytes


def read_card(path: str | Path) -> ModelCard:
    """The card of a model file.

    Raises:
        ModelError: the file is absent, truncated, no ONNX model, or without a card that can be read.
    """
    file = Path(path)
    try:
        with file.open("rb") as handle:
            entries = dict(_entry(handle, end) for number, end in _fields(handle, _size(handle)) if number == METADATA)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ModelError(f"{file}: no such model file") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: not a readable ONNX model, or truncated ({error})") from error
    text = entries.get(METADATA_KEY)
    if text is None:
        raise ModelError(f"{file}: an ONNX file without a gloam model card; export it with `gloam export`")
    return ModelCard.from_json(text, str(file))


def _size(handle: BinaryIO) -> int:
    if size := os.fstat(handle.fileno()).st_size:
        return size
    raise ValueError("it is empty")


def _fields(handle: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """The number and the end of every field with content up to ``end``; the handle stands at its begin.

    Raises:
        ValueError: no protobuf message, or one that ends early.
    """
    while handle.tell() < end:
        tag = _varint(handle)
        number, kind = tag >> 3, tag & 7
        if number == 0 or kind not in (VARINT, BYTES, *FIXED):
            raise ValueError(f"no field begins at byte {handle.tell() - 1}")
        length = _varint(handle) if kind in (VARINT, BYTES) else FIXED[kind]
        stop = handle.tell() + (0 if kind == VARINT else length)
        if stop > end:
            raise ValueError(f"{stop - end} bytes are missing")
        if kind == BYTES:
            yield number, stop
        handle.seek(stop)


def _varint(handle: BinaryIO) -> int:
    value = 0
    for place in range(LONGEST_VARINT):
        byte = handle.read(1)
        if not byte:
            raise ValueError("it ends inside a number")
        value |= (byte[0] & 127) << 7 * place
        if byte[0] < 128:
            return value
    raise ValueError(f"no number at byte {handle.tell() - LONGEST_VARINT}")


def _entry(handle: BinaryIO, end: int) -> tuple[str, str]:
    """Key and value of one entry of the metadata.

    Raises:
        ValueError: it is no text.
    """
    texts = {number: handle.read(stop - handle.tell()).decode("utf-8") for number, stop in _fields(handle, end)}
    return texts.get(KEY, ""), texts.get(VALUE, "")
