"""From parsed options to a request of the library."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, TypeVar

Request = TypeVar("Request")


def filled(kind: type[Request], arguments: argparse.Namespace, **others: Any) -> Request:
    """A request, each field the option of its name.

    Args:
        kind: dataclass of the library.
        arguments: parsed.
        others: fields that no option states as it is.
    """
    names = {field.name for field in dataclasses.fields(kind)} - set(others)  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: getattr(arguments, name) for name in names}, **others)
