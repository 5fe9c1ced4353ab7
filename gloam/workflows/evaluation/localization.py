"""Errors and recalls of the poses below a folder of results, per method and condition."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from gloam.data.kapture_io import read_conditions, read_scene
from gloam.data.scene import Pose
from gloam.errors import DataError
from gloam.eval.localization.ltvl import by_image, read_ltvl
from gloam.eval.localization.scores import THRESHOLDS, ConditionScores, pose_errors, score_conditions
from gloam.files import read_json
from gloam.runtime.localization.maps.colmap_model import is_colmap_model
from gloam.runtime.localization.maps.datasets import read_poses

RECORDS = Path("sensors") / "records_camera.txt"


@dataclass(frozen=True)
class LocalizationOptions:
    """What to score.

    Attributes:
        results: kapture dataset with poses, or a folder of such, one a method; a COLMAP model; or an LTVL2020 file.
        ground_truth: kapture dataset or COLMAP model with the queries' true poses.
        conditions: folder of ``<condition>.txt`` lists of images; all queries together where None.
        thresholds: metres and degrees of each recall.
    """

    results: Path
    ground_truth: Path
    conditions: Path | None = None
    thresholds: Sequence[tuple[float, float]] = THRESHOLDS


@dataclass(frozen=True)
class LocalizationEvaluation:
    """How it came out.

    Attributes:
        thresholds: metres and degrees.
        methods: method -> condition -> scores; methods are named as their folders.
        left_aside: folders with poses that the results' ``summary.json`` does not name: those of an earlier run.
    """

    thresholds: tuple[tuple[float, float], ...]
    methods: Mapping[str, Mapping[str, ConditionScores]]
    left_aside: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; infinite medians and absent means as None."""
        methods = {
            method: {name: _finite(asdict(item)) for name, item in scores.items()}
            for method, scores in self.methods.items()
        }
        return {"thresholds": self.thresholds, "methods": methods, "left_aside": list(self.left_aside)}

    def to_text(self) -> str:
        """A line for every method and condition."""
        labels = ", ".join(f"{metres:g} m {degrees:g} deg" for metres, degrees in self.thresholds)
        lines = [f"recall in % within {labels}; median error over all queries, one without a pose counting as infinite"]
        for method, scores in self.methods.items():
            for condition, item in scores.items():
                recalls = " / ".join(f"{100 * recall:5.1f}" for recall in item.recalls)
                lines.append(
                    f"{method:8s} {condition:14s} {recalls}   median {item.median_position:8.3f} m "
                    f"{item.median_rotation:7.2f} deg   {item.localized}/{item.queries} localized"
                )
        if self.left_aside:
            lines.append(f"left aside, of an earlier run: {', '.join(self.left_aside)}")
        return "\n".join(lines)


def evaluate_localization(options: LocalizationOptions) -> LocalizationEvaluation:
    """Score every method found below the results.

    Raises:
        DataError: no poses found, or a dataset that cannot be read.
    """
    truth = read_poses(options.ground_truth)
    conditions = read_conditions(options.conditions) if options.conditions else {"all": truth.names}
    thresholds = tuple(options.thresholds)

    def scored(poses: Mapping[str, Pose]) -> dict[str, ConditionScores]:
        return score_conditions(pose_errors(poses, truth.poses), conditions, thresholds)

    if options.results.is_file():
        cameras = {name: record.camera_id for name, record in truth.records.items()}
        found = read_ltvl(options.results)
        try:
            named_poses = by_image(found, cameras)
        except DataError as error:
            raise DataError(f"{options.results}: {error}") from error
        return LocalizationEvaluation(thresholds, {options.results.stem: scored(named_poses)})
    if is_colmap_model(options.results):
        return LocalizationEvaluation(thresholds, {options.results.name: scored(read_poses(options.results).poses)})
    folders = [options.results, *sorted(path for path in options.results.glob("*") if path.is_dir())]
    folders = [folder for folder in folders if (folder / RECORDS).is_file()]
    named = _methods_of(options.results / "summary.json")
    left_aside = tuple(path.name for path in folders if named is not None and path.name not in named)
    folders = [folder for folder in folders if folder.name not in left_aside]
    if not folders:
        raise DataError(f"{options.results}: no kapture poses found; give the output folder of `gloam localize`")
    methods = {folder.name: scored(read_scene(folder).poses) for folder in folders}
    return LocalizationEvaluation(thresholds, methods, left_aside)


def _methods_of(summary: Path) -> Collection[str] | None:
    """The methods of the last run of ``gloam localize`` into a folder; None where it was not written by one."""
    if not summary.is_file():
        return None
    try:
        found = read_json(summary)["methods"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{summary}: cannot be read ({error}); run `gloam localize` again, or remove it") from error
    return found if isinstance(found, dict) else None


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and not isfinite(value) else value for key, value in values.items()}
