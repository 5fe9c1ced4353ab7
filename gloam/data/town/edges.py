"""Exact edges of a view: outlines and creases from geometry, borders of what is painted on the surfaces from albedo.

The hour has no part in them: shadows, pools of lamplight and noise are no edges, and a border that the night hides is
one all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from gloam.data.plain_opencv import plain_opencv
from gloam.data.ridges import ridges
from gloam.data.scene import Camera, Pose
from gloam.data.town.raycast import Hits
from gloam.data.town.scenery import Scenery
from gloam.data.town.street import Street, pinhole
from gloam.data.town.surfaces import Float32
from gloam.data.town.unpaired_views import LENGTH, sample_poses, view_street
from gloam.errors import UsageError

EDGES_REVISION = 1  # raised whenever the same view gets other edges
SUPERSAMPLING = 2  # rays per pixel and axis
GRAIN = 0.08  # metres; finer texture (joints of bricks, cracks, grain) is averaged away before borders are sought
FINEST_OPENING = 0.22  # metres a pixel; where a pixel sees more, windows are smaller than five pixels and no outlines
SIGMA = 1.5  # sub-pixels; blur before gradients are taken
WEAKEST, FULL = 0.16, 0.36  # contrast of a painted border that begins to count, and that counts in full (of 0..1)
HIDDEN = 7  # side of the square of sub-pixels around an outline in which painted borders are the outline's own


@dataclass(frozen=True)
class EdgeViews:
    """Views of one street with their edges, in the same order.

    Attributes:
        images: uint8 RGB ``[n, h, w, 3]`` by condition, all from the same poses.
        edges: float32 ``[n, h, w]`` in [0, 1], the same for all conditions.
    """

    images: dict[str, npt.NDArray[np.uint8]]
    edges: Float32


def render_edge_views(
    seed: int, count: int, conditions: Sequence[str] = ("day",), size: tuple[int, int] = (213, 160)
) -> EdgeViews:
    """Photograph a street and draw its edges.

    Args:
        seed: of the street; streets of other seeds share nothing.
        count: views; conditions: each view is photographed under each.
        size: width and height, pixels; the field of view is the town's.

    Raises:
        UsageError: nothing to photograph, or an unknown condition.
    """
    if count < 1 or not conditions:
        raise UsageError("views of a street need a count of at least 1 and one condition")
    width, height = size
    street, camera = view_street(seed, width), pinhole(width, height)
    poses = sample_poses(seed, count, "all", LENGTH)
    images = {
        condition: np.stack(
            [street.render(pose, condition, camera, noise_seed=index).image for index, pose in enumerate(poses)]
        )
        for condition in conditions
    }
    return EdgeViews(images, np.stack([edge_map(street, pose, camera) for pose in poses]))


@plain_opencv()
def edge_map(street: Street, pose: Pose, camera: Camera | None = None) -> Float32:
    """The edges that a camera sees.

    Args:
        pose: world to camera.
        camera: PINHOLE; 512x384 where None.

    Returns:
        float32 ``[h, w]`` in [0, 1]: 1 on outlines of surfaces and openings, the contrast's share on painted borders.
    """
    camera = camera or pinhole()
    fine = Camera(
        "PINHOLE",
        camera.width * SUPERSAMPLING,
        camera.height * SUPERSAMPLING,
        tuple(value * SUPERSAMPLING for value in camera.params),
    )
    scenery = street.scenery("day")
    hits = scenery.caster.cast(fine, pose)
    outlines = _outlines(hits)
    painted = _painted(*_albedo(scenery, hits))
    near = cv2.dilate(outlines, np.ones((HIDDEN, HIDDEN), np.uint8))
    fused = np.maximum(outlines, np.where(near > 0, 0, painted)).astype(np.float32)
    shape = (camera.height, SUPERSAMPLING, camera.width, SUPERSAMPLING)
    return np.asarray(fused.reshape(shape).max(axis=(1, 3)), np.float32)


def _outlines(hits: Hits) -> Float32:
    """Where neighbouring rays end on different surfaces or in different parts of an opening: 1 on one of the two."""
    labels = hits.parts(FINEST_OPENING / SUPERSAMPLING)
    edges = np.zeros(labels.shape, np.float32)
    edges[:, :-1][labels[:, :-1] != labels[:, 1:]] = 1
    edges[:-1][labels[:-1] != labels[1:]] = 1
    return edges


def _albedo(scenery: Scenery, hits: Hits) -> tuple[Float32, Float32]:
    """What is painted on the surfaces, without light, nothing finer than :data:`GRAIN`.

    Returns:
        float32 ``[h, w, 3]`` in 0..1, and how many sub-pixels a sharp border is spread over, float32 ``[h, w]``.
    """
    index = hits.surface.ravel()[hits.pixels]
    size = scenery.caster.size[index].T
    blur = np.maximum(hits.footprint * SUPERSAMPLING, GRAIN) * scenery.resolution[:, index]
    texel = scenery.atlas.sample(index, hits.left / size[0], hits.top / size[1], blur.astype(np.float32))
    picture = np.zeros((*hits.surface.shape, 3), np.float32)
    picture.reshape(-1, 3)[hits.pixels] = texel[:3].T / 255
    spread = np.ones(hits.surface.shape, np.float32)
    ratio = np.maximum(GRAIN / np.maximum(hits.footprint, 1e-6), SUPERSAMPLING)
    spread.reshape(-1)[hits.pixels] = np.sqrt(ratio[0] * ratio[1])
    return picture, spread


def _painted(albedo: Float32, spread: Float32) -> Float32:
    """Ridges of the albedo's gradient, one sub-pixel thin, float32 ``[h, w]`` in [0, 1]."""
    smooth = cv2.GaussianBlur(albedo, (0, 0), SIGMA)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, x, y, ksize=3, scale=1 / 8) for x, y in ((1, 0), (0, 1)))
    channel = (np.square(across) + np.square(down)).argmax(axis=2)[..., None]
    gx, gy = (np.take_along_axis(part, channel, axis=2)[..., 0] for part in (across, down))
    strength = np.hypot(gx, gy)
    # A step of height c has the slope c / (sigma * sqrt(2 pi)) where it was blurred by sigma, c / w as a ramp.
    contrast = strength * np.hypot(spread, SIGMA * np.sqrt(2 * np.pi))
    share = np.clip((contrast - WEAKEST) / (FULL - WEAKEST), 0, 1)
    return np.asarray(np.where(ridges(strength, gx, gy), share, 0), np.float32)
