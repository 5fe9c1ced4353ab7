"""The one module that knows pycolmap: two-view verification, triangulation with known poses, absolute pose.

Names and options are those of pycolmap 4.2. Every random choice takes a seed, so that a result depends on its inputs
and neither on the order nor on the number of workers.
"""

from __future__ import annotations

# pycolmap carries its own copy of zlib's symbols: imported before Python's zlib it breaks gzip, PNG and savez with
# "free(): invalid pointer". Loading Python's first cures it.
import zlib  # noqa: F401  # see above
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.scene import Camera, Pose
from gloam.errors import DataError, require

# pycolmap's own bound is 10 000: six times the time, spent on pairs that do not show the same place, for 2 % of the
# inliers. A pose needs no more than a clean majority, its own RANSAC follows.
VERIFICATION_TRIALS = 1000

Points2D = npt.NDArray[np.floating[Any]]
Pairs = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class View:
    """An image with known intrinsics and pose and its keypoints ``[n, 2]``."""

    camera: Camera
    pose: Pose
    keypoints: Points2D


@dataclass(frozen=True)
class Triangulation:
    """Points of a map.

    Attributes:
        points: float64 ``[P, 3]``, metres.
        observed: per image int64 ``[n]``, the point of each keypoint or -1.
        mean_error: reprojection, pixels.
    """

    points: npt.NDArray[np.float64]
    observed: dict[str, npt.NDArray[np.int64]]
    mean_error: float


@dataclass(frozen=True)
class AbsolutePoseOptions:
    """LO-RANSAC and refinement of a query's pose; kapture's benchmark settings."""

    max_error: float = 8.0  # pixels
    min_inlier_ratio: float = 0.01
    min_trials: int = 1000
    max_trials: int = 100_000
    confidence: float = 0.9999
    min_inliers: int = 12  # pycolmap itself returns a pose from three points


def _pycolmap() -> Any:
    module = require("pycolmap", "localization", "localize")
    module.logging.minloglevel = 2  # glog writes to stderr at every call
    return module


def solver_version() -> str:
    """Release of the geometry's solver, which kept results depend on."""
    return f"pycolmap {_pycolmap().__version__}, {VERIFICATION_TRIALS} trials"


def _camera(camera: Camera, camera_id: int = 1) -> Any:
    pc = _pycolmap()
    try:
        model = getattr(pc.CameraModelId, camera.model)
    except AttributeError as error:
        raise DataError(f"camera model {camera.model!r} is unknown to pycolmap; use one of COLMAP's") from error
    built = pc.Camera(
        camera_id=camera_id, model=model, width=camera.width, height=camera.height, params=list(camera.params)
    )
    if not built.verify_params():
        raise DataError(f"camera model {camera.model} does not take {len(camera.params)} parameters")
    built.has_prior_focal_length = True  # known intrinsics: verify by the essential matrix, not the fundamental
    return built


def verify_matches(
    first: Camera, first_points: Points2D, second: Camera, second_points: Points2D, matches: Pairs, seed: int = 0
) -> Pairs:
    """Matches that agree with one two-view geometry.

    Args:
        first, second: intrinsics.
        first_points, second_points: keypoints ``[n, 2]``, pixels.
        matches: uint32 ``[k, 2]``.

    Returns:
        the inliers, uint32 ``[m, 2]``; empty where no geometry is found.
    """
    pc = _pycolmap()
    options = pc.TwoViewGeometryOptions()
    if len(matches) < options.min_num_inliers:
        return np.zeros((0, 2), np.uint32)
    options.ransac.max_num_trials = VERIFICATION_TRIALS
    options.ransac.random_seed = seed
    geometry = pc.estimate_two_view_geometry(
        _camera(first),
        np.asarray(first_points, np.float64),
        _camera(second),
        np.asarray(second_points, np.float64),
        matches,
        options,
    )
    inliers = np.asarray(geometry.inlier_matches, np.uint32).reshape(-1, 2)
    return inliers[np.argsort(inliers[:, 0], kind="stable")]


def verify_by_pose(
    first: Camera,
    first_pose: Pose,
    first_points: Points2D,
    second: Camera,
    second_pose: Pose,
    second_points: Points2D,
    matches: Pairs,
    max_error: float = 4.0,
) -> Pairs:
    """Matches that agree with the known relative pose of two images: exact, and no random choice.

    Args:
        matches: uint32 ``[k, 2]``.
        max_error: largest distance of either point from its epipolar line, pixels; the RANSAC's own bound.

    Returns:
        the inliers, uint32 ``[m, 2]``; those of two images at one place are all outliers, as nothing can be
        triangulated from them.
    """
    if not len(matches):
        return matches
    rotation = second_pose.rotation @ first_pose.rotation.T
    translation = np.asarray(second_pose.translation) - rotation @ np.asarray(first_pose.translation)
    length = np.linalg.norm(translation)
    if length < 1e-9:
        return np.zeros((0, 2), np.uint32)
    x, y, z = translation / length
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation
    rays = [
        np.asarray(_camera(camera).cam_from_img(np.asarray(points, np.float64)[matches[:, column]]))
        for column, (camera, points) in enumerate(((first, first_points), (second, second_points)))
    ]
    a, b = (np.concatenate([ray, np.ones((len(ray), 1))], axis=1) for ray in rays)
    algebraic = np.einsum("ni,ij,nj->n", b, essential, a)
    worst = np.zeros(len(matches))
    for lines, camera in ((a @ essential.T, second), (b @ essential, first)):
        slope = np.maximum(np.linalg.norm(lines[:, :2], axis=1), 1e-12)
        worst = np.maximum(worst, np.abs(algebraic) / slope * _camera(camera).mean_focal_length())
    # In front of both cameras: the depths of the midpoint's two rays are positive.
    turned = a @ rotation.T
    cross = np.cross(turned, b)
    depth_first = np.einsum("ni,ni->n", np.cross(b, np.array([x, y, z])), cross)
    depth_second = np.einsum("ni,ni->n", np.cross(turned, np.array([x, y, z])), cross)
    kept: Pairs = matches[(worst <= max_error) & (depth_first > 0) & (depth_second > 0)]
    return kept


