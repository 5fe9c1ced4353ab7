"""The ``gloam`` command: finds the verbs, parses, runs one, prints its report, turns errors into one line.

Each verb is a file of this package that defines ``HELP`` (one line), ``add_arguments(parser)`` and
``run(arguments) -> Report``; one that resumes has ``KEPT``, patterns of the finished work in its output folder, or True
where that lies elsewhere. Verbs import what is heavy inside ``run``, so that ``--help`` is quick and a missing package
hides no command.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import keyword
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, Literal, NoReturn

from gloam import __version__
from gloam.cli.shared.help_format import HelpFormatter
from gloam.cli.shared.report import Report
from gloam.errors import GloamError, missing_package
from gloam.files import TEMPORARY_PREFIX, printable, printable_lines

ASKED = 5  # times, a second apart, that processes of a verb are asked to end
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
    "pair",
    "pairs",
    "store",
    "asmk",
    "features",
    "match",
    "localize",
    "eval",
    "dataset",
    "data",
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
            child.set_defaults(run=module.run, kept=getattr(module, "KEPT", ()))
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


class Ended(KeyboardInterrupt):
    """A signal that asks the process to end; whatever keeps work at Ctrl-C keeps it at this too."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gloam`` and return its exit code: 0, 1 where a check failed, 2 for an error, 130 for Ctrl-C, 143 for
    SIGTERM, 129 for SIGHUP."""
    arguments = build_parser().parse_args(argv)
    try:
        with _ended_by_signals():
            report: Report = arguments.run(arguments)
    except GloamError as error:
        return _refused(arguments, str(error))
    except ImportError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        return _refused(arguments, str(missing))
    except OSError as error:  # of a path that was given, for what is read and written is named where it is
        place = "" if error.filename is None else f"{error.filename}: "
        return _refused(arguments, f"{place}{error.strerror or error}; check the path")
    except KeyboardInterrupt as ended:
        print(f"gloam {arguments.verb}: interrupted; {_left(arguments)}", file=sys.stderr)
        return 128 + (ended.number if isinstance(ended, Ended) else signal.SIGINT)
    try:
        text = json.dumps(report.data, sort_keys=True) if arguments.json else printable_lines(report.text)
        encoding = sys.stdout.encoding or "utf-8"  # one that lacks a character shows its escape
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:  # whoever reads, e.g. head, has what they wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's last flush fails again
    return report.exit_code


def _refused(arguments: argparse.Namespace, why: str) -> int:
    if arguments.debug:
        traceback.print_exc()
    print(printable(f"gloam {arguments.verb}: {why}"), file=sys.stderr)
    return 2


def _left(arguments: argparse.Namespace) -> str:
    """What the same command will find of an interrupted run."""
    patterns: Sequence[str] | Literal[True] = getattr(arguments, "kept", ())  # of verbs with sub-verbs, what they set
    if not patterns:
        return "such a run keeps nothing before its end; run it again"
    if patterns is True or any(
        not path.name.startswith(TEMPORARY_PREFIX) for name in patterns for path in arguments.output.glob(name)
    ):
        return "finished work is kept, run it again to carry on"
    return "nothing was finished yet, so nothing is kept; run it again"


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP, where they are not ignored as under ``nohup``, end a verb as Ctrl-C does, and the processes
    that it has started, which a terminal would have told too."""

    own = os.getpid()

    def end(number: int, frame: FrameType | None) -> NoReturn:
        if os.getpid() != own:  # forked
            os._exit(128 + number)
        if "multiprocessing" in sys.modules:
            _end_processes(sys.modules["multiprocessing"].active_children())
        raise Ended(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in asked:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in asked:
            signal.signal(number, signal.SIG_DFL)


def _end_processes(processes: list[Any]) -> None:
    """End processes by SIGTERM, for SIGINT is ignored by what a shell has put in the background.

    One that was only being forked loses it, and is told again.
    """
    for _ in range(ASKED):
        for process in processes:
            process.terminate()
        patience = time.monotonic() + 1
        for process in processes:
            process.join(max(0.0, patience - time.monotonic()))
        processes = [process for process in processes if process.is_alive()]


if __name__ == "__main__":
    sys.exit(main())
