"""``gloam reproduce``: a table of a paper again, on the data that is there."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.shared.report import Report
from gloam.errors import UsageError
from gloam.heartbeat import to_stderr

HELP = "a paper's table again: published value, ours, difference, and which files are missing"
KEPT = ("*/*",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("paper", metavar="PAPER", help="dark-side or thesis")
    parser.add_argument("table", metavar="TABLE", help="dark-side: 1, 2, 4, 5, 6, 7, 8; thesis: 5.1")
    parser.add_argument(
        "--data", type=Path, default=Path("data"), metavar="DIR", help="layout of cirtorch: test/, train/, networks/"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("reproduced"), metavar="DIR", help="models and stores, used again"
    )
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="some rows of the table; all by default")
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="ROW=FILE",
        help="an embedder of your own for a row; repeatable",
    )
    parser.add_argument(
        "--order", metavar="A,B,C", help="table 6: day, sunset and night in the order of a scene's image names"
    )
    parser.add_argument(
        "--words", type=int, default=65536, help="rows with local features: visual words of the codebook"
    )
    parser.add_argument("--train", action="store_true", help="train recipes whose weights are missing (days on a GPU)")
    parser.add_argument(
        "--town", action="store_true", help="the miniature on procedural streets instead; needs no data"
    )
    parser.add_argument(
        "--minutes", type=float, default=14.0, help="--town: processor time for each generator, at most"
    )


def run(arguments: argparse.Namespace) -> Report:
    """Run what can be run; exit code 1 where no row could."""
    if arguments.town:
        from gloam.workflows.reproduce.town import reproduce_town

        found = reproduce_town(
            arguments.paper,
            arguments.table,
            arguments.output,
            minutes=arguments.minutes,
            rows=arguments.rows,
            say=to_stderr,
        )
        return Report(found.to_dict(), found.to_text())
    from gloam.workflows.reproduce.table import reproduce

    result = reproduce(
        arguments.paper,
        arguments.table,
        arguments.data,
        arguments.output,
        rows=arguments.rows,
        weights=_weights(arguments.weights),
        order=arguments.order.split(",") if arguments.order else None,
        train=arguments.train,
        words=arguments.words,
        say=to_stderr,
    )
    return Report(result.to_dict(), result.to_text(), exit_code=0 if result.ours else 1)


def _weights(assignments: list[str]) -> dict[str, Path]:
    found = {}
    for assignment in assignments:
        row, equals, file = assignment.rpartition("=")
        if not equals or not row or not file:
            raise UsageError(f"--weights {assignment!r}: give ROW=FILE, with the row's name as the table has it")
        found[row] = Path(file)
    return found
