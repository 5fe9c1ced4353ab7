"""The one module that knows pycolmap: two-view verification, triangulation with known poses, absolute pose.

Names and options are those of pycolmap 4.2. Every random choice takes a seed, so that a result depends on its inputs
and neither on the order nor on the number of workers.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

# pycolmap carries its own copy of zlib's symbols: imported before Python's zlib it breaks gzip, PNG and savez with
# "free(): invalid pointer". Loading Python's first cures it.
import zlib  # noqa: F401  # see above
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.data.scene import Camera, Pose
from gloam.errors import DataError, require
from gloam.runtime.localization.large_maps import LARGE, triangulate_in_blocks

# pycolmap's own bound is 10 000: six times the time, spent on pairs that do not show the same place, for 2 % of the
# inliers. A pose needs no more than a clean majority, its own RANSAC follows.
VERIFICATION_TRIALS = 1000
STEP = 1e-6  # of a point's depth, for differences
SIGACTION = 1024  # bytes, more than a struct sigaction has anywhere
MOST_OF_CONDITION = 1e12  # of the information on a pose; beyond, some of its six numbers are not fixed

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


@dataclass(frozen=True, eq=False)
class AbsolutePose:
    """A camera's pose and how far it is to be trusted.

    Attributes:
        pose: world to camera.
        inliers: bool ``[n]``, the correspondences that agree with it.
        covariance: float64 ``[6, 6]``, see :func:`pose_covariance`; None where the inliers do not fix it.
    """

    pose: Pose
    inliers: npt.NDArray[np.bool_]
    covariance: npt.NDArray[np.float64] | None


def _pycolmap() -> Any:
    with contextlib.nullcontext() if "pycolmap" in sys.modules else _sigterm_kept():
        module = require("pycolmap", "localization", "localize")
    module.logging.minloglevel = 2  # glog writes to stderr at every call
    return module


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """What SIGTERM does, left as it is: pycolmap, when it is imported, has glog end the process at once, with a trace.

    By libc, for Python itself sets signals in the main thread alone.
    """
    if os.name == "nt":
        yield
        return
    libc, before = ctypes.CDLL(None), ctypes.create_string_buffer(SIGACTION)
    libc.sigaction(signal.SIGTERM, None, before)
    try:
        yield
    finally:
        libc.sigaction(signal.SIGTERM, before, None)


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


def expect_camera(camera: Camera) -> None:
    """Refuse intrinsics that no image can have.

    Raises:
        DataError: an unknown camera model, another count of parameters, or values that are no intrinsics.
    """
    values = (camera.width, camera.height, *camera.params)
    if not (np.isfinite(values).all() and min(camera.width, camera.height) > 0 and _focal(camera) > 0):
        numbers = ", ".join(f"{value:g}" for value in values)
        raise DataError(f"camera {camera.model} {numbers}: sizes and focal lengths must be finite and above 0")


def calibration(camera: Camera) -> npt.NDArray[np.float64]:
    """Intrinsics without distortion, float64 ``[3, 3]``."""
    matrix: npt.NDArray[np.float64] = np.asarray(_camera(camera).calibration_matrix(), np.float64)
    return matrix


def _focal(camera: Camera) -> float:
    return float(_camera(camera).mean_focal_length())


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
        worst = np.maximum(worst, np.abs(algebraic) / slope * _focal(camera))
    # In front of both cameras: the depths of the midpoint's two rays are positive.
    turned = a @ rotation.T
    cross = np.cross(turned, b)
    depth_first = np.einsum("ni,ni->n", np.cross(b, np.array([x, y, z])), cross)
    depth_second = np.einsum("ni,ni->n", np.cross(turned, np.array([x, y, z])), cross)
    kept: Pairs = matches[(worst <= max_error) & (depth_first > 0) & (depth_second > 0)]
    return kept


def triangulate(views: Mapping[str, View], matches: Mapping[tuple[str, str], Pairs], seed: int = 0) -> Triangulation:
    """Triangulate verified matches with fixed poses and intrinsics; a large map's in blocks.

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
        # One camera an image: cheaper than finding out which are shared, and nothing is refined.
        images = (DatabaseImage(name, name, views[name].camera, views[name].keypoints) for name in names)
        pairs = ((*pair, found) for pair, found in matches.items())
        _write_database(pc, folder / "database.db", images, pairs, raw=False, verified=True)
        options = pc.IncrementalPipelineOptions()
        options.random_seed = seed
        options.num_threads = 1
        options.triangulation.random_seed = seed
        # The poses are known, so a point seen by two images is as good as its angle; a mini-map needs every point.
        options.triangulation.ignore_two_view_tracks = False
        if sum(len(view.keypoints) for view in views.values()) < LARGE:
            (folder / "model").mkdir()
            reconstruction = pc.triangulate_points(
                reconstruction, folder / "database.db", folder, folder / "model", clear_points=True, options=options
            )
        else:
            triangulate_in_blocks(pc, reconstruction, folder / "database.db", options)
    observed = {name: np.full(len(views[name].keypoints), -1, np.int64) for name in names}
    points = np.empty((reconstruction.num_points3D(), 3))
    for row, key in enumerate(sorted(reconstruction.point3D_ids())):
        point = reconstruction.point3D(key)
        points[row] = point.xyz
        for element in point.track.elements:
            observed[names[element.image_id - 1]][element.point2D_idx] = row
    error = float(reconstruction.compute_mean_reprojection_error()) if len(points) else float("nan")
    return Triangulation(points, observed, error)


