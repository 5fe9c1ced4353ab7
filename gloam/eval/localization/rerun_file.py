"""What was localized, as a recording for Rerun's viewer: the map's points and cameras, each query and its matches."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.scene import Camera, Pose
from gloam.errors import StoreError, UsageError, require
from gloam.eval.localization.benchmark import LocalizationResult
from gloam.eval.localization.match_pictures import INLIER, OUTLIER, best_pair, reduced_image, reduced_size
from gloam.files import expect_output, replaced_when_whole, write_failure
from gloam.runtime.localization.colmap import AbsolutePoseOptions, Triangulation, calibration
from gloam.runtime.localization.maps.mapping import PairMatcher
from gloam.runtime.localization.pose import mini_map

SUFFIX = ".rrd"
TIMELINE = "query"  # number of the query, by name
WITH_PICTURES = 200  # queries, evenly chosen of more, whose photographs go along; others would make gigabytes
QUALITY = 80  # of their JPEGs
RAY, POINT = (0, 230, 90, 120), (170, 180, 200)


def expect_recording(path: Path) -> None:
    """Refuse what could not be written at the end of the work.

    Raises:
        UsageError: it is a folder, or no ``.rrd``.
        StoreError: its folder cannot be made or written.
        MissingExtraError: rerun is not installed.
    """
    expect_output(path, SUFFIX, "a recording for Rerun")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; --rerun writes a file")
    require("rerun", "rerun", "write a recording")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise StoreError(write_failure(path, error)) from error


def write_recording(
    path: Path,
    method: str,
    result: LocalizationResult,
    poses: Mapping[str, Pose],
    retrieved: Mapping[str, Sequence[str]],
) -> None:
    """Write the recording; it appears only when it is whole.

    ``map/points`` and ``map/cameras/NAME`` are there all the time. On the timeline ``query`` stands each query of a
    pose: ``query/camera`` (with its photograph), in it the keypoints ``agree`` and ``differ`` of the map image that it
    agrees with best, ``query/matches``, rays to the points of those that agree, and ``query/name``; of 2a, whose maps
    are a query's own, also ``query/points``.

    Args:
        path: ``.rrd`` file.
        method: ``2a`` or ``2b``.
        result: of the run.
        poses: of the localized queries, world to camera.
        retrieved: map images of every query, best first.

    Raises:
        StoreError: the file cannot be written.
    """
    rerun: Any = require("rerun", "rerun", "write a recording")
    matcher = result.matcher
    assert matcher is not None  # of every run
    with replaced_when_whole(path) as temporary, contextlib.ExitStack() as ending:
        stream = rerun.RecordingStream("gloam", recording_id=f"{method} {path.stem}")
        ending.callback(stream.disconnect)  # before the file is moved, and where it fails
        stream.save(str(temporary))
        stream.log("/", rerun.ViewCoordinates.RDF, static=True)
        if method == "2b" and result.world is not None:
            stream.log("map/points", rerun.Points3D(result.world.points, colors=POINT), static=True)
        for name, pose in sorted(matcher.mapping.poses.items()):
            _log_camera(rerun, stream, ["map", "cameras", *name.split("/")], matcher.camera(name), pose, static=True)
        names = sorted(poses)
        drawn = {
            names[row] for row in np.linspace(0, len(names) - 1, min(WITH_PICTURES, len(names))).round().astype(int)
        }
        for number, name in enumerate(names):
            stream.set_time(TIMELINE, sequence=number)
            world = result.world if method == "2b" else mini_map(matcher, retrieved[name])
            _log_query(rerun, stream, matcher, name, poses[name], retrieved[name], world)
            if method == "2a" and world is not None:
                stream.log("query/points", rerun.Points3D(world.points, colors=POINT))
            if name in drawn:
                picture = rerun.Image(reduced_image(matcher, name)[0]).compress(jpeg_quality=QUALITY)
                stream.log("query/camera/picture", picture)
            elif len(drawn) < len(names):
                stream.log("query/camera/picture", rerun.Clear(recursive=False))


def _log_query(
    rerun: Any,
    stream: Any,
    matcher: PairMatcher,
    name: str,
    pose: Pose,
    retrieved: Sequence[str],
    world: Triangulation | None,
) -> None:
    stream.log("query/name", rerun.TextDocument(name))
    _log_camera(rerun, stream, ["query", "camera"], matcher.camera(name), pose)
    _, shrunk = reduced_size(matcher.camera(name))
    pair = best_pair(matcher, name, retrieved, world, pose, AbsolutePoseOptions().max_error)
    agree, differ, rays = np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2, 3))
    if pair is not None and world is not None and pair.other in world.observed:
        keypoints = matcher.features(name).keypoints[pair.matches[:, 0]].astype(np.float64)
        agree, differ = keypoints[pair.agree], keypoints[pair.seen & ~pair.agree]
        points = world.points[world.observed[pair.other][pair.matches[pair.agree, 1]]]
        rays = np.stack([np.broadcast_to(pose.center, points.shape), points], 1)
    stream.log("query/camera/agree", rerun.Points2D(agree * shrunk, colors=INLIER))
    stream.log("query/camera/differ", rerun.Points2D(differ * shrunk, colors=OUTLIER))
    stream.log("query/matches", rerun.LineStrips3D(rays, colors=RAY))


def _log_camera(
    rerun: Any, stream: Any, entity: list[str], camera: Camera, pose: Pose, *, static: bool = False
) -> None:
    """A camera where it stands, and its intrinsics without distortion, of pictures not longer than 800 px."""
    size, shrunk = reduced_size(camera)
    matrix = np.diag([*shrunk, 1.0]) @ calibration(camera)
    pinhole = rerun.Pinhole(image_from_camera=matrix, resolution=size, camera_xyz=rerun.ViewCoordinates.RDF)
    stream.log(entity, rerun.Transform3D(translation=pose.center, mat3x3=pose.rotation.T), pinhole, static=static)
