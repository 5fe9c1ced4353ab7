import cv2
import numpy as np
import pytest

from gloam.data.ridges import ridges
from gloam.data.town.edges import edge_map, render_edge_views
from gloam.data.town.sampling import camera_pose
from gloam.data.town.street import Street, pinhole
from gloam.data.town.unpaired_views import render_unpaired, sample_poses
from gloam.errors import UsageError

SIZE = (107, 80)


@pytest.fixture(scope="module")
def street():
    return Street(905, 30.0, texels=16)


@pytest.fixture(scope="module")
def views():
    return render_edge_views(906, 3, ("day", "night"), SIZE)


def distance(mask):
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def test_shapes_and_range(views):
    assert views.edges.shape == (3, 80, 107)
    assert views.edges.dtype == np.float32
    assert views.images["night"].shape == (3, 80, 107, 3)
    assert views.edges.min() == 0
    assert views.edges.max() == 1
    assert 0.03 < (views.edges > 0.5).mean() < 0.25


def test_every_jump_of_depth_is_an_edge(street):
    camera = pinhole(160, 120)
    pose = camera_pose(12.0, 0.5, 1.6, 10.0, 3.0)
    edges, depth = edge_map(street, pose, camera), street.depth(pose, camera)
    near, far = np.minimum(depth[:, :-1], depth[:, 1:]), np.maximum(depth[:, :-1], depth[:, 1:])
    jump = np.zeros(depth.shape, bool)
    jump[:, :-1] = ((near == 0) != (far == 0)) | ((near > 0) & (far > 1.5 * near))
    assert jump.sum() > 50
    assert (distance(edges == 1)[jump] <= 1.5).mean() == 1.0


def test_the_sky_is_empty(street):
    camera = pinhole(160, 120)
    up = camera_pose(12.0, 0.5, 1.6, 0.0, 85.0)
    assert (street.depth(up, camera) == 0).mean() > 0.5
    sky = distance(street.depth(up, camera) > 0) > 2
    sky[[0, -1]] = sky[:, [0, -1]] = False  # half a pixel of a wall may reach in
    assert edge_map(street, up, camera)[sky].max() == 0


def test_painted_borders_are_edges_where_there_is_no_geometry(street):
    """A zebra crossing lies in one plane: its stripes are edges all the same."""
    counts = []
    for x in np.arange(2.0, 29.0, 3.0):
        pose = camera_pose(float(x), 0.0, 6.0, 0.0, -89.0)
        surfaces = street.scenery("day").caster.cast(pinhole(64, 48), pose).surface
        counts.append((edge_map(street, pose, pinhole(64, 48)) > 0.5).mean() if len(np.unique(surfaces)) < 3 else 0)
    assert max(counts) > 0.02


def test_the_hour_has_no_part_in_the_edges():
    day, night = (render_edge_views(906, 1, (condition,), SIZE) for condition in ("day", "night"))
    assert np.array_equal(day.edges, night.edges)
    assert day.images["day"].mean() > night.images["night"].mean()


def test_unpaired_views_share_no_pose_and_pairs_share_all():
    assert not set(sample_poses(1, 5, "day")) & set(sample_poses(1, 5, "night"))
    pairs = render_unpaired(907, 1, ("day", "dusk"), (53, 40), same_poses=True)
    day, dusk = (pairs[name][0].astype(float).mean(2) for name in ("day", "dusk"))
    assert np.corrcoef(np.diff(day).ravel(), np.diff(dusk).ravel())[0, 1] > 0.3
    with pytest.raises(UsageError, match="at least 1"):
        render_unpaired(1, 0)


def test_ridges_are_one_pixel_wide():
    rows, columns = np.mgrid[:40, :40].astype(np.float32)
    strength = np.exp(-np.square((columns * 0.8 + rows * 0.6 - 28) / 3)).astype(np.float32)
    kept = ridges(strength, np.full_like(strength, 0.8), np.full_like(strength, 0.6))
    away = np.abs(columns * 0.8 + rows * 0.6 - 28)
    assert kept.any()
    assert away[kept & (strength > 1e-6)].max() <= 0.75