def absolute_pose(
    points2d: Points2D,
    points3d: npt.NDArray[np.float64],
    camera: Camera,
    options: AbsolutePoseOptions | None = None,
    seed: int = 0,
) -> AbsolutePose | None:
    """Pose of a camera from 2D-3D correspondences.

    Args:
        points2d: ``[n, 2]``, pixels.
        points3d: ``[n, 3]``, metres.

    Returns:
        the pose with its inliers and covariance, or None where too few agree.
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
    built = _camera(camera)
    answer = pc.estimate_and_refine_absolute_pose(
        np.asarray(points2d, np.float64), np.asarray(points3d, np.float64), built, estimation
    )
    if answer is None or answer["num_inliers"] < options.min_inliers:
        return None
    matrix = np.asarray(answer["cam_from_world"].matrix())
    pose = Pose.from_matrix(matrix[:, :3], matrix[:, 3])
    inliers = np.asarray(answer["inlier_mask"], bool)
    return AbsolutePose(pose, inliers, pose_covariance(points2d[inliers], points3d[inliers], pose, camera))


@dataclass(frozen=True)
class RigView:
    """A camera of a rig and its 2D-3D correspondences.

    Attributes:
        camera: intrinsics.
        mount: from the rig to the camera.
        points2d, points3d: ``[n, 2]`` pixels and ``[n, 3]`` metres.
    """

    camera: Camera
    mount: Pose
    points2d: Points2D
    points3d: npt.NDArray[np.float64]


def rig_pose(
    views: Sequence[RigView], options: AbsolutePoseOptions | None = None, seed: int = 0
) -> tuple[Pose, int] | None:
    """Pose of a rig from the correspondences of several of its cameras, which do not share a centre.

    Args:
        views: at least two cameras with correspondences; of one alone :func:`absolute_pose` is the way.

    Returns:
        world to rig, and the number of correspondences that agree; None where too few do.
    """
    options = options or AbsolutePoseOptions()
    seen = [view for view in views if len(view.points2d)]
    if len(seen) < 2 or sum(len(view.points2d) for view in seen) < options.min_inliers:
        return None
    pc = _pycolmap()
    ransac = pc.RANSACOptions()
    ransac.max_error = options.max_error
    ransac.min_inlier_ratio = options.min_inlier_ratio
    ransac.min_num_trials = options.min_trials
    ransac.max_num_trials = options.max_trials
    ransac.confidence = options.confidence
    ransac.random_seed = seed
    answer = pc.estimate_and_refine_generalized_absolute_pose(
        np.concatenate([np.asarray(view.points2d, np.float64) for view in seen]),
        np.concatenate([np.asarray(view.points3d, np.float64) for view in seen]),
        np.repeat(np.arange(len(seen)), [len(view.points2d) for view in seen]).tolist(),
        [_rigid(pc, view.mount) for view in seen],
        [_camera(view.camera) for view in seen],
        ransac,
    )
    if answer is None or answer["num_inliers"] < options.min_inliers:
        return None
    matrix = np.asarray(answer["rig_from_world"].matrix())
    return Pose.from_matrix(matrix[:, :3], matrix[:, 3]), int(answer["num_inliers"])


def pose_covariance(
    points2d: Points2D, points3d: npt.NDArray[np.float64], pose: Pose, camera: Camera
) -> npt.NDArray[np.float64] | None:
    """Covariance of a refined pose, from how far its inliers lie from where it puts them.

    Of the noise of the keypoints alone, which is measured on the inliers themselves: errors of the map's points, of the
    intrinsics, and a wrong pose that matches agree with are not in it.

    Args:
        points2d, points3d: the inliers, ``[n, 2]`` in pixels and ``[n, 3]`` in metres.
        pose: world to camera.
        camera: intrinsics.

    Returns:
        float64 ``[6, 6]``; rotation before translation, radians and metres, both in the camera's own axes (x right, y
        down, z ahead): the small rotation vector and the small shift that would bring the camera to its true pose. The
        last three are so of the camera's centre, wherever the world has its origin. None where the inliers do not fix
        all six.
    """
    freedom = 2 * len(points2d) - 6
    if freedom < 1:
        return None
    local = pose.transform(points3d)
    slopes = _slopes(camera, local)
    # exp(w) x + v moves a point by w x x + v.
    x, y, z = local.T
    zero = np.zeros_like(x)
    turns = np.stack([zero, z, -y, -z, zero, x, y, -x, zero], axis=1).reshape(-1, 3, 3)
    jacobian = np.concatenate([slopes @ turns, slopes], axis=2)
    information = np.einsum("nij,nik->jk", jacobian, jacobian)
    scale = np.sqrt(np.diag(information))
    if not (np.isfinite(information).all() and scale.min() > 0):
        return None
    information /= np.outer(scale, scale)  # as if metres were of the scene's own size
    if not np.linalg.cond(information) < MOST_OF_CONDITION:
        return None
    # pycolmap's own covariance takes every keypoint's noise for one pixel and has rotations as half angles. This is an
    # M-estimator's (Huber 1981, 7.6) with the refinement's loss, Cauchy's: weights w, and w squared is its mean slope.
    squares = ((project(camera, local) - points2d) ** 2).sum(axis=1)
    weights = 1 / (1 + squares / _pycolmap().AbsolutePoseRefinementOptions().loss_function_scale ** 2)
    slope = (weights**2).mean()
    few = 1 + 6 / (2 * len(local)) * (weights**2).var() / slope**2
    noise = (few / slope) ** 2 * (weights**2 * squares).sum() / freedom
    covariance: npt.NDArray[np.float64] = noise * np.linalg.inv(information) / np.outer(scale, scale)
    return (covariance + covariance.T) / 2


def project(camera: Camera, local: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Pixels ``[n, 2]`` of points ``[n, 3]`` in the camera's own axes; nan of what lies behind it."""
    pixels: npt.NDArray[np.float64] = np.asarray(_camera(camera).img_from_cam(local), np.float64).reshape(-1, 2)
    return pixels


