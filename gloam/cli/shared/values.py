"""Values of options that argparse has no type for."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, Literal

from gloam.files import load_json

MOST_SEED = 1 << 31
INDEX_DEVICES = ("auto", "cpu", "cuda")  # where FAISS runs


def key_value(text: str) -> tuple[str, Any]:
    """``KEY=VALUE``; the value is read as JSON where it is, and is text elsewhere."""
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, load_json(value)
    except ValueError:
        return key, value


def named(text: str) -> tuple[str, str]:
    """``NAME=VALUE``, both of them text."""
    name, separator, value = text.partition("=")
    if not (name and separator and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def nbytes(text: str) -> int:
    """``8GB``, ``512MiB`` or a plain number of bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgt]?)(i?)b)?", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write for example 8GB, 512MiB or 1000000")
    number, prefix, binary = found.groups()
    unit = 1024 if binary else 1000
    return round(float(number) * float(unit ** (" kmgt".index(prefix or " "))))


def number_or_all(text: str) -> int | Literal["all"]:
    """A whole number from 0 on, or ``all``."""
    if text == "all":
        return "all"
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor 'all'")
    return int(text)


def seed(text: str) -> int:
    """A seed: a whole number that every generator of random numbers takes."""
    if not text.isdecimal() or int(text[:12]) >= MOST_SEED or len(text) > len(str(MOST_SEED)):
        raise argparse.ArgumentTypeError(f"{text!r} is no seed; give a whole number from 0 to {MOST_SEED - 1}")
    return int(text)


def zeros_or_seed(text: str) -> int | None:
    """None for ``zeros``, or a seed."""
    return None if text == "zeros" else seed(text)


def place(text: str) -> Path | str:
    """A path, or a URL as it stands: a path would lose one of its slashes."""
    return text if "://" in text else Path(text)


def triple(text: str) -> tuple[float, float, float]:
    """Three numbers, one a channel."""
    try:
        red, green, blue = (float(item) for item in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers separated by commas, one a channel") from None
    return red, green, blue


def width_height(text: str) -> tuple[int, int]:
    """``WxH`` in pixels."""
    try:
        width, height = (int(item) for item in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, e.g. 416x320") from None
    return width, height
