"""Options that every training from a recipe has, and the changes of the recipe that they ask for."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gloam.cli.shared.report import Report
from gloam.cli.shared.unread import refuse_others
from gloam.cli.shared.values import seed
from gloam.errors import GloamError, MissingExtraError, UsageError
from gloam.heartbeat import to_stderr


def add_recipe_arguments(parser: argparse.ArgumentParser, recipe: str, example: str) -> None:
    """Add folder, recipe and the ways to change it.

    Args:
        parser: of the sub-verb.
        recipe: the default.
        example: of ``--set``, for the help.
    """
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="folder of the run")
    _add_recipe(parser, recipe)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"replace one key of the recipe, e.g. {example}; repeatable",
    )


def add_town_arguments(parser: argparse.ArgumentParser, recipe: str) -> None:
    """Add folder, recipe and the few changes of a training on procedural streets; ``recipe`` is the default."""
    parser.add_argument("-o", "--output", type=Path, help="folder for weights, record and state")
    _add_recipe(parser, recipe)
    parser.add_argument("--epochs", type=int, help="epochs, instead of the recipe's")
    parser.add_argument("--seed", type=seed, help="seed of weights and sampling, instead of the recipe's")


def _add_recipe(parser: argparse.ArgumentParser, recipe: str) -> None:
    parser.add_argument("--recipe", default=recipe, help="recipe that comes with gloam")
    parser.add_argument(
        "--list", action="store_true", help="list the recipes, with paper, table, minutes and data, and stop"
    )
    parser.add_argument(
        "--show", metavar="RECIPE", help="print a recipe's keys with their reasons, as YAML for --config, and stop"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML whose keys replace the recipe's")


def listed(arguments: argparse.Namespace, kind: str) -> Report | None:
    """The report of ``--list`` or ``--show``, of the recipes of a kind of training; None where training is asked for.

    Raises:
        UsageError: training is asked for without a folder, or there is no such recipe to show.
    """
    if arguments.list or arguments.show is not None:
        said = "list" if arguments.list else "show"
        refuse_others(arguments, (said,), f"is of a training; --{said} trains nothing")
        from gloam.training.catalogue import list_recipes, show_recipe

        found = list_recipes(kind) if arguments.list else show_recipe(kind, arguments.show)
        return Report(found.to_dict(), str(found))
    if arguments.output is None:
        raise UsageError("the following argument is required: -o FOLDER")
    return None


@contextlib.contextmanager
def options_named(kind: str, arguments: argparse.Namespace, direct: Mapping[str, str]) -> Iterator[None]:
    """Let an error that begins with a key of the recipe end with the option that gives it.

    Args:
        kind: of training.
        arguments: parsed.
        direct: option -> dotted name in the recipe.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except GloamError as error:
        words = re.match(r"([a-z]\w*)(?: ([a-z]\w*))?(?=[ :,]|$)", str(error))
        option = _option(kind, arguments, direct, words[1], words[2]) if words else ""
        if option:
            error.args = (f"{error} ({option})",)
        raise


def _option(kind: str, arguments: argparse.Namespace, direct: Mapping[str, str], first: str, second: str | None) -> str:
    """How a key is given on the command line; empty where the words name none."""
    from gloam.training.catalogue import keys_of

    for option, name in direct.items():
        if name.rpartition(".")[2] == first:
            return f"--{option.replace('_', '-')}"
    keys = keys_of(kind, arguments.recipe)
    inside = f"{first}.{second}"
    found = [inside] if inside in keys else sorted((key for key in keys if key.rpartition(".")[2] == first), key=len)
    if not found:
        return ""
    return f"--set {found[0]}=VALUE" if hasattr(arguments, "set") else f"{found[0]} of --config"


def changes(arguments: argparse.Namespace, direct: Mapping[str, str]) -> dict[str, Any]:
    """The changes of ``--config``, then ``--set`` where the verb has it, then the options that stand for one key each.

    Args:
        arguments: parsed.
        direct: option -> dotted name in the recipe.

    Raises:
        UsageError: the file or an assignment is not readable.
    """
    from gloam.data.yaml_text import read_mapping
    from gloam.training.config_changes import merge, nest, override

    found = read_mapping(arguments.config) if arguments.config is not None else {}
    found = merge(found, override(getattr(arguments, "set", [])))
    for option, name in direct.items():
        value = getattr(arguments, option)
        if value is not None:
            found = merge(found, nest(name, str(value) if isinstance(value, Path) else value))
    return found


def trained(
    kind: str, arguments: argparse.Namespace, direct: Mapping[str, str], found: Mapping[str, Any], **more: Any
) -> Report:
    """Train, and report what came out.

    Args:
        kind: of training.
        arguments: parsed.
        direct: see :func:`options_named`.
        found: changes of the recipe.
        more: see :func:`gloam.training.train.train`.
    """
    from gloam.training.train import train
    from gloam.workflows.reports.training import write_training_report

    alone = arguments.config is not None and not hasattr(arguments, "set")  # else a change may come from elsewhere
    chosen: Any = train  # overloaded by kind
    more["changes_from"] = str(arguments.config) if alone else None
    with options_named(kind, arguments, direct):
        summary = chosen(kind, arguments.recipe, found, arguments.output, say=to_stderr, **more)
    page = write_training_report(arguments.output)
    return Report(summary.to_dict() | {"report": str(page)}, f"{summary}\nreport: {page}")