def _slopes(camera: Camera, local: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How a point's pixel moves with it, ``[n, 2, 3]``, by central differences: for every camera model alike."""
    step = STEP * local[:, 2:]
    moved = [(project(camera, local + step * axis), project(camera, local - step * axis)) for axis in np.eye(3)]
    return np.stack([(ahead - behind) / (2 * step) for ahead, behind in moved], axis=2)


def _rigid(pc: Any, pose: Pose) -> Any:
    w, x, y, z = np.asarray(pose.quaternion) / np.linalg.norm(pose.quaternion)  # pycolmap takes any length for 1
    return pc.Rigid3d(pc.Rotation3d(np.array([x, y, z, w])), np.asarray(pose.translation))


def _known_poses(pc: Any, views: Mapping[str, View], ids: Mapping[str, int]) -> Any:
    reconstruction = pc.Reconstruction()
    for name, number in ids.items():
        view = views[name]
        reconstruction.add_camera_with_trivial_rig(_camera(view.camera, number))
        image = pc.Image(name=name, keypoints=np.asarray(view.keypoints, np.float64), camera_id=number, image_id=number)
        reconstruction.add_image_with_trivial_frame(image, _rigid(pc, view.pose))
    return reconstruction


@dataclass(frozen=True)
class DatabaseImage:
    """An image of a COLMAP database: its name, whose camera it is of, that camera, and keypoints ``[n, 2]``."""

    name: str
    camera_id: str
    camera: Camera
    keypoints: Points2D


def write_match_database(
    path: Path, images: Iterable[DatabaseImage], pairs: Iterable[tuple[str, str, Pairs]], verified: bool
) -> None:
    """Write a COLMAP database of keypoints and matches; memory does not grow with their number.

    Args:
        path: where there is none yet.
        images: each once; their order is that of their ids.
        pairs: names of images, the earlier one first, and their matches, uint32 ``[m, 2]``.
        verified: whether the matches are those that agree with a two-view geometry; COLMAP has to verify others.
    """
    _write_database(_pycolmap(), path, images, pairs, raw=True, verified=verified)


def _write_database(
    pc: Any,
    path: Path,
    images: Iterable[DatabaseImage],
    pairs: Iterable[tuple[str, str, Pairs]],
    *,
    raw: bool,
    verified: bool,
) -> None:
    database = pc.Database.open(path)
    ids: dict[str, int] = {}
    cameras: dict[str, int] = {}
    try:
        with pc.DatabaseTransaction(database):
            for image in images:
                if image.camera_id not in cameras:
                    cameras[image.camera_id] = len(cameras) + 1
                    camera = _camera(image.camera, cameras[image.camera_id])
                    database.write_camera(camera, use_camera_id=True)
                number = ids[image.name] = len(ids) + 1
                written = pc.Image(name=image.name, camera_id=cameras[image.camera_id], image_id=number)
                database.write_image(written, use_image_id=True)
                database.write_keypoints(number, np.asarray(image.keypoints, np.float32))
            for first, second, matches in pairs:
                if raw:
                    database.write_matches(ids[first], ids[second], matches)
                if verified and len(matches):
                    geometry = pc.TwoViewGeometry()
                    geometry.config = pc.TwoViewGeometryConfiguration.CALIBRATED
                    geometry.inlier_matches = matches
                    database.write_two_view_geometry(ids[first], ids[second], geometry)
    finally:
        database.close()
