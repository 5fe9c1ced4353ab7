"""Shell completion: a script that shtab writes from the parser, so that a press of TAB starts no Python."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gloam.cli.shared.values import place
from gloam.errors import MissingExtraError, require

SHELLS = ("bash", "zsh", "tcsh")


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add ``--print-completion``."""
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=SHELLS,
        help="print the script that completes verbs, options and files in this shell, and stop",
    )


class _PrintCompletion(argparse.Action):
    """Prints and exits, as ``--version`` does."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        try:
            shtab = require("shtab", "completion", "write a completion script")
        except MissingExtraError as error:
            parser.error(str(error))
        _complete_files(parser, shtab.FILE)
        print(shtab.complete(parser, shell=values))
        parser.exit()


def _complete_files(parser: argparse.ArgumentParser, files: Any) -> None:
    """Let every argument that is a path be completed as one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                _complete_files(child, files)
        elif action.type in (Path, place):
            action.complete = files  # type: ignore[attr-defined]  # shtab's own attribute
