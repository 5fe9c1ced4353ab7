"""Recipes changed from outside: mappings merged, and keys replaced by dotted names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gloam.data.yaml_text import load_yaml
from gloam.errors import UsageError


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings in one; values of ``over`` win, mappings within are merged the same way.

    Where both name a ``generator`` or ``discriminator``, and not the same one, the ``..._options`` of the old one go.
    """
    gone = {f"{key}_options" for key, item in over.items() if key in under and under[key] != item}
    merged = {key: item for key, item in under.items() if key not in gone}
    for key, item in over.items():
        below: Any = merged.get(key)
        merged[key] = merge(below, item) if isinstance(below, Mapping) and isinstance(item, Mapping) else item
    return merged


def override(assignments: list[str]) -> dict[str, Any]:
    """``["data.root=/photos", "batch=2"]`` as the mapping that a recipe would hold; values are read as YAML.

    Raises:
        UsageError: not of the form NAME=VALUE.
    """
    found: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not all(name.split(".")):
            raise UsageError(f"--set {assignment!r}: expected NAME=VALUE, for example data.root=/photos")
        try:
            value = load_yaml(text)
        except ValueError as error:
            raise UsageError(f"--set {assignment!r}: the value is not readable as YAML") from error
        found = merge(found, nest(name, value))
    return found


def nest(name: str, value: Any) -> dict[str, Any]:
    """``nest("data.root", x)`` is ``{"data": {"root": x}}``."""
    first, _, rest = name.partition(".")
    return {first: nest(rest, value) if rest else value}
