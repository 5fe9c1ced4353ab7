"""``gloam doctor``: backends, devices, extras; what is missing for what."""

from __future__ import annotations

import argparse

from gloam.cli.shared.report import Report

HELP = "say which backends, devices and extras are usable, what is missing for what, and what is broken"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has no options of its own."""


def run(arguments: argparse.Namespace) -> Report:
    """Look at the installation; exit code 1 where something is broken."""
    from gloam.runtime.doctor import diagnose

    found = diagnose()
    return Report(found.to_dict(), str(found), exit_code=1 if found.problems else 0)
