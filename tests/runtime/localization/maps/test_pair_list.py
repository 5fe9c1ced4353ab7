"""Pairs of a map as a list: the same as localization itself takes, of kapture datasets and COLMAP models."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from gloam.cli.main import main
from gloam.data.kapture_io import read_scene, write_scene
from gloam.data.pairs import read_pairs
from gloam.data.scene import Camera
from gloam.errors import DataError, UsageError
from gloam.runtime.localization.maps.colmap_model import read_colmap_model
from gloam.runtime.localization.maps.map_pairs import pairs_by_covisibility, pairs_by_pose
from gloam.runtime.localization.maps.pair_list import MapPairsRequest, list_map_pairs
from tests.runtime.localization.colmap_files import write_text_model
from tests.runtime.localization.maps.test_map_pairs import line


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A kapture dataset of eight images in a row."""
    scene = line(*((x, 0) for x in range(8)))
    scene.root = tmp_path / "mapping"
    scene.cameras["c"] = Camera("PINHOLE", 64, 48, (60.0, 60.0, 32.0, 24.0))
    write_scene(scene)
    return scene.root


def listed(path: Path) -> list[tuple[str, str]]:
    return [(pair.query, pair.mapping) for pair in read_pairs(path)]


def test_neighbours_by_pose_of_a_kapture_dataset(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.txt"
    assert main(["pairs", "--mapping", str(place), "--map-neighbours", "3", "-o", str(out), "--format", "hloc"]) == 0
    assert listed(out) == pairs_by_pose(read_scene(place), 3)
    assert all(len(line.split()) == 2 and "," not in line for line in out.read_text().splitlines())  # hloc's
    made = list_map_pairs(MapPairsRequest(place, out, "exhaustive"))
    names = read_scene(place).names
    assert listed(out) == list(itertools.combinations(names, 2))
    assert (made.pairs, made.images, made.alone) == (len(names) * (len(names) - 1) // 2, len(names), 0)
    assert "0" in out.read_text().splitlines()[-1].split(",")[2]  # kapture's, with no score


def test_covisibility_of_a_colmap_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycolmap")
    write_text_model(tmp_path / "model")
    out = tmp_path / "pairs.txt"
    assert main(["pairs", "--mapping", str(tmp_path / "model"), "-o", str(out), "--json"]) == 0
    model = read_colmap_model(tmp_path / "model", tmp_path)
    assert listed(out) == pairs_by_covisibility(model.points.observed, 20)
    said = json.loads(capsys.readouterr().out)
    assert said["pairs"] == len(listed(out))
    assert said["rule"] == "covisibility, 20 neighbours"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-o", "OUT"], "give --query and --map, the two stores, or --mapping"),
        (["--query", "q", "-o", "OUT"], "give --query and --map"),
        (["--query", "q", "--map", "m", "--map-pairs", "pose", "-o", "OUT"], "are for --mapping"),
        (["--mapping", "MAP", "--query", "q", "-o", "OUT"], "leave the options of stores out"),
        (["--mapping", "MAP", "--only-same", "camera", "-o", "OUT"], "leave the options of stores out"),
        (["--mapping", "MAP", "--map-pairs", "exhaustive", "--map-angle", "3", "-o", "OUT"], "are for pairs by pose"),
        (["--mapping", "MAP", "-o", "MAP/pairs.txt"], "lies inside"),
        (["--mapping", "MAP", "--map-pairs", "covisibility", "-o", "OUT"], "has no points"),
    ],
)
def test_refused(
    place: Path, tmp_path: Path, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"MAP": str(place), "OUT": str(tmp_path / "pairs.txt")}
    given = [word.replace("MAP", places["MAP"]).replace("OUT", places["OUT"]) for word in words]
    assert main(["pairs", *given]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "pairs.txt").exists()


def test_a_map_of_one_image_has_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a kapture dataset"):
        list_map_pairs(MapPairsRequest(tmp_path / "absent", tmp_path / "pairs.txt"))
    with pytest.raises(UsageError, match="--map-neighbours"):
        MapPairsRequest(tmp_path / "absent", tmp_path / "pairs.txt", map_neighbours=0)
