"""A parser of the command line that helps: nearest names, a verb's own usage, the whole help where nothing is given."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from gloam.cli.shared.help_format import HelpFormatter

NEAR = 0.75  # of 1; below it another word is no slip of the keyboard


class Mistake(SystemExit):
    """Words that are no command, of which stderr has told already; ends the program with code 2, as argparse does."""

    def __init__(self, line: str) -> None:
        super().__init__(2)
        self.line = line


class Parser(argparse.ArgumentParser):
    """Of the command, of a verb and of a sub-verb."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": HelpFormatter} | options)
        self._given: list[str] = []

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """As argparse does; what is given is kept for :meth:`error`."""
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._given, namespace)

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """As argparse does, but for words that no parser knows, which the sub-verb's own refuses."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            getattr(found, "leaf", self).error(f"unrecognized arguments: {' '.join(unknown)}")
        return found

    def error(self, message: str) -> NoReturn:
        """Usage and one line on stderr; the whole help in place of usage where a verb is all that is missing.

        Raises:
            Mistake: always.
        """
        bare = self._subparsers is not None and all(word.startswith("-") for word in self._given)
        line = f"{self.prog}: error: {message}{self._meant()}"
        self._print_message(f"{self.format_help()}\n" if bare else self.format_usage(), sys.stderr)
        self._print_message(f"{line}\n", sys.stderr)
        raise Mistake(line)

    def _meant(self) -> str:
        """The option that a mistyped one is nearest to."""
        for word in self._given:
            name = word.partition("=")[0]
            if name == "--" or (self._subparsers is not None and not name.startswith("-")):
                break  # what follows is not this parser's
            known = self._option_string_actions
            if name.startswith("--") and not any(option.startswith(name) for option in known):
                hint = did_you_mean(name, known)
                if hint:
                    return hint
        return ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += did_you_mean(str(value), map(str, action.choices or ()))
            raise

    def option_of(self, arguments: argparse.Namespace, message: str) -> str:
        """The end of a message that begins with a value that was given, as ``max_minutes -1.0: must be positive``:
        the option that gave it; empty where it begins otherwise, or names an option already."""
        found = re.match(r"(\w+) (-?[\d.]+(?:x\d+)?|'[^']*')(?=[: ])", message)
        if found is None or "--" in message:
            return ""
        name, value = found[1], found[2].strip("'")
        for action in self._actions:
            given = getattr(arguments, action.dest, None)
            same = str(given) == value or (isinstance(given, float | int) and f"{given:g}" == value)
            if action.option_strings and same and (action.dest == name or action.dest.endswith(f"_{name}")):
                return f" ({action.option_strings[-1]})"
        return ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message, ``; did you mean 'extract'?``; empty where nothing is near."""
    near = difflib.get_close_matches(word, list(known), 1, NEAR)
    return f"; did you mean {near[0]!r}?" if near else ""
