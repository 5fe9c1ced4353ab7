"""Recipes and configuration files: keys and values that :func:`gloam.record.fill_dataclass` puts into a dataclass."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gloam.data.yaml_text import read_mapping
from gloam.errors import UsageError
from gloam.record import fill_dataclass

ABOUT = "about"  # of a recipe that comes with gloam: what it is, no key of the training


@dataclass(frozen=True)
class About:
    """What a recipe is.

    Attributes:
        paper: that it is of; ``-`` for none.
        table: of the paper, or its section, figure or experiment; ``-`` where it is in none.
        minutes: that it takes and on what, as measured for the town's; of the papers' an order of size, never run here.
        data: that it needs.
    """

    paper: str
    table: str
    minutes: str
    data: str


def recipes_of(package: str) -> list[str]:
    """Names of the recipes in a package that comes with gloam."""
    files = importlib.resources.files(package).iterdir()
    return sorted(item.name.removesuffix(".yaml") for item in files if item.name.endswith(".yaml"))


def recipe_mapping(package: str, name: str) -> dict[str, Any]:
    """The keys of a recipe that comes with gloam.

    Raises:
        UsageError: there is none of that name.
    """
    found = _read(package, name)
    found.pop(ABOUT, None)
    return found


def recipe_about(package: str, name: str) -> About:
    """What a recipe that comes with gloam is.

    Raises:
        UsageError: there is none of that name.
    """
    return fill_dataclass(About, _read(package, name).get(ABOUT, {}), f"recipe {name}: {ABOUT}")


def _read(package: str, name: str) -> dict[str, Any]:
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
