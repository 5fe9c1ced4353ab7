"""Poses of query images in a kapture or COLMAP map, from datasets on disk to files on disk."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.kapture_io import write_scene
from gloam.data.kapture_text import transform_problem
from gloam.data.pairs import Pair, write_pairs
from gloam.data.scene import Scene
from gloam.eval.localization.benchmark import Descriptors, LocalizationResult, run_localization
from gloam.eval.localization.estimate import estimate_localization
from gloam.eval.localization.ltvl import write_ltvl
from gloam.eval.localization.match_pictures import draw_result
from gloam.eval.localization.outcomes import QueryOutcome, query_outcomes
from gloam.eval.localization.pose_files import write_colmap_text, write_pose_table
from gloam.eval.localization.request import LocalizeRequest, Work, opened
from gloam.eval.localization.rerun_file import write_recording
from gloam.eval.localization.rig_poses import pose_rigs
from gloam.files import plain_cell, write_json, write_text
from gloam.runtime.localization.colmap import AbsolutePoseOptions
from gloam.runtime.localization.estimate import Estimate
from gloam.runtime.localization.maps.map_folder import EmbedderRecord, expect_room, write_map
from gloam.runtime.localization.matches.mutual import MutualMatcher
from gloam.runtime.output_folder import remove

REPORT_FILE, RERANKED_FILE = "report.html", "pairs.txt"  # of the output folder


@dataclass(frozen=True)
class Localization:
    """How it came out.

    Attributes:
        output: folder with a kapture dataset for every method.
        result: poses, inliers and seconds.
        summary: what ``summary.json`` holds.
        outcomes: of every query, by method.
    """

    output: Path
    result: LocalizationResult
    summary: Mapping[str, Any]
    outcomes: Mapping[str, Sequence[QueryOutcome]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(self.summary)

    def to_text(self) -> str:
        """A line for every method, the map, and what to do next."""
        lines = [
            f"{method:5s} {found['localized']} of {found['queries']} queries localized: {found['folder']}"
            for method, found in self.summary["methods"].items()
        ]
        if "map" in self.summary:
            lines.append(
                f"map   {self.result.map_points} points, mean reprojection error {self.result.map_error:.2f} px, "
                f"{self.result.map_source}"
            )
        if "saved_map" in self.summary:
            lines.append(f"saved {self.summary['saved_map']}: open it by gloam.Localizer.open")
        if "rerun" in self.summary:
            lines.append(f"shown  {self.summary['rerun']}: open it by `rerun {self.summary['rerun']}`")
        lines.append(f"next: gloam eval localization --results {self.output} --ground-truth KAPTURE")
        return "\n".join(lines)


def estimate(request: LocalizeRequest) -> Estimate:
    """What :func:`localize` will take; a few images, pairs and queries are timed, and nothing is written.

    Raises:
        as :func:`localize`.
    """
    since = time.perf_counter()
    work = opened(request)
    return estimate_localization(
        work.mapping,
        work.query,
        work.retrieved,
        work.features,
        work.methods,
        map_pairs=work.map_pairs,
        model=work.model,
        workers=request.workers,
        rule=work.rule,
        verify_queries=work.verify_queries,
        options=work.options,
        seed=request.seed,
        memory=request.memory,
        since=since,
    )


def localize(request: LocalizeRequest, progress: bool = False) -> Localization:
    """Localize the queries of a kapture dataset in a map; the same call carries on where an earlier one stopped.

    Writes a kapture dataset, an LTVL2020 file (``name qw qx qy qz tx ty tz``, metres), a COLMAP model of text without
    points (``colmap/``), ``poses.csv`` and ``queries.csv`` per method, ``summary.json``, ``pairs.txt`` where retrieved
    images were verified, and the map, pictures of matches and a recording for Rerun where they are asked for. A list, a
    page and pictures of an earlier run's poses are removed first.

    Args:
        request: datasets, what is retrieved and by which methods.
        progress: say how far it is, on stderr.

    Returns:
        poses by method and image, world to camera, unit quaternions and metres, and the sizes of the map (error in
        pixels).

    Raises:
        DataError: a dataset, pair list or feature file that cannot be used, or an image that is in none.
        IncompatibleError: stores whose descriptors may not be compared, local features of two lengths, or a matcher of
            other features.
        ModelError: a model that cannot be read, or of another kind.
        DeviceError: models cannot run where they are asked to.
        UsageError: methods and sources that do not go together.
        MissingExtraError: pycolmap is not installed.
    """
    work = opened(request)
    methods, query, features, rule, retrieved = work.methods, work.query, work.features, work.rule, work.retrieved
    if request.save_map is not None:
        expect_room(request.save_map)  # said before the work
    _remove_stale(request, methods)
    result = run_localization(
        work.mapping,
        query,
        work.retrieved,
        features,
        methods,
        map_pairs=work.map_pairs,
        model=work.model,
        descriptors=work.descriptors,
        workspace=request.workspace,
        workers=request.workers,
        rule=rule,
        verify_queries=work.verify_queries,
        keep_verified=None if request.verify is None else request.top_k,
        options=work.options,
        seed=request.seed,
        memory=request.memory,
        progress=progress,
    )
    if result.reranked is not None:
        retrieved = {name: [image for image, _ in images] for name, images in result.reranked.items()}
        ranked = ((name, *found) for name, images in sorted(result.reranked.items()) for found in images)
        write_pairs(request.output / RERANKED_FILE, (Pair(name, image, float(count)) for name, image, count in ranked))
    if request.rig != "off":
        _pose_rigs(request, work, result, retrieved)
    camera_ids = {name: record.camera_id for name, record in query.records.items()}
    summary: dict[str, Any] = {
        "seed": request.seed,
        "top_k": request.top_k,
        "verified_of": request.verify,
        "features": str(features.gives),
        "matcher": rule.key if isinstance(rule, MutualMatcher) else f"{request.matches or request.matcher}, {rule.key}",
        "query_matches": "verified" if work.verify_queries else "raw",
        "min_inliers": request.min_inliers,
        "rig": request.rig,
        "seconds": result.seconds,
        "methods": {},
    }
    outcomes: dict[str, list[QueryOutcome]] = {}
    for method in methods:
        found = result.poses[method].items()
        poses = {
            name: pose
            for name, pose in found
            if pose is not None and not transform_problem(pose.quaternion, pose.translation)
        }
        folder = request.output / method
        posed = Scene(folder, query.cameras, query.records, poses)
        write_scene(posed)
        write_colmap_text(folder / "colmap", posed)
        write_pose_table(folder / "poses.csv", posed)
        write_ltvl(folder / "ltvl.txt", poses, camera_ids, request.ltvl_style)
        outcomes[method] = query_outcomes(method, result, poses, retrieved, request.min_inliers)
        _write_queries(folder / "queries.csv", outcomes[method])
        localized = len(poses)
        if request.match_pictures and method in ("2a", "2b"):
            count = None if request.match_pictures == "all" else request.match_pictures
            limit = request.min_inliers
            draw_result(
                folder / "matches", method, result, poses, retrieved, limit, count=count, workers=request.workers
            )
        if request.rerun is not None and method == request.posed_by_matches:
            write_recording(request.rerun, method, result, poses, retrieved)
            summary["rerun"] = str(request.rerun)
        summary["methods"][method] = {"queries": len(query.records), "localized": localized, "folder": str(folder)}
    if "2b" in methods:
        points = {"points": result.map_points, "from": result.map_source}
        summary["map"] = points | {"reprojection_error_px": result.map_error}
    if request.save_map is not None:
        summary["saved_map"] = str(request.save_map)
        _save_map(request.save_map, request, result, work.descriptors)
    write_json(request.output / "summary.json", summary)
    return Localization(request.output, result, summary, outcomes)


def _remove_stale(request: LocalizeRequest, methods: Sequence[str]) -> None:
    """Remove what an earlier run wrote beside poses that this one replaces, and what this one may not write itself."""
    remove(request.output / REPORT_FILE)
    listed = request.output / RERANKED_FILE
    if request.pairs is None or request.pairs.resolve() != listed.resolve():
        remove(listed)
    for method in methods:
        for path in (request.output / method / "matches").rglob("*.png"):
            remove(path)


def _pose_rigs(
    request: LocalizeRequest, work: Work, result: LocalizationResult, retrieved: Mapping[str, Sequence[str]]
) -> None:
    """Poses through the rig of the queries' cameras, in the place of each camera's by itself."""
    assert result.matcher is not None
    with ThreadPoolExecutor(request.workers or len(os.sched_getaffinity(0)), "rigs") as pool:
        for method in {"2a", "2b"} & set(work.methods):
            world = result.world if method == "2b" else None
            found, counts = result.poses[method], result.inliers[method]
            poses = pose_rigs(
                request.rig, result.matcher, work.mounts, found, counts, retrieved, world, work.options, pool
            )
            changed = [name for name, pose in poses.items() if pose is not found.get(name)]
            result.poses[method] = poses
            result.covariances[method] |= dict.fromkeys(changed)  # those were of other poses


def _save_map(
    folder: Path, request: LocalizeRequest, result: LocalizationResult, descriptors: Descriptors | None
) -> None:
    from gloam.runtime.descriptors.store import DescriptorStore

    assert request.stores is not None  # such a request is refused
    assert descriptors is not None  # of the stores
    matcher, world = result.matcher, result.world
    assert matcher is not None
    assert world is not None  # of 2b
    store = DescriptorStore.open(request.stores[1], trust=request.trust)
    matrix = np.stack([descriptors.of(name) for name in matcher.mapping.names])
    embedder = EmbedderRecord(store.space, store.fingerprint, store.manifest["job"]["options"])
    write_map(
        folder, matcher, world, matrix, embedder, request.top_k, AbsolutePoseOptions(min_inliers=request.min_inliers)
    )


def _write_queries(path: Path, outcomes: Sequence[QueryOutcome]) -> None:
    """A row for every query: what was found, how far off it may be, and why there is no pose."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["image", "localized", "inliers", "correspondences", "position_std_m", "rotation_std_deg", "reason"])
    for found in outcomes:
        counts = ["" if count is None else count for count in (found.inliers, found.correspondences)]
        expected = ["", ""] if found.deviations is None else [f"{value:.4g}" for value in found.deviations]
        localized = "no" if found.pose is None else "yes"
        rows.writerow([plain_cell(found.name), localized, *counts, *expected, found.reason])
    write_text(path, table.getvalue())
