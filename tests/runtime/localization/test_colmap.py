"""Verification, triangulation and absolute pose recover a known geometry."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from gloam.data.scene import Camera, Pose, position_error, rotation_error
from gloam.errors import DataError
from gloam.runtime.localization.colmap import (
    VERIFICATION_TRIALS,
    AbsolutePoseOptions,
    RigView,
    View,
    absolute_pose,
    expect_camera,
    pose_covariance,
    rig_pose,
    solver_version,
    triangulate,
    verify_by_pose,
    verify_matches,
)

CAMERAS = {
    "PINHOLE": Camera("PINHOLE", 640, 480, (500.0, 510.0, 320.0, 240.0)),
    "SIMPLE_RADIAL": Camera("SIMPLE_RADIAL", 640, 480, (500.0, 320.0, 240.0, -0.1)),
}


def project(camera: Camera, pose: Pose, points: np.ndarray) -> np.ndarray:
    local = pose.transform(points)
    ray = local[:, :2] / local[:, 2:]
    if camera.model == "PINHOLE":
        return ray * np.array(camera.params[:2]) + np.array(camera.params[2:])
    focal, x, y, radial = camera.params
    return ray * (1 + radial * (ray**2).sum(1, keepdims=True)) * focal + np.array([x, y])


def poses(count: int, seed: int = 0) -> list[Pose]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        q = np.array([1, *rng.normal(0, 0.05, 3)])
        q /= np.linalg.norm(q)
        made.append(Pose((q[0], q[1], q[2], q[3]), (0.8 * number - 1.5, *rng.normal(0, 0.1, 2))))
    return made


@pytest.fixture(params=list(CAMERAS))
def camera(request: pytest.FixtureRequest) -> Camera:
    return CAMERAS[request.param]


@pytest.fixture
def world() -> np.ndarray:
    return np.random.default_rng(2).uniform([-2, -1.5, 5], [2, 1.5, 9], (150, 3))


def test_triangulation_and_pose_recover_the_truth(camera: Camera, world: np.ndarray) -> None:
    known = poses(4)
    views = {f"{i}.jpg": View(camera, pose, project(camera, pose, world)) for i, pose in enumerate(known)}
    identity = np.stack([np.arange(150)] * 2, 1).astype(np.uint32)
    found = triangulate(views, dict.fromkeys(itertools.combinations(sorted(views), 2), identity))
    assert len(found.points) >= 145
    assert found.mean_error < 1e-2
    for rows in found.observed.values():
        seen = rows >= 0
        np.testing.assert_allclose(found.points[rows[seen]], world[seen], atol=2e-3)
    truth = poses(6, seed=5)[5]
    answer = absolute_pose(project(camera, truth, world), world, camera)
    assert answer is not None
    assert position_error(answer.pose, truth) < 1e-3
    assert rotation_error(answer.pose, truth) < 1e-2


def test_a_pose_needs_enough_inliers(camera: Camera, world: np.ndarray) -> None:
    points = project(camera, poses(1)[0], world)
    assert absolute_pose(points[:11], world[:11], camera) is None
    shuffled = np.random.default_rng(0).permutation(points[:40])
    assert absolute_pose(shuffled, world[:40], camera) is None


@pytest.mark.parametrize("by_pose", [True, False], ids=["known poses", "estimated"])
def test_verification_keeps_inliers_and_drops_the_rest(camera: Camera, world: np.ndarray, by_pose: bool) -> None:
    first, second = poses(2)
    a, b = project(camera, first, world), project(camera, second, world)
    rng = np.random.default_rng(1)
    wrong = rng.choice(150, 50, replace=False)
    matches = np.stack([np.arange(150)] * 2, 1).astype(np.uint32)
    matches[wrong, 1] = (matches[wrong, 1] + rng.integers(20, 100, 50)) % 150
    if by_pose:
        kept = verify_by_pose(camera, first, a, camera, second, b, matches)
    else:
        kept = verify_matches(camera, a, camera, b, matches)
    right = set(range(150)) - set(wrong.tolist())
    assert right <= set(kept[:, 0].tolist())
    assert len(set(kept[:, 0].tolist()) - right) <= 10  # a wrong match may lie on its epipolar line by chance


def test_matches_behind_the_cameras_and_without_baseline_are_dropped(world: np.ndarray) -> None:
    camera = CAMERAS["PINHOLE"]
    first, second = poses(2)
    behind = world * np.array([1, 1, -1])
    matches = np.stack([np.arange(150)] * 2, 1).astype(np.uint32)
    points = [project(camera, pose, behind) for pose in (first, second)]
    assert len(verify_by_pose(camera, first, points[0], camera, second, points[1], matches)) == 0
    assert len(verify_by_pose(camera, first, points[0], camera, first, points[0], matches)) == 0


AHEAD = Pose((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
BESIDE = Pose((1.0, 0.0, 0.0, 0.0), (-1.0, 0.0, 0.0))  # epipolar lines are rows
PLAIN = CAMERAS["PINHOLE"]  # mean focal length 505 px, 510 across the lines
FINE = Camera("PINHOLE", 1280, 960, (1000.0, 1020.0, 640.0, 480.0))
ONE = np.array([[0, 0]], np.uint32)


@pytest.mark.parametrize(
    ("first", "second", "moved", "pixels", "kept"),
    [
        (PLAIN, PLAIN, 1, 4.03, True),
        (PLAIN, PLAIN, 1, 4.05, False),
        (PLAIN, PLAIN, 0, -4.03, True),
        (PLAIN, PLAIN, 0, -4.05, False),
        (FINE, PLAIN, 1, 2.01, True),  # each distance is of its own image's pixels, and the worse counts
        (FINE, PLAIN, 1, 2.03, False),
        (PLAIN, FINE, 1, 4.03, True),
        (PLAIN, FINE, 1, 4.05, False),
    ],
)
def test_a_point_may_lie_four_pixels_from_its_line(
    first: Camera, second: Camera, moved: int, pixels: float, kept: bool
) -> None:
    point = np.array([[0.5, 0.25, 6.0]])
    points = [project(camera, pose, point) for camera, pose in ((first, AHEAD), (second, BESIDE))]
    points[moved] = points[moved] + np.array([0.0, pixels])
    found = verify_by_pose(first, AHEAD, points[0], second, BESIDE, points[1], ONE)
    assert found.tolist() == (ONE.tolist() if kept else [])
    exact = [project(camera, pose, point) for camera, pose in ((first, AHEAD), (second, BESIDE))]
    assert len(verify_by_pose(first, AHEAD, exact[0], second, BESIDE, exact[1], ONE, max_error=1e-6)) == 1
    wider = abs(pixels) * 1.05 * (2 if first is FINE else 1)
    assert len(verify_by_pose(first, AHEAD, points[0], second, BESIDE, points[1], ONE, max_error=wider)) == 1
    assert len(verify_by_pose(first, AHEAD, points[0], second, BESIDE, points[1], ONE, max_error=wider / 2)) == 0


def test_a_map_is_verified_by_pose_wherever_the_cameras_look(world: np.ndarray) -> None:
    turns = [
        Pose((0.9, 0.1, -0.2, 0.3), (0.2, -0.4, 1.0)),
        Pose((0.8, -0.3, 0.1, -0.2), (-0.5, 0.3, 2.0)),
        Pose((0.1, 0.9, 0.2, 0.0), (0.5, 0.3, 20.0)),  # looks back at the points from behind them
    ]
    known = [Pose.from_matrix(pose.rotation, pose.translation) for pose in turns]
    matches = np.stack([np.arange(150), np.arange(150)[::-1]], 1).astype(np.uint32)
    for first, second in itertools.permutations(known, 2):
        before = (first.transform(world)[:, 2] > 0) & (second.transform(world)[:, 2] > 0)
        a, b = project(PLAIN, first, world), project(PLAIN, second, world)[::-1]
        found = verify_by_pose(PLAIN, first, a, PLAIN, second, b, matches)
        assert found.tolist() == matches[before].tolist()
        assert len(found)
        b = b + np.array([30.0, -30.0]) * np.array([[1, 0]] * 75 + [[0, 1]] * 75)
        assert len(verify_by_pose(PLAIN, first, a, PLAIN, second, b, matches)) < len(found) / 2


def test_nothing_is_verified_of_few_matches(world: np.ndarray) -> None:
    first, second = poses(2)
    a, b = project(PLAIN, first, world), project(PLAIN, second, world)
    matches = np.stack([np.arange(150)] * 2, 1).astype(np.uint32)
    assert len(verify_matches(PLAIN, a, PLAIN, b, matches[:15])) == 15  # COLMAP's own least number
    for few in (matches[:14], matches[:0]):
        found = verify_matches(PLAIN, a, PLAIN, b, few)
        assert (found.shape, found.dtype) == ((0, 2), np.uint32)
    assert verify_by_pose(PLAIN, first, a, PLAIN, second, b, matches[:0]).shape == (0, 2)
    nowhere = verify_by_pose(PLAIN, first, a, PLAIN, first, a, matches)
    assert (nowhere.shape, nowhere.dtype) == ((0, 2), np.uint32)


def test_verified_matches_are_sorted_by_their_first_row(world: np.ndarray) -> None:
    first, second = poses(2)
    order = np.random.default_rng(0).permutation(150)
    matches = np.stack([order, order], 1).astype(np.uint32)
    found = verify_matches(PLAIN, project(PLAIN, first, world), PLAIN, project(PLAIN, second, world), matches)
    assert found.tolist() == [[row, row] for row in range(150)]


def test_the_options_of_a_verification_and_a_pose_reach_the_solver(
    monkeypatch: pytest.MonkeyPatch, world: np.ndarray
) -> None:
    import pycolmap

    asked = []
    plain_geometry, plain_pose = pycolmap.estimate_two_view_geometry, pycolmap.estimate_and_refine_absolute_pose
    for name, plain in (
        ("estimate_two_view_geometry", plain_geometry),
        ("estimate_and_refine_absolute_pose", plain_pose),
    ):
        monkeypatch.setattr(pycolmap, name, lambda *given, plain=plain: asked.append(given) or plain(*given))
    first, second = poses(2)
    a, b = project(PLAIN, first, world), project(FINE, second, world)
    matches = np.stack([np.arange(150)] * 2, 1).astype(np.uint32)
    verify_matches(PLAIN, a, FINE, b, matches, seed=6)
    options = AbsolutePoseOptions(3.0, 0.2, 50, 70, 0.9, 20)
    assert absolute_pose(a, world, PLAIN, options, seed=8) is not None
    (camera, points, other, others, pairs, geometry), (pixels, places, own, estimation) = asked
    assert (camera.width, other.width, own.params.tolist()) == (640, 1280, list(PLAIN.params))
    assert camera.has_prior_focal_length
    assert other.has_prior_focal_length
    for found, expected in ((points, a), (others, b), (pairs, matches), (pixels, a), (places, world)):
        np.testing.assert_array_equal(found, expected)
    assert (geometry.ransac.max_num_trials, geometry.ransac.random_seed) == (VERIFICATION_TRIALS, 6)
    ransac = estimation.ransac
    assert (ransac.max_error, ransac.min_inlier_ratio, ransac.confidence) == (3.0, 0.2, 0.9)
    assert (ransac.min_num_trials, ransac.max_num_trials, ransac.random_seed) == (50, 70, 8)
    assert absolute_pose(a[:19], world[:19], PLAIN, options) is None
    assert absolute_pose(a[:0], world[:0], PLAIN) is None
    assert len(asked) == 2  # the solver is not asked about too few


def test_the_options_of_a_triangulation_make_it_repeatable(monkeypatch: pytest.MonkeyPatch, world: np.ndarray) -> None:
    import pycolmap

    seeds, asked, plain = [], [], pycolmap.triangulate_points
    monkeypatch.setattr(pycolmap, "set_random_seed", seeds.append)
    monkeypatch.setattr(
        pycolmap, "triangulate_points", lambda *given, **named: asked.append(named) or plain(*given, **named)
    )
    views = {name: View(PLAIN, pose, project(PLAIN, pose, world)) for name, pose in zip("ab", poses(2), strict=True)}
    identity = np.stack([np.arange(150)] * 2, 1).astype(np.uint32)
    triangulate(views, {("a", "b"): identity}, seed=5)
    (named,) = asked
    options = named["options"]
    assert (options.num_threads, options.random_seed, options.triangulation.random_seed) == (1, 5, 5)
    assert (options.triangulation.ignore_two_view_tracks, named["clear_points"], seeds) == (False, True, [5])


def test_a_pose_has_the_inliers_that_agree(camera: Camera, world: np.ndarray) -> None:
    truth = poses(3)[2]
    points = project(camera, truth, world)[:40]
    points[30:] += 60
    found = absolute_pose(points, world[:40], camera)
    assert found is not None
    assert found.inliers.tolist() == [True] * 30 + [False] * 10
    assert position_error(found.pose, truth) < 1e-3
    assert absolute_pose(points, world[:40], camera, AbsolutePoseOptions(min_inliers=31)) is None
    assert absolute_pose(points, world[:40], camera, AbsolutePoseOptions(min_inliers=30)) is not None
    assert absolute_pose(points[:12], world[:12], camera) is not None
    assert absolute_pose(points[:12], world[:12], camera, AbsolutePoseOptions(min_inliers=13)) is None


def errors_of(found: Pose, truth: Pose) -> np.ndarray:
    """Rotation vector and shift of the centre from the true pose to one that was found, in the camera's own axes."""
    turn = found.rotation @ truth.rotation.T
    angles = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2  # of small ones
    return np.concatenate([angles, truth.rotation @ (truth.center - found.center)])


