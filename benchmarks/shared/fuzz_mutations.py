"""Damage to a file's bytes: by accident (bits, cuts, splices) and by intent (numbers, keys, depth, names).

Every mutation is a pure function of the bytes, another file's bytes and a random generator with a seed.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable

import numpy as np

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
PAIR = re.compile(rb'"[^"\n]{1,40}"\s*:\s*(?:"[^"\n]*"|[-\w.]+)')
WORD = re.compile(rb"[A-Za-z_./-]{3,}")
NUMBERS = (
    b"NaN", b"-1", b"0", b"1e999", b"-Infinity", b"99999999999999999999", b"1e308", b"0.5", b"", b"true", b"null",
    b"[]", b'"x"', b"4294967295", b"9" * 5000, b"1073741824",
)  # fmt: skip
NAMES = (
    b"../../etc/passwd", b"/etc/passwd", b"\x1b[2J", b"a" * 300, b"\xff\xfe", "\u202egpj".encode(), b"\\ud800", b"\x00",
    b"=cmd|x", b"NaN", b"", b"a,b", b'"', b"__class__", b"/dev/zero", b"*a",
)  # fmt: skip
SIZES = (0, 1, 10_900, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PNG = b"\x89PNG\r\n\x1a\n"

Random = np.random.Generator
Mutation = Callable[[bytearray, bytes, Random], bytearray]


def mutate(content: bytes, other: bytes, random: Random) -> bytes:
    """``content`` after one to four mutations, most often one.

    Args:
        content: of the file.
        other: of another file, for splices.
        random: decides everything.
    """
    found = bytearray(content)
    for _ in range(int(random.choice((1, 1, 1, 2, 3, 4)))):  # few, so that many files are read far
        found = MUTATIONS[int(random.integers(len(MUTATIONS)))](found, other, random)
    if found.startswith(PNG) and random.random() < 0.5:
        found = _with_sums(found)  # or every change ends at a checksum
    return bytes(found)


def _at(length: int, random: Random) -> int:
    """A place; near the begin, where headers are, as often as anywhere."""
    return int(random.integers(max(min(length, 256) if random.random() < 0.5 else length, 1)))


def flip_bits(content: bytearray, other: bytes, random: Random) -> bytearray:
    for _ in range(int(random.integers(1, 9)) if content else 0):
        content[_at(len(content), random)] ^= 1 << int(random.integers(8))
    return content


def truncate(content: bytearray, other: bytes, random: Random) -> bytearray:
    return content[: _at(len(content), random)]


def splice(content: bytearray, other: bytes, random: Random) -> bytearray:
    begin = _at(len(other), random)
    part = other[begin : begin + int(random.integers(1, 512))]
    at = _at(len(content), random)
    content[at : at + (len(part) if random.random() < 0.5 else 0)] = part
    return content


def repeat(content: bytearray, other: bytes, random: Random) -> bytearray:
    at = _at(len(content), random)
    part = content[at : at + int(random.integers(1, 64))]
    content[at:at] = part * int(random.integers(1, 200))
    return content


def remove(content: bytearray, other: bytes, random: Random) -> bytearray:
    at = _at(len(content), random)
    del content[at : at + int(random.integers(1, 64))]
    return content


def set_size(content: bytearray, other: bytes, random: Random) -> bytearray:
    code = ("<", ">")[int(random.integers(2))] + ("H", "I")[int(random.integers(2))]
    size = SIZES[int(random.integers(len(SIZES)))] & (0xFFFF if code.endswith("H") else 0xFFFFFFFF)
    at = _at(len(content), random)
    content[at : at + struct.calcsize(code)] = struct.pack(code, size)
    return content


def swap_number(content: bytearray, other: bytes, random: Random) -> bytearray:
    return _replaced(content, NUMBER, NUMBERS, random)


def swap_name(content: bytearray, other: bytes, random: Random) -> bytearray:
    return _replaced(content, WORD, NAMES, random)


def repeat_key(content: bytearray, other: bytes, random: Random) -> bytearray:
    found = list(PAIR.finditer(content[:100_000]))
    if found:
        pair = found[int(random.integers(len(found)))]
        content[pair.start() : pair.start()] = pair[0] + b", "
    return content


def nest(content: bytearray, other: bytes, random: Random) -> bytearray:
    found = list(NUMBER.finditer(content[:100_000]))
    if found:
        value, depth = found[int(random.integers(len(found)))], int(10 ** random.uniform(1, 5))
        opened, closed = ((b"[", b"]"), (b'{"a":', b"}"), (b"{a: ", b"}"), (b"- ", b""))[int(random.integers(4))]
        content[value.start() : value.end()] = opened * depth + b"1" + closed * depth
    return content


def repeat_line(content: bytearray, other: bytes, random: Random) -> bytearray:
    lines = content.split(b"\n")
    at = int(random.integers(len(lines)))
    lines[at:at] = [lines[int(random.integers(len(lines)))]] * int(random.integers(1, 4))
    return bytearray(b"\n".join(lines))


def unseal(content: bytearray, other: bytes, random: Random) -> bytearray:
    return content.rstrip()


def mark(content: bytearray, other: bytes, random: Random) -> bytearray:
    marks = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"#", b"\0", b"\x1f\x8b", b"%YAML 9.9\n---\n")
    return bytearray(marks[int(random.integers(len(marks)))]) + content


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits, flip_bits, truncate, splice, repeat, remove, set_size, set_size, swap_number, swap_number, swap_name,
    repeat_key, nest, repeat_line, unseal, mark,
)  # fmt: skip


def _replaced(content: bytearray, pattern: re.Pattern[bytes], values: tuple[bytes, ...], random: Random) -> bytearray:
    found = list(pattern.finditer(content[:100_000]))
    if found:
        place = found[int(random.integers(len(found)))]
        content[place.start() : place.end()] = values[int(random.integers(len(values)))]
    return content


def _with_sums(content: bytearray) -> bytearray:
    """A PNG whose chunks have the checksums of what they hold, as far as they can be followed."""
    at = len(PNG)
    while at + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, at)
        end = at + 8 + size
        if end + 4 > len(content):
            break
        struct.pack_into(">I", content, end, zlib.crc32(content[at + 4 : end]))
        at = end + 4
    return content
