"""Run one benchmark: ``python -m benchmarks NAME [--json] [--save]``; without a name, list them."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from pathlib import Path

import benchmarks
from benchmarks.shared.result import Result, machine, versions
from gloam.errors import GloamError


def names() -> list[str]:
    """Every benchmark: the modules of this package that define ``run``; what they share is in ``shared/``."""
    loose = (item.name for item in pkgutil.iter_modules(benchmarks.__path__) if not item.ispkg)
    return sorted(name for name in loose if name != "__main__")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=names(), metavar="NAME", help=", ".join(names()))
    parser.add_argument("--json", action="store_true", help="print the result as one JSON line, the last of the output")
    parser.add_argument("--save", action="store_true", help="also write benchmarks/results/NAME.json")
    arguments = parser.parse_args(argv)
    if arguments.name is None:
        print("\n".join(names()))
        return 0
    try:
        result: Result = importlib.import_module(f"benchmarks.{arguments.name}").run()
    except GloamError as error:
        print(f"benchmark {arguments.name}: {error}", file=sys.stderr)
        return 2
    record = {"name": arguments.name, **vars(result), "machine": machine(), "versions": versions()}
    if arguments.save:
        saved = Path(__file__).parent / "results" / f"{arguments.name}.json"
        saved.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(record, sort_keys=True))
    else:
        verdict = f"target {result.target}: {'met' if result.met else 'missed'}"
        if result.met is None:
            verdict = "not judged" if result.target is None else f"target {result.target}: not judged"
        value = "not run" if result.value is None else f"{result.value:.6g} {result.unit}"
        print(f"{arguments.name}: {value} ({verdict})")
        print(json.dumps(result.detail, indent=2, sort_keys=True))
    return 1 if result.met is False else 0


if __name__ == "__main__":
    sys.exit(main())
