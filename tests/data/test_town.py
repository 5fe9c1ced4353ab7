"""The town is deterministic, its depth and poses are exact, its night is a night, and its streets share nothing."""

from __future__ import annotations

import dataclasses
import itertools
import time

import cv2
import numpy as np
import pytest

from gloam.data.scene import Camera, Pose
from gloam.data.town.atlas import Atlas
from gloam.data.town.config import LOOKS
from gloam.data.town.lighting import HOURS, LightMap, lamplight
from gloam.data.town.looks import open_street
from gloam.data.town.raycast import MIRROR, ray_directions
from gloam.data.town.sampling import camera_pose, mapping_poses, query_poses
from gloam.data.town.street import Street, pinhole
from gloam.data.town.surfaces import Surface
from gloam.errors import UsageError

SMALL = pinhole(256, 192)


@pytest.fixture(scope="module")
def street() -> Street:
    return Street(7, length=40, texels=24)


@pytest.fixture(scope="module", params=LOOKS)
def any_street(request: pytest.FixtureRequest) -> Street:
    return open_street(7, 40, 24, request.param)


@pytest.fixture(scope="module")
def poses() -> tuple[Pose, Pose]:
    return camera_pose(12, 0.3, 1.6, 4, 3), camera_pose(13.2, -0.9, 1.7, -9, 2, 1.5)


def test_a_pixel_is_the_ray_of_its_centre(poses: tuple[Pose, Pose]) -> None:
    camera, pose = Camera("PINHOLE", 64, 48, (50.0, 60.0, 30.0, 25.0)), poses[1]
    rays = ray_directions(camera, pose)
    point = pose.center + 7.5 * rays[:, 10, 20].astype(np.float64)
    x, y, z = pose.transform(point[None])[0]
    assert z == pytest.approx(7.5, abs=1e-5)
    assert (50 * x / z + 30, 60 * y / z + 25) == pytest.approx((20.5, 10.5), abs=1e-4)


def test_camera_pose_looks_where_it_says() -> None:
    pose = camera_pose(3, 4, 1.5, 90)
    assert pose.center == pytest.approx([3, 4, 1.5])
    ahead, left, up = pose.transform([[3, 9, 1.5], [2, 9, 1.5], [3, 9, 2.5]])
    assert ahead == pytest.approx([0, 0, 5], abs=1e-9)  # +y is in front: heading 90 degrees to the left of +x
    assert left[0] == pytest.approx(-1)
    assert up[1] == pytest.approx(-1)  # the image's y runs down
    assert camera_pose(0, 0, 0, 0, pitch=10).transform([[10, 0, 0]])[0][1] > 0  # looking up moves things down


def plain_depth(surfaces: list[Surface], origin: np.ndarray, ray: np.ndarray) -> float:
    """One ray against every surface and opening, in float64, without any of the shortcuts."""
    best = 0.0
    for surface in surfaces:
        if surface.facing * (origin[surface.axis] - surface.offset) <= 0 or ray[surface.axis] == 0:
            continue
        t = (surface.offset - origin[surface.axis]) / ray[surface.axis]
        point = origin + t * ray
        if t <= 0.05 or (best and t >= best):
            continue
        u, v = point[surface.u_axis], point[surface.v_axis]
        if not (surface.low[0] <= u <= surface.high[0] and surface.low[1] <= v <= surface.high[1]):
            continue
        if surface.gable:
            slope = abs(u - sum((surface.low[0], surface.high[0])) / 2) / (surface.size[0] / 2)
            slope = np.ceil(slope * 4 - 0.5) / 4 if surface.gable_shape == "steps" else slope
            if surface.high[1] - v < slope * surface.gable:
                continue
        if surface.cutout is not None:
            rows, columns = surface.cutout.shape
            across = surface.high[0] - u if surface.flipped else u - surface.low[0]
            row, column = (surface.high[1] - v) / surface.size[1] * rows, across / surface.size[0] * columns
            if not surface.cutout[min(int(row), rows - 1), min(int(column), columns - 1)]:
                continue
        best = t
        for opening in surface.openings:
            across = surface.high[0] - u if surface.flipped else u - surface.low[0]
            down = surface.high[1] - v
            if not (opening.left <= across < opening.right and opening.top <= down < opening.bottom):
                continue
            du, dv = (-1 if surface.flipped else 1) * ray[surface.u_axis], -ray[surface.v_axis]
            ends = [opening.recess / abs(ray[surface.axis])]
            ends += [(edge - across) / du for edge in (opening.left, opening.right) if du and (edge - across) / du > 0]
            ends += [(edge - down) / dv for edge in (opening.top, opening.bottom) if dv and (edge - down) / dv > 0]
            best = t + min(ends)
    return best


