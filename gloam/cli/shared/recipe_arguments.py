"""Options that every training from a recipe has, and the changes of the recipe that they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gloam.cli.shared.report import Report
from gloam.cli.shared.values import seed
from gloam.errors import UsageError
from gloam.heartbeat import to_stderr


def add_recipe_arguments(parser: argparse.ArgumentParser, recipe: str, example: str) -> None:
    """Add folder, recipe and the ways to change it.

    Args:
        parser: of the sub-verb.
        recipe: the default.
        example: of ``--set``, for the help.
    """
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="folder of the run")
    parser.add_argument("--recipe", default=recipe, help="recipe that comes with gloam")
    parser.add_argument("--list", action="store_true", help="list the recipes and stop")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML whose keys replace the recipe's")
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
    parser.add_argument("--recipe", default=recipe, help="recipe that comes with gloam")
    parser.add_argument("--list", action="store_true", help="list the recipes and stop")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML whose keys replace the recipe's")
    parser.add_argument("--epochs", type=int, help="epochs, instead of the recipe's")
    parser.add_argument("--seed", type=seed, help="seed of weights and sampling, instead of the recipe's")


def listed(arguments: argparse.Namespace, package: str) -> Report | None:
    """The report of ``--list``, of the recipes in a package; None where training is asked for.

    Raises:
        UsageError: training is asked for without a folder.
    """
    if arguments.list:
        from gloam.training.typed_config import recipes_of

        recipes = recipes_of(package)
        return Report({"recipes": recipes}, "\n".join(recipes))
    if arguments.output is None:
        raise UsageError("the following argument is required: -o FOLDER")
    return None


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


def trained(kind: str, arguments: argparse.Namespace, found: Mapping[str, Any], **more: Any) -> Report:
    """Train, and report what came out.

    Args:
        kind: of training.
        arguments: parsed.
        found: changes of the recipe.
        more: see :func:`gloam.training.train.train`.
    """
    from gloam.training.train import train
    from gloam.workflows.reports.training import write_training_report

    alone = arguments.config is not None and not hasattr(arguments, "set")  # else a change may come from elsewhere
    chosen: Any = train  # overloaded by kind
    more["changes_from"] = str(arguments.config) if alone else None
    summary = chosen(kind, arguments.recipe, found, arguments.output, say=to_stderr, **more)
    page = write_training_report(arguments.output)
    return Report(summary.to_dict() | {"report": str(page)}, f"{summary}\nreport: {page}")
