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
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

from gloam import __version__
from gloam.cli.shared.completion import add_completion
from gloam.cli.shared.parser import Mistake, Parser
from gloam.cli.shared.report import Report
from gloam.errors import GloamError, missing_package
from gloam.files import TEMPORARY_PREFIX, printable, printable_lines
from gloam.heartbeat import log, telling

ASKED = 5  # times, a second apart, that processes of a verb are asked to end
EXIT_CODES = """exit codes:
  0    done
  1    done, and a check failed or nothing could be scored; with a traceback, a fault of gloam itself
  2    refused or failed: stderr says in one line what is wrong, where, and what to do
  129  ended by SIGHUP, 130 by Ctrl-C, 143 by SIGTERM; where finished work is kept, the same command carries on
"""
VERBS = (
    "demo",
    "train",
    "import",
    "export",
    "adopt",
    "check",
    "engine",
    "bench",
    "translate",
    "edges",
    "extract",
    "whiten",
    "index",
    "search",
    "pair",
    "pairs",
    "store",
    "asmk",
    "features",
    "match",
    "localize",
    "serve",
    "eval",
    "dataset",
    "data",
    "pull",
    "reproduce",
    "town",
    "doctor",
)


def build_parser() -> Parser:
    """The parser with every verb."""
    parser = Parser(
        prog="gloam",
        description="Recognise by night a place that was only seen by day.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gloam {__version__}")
    add_completion(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        module = importlib.import_module(f"gloam.cli.{verb}{'_' if keyword.iskeyword(verb) else ''}")
        child = verbs.add_parser(verb, help=module.HELP, description=module.HELP)
        module.add_arguments(child)
        add_common(child)
        if hasattr(module, "run"):  # verbs with sub-verbs set it on their leaves
            child.set_defaults(run=module.run, kept=getattr(module, "KEPT", ()))
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every verb has, on it or on the leaves of a verb that has sub-verbs."""
    leaves = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if leaves:
        for leaf in leaves[0].choices.values():
            add_common(leaf)
        return
    parser.set_defaults(leaf=parser)
    parser.add_argument(
        "--json", action="store_true", help="print the report, or the error, as one JSON object on the last line"
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback where an error would be one line")
    parser.add_argument("--quiet", action="store_true", help="say nothing but the report and errors: no progress")
    parser.add_argument(
        "--log-file", type=Path, metavar="FILE", help="add progress, report and errors to this file, with the time"
    )


class Ended(KeyboardInterrupt):
    """A signal that asks the process to end; whatever keeps work at Ctrl-C keeps it at this too."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gloam`` and return its exit code, see :data:`EXIT_CODES`; words that are no command end in SystemExit."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = build_parser().parse_args(words)
    except Mistake as mistake:
        if "--json" in words:
            _print_failure("gloam", mistake.line, 2)
        raise
    try:
        with telling(arguments.quiet, arguments.log_file, bars=not arguments.json):
            log(f"gloam {' '.join(words)}")
            code = _run(arguments)
            log(f"exit code {code}")
            return code
    except GloamError as error:  # of the log
        return _failed(arguments, str(error))


def _run(arguments: argparse.Namespace) -> int:
    """Run the verb; whatever ends it becomes an exit code, but for a fault of gloam's own."""
    try:
        with _ended_by_signals():
            report: Report = arguments.run(arguments)
    except GloamError as error:
        return _failed(arguments, f"{error}{arguments.leaf.option_of(arguments, str(error))}")
    except ImportError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        return _failed(arguments, str(missing))
    except OSError as error:  # of a path that was given, for what is read and written is named where it is
        place = "" if error.filename is None else f"{error.filename}: "
        return _failed(arguments, f"{place}{error.strerror or error}; check the path")
    except KeyboardInterrupt as ended:
        number = ended.number if isinstance(ended, Ended) else signal.SIGINT
        return _failed(arguments, f"interrupted; {_left(arguments)}", 128 + number)
    except Exception as fault:
        why = f"a fault of gloam: {type(fault).__name__}: {fault}"
        log(f"{arguments.leaf.prog}: {why}")
        if arguments.json:
            _print_failure(arguments.leaf.prog, why, 1)
        raise
    text = json.dumps(report.data, sort_keys=True) if arguments.json else printable_lines(report.text)
    _print(text)
    for line in printable_lines(report.text).splitlines():
        log(line)
    return report.exit_code


def _failed(arguments: argparse.Namespace, why: str, code: int = 2) -> int:
    """Say why on stderr, in one line that names the whole verb, and to a program that asked for JSON."""
    if arguments.debug and code == 2:
        traceback.print_exc()
    line = printable(f"{arguments.leaf.prog}: {why}")
    print(line, file=sys.stderr)
    log(line)
    if arguments.json:
        _print_failure(arguments.leaf.prog, why, code)
    return code


def _print_failure(command: str, why: str, code: int) -> None:
    _print(json.dumps({"command": command, "error": printable(why), "exit_code": code}, sort_keys=True))


def _print(text: str) -> None:
    """Print a result; what the encoding of stdout lacks shows its escape."""
    try:
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:  # whoever reads, e.g. head, has what they wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's last flush fails again


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