def test_depth_equals_a_plain_ray_caster(any_street: Street, poses: tuple[Pose, Pose]) -> None:
    surfaces = any_street.scenery("day").plan.surfaces
    for pose in poses:
        depth, rays = any_street.depth(pose, SMALL), ray_directions(SMALL, pose).astype(np.float64)
        pixels = [(r, c) for r in range(4, 192, 17) for c in range(3, 256, 19)]
        plain = np.array([plain_depth(surfaces, pose.center, rays[:, r, c]) for r, c in pixels])
        fast = np.array([depth[r, c] for r, c in pixels])
        wrong = np.abs(plain - fast) > 1e-3 * np.maximum(plain, 1)
        assert wrong.mean() < 0.01  # a ray exactly along an edge may fall either way in float32
        assert np.median(np.abs(plain - fast)) < 1e-4


def test_depth_carries_one_view_into_another(any_street: Street, poses: tuple[Pose, Pose]) -> None:
    first, second = poses
    a, b = (any_street.render(pose, "day", SMALL) for pose in poses)
    rows, columns = np.mgrid[0:192, 0:256]
    points = first.center + (ray_directions(SMALL, first) * a.depth).reshape(3, -1).T
    seen = second.transform(points)
    fx, fy, cx, cy = SMALL.params
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = (seen[:, 0] / seen[:, 2] * fx + cx - 0.5), (seen[:, 1] / seen[:, 2] * fy + cy - 0.5)
    inside = (a.depth.ravel() > 0) & (seen[:, 2] > 0.5) & (x > 0) & (x < 255) & (y > 0) & (y < 191)
    x, y, z = x[inside], y[inside], seen[inside, 2]
    there = b.depth[np.round(y).astype(int), np.round(x).astype(int)]
    same = np.abs(there - z) < 0.02 * z
    assert same.mean() > 0.8  # the rest is hidden from the other view

    grey = [cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY).astype(np.float32) for view in (a, b)]
    warped = cv2.remap(grey[1], x[None].astype(np.float32), y[None].astype(np.float32), cv2.INTER_LINEAR)[0][same]
    source = grey[0][rows.ravel()[inside][same], columns.ravel()[inside][same]]
    assert np.corrcoef(warped, source)[0, 1] > 0.95
    shifted = grey[0][rows.ravel()[inside][same], np.clip(columns.ravel()[inside][same] + 3, 0, 255)]
    assert np.abs(warped - source).mean() < 0.7 * np.abs(warped - shifted).mean()  # three pixels off is much worse


def test_mirrored_rays_hit_what_the_ground_reflects(any_street: Street, poses: tuple[Pose, Pose]) -> None:
    pose = poses[0]
    plain, mirrored = (
        any_street.scenery("day").caster.cast(SMALL, pose),
        any_street.scenery("day").caster.cast(SMALL, pose, mirrored=True),
    )
    kinds = np.array([surface.axis for surface in any_street.scenery("day").plan.surfaces])
    both = (mirrored.surface >= 0) & (plain.surface >= 0)
    road = both & (kinds[plain.surface] == 2)
    assert (mirrored.depth[road] > plain.depth[road]).mean() > 0.99
    rays = ray_directions(SMALL, pose) * MIRROR[:, None, None]
    points = (pose.center * MIRROR)[:, None, None] + rays * mirrored.depth
    assert points[2][road].min() > -0.05  # above the ground again


def test_same_seed_same_pixels(any_street: Street, poses: tuple[Pose, Pose]) -> None:
    again = type(any_street)(7, length=40, texels=24)
    for condition in HOURS:
        first, second = (s.render(poses[0], condition, SMALL, noise_seed=3) for s in (any_street, again))
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.depth, second.depth)
    other = any_street.render(poses[0], "night", SMALL, noise_seed=4)
    assert not np.array_equal(other.image, any_street.render(poses[0], "night", SMALL, noise_seed=3).image)


