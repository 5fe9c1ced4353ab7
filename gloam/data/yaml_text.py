"""YAML files of keys and values, read as plain values that mean the same to every reader."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from gloam.errors import UsageError, require
from gloam.files import DEEPEST, open_file

MOST = 1 << 20  # bytes of a configuration
UNFOLDED = 100_000  # values that it may stand for


def read_mapping(path: str | Path, why: str = "read a training configuration") -> dict[str, Any]:
    """A YAML file of keys and values; an empty file is an empty mapping.

    Args:
        path: the file.
        why: as in :func:`load_yaml`.

    Raises:
        UsageError: not readable, not YAML, or not a mapping.
    """
    try:
        with open_file(path) as handle:
            content = handle.read(MOST + 1)
        if len(content) > MOST:
            raise ValueError(f"more than {MOST} bytes")
        value = load_yaml(content.decode("utf-8-sig"), why)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not readable as YAML ({' '.join(str(error).split())[:160]})") from error
    if not isinstance(value, dict | None):
        raise UsageError(f"{path}: expected keys and values, found {type(value).__name__}")
    return value or {}


def load_yaml(text: str, why: str = "read a training configuration") -> Any:
    """The plain value of a YAML text; None of an empty one.

    Args:
        text: of the file.
        why: a reader of YAML is needed, for the message where there is none.

    Raises:
        ValueError: not YAML, nested too deep, a key twice, or aliases that stand for more than :data:`UNFOLDED` values.
        MissingExtraError: no reader of YAML is installed.
    """
    yaml = require("yaml", "train", why)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            return None
        _unfolded(root, {}, 0)
        return yaml.SafeLoader("").construct_document(root)
    except (RecursionError, OverflowError, TypeError, yaml.YAMLError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _unfolded(node: Any, known: dict[int, int], depth: int) -> int:
    """How many values a node of YAML stands for, those of an alias counted at every place."""
    if depth > DEEPEST:
        raise ValueError(f"parts more than {DEEPEST} inside each other, or inside themselves")
    if isinstance(node.value, str):
        return 1
    if id(node) not in known:
        parts = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        if node.id == "mapping":
            keys = Counter(key.value for key, _ in node.value if isinstance(key.value, str))
            if len(keys) < keys.total():
                raise ValueError(f"key {keys.most_common(1)[0][0][:80]!r} is there twice")
        known[id(node)] = 1 + sum(_unfolded(part, known, depth + 1) for part in parts)
        if known[id(node)] > UNFOLDED:
            raise ValueError(f"its aliases stand for more than {UNFOLDED} values")
    return known[id(node)]