def triangulate(views: Mapping[str, View], matches: Mapping[tuple[str, str], Pairs], seed: int = 0) -> Triangulation:
    """Triangulate verified matches with fixed poses and intrinsics.

    Args:
        views: images by name, at least two.
        matches: verified inliers by pair of names.
        seed: of pycolmap's random choices.

    Raises:
        DataError: fewer than two images, or no matches between them.
    """
    if len(views) < 2:
        raise DataError("a map needs at least two images")
    if not any(len(pairs) for pairs in matches.values()):
        raise DataError("the map images share no verified matches, so nothing can be triangulated")
    pc = _pycolmap()
    pc.set_random_seed(seed)
    names = sorted(views)
    ids = {name: number for number, name in enumerate(names, 1)}
    with TemporaryDirectory(prefix="gloam-map-") as temporary:
        folder = Path(temporary)
        reconstruction = _known_poses(pc, views, ids)
        _write_database(pc, folder / "database.db", views, ids, matches)
        options = pc.IncrementalPipelineOptions()
        options.random_seed = seed
        options.num_threads = 1
        options.triangulation.random_seed = seed
        # The poses are known, so a point seen by two images is as good as its angle; a mini-map needs every point.
        options.triangulation.ignore_two_view_tracks = False
        (folder / "model").mkdir()
        result = pc.triangulate_points(
            reconstruction, folder / "database.db", folder, folder / "model", clear_points=True, options=options
        )
    observed = {name: np.full(len(views[name].keypoints), -1, np.int64) for name in names}
    points = np.empty((result.num_points3D(), 3))
    for row, key in enumerate(sorted(result.point3D_ids())):
        point = result.point3D(key)
        points[row] = point.xyz
        for element in point.track.elements:
            observed[names[element.image_id - 1]][element.point2D_idx] = row
    error = float(result.compute_mean_reprojection_error()) if len(points) else float("nan")
    return Triangulation(points, observed, error)


def absolute_pose(
    points2d: Points2D,
    points3d: npt.NDArray[np.float64],
    camera: Camera,
    options: AbsolutePoseOptions | None = None,
    seed: int = 0,
) -> tuple[Pose, int] | None:
    """Pose of a camera from 2D-3D correspondences.

    Args:
        points2d: ``[n, 2]``, pixels.
        points3d: ``[n, 3]``, metres.

    Returns:
        the pose and its number of inliers, or None where too few agree.
    """
    options = options or AbsolutePoseOptions()
    if len(points2d) < options.min_inliers:
        return None
    pc = _pycolmap()
    estimation = pc.AbsolutePoseEstimationOptions()
    ransac = estimation.ransac
    ransac.max_error = options.max_error
    ransac.min_inlier_ratio = options.min_inlier_ratio
    ransac.min_num_trials = options.min_trials
    ransac.max_num_trials = options.max_trials
    ransac.confidence = options.confidence
    ransac.random_seed = seed
    answer = pc.estimate_and_refine_absolute_pose(
        np.asarray(points2d, np.float64), np.asarray(points3d, np.float64), _camera(camera), estimation
    )
    if answer is None or answer["num_inliers"] < options.min_inliers:
        return None
    matrix = np.asarray(answer["cam_from_world"].matrix())
    return Pose.from_matrix(matrix[:, :3], matrix[:, 3]), int(answer["num_inliers"])


def _rigid(pc: Any, pose: Pose) -> Any:
    w, x, y, z = np.asarray(pose.quaternion) / np.linalg.norm(pose.quaternion)  # pycolmap takes any length for 1
    return pc.Rigid3d(pc.Rotation3d(np.array([x, y, z, w])), np.asarray(pose.translation))


def _known_poses(pc: Any, views: Mapping[str, View], ids: Mapping[str, int]) -> Any:
    reconstruction = pc.Reconstruction()
    for name, number in ids.items():
        view = views[name]
        # One camera an image: cheaper than finding out which are shared, and nothing is refined.
        reconstruction.add_camera_with_trivial_rig(_camera(view.camera, number))
        image = pc.Image(name=name, keypoints=np.asarray(view.keypoints, np.float64), camera_id=number, image_id=number)
        reconstruction.add_image_with_trivial_frame(image, _rigid(pc, view.pose))
    return reconstruction


def _write_database(
    pc: Any, path: Path, views: Mapping[str, View], ids: Mapping[str, int], matches: Mapping[tuple[str, str], Pairs]
) -> None:
    database = pc.Database.open(path)
    try:
        with pc.DatabaseTransaction(database):
            for name, number in ids.items():
                view = views[name]
                database.write_camera(_camera(view.camera, number), use_camera_id=True)
                database.write_image(pc.Image(name=name, camera_id=number, image_id=number), use_image_id=True)
                database.write_keypoints(number, np.asarray(view.keypoints, np.float32))
            for (first, second), pairs in matches.items():
                if len(pairs):
                    geometry = pc.TwoViewGeometry()
                    geometry.config = pc.TwoViewGeometryConfiguration.CALIBRATED
                    geometry.inlier_matches = pairs
                    database.write_two_view_geometry(ids[first], ids[second], geometry)
    finally:
        database.close()