def test_resolution_of_textures_does_not_move_the_street(any_street: Street, poses: tuple[Pose, Pose]) -> None:
    coarse = type(any_street)(7, length=40, texels=8)
    assert np.array_equal(coarse.depth(poses[0], SMALL), any_street.depth(poses[0], SMALL))
    assert coarse.plan.lamps == any_street.plan.lamps


def patches(street: Street) -> np.ndarray:
    """16x16 patches of every texture, of zero mean and unit norm."""
    rows = []
    for surface in street.plan.surfaces:
        grey = surface.texture[..., :3].mean(2)
        for r, c in itertools.product(range(0, grey.shape[0] - 16, 64), range(0, grey.shape[1] - 16, 64)):
            patch = grey[r : r + 16, c : c + 16].ravel()
            if patch.std() > 4:
                rows.append((patch - patch.mean()) / np.linalg.norm(patch - patch.mean()))
    return np.array(rows, np.float32)


def test_streets_of_different_seeds_share_nothing(street: Street) -> None:
    other = Street(8, length=40, texels=24)
    assert (patches(street) @ patches(street).T > 0.999).sum() >= len(patches(street))
    assert (patches(street) @ patches(other).T).max() < 0.98  # no piece of texture is in both
    layouts = [{tuple(row) for row in s.plan.buildings[:, :4].tolist()} for s in (street, other)]
    assert street.plan.half_width != other.plan.half_width
    assert not layouts[0] & layouts[1]  # side, place, width and height of a house
    glyphs = [{glyph.tobytes() for glyph in s.plan.alphabet} for s in (street, other)]
    assert not glyphs[0] & glyphs[1]
    tints = [{surface.tint for surface in s.plan.surfaces if surface.openings} for s in (street, other)]
    assert len(tints[0] & tints[1]) <= 1  # the default of side walls
    assert not {lamp.position for lamp in street.plan.lamps} & {lamp.position for lamp in other.plan.lamps}
    assert np.abs(street.sun - other.sun).max() > 1e-3


def test_night_is_not_day_times_a_factor(street: Street, poses: tuple[Pose, Pose]) -> None:
    day, _ = street.radiance(poses[0], "day", SMALL)
    for condition in ("dusk", "night", "night-rain"):
        dark, depth = street.radiance(poses[0], condition, SMALL)
        solid = depth > 0
        bright, dim = day[solid].ravel(), dark[solid].ravel()
        factor = (bright @ dim) / (bright @ bright)
        residual = np.linalg.norm(dim - factor * bright) / np.linalg.norm(dim)
        assert residual > 0.5, condition
    night, _ = street.radiance(poses[0], "night", SMALL)
    red, blue = night[..., 0][solid], night[..., 2][solid]
    lit = night[solid].sum(1) > np.quantile(night[solid].sum(1), 0.9)
    warmth = [np.median(red[mask] / blue[mask]) for mask in (lit, ~lit)]
    assert warmth[0] > 1.5  # lamps and windows are warm
    ratio = night[solid].sum(1) / day[solid].sum(1)
    assert np.quantile(ratio, 0.95) > 10 * np.quantile(ratio, 0.05)  # pools of light: no one factor fits


def test_a_lamp_falls_off_with_the_square_of_the_distance(street: Street) -> None:
    lamp = next(item for item in street.plan.lamps if not item.shadows)
    at = np.array(lamp.position, np.float32)
    points = np.stack([at - [0, 0, d] for d in (1.0, 2.0)]).astype(np.float32)
    light = lamplight(street.plan, lamp, points, np.tile(np.array([0, 0, 1], np.float32), (2, 1)))
    assert light[:, 0] / light[:, 1] == pytest.approx(4.0, rel=1e-3)
    assert light[0, 0] > light[2, 0]


def test_photographs_get_darker_and_noisier(street: Street, poses: tuple[Pose, Pose]) -> None:
    views = {condition: street.render(poses[0], condition, SMALL) for condition in HOURS}
    brightness = {condition: view.image.mean() for condition, view in views.items()}
    assert brightness["day"] > 1.5 * brightness["night"]
    assert brightness["night"] > 5  # exposed, not black
    noise = {}
    for condition in HOURS:
        two = [street.render(poses[0], condition, SMALL, noise_seed=seed).image.astype(float) for seed in (1, 2)]
        ground = two[0][150:] - two[1][150:]
        noise[condition] = (ground - ground.mean()).std() / max(two[0][150:].mean(), 1)
    assert noise["night"] > 3 * noise["day"]
    assert noise["night-rain"] > 3 * noise["day"]
    assert all(np.array_equal(view.depth, views["day"].depth) for view in views.values())


