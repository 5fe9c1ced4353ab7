"""``gloam eval``: one sub-verb per protocol."""

from __future__ import annotations

import argparse

from gloam.cli.eval import calibration as eval_calibration
from gloam.cli.eval import domains as eval_domains
from gloam.cli.eval import localization as eval_localization
from gloam.cli.eval import retrieval as eval_retrieval
from gloam.cli.eval import submission as eval_submission
from gloam.cli.eval import translation as eval_translation

HELP = (
    "score descriptors, poses or translated images: retrieval, localization, translation, domains, submission, "
    "calibration"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-verbs."""
    protocols = parser.add_subparsers(dest="protocol", metavar="PROTOCOL", required=True)
    for name, module in (
        ("retrieval", eval_retrieval),
        ("localization", eval_localization),
        ("translation", eval_translation),
        ("domains", eval_domains),
        ("submission", eval_submission),
        ("calibration", eval_calibration),
    ):
        child = protocols.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(child)
        child.set_defaults(run=module.run)
