"""The ``gloam`` command: finds the verbs, parses, runs one, prints its report, turns errors into one line.

Each verb is a file of this package that defines ``HELP`` (one line), ``add_arguments(parser)`` and
``run(arguments) -> Report``. Verbs import what is heavy inside ``run``, so that ``--help`` is quick and a missing
package hides no command.
"""

from __future__ import annotations

import argparse
import importlib
import json
import keyword
import os
import sys
import traceback
from collections.abc import Sequence

from gloam import __version__
from gloam.cli.shared.help_format import HelpFormatter
from gloam.cli.shared.report import Report
from gloam.errors import GloamError, missing_package

VERBS = (
    "demo",
    "train",
    "import",
    "export",
    "check",
    "engine",
    "bench",
    "translate",
    "edges",
    "extract",
    "index",
    "search",
    "pairs",
    "asmk",
    "localize",
    "eval",
    "dataset",
    "pull",
    "reproduce",
    "town",
    "doctor",
)


def build_parser() -> argparse.ArgumentParser:
    """The parser with every verb."""
    parser = argparse.ArgumentParser(prog="gloam", description="Recognise by night a place that was only seen by day.")
    parser.add_argument("--version", action="version", version=f"gloam {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        module = importlib.import_module(f"gloam.cli.{verb}{'_' if keyword.iskeyword(verb) else ''}")
        child = verbs.add_parser(
            verb,
            help=module.HELP,
            description=module.HELP,
            formatter_class=HelpFormatter,
        )
        module.add_arguments(child)
        add_common(child)
        if hasattr(module, "run"):  # verbs with sub-verbs set it on their leaves
            child.set_defaults(run=module.run)
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    """``--json`` and ``--debug``, on every verb and on the leaves of verbs that have sub-verbs."""
    leaves = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if leaves:
        for leaf in leaves[0].choices.values():
            add_common(leaf)
        return
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object on the last line")
    parser.add_argument("--debug", action="store_true", help="show a traceback where an error would be one line")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gloam`` and return its exit code: 0, 1 where a check failed, 2 for an error, 130 for Ctrl-C."""
    arguments = build_parser().parse_args(argv)
    try:
        report: Report = arguments.run(arguments)
    except GloamError as error:
        return _refused(arguments, error)
    except ImportError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        return _refused(arguments, missing)
    except KeyboardInterrupt:
        print(f"gloam {arguments.verb}: interrupted; finished work is kept, run it again to carry on", file=sys.stderr)
        return 130
    try:
        print(json.dumps(report.data, sort_keys=True) if arguments.json else report.text, flush=True)
    except BrokenPipeError:  # whoever reads, e.g. head, has what they wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's last flush fails again
    return report.exit_code


def _refused(arguments: argparse.Namespace, error: GloamError) -> int:
    if arguments.debug:
        traceback.print_exc()
    print(f"gloam {arguments.verb}: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
