"""``gloam train``: one sub-verb per kind of model."""

from __future__ import annotations

import argparse

from gloam.cli.train import calibration, edges, embedder, metric, translator, vocabulary, whitening

HELP = "train a model: embedder, metric, whitening, vocabulary, translator, edges, calibration"
KINDS = {
    "embedder": embedder,
    "metric": metric,
    "whitening": whitening,
    "vocabulary": vocabulary,
    "translator": translator,
    "edges": edges,
    "calibration": calibration,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-verbs."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, module in KINDS.items():
        kind = kinds.add_parser(name, help=module.HELP)
        module.add_arguments(kind)
        kind.set_defaults(run=module.run, kept=getattr(module, "KEPT", ()))
