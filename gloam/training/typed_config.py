"""Recipes and configuration files: keys and values that :func:`gloam.record.fill_dataclass` puts into a dataclass."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping
from typing import Any

from gloam.data.yaml_text import read_mapping
from gloam.errors import UsageError


def recipes_of(package: str) -> list[str]:
    """Names of the recipes in a package that comes with gloam."""
    files = importlib.resources.files(package).iterdir()
    return sorted(item.name.removesuffix(".yaml") for item in files if item.name.endswith(".yaml"))


def recipe_mapping(package: str, name: str) -> dict[str, Any]:
    """Content of a recipe that comes with gloam.

    Raises:
        UsageError: there is none of that name.
    """
    names = recipes_of(package)
    if name not in names:
        raise UsageError(f"unknown recipe {name!r}; choose one of {', '.join(names)}, or give a file with --config")
    with importlib.resources.as_file(importlib.resources.files(package) / f"{name}.yaml") as path:
        return read_mapping(path)


def differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every dotted name whose value differs between two JSON values, with both values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif old != new:
        yield name, old, new