def test_wet_ground_mirrors_and_the_rest_stays(
    street: Street, poses: tuple[Pose, Pose], monkeypatch: pytest.MonkeyPatch
) -> None:
    wet, _ = street.radiance(poses[0], "night-rain", SMALL)
    monkeypatch.setitem(HOURS, "night-rain", dataclasses.replace(HOURS["night-rain"], wet=False))
    dry, _ = street.radiance(poses[0], "night-rain", SMALL)
    surface = street.scenery("day").caster.cast(SMALL, poses[0]).surface
    ground = street.scenery("day").ground[surface] & (surface >= 0)
    assert np.array_equal(wet[~ground], dry[~ground])
    gain = wet[ground].sum(1) / dry[ground].sum(1)
    assert np.quantile(gain, 0.05) < 0.7  # wet ground is darker where it mirrors the sky
    assert np.quantile(gain, 0.99) > 1.5  # and brighter where it mirrors a light


def test_far_textures_are_averages() -> None:
    stripes = np.zeros((64, 64, 4), np.uint8)
    stripes[:, ::2] = 200
    atlas = Atlas([stripes])
    where = np.linspace(0.1, 0.9, 50, dtype=np.float32)
    index = np.zeros(50, np.int32)
    near = atlas.sample(index, where, where, np.full((2, 50), 0.3, np.float32))
    far = atlas.sample(index, where, where, np.full((2, 50), 8.0, np.float32))
    across = atlas.sample(index, where, where, np.stack([np.full(50, 0.3), np.full(50, 8.0)]).astype(np.float32))
    assert near[0].std() > 30
    assert far[0] == pytest.approx(np.full(50, 100), abs=1)
    assert across[0].std() > 30  # reduced along the other axis alone, the stripes stay


def test_bilinear_look_up_equals_opencv() -> None:
    texture = np.random.default_rng(0).integers(0, 255, (20, 30, 4), np.uint8)
    x, y = np.random.default_rng(1).uniform(0.1, 0.9, (2, 100)).astype(np.float32)
    fast = Atlas([texture]).sample(np.zeros(100, np.int32), x, y, np.zeros((2, 100), np.float32))
    maps = (x * 30 - 0.5)[None], (y * 20 - 0.5)[None]
    plain = cv2.remap(texture.astype(np.float32), *maps, cv2.INTER_LINEAR)[0]
    assert np.abs(fast.T - plain).max() < 8  # cv2.remap rounds positions to 1/32 of a texel


def test_shadows_fall_away_from_the_sun(street: Street) -> None:
    light = LightMap(street.plan, HOURS["day"], street.sun)
    road = next(i for i, s in enumerate(street.plan.surfaces) if s.axis == 2 and s.offset == 0)
    count = light.columns[road] * light.rows[road]
    values = light.light[0][light.start[road] : light.start[road] + count]
    assert 0.02 < (values > np.median(values) + 0.5).mean() + (values < np.median(values) - 0.5).mean() < 0.98


def test_unknown_condition_and_camera_are_refused(any_street: Street, poses: tuple[Pose, Pose]) -> None:
    with pytest.raises(UsageError, match="choose from day, dusk"):
        any_street.render(poses[0], "noon", SMALL)
    with pytest.raises(UsageError, match="PINHOLE only"):
        any_street.render(poses[0], "day", Camera("SIMPLE_PINHOLE", 64, 48, (50, 32, 24)))


@pytest.mark.slow
def test_speed_on_one_core() -> None:
    town = Street(7, length=40, texels=64)
    pose = query_poses(7, 40, 4, mapping_poses(7, 40, 2.5))[1]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for condition in HOURS:
            town.render(pose, condition)
            seconds = []
            for seed in range(3):
                started = time.process_time()
                town.render(pose, condition, noise_seed=seed)
                seconds.append(time.process_time() - started)
            assert min(seconds) < 0.5, condition  # 2 images/s at 512x384
    finally:
        cv2.setNumThreads(threads)
