"""``gloam localize``: poses of query images in a kapture map."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gloam.cli.shared.report import Report
from gloam.errors import DataError, UsageError

if TYPE_CHECKING:
    from gloam.data.scene import Scene
    from gloam.eval.localization.benchmark import Descriptors
    from gloam.runtime.localization.features import FeatureSource

HELP = "localize the queries of a kapture dataset in a map: pose approximation, local or global structure from motion"
METHODS = ("top1", "ewb", "bdi", "csi", "2a", "2b")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("--mapping", type=Path, required=True, help="kapture dataset with images, intrinsics and poses")
    parser.add_argument("--query", type=Path, required=True, help="kapture dataset with images and intrinsics")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for poses; the same command resumes")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--pairs", type=Path, help="pair list query-map, hloc's or kapture's text")
    source.add_argument("--global-features", type=Path, help="kapture global features of queries and map images")
    source.add_argument("--stores", type=Path, nargs=2, metavar=("QUERY", "MAP"), help="stores of `gloam extract`")
    parser.add_argument("--top-k", type=int, default=10, help="map images per query")
    parser.add_argument(
        "--method", action="append", choices=METHODS, help="repeat for several (default: 2b): 1 = top1, ewb, bdi, csi"
    )
    parser.add_argument("--features", default="sift", help="'sift', or a folder of kapture local features")
    parser.add_argument("--max-keypoints", type=int, default=4096, help="SIFT: strongest kept per image")
    parser.add_argument("--pixel-shift", type=float, default=0.0, help="SIFT: 0.5 where intrinsics follow COLMAP")
    parser.add_argument("--map-pairs", type=Path, help="pairs of map images for 2b (default: neighbours by known pose)")
    parser.add_argument("--workers", type=int, help="threads (default: all cores); changes no result")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice")
    parser.add_argument(
        "--ltvl-style", choices=("aachen", "robotcar", "full"), default="full", help="names in ltvl.txt"
    )


def run(arguments: argparse.Namespace) -> Report:
    """Read the datasets, localize, write a kapture dataset and an LTVL2020 file per method."""
    from gloam.data.kapture_io import read_local_features, read_scene, write_scene
    from gloam.data.pairs import read_pairs
    from gloam.data.scene import Scene
    from gloam.eval.localization.benchmark import run_localization
    from gloam.eval.localization.ltvl import write_ltvl
    from gloam.files import write_json
    from gloam.runtime.localization.features import KaptureFeatures, SiftFeatures

    methods = tuple(dict.fromkeys(arguments.method or ["2b"]))
    if arguments.top_k < 1:
        raise UsageError("--top-k must be 1 or more")
    if arguments.pairs is not None and {"bdi", "csi"} & set(methods):
        raise UsageError("bdi and csi weigh by descriptors: give --global-features or --stores instead of --pairs")
    mapping = read_scene(arguments.mapping, need_poses=True, need_cameras=True)
    query = read_scene(arguments.query, need_cameras=True)
    retrieved, descriptors = _retrieved(arguments, query, mapping)
    ratio: float | None = None
    features: FeatureSource
    if arguments.features == "sift":
        features, ratio = SiftFeatures(arguments.max_keypoints, pixel_shift=arguments.pixel_shift), 0.85
    else:
        features = KaptureFeatures(read_local_features(arguments.features))
    map_pairs = None
    if arguments.map_pairs is not None:
        map_pairs = [(pair.query, pair.mapping) for pair in read_pairs(arguments.map_pairs)]
    result = run_localization(
        mapping,
        query,
        retrieved,
        features,
        methods,
        map_pairs=map_pairs,
        descriptors=descriptors,
        workspace=arguments.output / "workspace",
        workers=arguments.workers,
        ratio=ratio,
        seed=arguments.seed,
    )
    camera_ids = {name: record.camera_id for name, record in query.records.items()}
    summary: dict[str, Any] = {
        "seed": arguments.seed,
        "top_k": arguments.top_k,
        "seconds": result.seconds,
        "methods": {},
    }
    lines = []
    for method in methods:
        poses = {name: pose for name, pose in result.poses[method].items() if pose is not None}
        folder = arguments.output / method
        write_scene(Scene(folder, query.cameras, query.records, poses))
        write_ltvl(folder / "ltvl.txt", poses, camera_ids, arguments.ltvl_style)
        localized = len(poses)
        summary["methods"][method] = {"queries": len(query.records), "localized": localized, "folder": str(folder)}
        lines.append(f"{method:5s} {localized} of {len(query.records)} queries localized: {folder}")
    if "2b" in methods:
        lines.append(f"map   {result.map_points} points, mean reprojection error {result.map_error:.2f} px")
        summary["map"] = {"points": result.map_points, "reprojection_error_px": result.map_error}
    write_json(arguments.output / "summary.json", summary)
    lines.append(f"next: gloam eval localization --results {arguments.output} --ground-truth KAPTURE")
    return Report(summary, "\n".join(lines))


def _retrieved(
    arguments: argparse.Namespace, query: Scene, mapping: Scene
) -> tuple[Mapping[str, Sequence[str]], Descriptors | None]:
    """Map images per query, best first, from whichever source was given."""
    import numpy as np

    from gloam.data.kapture_io import read_global_features
    from gloam.data.pairs import read_pairs
    from gloam.eval.localization.benchmark import Descriptors, retrieve

    def known(names: set[str], scene: Scene, what: str) -> None:
        unknown = sorted(names - set(scene.records))
        if unknown:
            raise DataError(f"{what}: image {unknown[0]!r} is not in {scene.root}")

    if arguments.pairs is not None:
        pairs = read_pairs(arguments.pairs)
        known({pair.query for pair in pairs}, query, str(arguments.pairs))
        known({pair.mapping for pair in pairs}, mapping, str(arguments.pairs))
        order: Callable[[Any], float] = lambda pair: -(pair.score or 0.0)  # noqa: E731  # a stable sort keeps files
        listed: dict[str, list[str]] = {name: [] for name in query.names}
        for pair in sorted(pairs, key=order):
            listed[pair.query].append(pair.mapping)
        return {name: names[: arguments.top_k] for name, names in listed.items()}, None
    if arguments.global_features is not None:
        names, matrix, _ = read_global_features(arguments.global_features)
        matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
        descriptors = Descriptors(dict(zip(names, matrix, strict=True)))
    else:
        from gloam.runtime.descriptors.source import expect_searchable
        from gloam.runtime.descriptors.store import DescriptorStore

        stores = [DescriptorStore.open(folder) for folder in arguments.stores]
        expect_searchable(stores[1].space, stores[0], str(arguments.stores[0]))
        descriptors = Descriptors(
            {name: row for store in stores for name, row in zip(store.names, store.load(), strict=True)}
        )
    return retrieve(descriptors, descriptors, query.names, mapping.names, arguments.top_k), descriptors
