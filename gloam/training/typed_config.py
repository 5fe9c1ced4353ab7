"""Typed configuration from YAML: the dataclass is the single source, a file only fills it."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.resources
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gloam.errors import UsageError, require

T = TypeVar("T")


def fill_dataclass(kind: type[T], value: Mapping[str, Any], where: str, base: T | None = None) -> T:
    """Put values over the defaults of a dataclass, or over ``base``.

    Args:
        kind: dataclass whose fields are plain values, tuples, mappings, or dataclasses filled the same way.
        value: field name -> value; lists become tuples, ints become floats where the field is a float.
        where: the file, for messages.
        base: what keeps its value where ``value`` is silent.

    Raises:
        UsageError: an unknown key (the nearest is named), a value of the wrong type, or one that ``kind`` refuses.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # a dataclass
    filled: dict[str, Any] = {}
    for key, item in value.items():
        if key not in fields:
            nearest = difflib.get_close_matches(str(key), fields, 1, cutoff=0.0)
            meant = f"; did you mean {nearest[0]!r}?" if nearest else f"; {kind.__name__} has none"
            raise UsageError(f"{where}: unknown key {str(key)!r}{meant}")
        nested = _dataclass_of(fields[key])
        if nested is not None and isinstance(item, Mapping):
            inner = getattr(base, key) if base is not None else None
            filled[key] = fill_dataclass(nested, item, f"{where}: {key}", inner)
        elif nested is not None and isinstance(item, nested):
            filled[key] = item
        else:
            filled[key] = _typed(item, fields[key], f"{where}: {key}")
    if base is not None:
        return dataclasses.replace(base, **filled)  # type: ignore[type-var]  # a dataclass
    required = [
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]  # a dataclass
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in filled]
    if missing:
        raise UsageError(f"{where}: key {missing[0]!r} is missing")
    return kind(**filled)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """A YAML file of keys and values; an empty file is an empty mapping.

    Raises:
        UsageError: not readable, not YAML, or not a mapping.
    """
    yaml = require("yaml", "train", "read a training configuration")
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: not readable as YAML ({' '.join(str(error).split())[:160]})") from error
    if not isinstance(value, dict | None):
        raise UsageError(f"{path}: expected keys and values, found {type(value).__name__}")
    return value or {}


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


def to_json(value: Any) -> Any:
    """JSON form of a configuration; :func:`fill_dataclass` reads it back."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every dotted name whose value differs between two JSON values, with both values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif old != new:
        yield name, old, new


def _dataclass_of(annotation: Any) -> type[Any] | None:
    members = typing.get_args(annotation) or (annotation,)
    return next((item for item in members if isinstance(item, type) and dataclasses.is_dataclass(item)), None)


def _typed(value: Any, annotation: Any, where: str) -> Any:
    """``value`` as the field's type, or a sentence that says which type it must have."""
    if annotation is Any:
        return value
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, typing.get_args(annotation), annotation, where)
    if origin is typing.Literal:
        choices = typing.get_args(annotation)
        if value in choices:
            return value
        raise UsageError(f"{where}: {value!r} is none of {', '.join(map(repr, choices))}")
    if origin in (tuple, list) or (isinstance(origin, type) and issubclass(tuple, origin)):
        if isinstance(value, list | tuple):
            members = [item for item in typing.get_args(annotation) if item is not Ellipsis]
            if origin is tuple and Ellipsis not in typing.get_args(annotation):
                if len(members) != len(value):
                    raise UsageError(f"{where}: {value!r} must have {len(members)} values")
                return tuple(_typed(item, member, where) for item, member in zip(value, members, strict=True))
            items = tuple(_typed(item, members[0], where) for item in value)
            return list(items) if origin is list else items
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return dict(value)
    elif annotation is float and type(value) is int:
        return float(value)
    elif annotation is float and isinstance(value, str):
        with_point = _exponent(value)
        if with_point is not None:
            return with_point
    elif annotation is None or annotation is type(None):
        if value is None:
            return None
    elif annotation is Path and isinstance(value, str | Path):
        return Path(value)
    elif isinstance(annotation, type) and type(value) is annotation:
        return value
    label = getattr(annotation, "__name__", str(annotation)) if origin is None else str(annotation)
    raise UsageError(f"{where}: {value!r} is not of type {label}")


def _one_of(value: Any, members: tuple[Any, ...], annotation: Any, where: str) -> Any:
    exact = [item for item in members if item is type(value)]
    for member in exact or members:
        try:
            return _typed(value, member, where)
        except UsageError:
            continue
    raise UsageError(f"{where}: {value!r} is not of type {annotation}")


def _exponent(text: str) -> float | None:
    """YAML 1.1 reads ``1e-6`` as text; only numbers of that form are forgiven."""
    if "e" not in text.lower():
        return None
    try:
        return float(text)
    except ValueError:
        return None
