"""Writes ``docs/cli.md`` from the parsers of the command line: ``python docs/make_cli.py``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from gloam.cli.main import build_parser

PAGE = Path(__file__).with_name("cli.md")
INTRO = """# Command line

Every command with every option. [Commands by need](commands.md) says which one is for what. This page is made from the
parsers by `python docs/make_cli.py`; `gloam VERB --help` prints the same.

[Output and exit codes](command_line.md) says what a command gives back, to people and to programs.

Every command takes, beside its own:
"""


def _text(words: str) -> str:
    """Help as Markdown: what is no code keeps its signs."""
    parts = re.split(r"(`[^`]*`)", " ".join(words.split()))
    return "".join(part if part.startswith("`") else _plain(part) for part in parts)


def _plain(words: str) -> str:
    return re.sub(r"([*\\])", r"\\\1", words).replace("<", "&lt;")


def _named(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    if not action.option_strings:
        return f"`{formatter._format_args(action, action.metavar or action.dest)}`"
    value = ""
    if action.nargs != 0:
        value = " " + formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def _line(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    said = _text(formatter._expand_help(action)) if action.help else ""
    needed = ("; " if said else "") + "**required**" if action.option_strings and action.required else ""
    return f"- {_named(action, formatter)}{': ' if said or needed else ''}{said}{needed}\n"


def _options(parser: argparse.ArgumentParser, left_out: set[str]) -> Iterator[str]:
    """The options of a command, group by group, without those whose lines are ``left_out``."""
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if action.help is not argparse.SUPPRESS]
        lines = [_line(action, formatter) for action in shown if action.dest != "help"]
        lines = [line for line in lines if line not in left_out]
        if lines and group.title not in ("positional arguments", "options"):
            more = f". {_text(group.description)}" if group.description else ""
            yield f"{_text(group.title or '').capitalize()}{more}:\n"
        if lines:
            yield "".join(lines)


def _children(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def _leaves(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The commands that do something."""
    inner = _children(parser)
    return [leaf for child in inner.values() for leaf in _leaves(child)] if inner else [parser]


def _common(leaves: list[argparse.ArgumentParser]) -> list[str]:
    """The lines of the options that every command has, in their order."""
    lines = [[line for part in _options(leaf, set()) for line in part.splitlines(keepends=True)] for leaf in leaves]
    return [line for line in lines[0] if all(line in others for others in lines)]


def _section(name: str, parser: argparse.ArgumentParser, level: int, left_out: set[str]) -> Iterator[str]:
    yield f"{'#' * level} {name}\n"
    if parser.description:
        yield f"{_text(parser.description)}\n"
    inner = _children(parser)
    if not inner:
        yield from _options(parser, left_out)
    for verb, leaf in inner.items():
        yield from _section(f"{name} {verb}", leaf, level + 1, left_out)


def page() -> str:
    """The whole page."""
    parser = build_parser()
    common = _common(_leaves(parser))
    parts = [INTRO, "".join(common)]
    for verb, child in _children(parser).items():
        parts += _section(f"gloam {verb}", child, 2, set(common))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
