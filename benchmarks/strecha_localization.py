"""Real photographs with laser-scan poses: each left out of the map in turn and localized by SIFT (2b)."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.result import Result, data_pack
from gloam.data.scene import Camera, Pose, Record, Scene, position_error, rotation_error
from gloam.eval.localization.benchmark import run_localization
from gloam.runtime.localization.features.sources import SiftFeatures
from gloam.runtime.localization.matches.mutual import MutualMatcher

LIMIT, END_LIMIT = 0.01, 0.02  # of the scene's size; an end camera is seen from one side alone
RATIO = 0.85


def read_photos(pack: Path, root: Path) -> Scene:
    """The six photographs as a scene below ``root``."""
    scene = Scene(root)
    for number, (name, item) in enumerate(sorted(json.loads((pack / "poses.json").read_text()).items())):
        k = np.array(item["K"])
        scene.cameras[name] = Camera("PINHOLE", item["width"], item["height"], (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
        scene.records[name] = Record(name, number)
        scene.poses[name] = Pose.from_matrix(item["R_world_to_cam"], item["t_world_to_cam"])
        target = scene.image_path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to((pack / "images" / name).resolve())
    return scene


def run() -> Result:
    """Leave one out, six times; the nearest photograph's pose is the control."""
    with tempfile.TemporaryDirectory(prefix="gloam-strecha-") as temporary:
        folder = Path(temporary)
        scene = read_photos(data_pack("strecha_herzjesu"), folder / "scene")
        centers = {name: pose.center for name, pose in scene.poses.items()}
        size = max(float(np.linalg.norm(centers[a] - centers[b])) for a, b in itertools.combinations(scene.names, 2))
        ends = {scene.names[0], scene.names[-1]}
        detail: dict[str, Any] = {"scene_size_m": size, "photos": {}}
        worst, met = 0.0, True
        for left_out in scene.names:
            others = [name for name in scene.names if name != left_out]
            mapping = dataclasses.replace(scene, records={name: scene.records[name] for name in others})
            query = dataclasses.replace(scene, records={left_out: scene.records[left_out]}, poses={})
            near = sorted(others, key=lambda name: float(np.linalg.norm(centers[name] - centers[left_out])))
            result = run_localization(
                mapping,
                query,
                {left_out: near},
                SiftFeatures(max_keypoints=8000, max_side=None),
                ("2b", "top1"),
                map_pairs=list(itertools.combinations(others, 2)),
                workspace=folder / "workspace",
                rule=MutualMatcher(RATIO),
            )
            pose = result.poses["2b"][left_out]
            share = float("inf") if pose is None else position_error(pose, scene.poses[left_out]) / size
            nearest = result.poses["top1"][left_out]
            detail["photos"][left_out] = {
                "position_over_size": share,
                "rotation_deg": None if pose is None else rotation_error(pose, scene.poses[left_out]),
                "inliers": result.inliers["2b"][left_out],
                "map_points": result.map_points,
                "end_camera": left_out in ends,
                "control_nearest_photo": None
                if nearest is None
                else position_error(nearest, scene.poses[left_out]) / size,
            }
            worst = max(worst, share)
            met = met and share <= (END_LIMIT if left_out in ends else LIMIT)
        return Result(worst, "share of scene size", f"<= {LIMIT} each, <= {END_LIMIT} the end cameras", met, detail)
