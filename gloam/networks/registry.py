"""Building a network by its name: the one place that words the errors of an unknown name or option."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from gloam.errors import ModelError

Built = TypeVar("Built")


def build(table: Mapping[str, Callable[..., Built]], kind: str, name: str, options: Mapping[str, Any]) -> Built:
    """``table[name](**options)``.

    Args:
        table: constructors by name.
        kind: what the table holds, for the message, as in "unknown generator".
        name: a key of the table.
        options: keyword arguments of the constructor.

    Raises:
        ModelError: unknown name (the nearest is named), or options that the constructor refuses.
    """
    if name not in table:
        nearest = difflib.get_close_matches(name, table, 1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ";"
        raise ModelError(f"unknown {kind} {name!r}{hint} choose one of {', '.join(table)}")
    try:
        return table[name](**options)
    except (TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError) as error:  # torch's are RuntimeErrors
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{kind} {name} does not take these options: {reason}") from error
