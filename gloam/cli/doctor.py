"""``gloam doctor``: backends, devices, extras; what is missing for what."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from gloam.cli.shared.report import Report

HELP = "say which backends, devices and extras are usable, what is missing for what, and what is broken"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has no options of its own."""


def run(arguments: argparse.Namespace) -> Report:
    """Look at the installation; exit code 1 where something is broken."""
    from gloam.runtime.doctor import diagnose

    found = diagnose()
    machine, driver = found.machine, found.driver
    lines = [
        f"gloam {machine['gloam']}, Python {machine['python']}, {machine['platform']}, {machine['cores']} cores",
        "",
        "devices",
        *(f"  {gpu.name}, compute capability {gpu.compute_capability}" for gpu in driver.gpus),
    ]
    lines.append(f"  driver for CUDA {driver.cuda}" if driver.gpus else f"  CPU alone: {driver.problem}")
    lines += ["", "backends", *(f"  {name:16s} {state}" for name, state in found.backends.items()), "", "extras"]
    for extra in found.extras:
        lines.append(f"  {'yes' if extra.complete else 'no ':3s} {extra.name:19s} {extra.purpose}")
        if extra.missing:
            lines.append(f"  {'':23s} missing {', '.join(extra.missing)}; pip install 'gloam[{extra.name}]'")
    if found.notes:
        lines += ["", "notes", *(f"  {note}" for note in found.notes)]
    lines += ["", *(f"BROKEN: {problem}" for problem in found.problems)] if found.problems else ["", "nothing broken"]
    data = asdict(found) | {"healthy": not found.problems}
    for entry, extra in zip(data["extras"], found.extras, strict=True):
        entry["complete"] = extra.complete
    return Report(data, "\n".join(lines), exit_code=1 if found.problems else 0)