@pytest.mark.parametrize(
    ("count", "noise", "low"), [(30, 0.25, 0.85), (30, 1.0, 0.85), (100, 2.0, 0.85), (20, 2.0, 0.5)]
)
def test_covariances_are_of_the_errors_that_noise_makes(camera: Camera, count: int, noise: float, low: float) -> None:
    """Poses from noisy keypoints, a fifth more of them wrong: errors spread as stated, within 15 %, and alike in every
    direction; few keypoints of much noise are underrated, by half at most."""
    rng, truth = np.random.default_rng(count), Pose((0.9, 0.1, -0.3, 0.2), (3.0, -2.0, 5.0))
    errors, stated = [], []
    for trial in range(150):
        local = rng.uniform([-2, -1.5, 5], [2, 1.5, 9], (count + count // 5, 3))
        world = (local - np.array(truth.translation)) @ truth.rotation
        points = project(camera, truth, world) + rng.normal(0, noise, (len(world), 2))
        points[count:] = rng.uniform([0, 0], [640, 480], (count // 5, 2))
        found = absolute_pose(points, world, camera, seed=trial)
        assert found is not None
        assert found.covariance is not None
        errors.append(errors_of(found.pose, truth))
        stated.append(found.covariance)
    # Whitened by what was stated, errors have unit spread in every direction.
    white = np.linalg.inv(np.linalg.cholesky(np.mean(stated, axis=0)))
    spread = np.linalg.eigvalsh(white @ np.cov(np.array(errors).T) @ white.T)
    ratio = 1 / np.sqrt(spread.mean())
    assert low < ratio < 1.15
    assert spread.max() / spread.min() < 4


def test_a_covariance_is_what_a_plain_twin_computes() -> None:
    """Point by point, for a pinhole: Huber's M-estimator with Cauchy's loss of one pixel."""
    camera, rng, pose = CAMERAS["PINHOLE"], np.random.default_rng(7), poses(1)[0]
    world = rng.uniform([-2, -1.5, 5], [2, 1.5, 9], (25, 3))
    points = project(camera, pose, world) + rng.normal(0, 1.5, (25, 2))
    information, noise, slopes = np.zeros((6, 6)), 0.0, []
    for seen, place in zip(points, world, strict=True):
        x, y, z = pose.transform(place[None])[0]
        by_point = np.array([[500 / z, 0, -500 * x / z**2], [0, 510 / z, -510 * y / z**2]])
        moved = [np.cross(axis, [x, y, z]) for axis in np.eye(3)]
        jacobian = np.array([by_point @ each for each in (*moved, *np.eye(3))]).T
        information += jacobian.T @ jacobian
        off = ((np.array([500 * x / z + 320, 510 * y / z + 240]) - seen) ** 2).sum()
        weight = 1 / (1 + off)
        noise += weight**2 * off
        slopes.append(weight**2)
    few = 1 + 3 / 25 * np.var(slopes) / np.mean(slopes) ** 2
    expected = np.linalg.inv(information) * noise / (2 * 25 - 6) / np.mean(slopes) ** 2 * few**2
    np.testing.assert_allclose(pose_covariance(points, world, pose, camera), expected, rtol=1e-4)


def test_a_covariance_knows_no_origin_and_any_unit(camera: Camera) -> None:
    truth, rng = Pose((0.9, 0.1, -0.3, 0.2), (3.0, -2.0, 5.0)), np.random.default_rng(0)
    truth = Pose.from_matrix(truth.rotation, truth.translation)
    local = rng.uniform([-2, -1.5, 5], [2, 1.5, 9], (50, 3))
    world = (local - np.array(truth.translation)) @ truth.rotation
    points = project(camera, truth, world) + rng.normal(0, 1, (50, 2))
    plain = pose_covariance(points, world, truth, camera)
    assert plain is not None
    assert (plain == plain.T).all()
    far = np.array([3e5, 5e6, 100.0])  # a map's own grid
    moved = Pose(truth.quaternion, tuple(np.array(truth.translation) - truth.rotation @ far))
    np.testing.assert_allclose(pose_covariance(points, world + far, moved, camera), plain, rtol=1e-3)
    for unit in (1e-3, 1e3):
        scaled = Pose(truth.quaternion, tuple(unit * np.array(truth.translation)))
        found = pose_covariance(points, unit * world, scaled, camera)
        by = np.repeat([1, unit], 3)
        np.testing.assert_allclose(found, plain * np.outer(by, by), rtol=1e-4)
    again = np.tile(points, (4, 1)), np.tile(world, (4, 1))
    np.testing.assert_allclose(pose_covariance(*again, truth, camera), plain / 4, rtol=0.2)
    twice = project(camera, truth, world) * 3 - points * 2  # residuals doubled
    assert np.trace(pose_covariance(twice, world, truth, camera)) > 2 * np.trace(plain)


@pytest.mark.parametrize(
    ("changed", "fine"),
    [
        ({}, True),
        ({"width": 0}, False),
        ({"height": 0}, False),
        ({"width": -640}, False),
        ({"params": (0.0, 0.0, 320.0, 240.0)}, False),
        ({"params": (500.0, float("inf"), 320.0, 240.0)}, False),
        ({"params": (500.0, 510.0, float("nan"), 240.0)}, False),
        ({"params": (500.0, 510.0, -3.0, 0.0)}, True),  # a cut of an image
    ],
)
def test_intrinsics_are_positive_and_finite(changed: dict[str, Any], fine: bool) -> None:
    camera = dataclasses.replace(PLAIN, **changed)
    if fine:
        expect_camera(camera)
    else:
        with pytest.raises(DataError, match=r"^camera PINHOLE .*: sizes and focal lengths must be finite and above 0$"):
            expect_camera(camera)


@pytest.mark.filterwarnings("error")
def test_what_does_not_fix_a_pose_has_no_covariance(world: np.ndarray) -> None:
    truth = poses(1)[0]
    # Straight ahead of the camera, whose turn about that line moves nothing.
    ahead = (np.outer(np.linspace(2, 9, 20), [0, 0, 1]) - np.array(truth.translation)) @ truth.rotation
    for places in (world[:3], np.repeat(world[:1], 20, axis=0), np.linspace(world[0], world[1], 20), ahead):
        assert pose_covariance(project(PLAIN, truth, places), places, truth, PLAIN) is None
    behind = world * np.array([1, 1, -1])
    assert pose_covariance(project(PLAIN, truth, behind), behind, truth, PLAIN) is None


def test_points_of_two_images_and_of_none(world: np.ndarray) -> None:
    first, second = poses(2)
    views = {
        "z.jpg": View(PLAIN, first, project(PLAIN, first, world)),
        "b.jpg": View(FINE, second, project(FINE, second, world)[::-1]),
        "c.jpg": View(PLAIN, second, project(PLAIN, second, world)[:5]),
    }
    half = np.stack([149 - np.arange(0, 150, 2), np.arange(0, 150, 2)], 1).astype(np.uint32)
    found = triangulate(views, {("b.jpg", "z.jpg"): half, ("b.jpg", "c.jpg"): half[:0]})
    assert len(found.points) >= 70
    assert list(found.observed) == ["b.jpg", "c.jpg", "z.jpg"]
    assert found.observed["c.jpg"].tolist() == [-1] * 5
    rows = found.observed["z.jpg"]
    assert (rows[1::2] == -1).all()
    assert sorted(rows[rows >= 0]) == list(range(len(found.points)))
    np.testing.assert_array_equal(found.observed["b.jpg"], rows[::-1])
    np.testing.assert_allclose(found.points[rows[rows >= 0]], world[rows >= 0], atol=2e-3)
    below = {**views, "b.jpg": View(FINE, second, views["b.jpg"].keypoints + np.array([0, 300]))}
    nothing = triangulate(below, {("b.jpg", "z.jpg"): half})
    assert (len(nothing.points), np.isnan(nothing.mean_error)) == (0, True)
    assert all((rows == -1).all() for rows in nothing.observed.values())


def test_the_solver_is_named_with_its_release_and_trials() -> None:
    import pycolmap

    assert solver_version() == f"pycolmap {pycolmap.__version__}, {VERIFICATION_TRIALS} trials"
    assert pycolmap.logging.minloglevel == 2


def test_same_seed_same_inliers(world: np.ndarray) -> None:
    camera = CAMERAS["PINHOLE"]
    rng = np.random.default_rng(3)
    a, b = (project(camera, pose, world) + rng.normal(0, 1, (150, 2)) for pose in poses(2))
    matches = np.stack([np.arange(150)] * 2, 1).astype(np.uint32)
    runs = [verify_matches(camera, a, camera, b, matches, seed=4) for _ in range(3)]
    for run in runs[1:]:
        np.testing.assert_array_equal(run, runs[0])


def test_a_quaternion_of_another_length_is_the_same_pose(world: np.ndarray) -> None:
    camera = CAMERAS["PINHOLE"]
    views = {f"{n}.jpg": View(camera, pose, project(camera, pose, world)) for n, pose in enumerate(poses(2))}
    matches = {("0.jpg", "1.jpg"): np.stack([np.arange(len(world))] * 2, axis=1).astype(np.uint32)}
    longer = {
        name: View(
            camera, Pose(tuple(1.7 * value for value in view.pose.quaternion), view.pose.translation), view.keypoints
        )
        for name, view in views.items()
    }
    for given in (views, longer):
        found = triangulate(given, matches)
        np.testing.assert_allclose(found.points[found.observed["0.jpg"]], world, atol=1e-4)


def test_maps_that_cannot_be_are_one_line(world: np.ndarray) -> None:
    camera = CAMERAS["PINHOLE"]
    view = View(camera, poses(1)[0], project(camera, poses(1)[0], world))
    with pytest.raises(DataError, match="at least two images"):
        triangulate({"a.jpg": view}, {})
    with pytest.raises(DataError, match="no verified matches"):
        triangulate({"a.jpg": view, "b.jpg": view}, {})
    bad = Camera("FISHY", 640, 480, (1.0,))
    with pytest.raises(DataError, match="'FISHY' is unknown"):
        absolute_pose(np.zeros((20, 2)), np.zeros((20, 3)), bad)
    with pytest.raises(DataError, match="does not take 1 parameters"):
        absolute_pose(np.zeros((20, 2)), np.zeros((20, 3)), Camera("PINHOLE", 640, 480, (1.0,)))


def test_zlib_survives_the_import() -> None:
    code = (
        "import gloam.runtime.localization.colmap as c; c._pycolmap();"
        "import gzip, io, zlib, numpy as np; from PIL import Image;"
        "assert gzip.decompress(gzip.compress(b'x' * 9999)) == b'x' * 9999;"
        "np.savez_compressed(io.BytesIO(), a=np.zeros(9999));"
        "Image.new('RGB', (300, 300)).save(io.BytesIO(), 'PNG'); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "alive", done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM to send")
@pytest.mark.parametrize("where", ["c._pycolmap()", "t = threading.Thread(target=c._pycolmap); t.start(); t.join()"])
def test_sigterm_does_after_the_import_what_it_did_before(where: str) -> None:
    code = (
        "import os, signal, threading, time; import gloam.runtime.localization.colmap as c;"
        "signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True));"
        f"{where}; os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.01); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["told", "alive"], "")


def test_a_rig_is_posed_by_several_cameras_together(camera: Camera, world: np.ndarray) -> None:
    rig, mounts = poses(2)[1], [Pose((1, 0, 0, 0), (shift, 0, 0)) for shift in (0.3, -0.3)]
    pixels = [project(camera, rig.seen_from(mount), world) for mount in mounts]
    rng = np.random.default_rng(4)
    for each in pixels:  # a fifth is wrong
        each[::5] = rng.uniform([0, 0], [640, 480], each[::5].shape)
    views = [RigView(camera, mount, each, world) for mount, each in zip(mounts, pixels, strict=True)]
    found = rig_pose(views)
    assert found is not None
    pose, inliers = found
    assert position_error(pose, rig) < 1e-6
    assert rotation_error(pose, rig) < 1e-4
    right = len(world) - len(world[::5])  # a point that both see counts once
    assert right <= inliers <= right + 4
    assert rig_pose(views, AbsolutePoseOptions(min_inliers=inliers + 1)) is None
    assert rig_pose([views[0], RigView(camera, mounts[1], pixels[1][:0], world[:0])]) is None  # one camera's
