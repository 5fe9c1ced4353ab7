"""Verification, triangulation and absolute pose recover a known geometry."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from gloam.data.scene import Camera, Pose, position_error, rotation_error
from gloam.errors import DataError
from gloam.runtime.localization.colmap import View, absolute_pose, triangulate, verify_by_pose, verify_matches

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
    assert position_error(answer[0], truth) < 1e-3
    assert rotation_error(answer[0], truth) < 1e-2


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


def test_same_seed_same_inliers(world: np.ndarray) -> None:
    camera = CAMERAS["PINHOLE"]
    rng = np.random.default_rng(3)
    a, b = (project(camera, pose, world) + rng.normal(0, 1, (150, 2)) for pose in poses(2))
    matches = np.stack([np.arange(150)] * 2, 1).astype(np.uint32)
    runs = [verify_matches(camera, a, camera, b, matches, seed=4) for _ in range(3)]
    for run in runs[1:]:
        np.testing.assert_array_equal(run, runs[0])


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
