"""Four photographs and their COLMAP model of an arbitrary unit: each left out of the model and localized in the rest.

By the command as it is (`gloam localize --mapping MODEL --query LIST --pairs LIST`), with XFeat's features and, as the
control, with SIFT, which is the default; the nearest photograph's pose stands beside both. The model's keypoints have
no descriptors, so that the map is triangulated anew. It was made of the photographs as they were taken: those at hand
are stored in 0.07 bits a pixel, and what is left of the roof's slates, where the model has its points, are blocks of
JPEG, in which SIFT finds little.
"""

from __future__ import annotations

import itertools
import tempfile
import zlib  # noqa: F401  # before pycolmap, which carries a copy of its symbols
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from benchmarks.shared.matching_models import EXTRACTORS, exported
from benchmarks.shared.result import Result, data_pack
from gloam.data.scene import position_error, rotation_error
from gloam.eval.localization.localize import localize
from gloam.eval.localization.request import LocalizeRequest
from gloam.runtime.localization.maps.colmap_model import read_colmap_model

JUDGED = "XFeat, mutual neighbours"
KEYPOINTS = 4096  # as many as the command keeps by default
FAR = 0.02  # of the scene's size: a pose that is further off is none


def without(model: Path, left_out: str, folder: Path) -> Path:
    """Write a COLMAP model without an image."""
    rest = pycolmap.Reconstruction(model)
    rest.deregister_frame(rest.find_image_with_name(left_out).frame_id)
    folder.mkdir(parents=True)
    rest.write_binary(folder)
    return folder


def run() -> Result:
    """The value is how many of the four photographs are localized within 2 % of the scene's size."""
    pack = data_pack("maupertuis_colmap")
    model = read_colmap_model(pack / "reconstruction", pack / "images")
    scene = model.scene
    centers = {name: scene.poses[name].center for name in scene.names}
    size = max(float(np.linalg.norm(centers[a] - centers[b])) for a, b in itertools.combinations(scene.names, 2))
    detail: dict[str, Any] = {"scene_size": size, "photos": {name: {} for name in scene.names}}
    with tempfile.TemporaryDirectory(prefix="gloam-maupertuis-") as temporary:
        folder = Path(temporary)
        xfeat = exported(
            data_pack("weights") / EXTRACTORS["XFeat"],
            folder / "models",
            keypoints=KEYPOINTS,
            threshold=0.0,
            max_side=0,
        )
        for left_out, (features, named) in itertools.product(scene.names, {JUDGED: str(xfeat), "SIFT": "sift"}.items()):
            place = folder / left_out / features
            camera = scene.camera(left_out)
            place.mkdir(parents=True)
            params = " ".join(map(repr, camera.params))
            (place / "query.txt").write_text(f"{left_out} {camera.model} {camera.width} {camera.height} {params}\n")
            others = sorted(
                (name for name in scene.names if name != left_out),
                key=lambda name: position_error(scene.poses[name], scene.poses[left_out]),
            )
            (place / "pairs.txt").write_text("".join(f"{left_out} {name}\n" for name in others))
            found = localize(
                LocalizeRequest(
                    mapping=without(pack / "reconstruction", left_out, place / "model"),
                    query=place / "query.txt",
                    output=place / "poses",
                    pairs=place / "pairs.txt",
                    images=pack / "images",
                    features=named,
                    methods=("2b", "top1"),
                )
            )
            row: dict[str, Any] = {"map": found.summary["map"]}
            for method, poses in found.result.poses.items():
                pose = poses[left_out]
                if pose is not None:
                    row[method] = {
                        "position_over_size": position_error(pose, scene.poses[left_out]) / size,
                        "rotation_deg": rotation_error(pose, scene.poses[left_out]),
                    }
            row["inliers"] = found.result.inliers["2b"][left_out]
            row["correspondences"] = found.result.correspondences["2b"][left_out]
            detail["photos"][left_out][features] = row
    count = {
        features: sum(
            row[features].get("2b", {"position_over_size": 1.0})["position_over_size"] <= FAR
            for row in detail["photos"].values()
        )
        for features in (JUDGED, "SIFT")
    }
    detail["localized"] = count
    return Result(count[JUDGED], "photographs of four", "4", count[JUDGED] == len(scene.names), detail)
