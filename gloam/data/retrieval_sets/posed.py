"""Kapture datasets with poses: positives by distance and heading, or by 3D points that both images see."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from gloam.data.kapture_io import read_conditions, read_scene
from gloam.data.retrieval_sets.pairing import Indices, Positions, blocks, choose_pairs, components, neighbours, regions
from gloam.data.retrieval_sets.sets import RetrievalSet, join_sets
from gloam.data.scene import Scene
from gloam.data.sources import ImageItem
from gloam.errors import DataError, UsageError
from gloam.files import open_file


def read_kapture(
    path: str | Path | Sequence[str | Path],
    positives: Literal["distance", "covisibility"] = "distance",
    distance: float = 10.0,
    heading: float = 40.0,
    shared_points: int = 20,
    apart: float = 25.0,
    side: float | None = None,
    one_world: bool = False,
    pairs_per_image: int = 2,
    seed: int = 0,
) -> RetrievalSet:
    """Read one or several kapture datasets.

    Args:
        path: dataset or datasets. Each is a world of its own unless ``one_world`` (``mapping`` and ``query`` of one
            map share a world); images of different worlds are never positives and always may be negatives.
        positives: ``distance``: camera centres at most ``distance`` and viewing directions at most ``heading`` apart;
            ``covisibility``: at least ``shared_points`` points of ``reconstruction/observations.txt`` in common.
        distance: metres; heading: degrees. shared_points: a number.
        apart: metres from which images may be negatives of each other; 10 and 25 are usual for streets.
        side: cut a world into square blocks of this side, metres, with gaps of ``apart``, whose images are left out;
            None: a cluster is what is connected by steps of at most ``apart``.
        pairs_per_image: pairs that an image is the query of, drawn from its positives.
        seed: of the draw.

    Raises:
        DataError: no kapture dataset, images without poses, poses that are not finite, no pairs, or one single
            cluster, which has no negatives.
    """
    roots = [Path(path)] if isinstance(path, str | Path) else [Path(root) for root in path]
    if not roots:
        raise UsageError("retrieval set of kapture: name at least one dataset")
    if positives not in ("distance", "covisibility"):
        raise UsageError(f"unknown rule {positives!r} for positives; choose distance or covisibility")
    values = {"distance": distance, "heading": heading, "apart": apart, "side": 1.0 if side is None else side}
    for name, value in values.items():
        if not (np.isfinite(value) and value > 0):
            raise UsageError(f"{name} {value}: must be a number above 0")
    scenes = [read_scene(root, need_poses=positives == "distance" or side is not None) for root in roots]
    worlds = [scenes] if one_world else [[scene] for scene in scenes]
    parts, between = [], 0
    for world in worlds:
        items = [ImageItem(_name(s, name, roots), s.image_path(name)) for s in world for name in s.names]
        conditions = _conditions(world)
        if positives == "distance":
            first, second = near(*positions(world), distance, heading)
        else:
            first, second = covisible(world, shared_points)
        clusters = _clusters(world, first, second, apart, side)
        same = (clusters[first] == clusters[second]) & (clusters[first] >= 0)
        queries, partners = choose_pairs(first[same], second[same], pairs_per_image, seed)
        whole = RetrievalSet(tuple(items), clusters, queries, partners, conditions)
        parts.append(whole.part(np.flatnonzero(clusters >= 0)))
        between += int((clusters < 0).sum())
    found = join_sets(parts)
    if between:
        found = replace(found, left_out={"in a gap between blocks": between})
    if not len(found.queries):
        advice = "raise distance or heading" if positives == "distance" else "lower shared_points"
        raise DataError(f"{roots[0]}: no two images are positives of each other; {advice}")
    if found.cluster_count < 2:
        raise DataError(
            f"{roots[0]}: all images are one cluster, which has no negatives; give side METRES to cut it, or more "
            "datasets"
        )
    return found


def positions(world: Sequence[Scene]) -> tuple[Positions, Positions]:
    """Camera centres ``[n, 3]`` in metres and unit viewing directions ``[n, 3]``, scene by scene, names sorted.

    Raises:
        DataError: an image without a pose.
    """
    centers, directions = [], []
    for scene in world:
        for name in scene.names:
            pose = scene.poses.get(name)
            if pose is None:
                raise DataError(f"{scene.root}: image {name!r} has no pose in trajectories.txt")
            centers.append(pose.center)
            directions.append(pose.rotation[2])
    return np.array(centers).reshape(-1, 3), np.array(directions).reshape(-1, 3)


def near(centers: Positions, directions: Positions, distance: float, heading: float) -> tuple[Indices, Indices]:
    """Ordered pairs of different images within ``distance`` metres and ``heading`` degrees, int64 ``[q]`` each."""
    least = np.cos(np.radians(min(heading, 180.0)))
    queries, partners = [], []
    for rows, columns in neighbours(centers, centers, distance):
        same_way = np.einsum("ij,ij->i", directions[rows], directions[columns]) >= least - 1e-12
        kept = same_way & (rows != columns)
        queries.append(rows[kept])
        partners.append(columns[kept])
    return _joined(queries), _joined(partners)


def covisible(world: Sequence[Scene], shared_points: int) -> tuple[Indices, Indices]:
    """Ordered pairs of different images with at least ``shared_points`` 3D points in common, int64 ``[q]`` each.

    Raises:
        DataError: no ``reconstruction/observations.txt``, a malformed line, or an unknown image; the line is named.
    """
    queries, partners, start = [], [], 0
    for scene in world:
        names = scene.names
        counts = _shared(scene, {name: row for row, name in enumerate(names)})
        keys = np.array([key for key, count in counts.items() if count >= shared_points], np.int64)
        first, second = np.divmod(keys, len(names))
        queries += [first + start, second + start]
        partners += [second + start, first + start]
        start += len(names)
    return _joined(queries), _joined(partners)


def _shared(scene: Scene, index: dict[str, int]) -> dict[int, int]:
    """Points in common by ``first * n + second``, first < second."""
    path = scene.root / "reconstruction" / "observations.txt"
    keys: list[Indices] = []
    counts: dict[int, int] = {}

    def settle() -> None:
        unique, number = np.unique(_joined(keys), return_counts=True)
        for key, more in zip(unique.tolist(), number.tolist(), strict=True):
            counts[key] = counts.get(key, 0) + more
        keys.clear()

    waiting = 0
    try:
        with open_file(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as handle:
            for number, line in enumerate(handle, 1):
                if not line.strip() or line.startswith("#"):
                    continue
                fields = [field.strip() for field in line.split(",")]
                # kapture 1.1: point, keypoints type, then image and feature in turn; 1.0 has no type.
                seen = fields[2::2] if len(fields) % 2 == 0 else fields[1::2]
                try:
                    rows = np.unique(np.array([index[name] for name in seen], np.int64))
                except KeyError as error:
                    raise DataError(f"{path}:{number}: image {error} is not in records_camera.txt") from None
                first, second = np.triu_indices(len(rows), 1)
                keys.append(rows[first] * len(index) + rows[second])
                waiting += len(first)
                if waiting > 5_000_000:
                    settle()
                    waiting = 0
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); covisibility needs it, or take positives by distance"
        ) from error
    settle()
    return counts


def _clusters(world: Sequence[Scene], first: Indices, second: Indices, apart: float, side: float | None) -> Indices:
    posed = all(len(scene.poses) == len(scene.records) for scene in world)
    if not posed:
        return components(sum(len(scene.records) for scene in world), first, second)
    centers = positions(world)[0]
    return regions(centers, apart) if side is None else blocks(centers, side, apart)


def _conditions(world: Sequence[Scene]) -> tuple[str, ...] | None:
    """By the lists in ``conditions/`` of each dataset; ``unknown`` for images in none of them."""
    found: list[str] = []
    known = False
    for scene in world:
        folder = scene.root / "conditions"
        lists = read_conditions(folder) if folder.is_dir() else {}
        known = known or bool(lists)
        label = {name: condition for condition, names in lists.items() for name in names}
        found += [label.get(name, "unknown") for name in scene.names]
    return tuple(found) if known else None


def _name(scene: Scene, name: str, roots: Sequence[Path]) -> str:
    if len(roots) == 1:
        return name
    same = [root for root in roots if root.name == scene.root.name]
    return f"{scene.root.name if len(same) == 1 else roots.index(scene.root)}/{name}"


def _joined(parts: Sequence[Indices]) -> Indices:
    return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)
