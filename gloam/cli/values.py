"""Values of options that argparse has no type for."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

DEVICES = ("auto", "cpu", "cuda", "tensorrt")  # where a model runs; the backend says what auto chose, and why


def key_value(text: str) -> tuple[str, Any]:
    """``KEY=VALUE``; the value is read as JSON where it is, and is text elsewhere."""
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def place(text: str) -> Path | str:
    """A path, or a URL as it stands: a path would lose one of its slashes."""
    return text if "://" in text else Path(text)
