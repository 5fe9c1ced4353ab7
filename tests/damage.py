"""Flipped bits: a file is read as it was written, or refused in one line that names it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gloam.errors import GloamError
from gloam.runtime.backends.onnx_file import CHECKSUM_KEY


def flip(path: Path, bit: int | None = None) -> None:
    """Flip one bit of a file; in its middle by default."""
    content = bytearray(path.read_bytes())
    bit = 8 * (len(content) // 2) if bit is None else bit
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def without_checksum(proto: Any) -> Any:
    """A model that another program changes on purpose: it is no longer compared with what was exported."""
    for entry in [entry for entry in proto.metadata_props if entry.key == CHECKSUM_KEY]:
        proto.metadata_props.remove(entry)
    return proto


def named_or_harmless(
    path: Path, read: Callable[[], Any], flips: int = 60, *, first: int = 0, beyond: int | None = None
) -> int:
    """Flip bits of a file at places from a seed, one after the other, and read it every time.

    Args:
        path: of the file.
        read: gives what is read of it, comparable.
        flips: how many.
        first, beyond: bytes from which on and before which bits are flipped; the whole file by default.

    Returns:
        how many flips were named; the others changed nothing that is read.
    """
    whole, expected, named = path.read_bytes(), read(), 0
    bits = range(8 * first, 8 * (len(whole) if beyond is None else beyond))
    for bit in random.Random(5).sample(bits, min(flips, len(bits))):
        flip(path, bit)
        found, said = None, None
        try:
            found = read()
        except GloamError as error:
            said = str(error)
        assert said is not None or found == expected, f"{path.name}: bit {bit} changed what is read, without a word"
        assert said is None or (path.name in said and "\n" not in said), (bit, said)
        named += said is not None
        path.write_bytes(whole)
    assert read() == expected
    return named
