"""Poses of every format get the same scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gloam.data.kapture_io import write_scene
from gloam.data.localization_sets.dataset import NameStyle
from gloam.data.scene import Pose, Record, Scene
from gloam.errors import DataError
from gloam.eval.localization.ltvl import write_ltvl
from gloam.eval.localization.pose_files import write_colmap_text
from gloam.workflows.evaluation.localization import LocalizationOptions, evaluate_localization
from tests.runtime.localization.exact_world import CAMERA

POSES = {f"night/{n}.png": Pose((1.0, 0.0, 0.0, 0.0), (float(n), 0.0, 0.0)) for n in range(4)}


@pytest.fixture
def truth(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path / "truth", {"c": CAMERA}, {name: Record("c", n) for n, name in enumerate(POSES)}, POSES)
    write_scene(scene)
    return scene


def found(scene: Scene, root: Path) -> Scene:
    """Three of the four poses, 0, 0.3 and 6 metres off."""
    off = {
        name: dataclasses.replace(pose, translation=(pose.translation[0] + far, 0.0, 0.0))
        for (name, pose), far in zip(scene.poses.items(), (0.0, 0.3, 6.0), strict=False)
    }
    return dataclasses.replace(scene, root=root, poses=off)


@pytest.mark.parametrize("style", ["kapture", "colmap", "full", "robotcar", "aachen"])
def test_every_format_has_the_same_scores(tmp_path: Path, truth: Scene, style: str) -> None:
    results = tmp_path / "method"
    scene = found(truth, results)
    if style == "kapture":
        write_scene(scene)
    elif style == "colmap":
        write_colmap_text(results, scene)
    else:
        results = tmp_path / "method.txt"
        named: dict[str, NameStyle] = {"full": "full", "robotcar": "robotcar", "aachen": "aachen"}
        write_ltvl(results, scene.poses, dict.fromkeys(POSES, "c"), named[style])
    scored = evaluate_localization(LocalizationOptions(results, truth.root))
    assert list(scored.methods) == ["method"]
    item = scored.methods["method"]["all"]
    assert (item.queries, item.localized, item.recalls) == (4, 3, (0.25, 0.5, 0.5))
    assert "25.0 /  50.0 /  50.0" in scored.to_text()


def test_the_truth_may_be_a_colmap_model(tmp_path: Path, truth: Scene) -> None:
    write_colmap_text(tmp_path / "model", truth)
    write_scene(found(truth, tmp_path / "method"))
    scored = evaluate_localization(LocalizationOptions(tmp_path / "method", tmp_path / "model"))
    assert scored.methods["method"]["all"].recalls == (0.25, 0.5, 0.5)


def test_a_file_of_other_queries_is_named(tmp_path: Path, truth: Scene) -> None:
    write_ltvl(tmp_path / "a.txt", {"day/9.png": POSES["night/1.png"]}, {"day/9.png": "c"}, "full")
    with pytest.raises(DataError, match=rf"^{tmp_path}/a\.txt: 'day/9\.png' is the name of no image of the ground"):
        evaluate_localization(LocalizationOptions(tmp_path / "a.txt", truth.root))
    (tmp_path / "b.txt").write_text("no pose\n")
    with pytest.raises(DataError, match=rf"^{tmp_path}/b\.txt:1: malformed; expected name qw"):
        evaluate_localization(LocalizationOptions(tmp_path / "b.txt", truth.root))
