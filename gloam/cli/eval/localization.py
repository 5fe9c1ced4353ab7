"""``gloam eval localization``: errors and recalls of estimated poses."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gloam.cli.shared.report import Report
from gloam.errors import DataError

HELP = "errors and recalls of the poses of `gloam localize`, or of any kapture trajectories, per condition"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "--results", type=Path, required=True, help="output of `gloam localize`, or one kapture dataset with poses"
    )
    parser.add_argument("--ground-truth", type=Path, required=True, help="kapture dataset with the queries' true poses")
    parser.add_argument("--conditions", type=Path, help="folder of <condition>.txt image lists")
    parser.add_argument(
        "--threshold",
        type=_threshold,
        action="append",
        metavar="M,DEG",
        help="recall bin in metres and degrees, repeatable (default: 0.25,2 0.5,5 5,10)",
    )


def run(arguments: argparse.Namespace) -> Report:
    """Score every method found below the results."""
    from gloam.data.kapture_io import read_conditions, read_scene
    from gloam.eval.localization.scores import THRESHOLDS, pose_errors, score_conditions

    thresholds = tuple(arguments.threshold or THRESHOLDS)
    truth = read_scene(arguments.ground_truth, need_poses=True)
    folders = [arguments.results, *sorted(path for path in arguments.results.glob("*") if path.is_dir())]
    folders = [folder for folder in folders if (folder / "sensors" / "records_camera.txt").is_file()]
    if not folders:
        raise DataError(f"{arguments.results}: no kapture poses found; give the output folder of `gloam localize`")
    conditions = read_conditions(arguments.conditions) if arguments.conditions else {"all": truth.names}
    labels = ", ".join(f"{metres:g} m {degrees:g} deg" for metres, degrees in thresholds)
    lines = [f"recall in % within {labels}; median error over all queries, one without a pose counting as infinite"]
    data: dict[str, Any] = {"thresholds": thresholds, "methods": {}}
    for folder in folders:
        method = folder.name
        estimated = read_scene(folder)
        scores = score_conditions(pose_errors(estimated.poses, truth.poses), conditions, thresholds)
        data["methods"][method] = {name: _finite(asdict(item)) for name, item in scores.items()}
        for condition, item in scores.items():
            recalls = " / ".join(f"{100 * recall:5.1f}" for recall in item.recalls)
            lines.append(
                f"{method:8s} {condition:14s} {recalls}   median {item.median_position:8.3f} m "
                f"{item.median_rotation:7.2f} deg   {item.localized}/{item.queries} localized"
            )
    return Report(data, "\n".join(lines))


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Infinite medians and absent means as null, which JSON can hold."""
    from math import isfinite

    return {key: None if isinstance(value, float) and not isfinite(value) else value for key, value in values.items()}


def _threshold(text: str) -> tuple[float, float]:
    try:
        metres, degrees = (float(item) for item in text.replace(" ", "").split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not METRES,DEGREES, e.g. 0.25,2") from None
    return metres, degrees
