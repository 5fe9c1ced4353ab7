"""The model card of an ONNX file, read past its graph: at once, and also where no backend here runs the model.

An identity of a model is of one file, so weights that the graph takes from another one are refused.

The file is one protobuf message whose fields follow one another, each behind its number and its length, so everything
but the metadata is skipped. Written here because a reader of the whole format is no part of a runtime: the onnx package
comes with training, and ONNX Runtime shows metadata only of a session, which it starts only where it has every kernel.

An entry of the metadata holds the checksum of all the other bytes, card and weights alike: a flipped bit of a weight
may pass a self-test, whose tolerance spans what processors differ by.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gloam.errors import ModelError
from gloam.files import open_file, printable
from gloam.model_card import METADATA_KEY, ModelCard

METADATA = 14  # field of ModelProto: entries, each with a key (1) and a value (2)
KEY, VALUE = 1, 2
EXTERNAL = 13  # field of TensorProto: such entries, of the file that has its values
# Where tensors lie, by message: fields and the messages that they hold.
INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
DEEPEST = 64  # messages inside each other
MOST_OF_CARD = 1 << 26  # bytes
VARINT, BYTES = 0, 2  # protobuf's wire types; the others have a length of their own
FIXED = {1: 8, 5: 4}
LONGEST_VARINT = 10  # bytes
CHECKSUM_KEY = "gloam.sha256"
CHECKSUM_HEAD = (
    bytes([METADATA << 3 | BYTES, 80, KEY << 3 | BYTES, 12]) + CHECKSUM_KEY.encode() + bytes([VALUE << 3 | BYTES, 64])
)
CHECKSUM_BYTES = len(CHECKSUM_HEAD) + 64
CHUNK = 1 << 20  # bytes


def read_card(path: str | Path) -> ModelCard:
    """The card of a model file.

    Raises:
        ModelError: the file is absent, truncated, no ONNX model, or without a card that can be read.
    """
    file = Path(path)
    try:
        with open_file(file) as handle:
            size = _size(handle)
            entries = [_entry(handle, end) for number, end in _fields(handle, size) if number == METADATA]
            handle.seek(0)
            elsewhere = next(_external(handle, size, "model"), None)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ModelError(f"{file}: no such model file") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: not a readable ONNX model, or truncated ({error})") from error
    if elsewhere is not None:
        raise ModelError(
            f"{file}: takes weights from another file ({printable(elsewhere[:80])}), which its fingerprint would not "
            "cover; save the model as one file"
        )
    cards = [value for key, value in entries if key == METADATA_KEY]
    if len(cards) > 1:
        raise ModelError(f"{file}: has {len(cards)} model cards, and readers may take either; export it again")
    if not cards:
        raise ModelError(
            f"{file}: an ONNX file without a gloam model card; export it with `gloam export`, or, of another program's "
            f"embedder, `gloam adopt {file} -o MODEL.onnx`"
        )
    return ModelCard.from_json(cards[0], str(file))


def with_checksum(model: bytes) -> bytes:
    """A serialised model without such an entry, with the checksum of its bytes behind them."""
    return model + CHECKSUM_HEAD + hashlib.sha256(model).hexdigest().encode()


def model_sha256(path: str | Path) -> str:
    """Hex sha256 of a model file, whose bytes are compared with the checksum that it was written with.

    A file without one is from before there was one, or from elsewhere, and is taken as it is.

    Raises:
        ModelError: the file is damaged, or was changed by another program.
    """
    file = Path(path)
    whole, rest = hashlib.sha256(), hashlib.sha256()
    try:
        with open_file(file) as handle:
            size = _size(handle)
            begin, stated = _checksum(handle, size)
            end = begin if stated is None else begin + CHECKSUM_BYTES
            for start, stop, hashes in ((0, begin, (whole, rest)), (begin, end, (whole,)), (end, size, (whole, rest))):
                handle.seek(start)
                while chunk := handle.read(min(stop - handle.tell(), CHUNK)):
                    for running in hashes:
                        running.update(chunk)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: not a readable ONNX model, or truncated ({error})") from error
    if stated is not None and stated != rest.hexdigest():
        raise ModelError(
            f"{file}: damaged, or changed since it was exported, for its checksum differs; copy or export it again, or "
            f"take the entry {CHECKSUM_KEY} out of its metadata where another program changed it on purpose"
        )
    return whole.hexdigest()


def _checksum(handle: BinaryIO, size: int) -> tuple[int, str | None]:
    """Where the entry with the checksum begins, and the checksum; the end of the file and None where there is none.

    Raises:
        ValueError: no protobuf message, or one that ends early.
    """
    for number, stop in _fields(handle, size):
        begin = handle.tell() - 2  # its number and its length are a byte each
        if number == METADATA and stop - begin == CHECKSUM_BYTES:
            handle.seek(begin)
            entry = handle.read(CHECKSUM_BYTES)
            if entry.startswith(CHECKSUM_HEAD):
                return begin, entry[len(CHECKSUM_HEAD) :].decode("ascii", "replace")
    return size, None


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


def _external(handle: BinaryIO, end: int, message: str, depth: int = 0) -> Iterator[str]:
    """The files that tensors inside a message take their values from.

    Raises:
        ValueError: no protobuf message, or messages too deep inside each other.
    """
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    for number, stop in _fields(handle, end):
        if message == "tensor" and number == EXTERNAL:
            key, value = _entry(handle, stop)
            if key == "location":
                yield value
        elif number in INSIDE[message]:
            yield from _external(handle, stop, INSIDE[message][number], depth + 1)


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
    if end - handle.tell() > MOST_OF_CARD:
        raise ValueError(f"an entry of its metadata has more than {MOST_OF_CARD} bytes")
    texts = {number: handle.read(stop - handle.tell()).decode("utf-8") for number, stop in _fields(handle, end)}
    return texts.get(KEY, ""), texts.get(VALUE, "")
