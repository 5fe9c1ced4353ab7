"""Options that a mode of a verb does not read are refused by name, so that none is given in vain."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from gloam.errors import UsageError

COMMON = ("help", "json", "debug", "quiet", "log_file")  # of every verb


def refuse(arguments: argparse.Namespace, names: Collection[str], why: str) -> None:
    """Refuse some options where one is given with another value than its default.

    Args:
        arguments: of a verb, with its parser.
        names: of them, as attributes of ``arguments``.
        why: what comes behind the option in the message.

    Raises:
        UsageError: the first of them, as the verb's help has it.
    """
    for action in arguments.leaf._actions:
        given = getattr(arguments, action.dest, action.default)
        if action.dest in names and given != action.default:
            option = action.option_strings[-1] if action.option_strings else action.metavar or action.dest
            raise UsageError(f"{option} {why}")


def refuse_others(arguments: argparse.Namespace, read: Collection[str], why: str) -> None:
    """Refuse all options but some, see :func:`refuse`.

    Args:
        arguments: of a verb, with its parser.
        read: what the mode reads, beside what every verb has.
        why: what comes behind the option in the message.
    """
    every = {action.dest for action in arguments.leaf._actions}
    refuse(arguments, every.difference(read, COMMON), why)
