"""``gloam eval retrieval``: mAP and recall@k of one descriptor store against another."""

from __future__ import annotations

import argparse
from pathlib import Path

from gloam.cli.report import Report

HELP = "mAP and recall@k from a ground-truth file, per condition, beside chance"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("--query", type=Path, required=True, metavar="STORE", help="descriptor store of the queries")
    parser.add_argument("--map", type=Path, required=True, metavar="STORE", help="descriptor store of the database")
    parser.add_argument("--ground-truth", type=Path, required=True, metavar="FILE", help=".json or .json.gz")
    parser.add_argument("--set", metavar="NAME", help="set of a ground-truth file that holds several")
    parser.add_argument(
        "--conditions", type=Path, metavar="DIR", help="folder of CONDITION.txt lists of queries, instead of the file's"
    )


def run(arguments: argparse.Namespace) -> Report:
    """Score and print one row per condition."""
    from gloam.eval.ground_truth import read_ground_truth
    from gloam.eval.retrieval import Scores, evaluate_stores
    from gloam.runtime.store import DescriptorStore

    truth = read_ground_truth(arguments.ground_truth, arguments.set)
    conditions = None
    if arguments.conditions is not None:
        from gloam.data.kapture_io import read_conditions

        conditions = read_conditions(arguments.conditions)
    query, database = DescriptorStore.open(arguments.query), DescriptorStore.open(arguments.map)
    scores = evaluate_stores(query, database, truth, conditions=conditions)
    data = scores.to_dict() | {
        "space": query.space,
        "fingerprints": {"query": query.fingerprint, "map": database.fingerprint},
        "map_images": len(truth.map_names),
    }
    ks = list(scores.recall)
    rows: list[tuple[str, Scores]] = [("all", scores), *scores.conditions.items()]
    lines = [f"{'queries':<14}{'n':>6}{'mAP':>8}{'chance':>8}" + "".join(f"{f'R@{k}':>8}" for k in ks)]
    for name, item in rows:
        recalls = "".join(f"{item.recall[k]:>8.3f}" for k in ks)
        lines.append(f"{name:<14}{item.queries:>6}{item.mAP:>8.3f}{item.chance_mAP:>8.3f}{recalls}")
    lines.append(f"{len(truth.map_names)} map images; {scores.skipped} queries without a positive were skipped")
    return Report(data, "\n".join(lines))
