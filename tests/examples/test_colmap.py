"""What `gloam match` writes for COLMAP is verified and reconstructed by the example, keypoint by keypoint."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

from gloam.data.kapture_io import write_scene
from gloam.runtime.localization.matches.match_files import MatchRequest, match_pairs
from tests.runtime.localization.exact_world import MAP, POSES, scenes
from tests.runtime.localization.matches.test_match_files import write_features, write_list

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "colmap" / "reconstruct.py"
NAMES = [*MAP, "q.png"]


def test_the_example_reconstructs_the_made_up_world(tmp_path: Path) -> None:
    for scene in scenes(tmp_path):
        write_scene(scene)
    (tmp_path / "images").mkdir()
    for name in NAMES:
        Image.new("RGB", (640, 480), (90, 120, 150)).save(tmp_path / "images" / name)
    pairs = write_list(tmp_path / "pairs.txt", list(itertools.combinations(sorted(NAMES), 2)))
    database, features = tmp_path / "database.db", str(write_features(tmp_path / "feats.h5"))
    match_pairs(MatchRequest(pairs, features, database, datasets=[tmp_path / "m", tmp_path / "q"], workers=1))
    words = [sys.executable, str(EXAMPLE), str(database), str(tmp_path / "images"), str(pairs), str(tmp_path / "model")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{tmp_path / 'model' / '0'}: 5 images, ")
    made = pycolmap.Reconstruction(tmp_path / "model" / "0")
    assert made.compute_mean_reprojection_error() < 0.1  # pixels
    centres = {image.name: image.projection_center() for image in made.images.values()}
    found, true = (
        np.array([np.linalg.norm(at[first] - at[second]) for first, second in itertools.combinations(NAMES, 2)])
        for at in (centres, {name: POSES[name].center for name in NAMES})
    )
    np.testing.assert_allclose(found / found.sum(), true / true.sum(), atol=2e-3)  # but for the scale
