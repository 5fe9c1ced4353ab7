"""Typed records: a frozen dataclass filled strictly from plain JSON values by its type hints, and the way back.

The dataclass is the single source; a file only fills it. A configuration may leave out whatever has a default, and has
no key that the dataclass lacks. Of a :class:`Written` record, as a file of gloam's own holds it, neither is true.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from gloam.errors import UsageError

T = TypeVar("T")
_SPARSE = "sparse"


class Written:
    """Base of a record that gloam writes whole: every key must be there, but for the :func:`sparse` ones, and keys that
    a later gloam may have added are left aside."""


def sparse(default: T) -> T:
    """A dataclass's field that JSON states only where it differs from its default, as identities of earlier files
    demand."""
    field: T = dataclasses.field(default=default, metadata={_SPARSE: True})
    return field


def fill_dataclass(kind: type[T], value: Any, where: str, base: T | None = None) -> T:
    """Put values over the defaults of a dataclass, or over ``base``.

    Args:
        kind: dataclass whose fields are plain values, tuples, mappings, or dataclasses filled the same way.
        value: mapping, field name -> value; lists become tuples, ints become floats where the field is a float; what is
            inside a mapping is taken as it is.
        where: the file, for messages.
        base: what keeps its value where ``value`` is silent.

    Raises:
        UsageError: an unknown key (the nearest is named), a key that is missing, a value of the wrong type, or one that
            ``kind`` refuses.
    """
    if not isinstance(value, Mapping):
        raise _wrong_type(value, kind, where)
    hints = _hints(kind)  # type: ignore[arg-type]  # a class is hashable
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # a dataclass
    filled: dict[str, Any] = {}
    for key, item in value.items():
        if key in fields:
            inner = getattr(base, key) if base is not None else None
            filled[key] = _field(item, hints[key], f"{where}: {key}", inner)
        elif not issubclass(kind, Written):
            nearest = difflib.get_close_matches(str(key), fields, 1, cutoff=0.0)
            meant = f"; did you mean {nearest[0]!r}?" if nearest else f"; {kind.__name__} has none"
            raise UsageError(f"{where}: unknown key {str(key)!r}{meant}")
    if base is not None:
        return dataclasses.replace(base, **filled)  # type: ignore[type-var]  # a dataclass
    for name, field in fields.items():
        if name not in filled and _required(field, issubclass(kind, Written)):
            raise UsageError(f"{where}: key {name!r} is missing")
    return kind(**filled)


def fill_named(kind: type[T], value: Any, where: str) -> T:
    """:func:`fill_dataclass`, where what ``kind`` itself refuses is said after ``where``, too."""
    try:
        return fill_dataclass(kind, value, where)
    except UsageError as error:
        raise UsageError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error


def to_json(value: Any) -> Any:
    """JSON form of a record; :func:`fill_dataclass` reads it back."""
    if dataclasses.is_dataclass(value):
        stated = {field.name: (field, getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {
            name: to_json(item)
            for name, (field, item) in stated.items()
            if not (_SPARSE in field.metadata and item == field.default)
        }
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


_hints = functools.cache(typing.get_type_hints)  # of a million pictures


def _required(field: dataclasses.Field[Any], written: bool) -> bool:
    if written:
        return _SPARSE not in field.metadata
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _field(value: Any, annotation: Any, where: str, base: Any) -> Any:
    """``value`` of a field; a dataclass, or one that may be absent, is filled over its part of the base."""
    members = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    nested = next((item for item in members if _is_record(item)), None)
    if nested is not None and isinstance(value, Mapping):
        return fill_dataclass(nested, value, where, base)
    return _typed(value, annotation, where)


def _typed(value: Any, annotation: Any, where: str) -> Any:
    """``value`` as the type that is wanted, or a sentence that says which type it must have."""
    origin = typing.get_origin(annotation)
    if _is_union(annotation):
        return _one_of(value, annotation, where)
    if origin is typing.Literal:
        return _literal(value, annotation, where)
    if isinstance(origin, type) and (origin is list or issubclass(tuple, origin)):
        return _sequence(value, annotation, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return dict(value)
        raise _wrong_type(value, annotation, where)
    if _is_record(annotation):
        return value if isinstance(value, annotation) else fill_dataclass(annotation, value, where)
    return _plain(value, annotation, where)


def _one_of(value: Any, annotation: Any, where: str) -> Any:
    members = typing.get_args(annotation)
    for member in [item for item in members if item is type(value)] or members:
        try:
            return _typed(value, member, where)
        except UsageError:
            continue
    raise _wrong_type(value, annotation, where)


def _literal(value: Any, annotation: Any, where: str) -> Any:
    choices = typing.get_args(annotation)
    if value in choices:
        return value
    raise UsageError(f"{where}: {value!r} is none of {', '.join(map(repr, choices))}")


def _sequence(value: Any, annotation: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong_type(value, annotation, where)
    members = typing.get_args(annotation)
    if typing.get_origin(annotation) is not tuple or Ellipsis in members:
        items = tuple(_typed(item, members[0], where) for item in value)
        return list(items) if typing.get_origin(annotation) is list else items
    if len(members) != len(value):
        raise UsageError(f"{where}: {value!r} must have {len(members)} values")
    return tuple(_typed(item, member, where) for item, member in zip(value, members, strict=True))


def _plain(value: Any, annotation: Any, where: str) -> Any:
    """A number, text, truth value, path, None, or whatever is allowed to be anything."""
    if annotation is Any or type(value) is annotation:
        return value
    if annotation is float and type(value) is int:
        return float(value)
    if annotation is float and isinstance(value, str) and (number := _exponent(value)) is not None:
        return number
    if annotation is Path and isinstance(value, str | Path):
        return Path(value)
    raise _wrong_type(value, annotation, where)


def _exponent(text: str) -> float | None:
    """YAML 1.1 reads ``1e-6`` as text; only numbers of that form are forgiven."""
    if "e" not in text.lower():
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _is_record(annotation: Any) -> bool:
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation)


def _wrong_type(value: Any, annotation: Any, where: str) -> UsageError:
    plain = typing.get_origin(annotation) is None
    label = getattr(annotation, "__name__", str(annotation)) if plain else str(annotation)
    return UsageError(f"{where}: {value!r} is not of type {label}")
