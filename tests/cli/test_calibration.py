"""Train, evaluate and use a calibration by the command line: figures, JSON, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gloam.cli.main import main
from tests.runtime.search.searched_map import KIND, write_map, write_matches


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two maps to learn from, one to use it on, and the calibration."""
    root = tmp_path_factory.mktemp("calibration")
    for name, seed in (("a", 0), ("b", 1), ("new", 2)):
        write_map(root / name, seed, 80)
    assert main([*learn(root, "a", "b"), "-o", str(root / "c.json"), "-k", "6"]) == 0
    return root


def learn(root: Path, *maps: str) -> list[str]:
    files = {"--index": "index", "--store": "store", "--matches": "matches.h5", "--ground-truth": "truth.json"}
    lists = [[option, *(str(root / name / file) for name in maps)] for option, file in files.items()]
    return ["train", "calibration", *(word for words in lists for word in words)]


def search(root: Path, *more: str, k: int = 6) -> list[str]:
    return ["search", str(root / "new" / "index"), "--store", str(root / "new" / "store"), "-k", str(k), *more]


def test_every_query_gets_its_probability(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--matches", str(folder / "new" / "matches.h5"), "--calibrated", str(folder / "c.json")]
    assert main([*search(folder, *options), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["probabilities"]) == set(found["results"])
    assert len(found["results"]) == 80
    assert all(0 <= said <= 1 for said in found["probabilities"].values())
    for images in found["results"].values():
        assert [image["inliers"] for image in images] == sorted((image["inliers"] for image in images), reverse=True)
    unmapped = [said for query, said in found["probabilities"].items() if int(query[-8:-4]) % 5 == 0]
    every = list(found["probabilities"].values())
    assert sum(unmapped) / len(unmapped) < 0.5 * sum(every) / len(every)
    assert main(search(folder, *options)) == 0
    query, said = next(iter(found["probabilities"].items()))
    assert f"{query}  right with probability {said:.3f}" in capsys.readouterr().out


def test_matches_alone_put_the_images_in_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*search(folder, "--matches", str(folder / "new" / "matches.h5")), "--json"]) == 0
    ranked = json.loads(capsys.readouterr().out)
    assert main([*search(folder), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert "probabilities" not in ranked
    assert "inliers" not in next(iter(plain["results"].values()))[0]
    for query, images in plain["results"].items():
        assert {image["image"] for image in images} == {image["image"] for image in ranked["results"][query]}
    assert any(images[0]["image"] != ranked["results"][query][0]["image"] for query, images in plain["results"].items())


def test_a_map_is_judged_by_condition(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"--index": "index", "--store": "store", "--matches": "matches.h5", "--ground-truth": "truth.json"}
    options = [word for option, file in files.items() for word in (option, str(folder / "new" / file))]
    assert main(["eval", "calibration", str(folder / "c.json"), *options, "--json"]) == 0
    conditions = json.loads(capsys.readouterr().out)["conditions"]
    assert {name: scores["queries"] for name, scores in conditions.items()} == {"all": 80, "day": 40, "night": 40}
    assert conditions["all"]["ece"] < conditions["all"]["ece_calibrated"][1] + 0.03
    assert main(["eval", "calibration", str(folder / "c.json"), *options]) == 0
    assert "best single score" in capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
    return said.err


def test_a_calibration_of_something_else_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matches, calibration = str(folder / "new" / "matches.h5"), str(folder / "c.json")
    capsys.readouterr()
    assert "add --matches" in refused(capsys, search(folder, "--calibrated", calibration))
    both = ("--matches", matches, "--calibrated", calibration)
    assert "search with -k 6" in refused(capsys, search(folder, *both, k=5))
    raw = str(write_matches(tmp_path / "raw.h5", {("a", "b"): 3}, [*KIND[:3], "raw"]))
    assert "`gloam match --verify`" in refused(capsys, search(folder, "--matches", raw, "--calibrated", calibration))
    other = str(write_matches(tmp_path / "other.h5", {("a", "b"): 3}, ["disk", *KIND[1:]]))
    assert "features 'disk'" in refused(capsys, search(folder, "--matches", other, "--calibrated", calibration))
    few = str(write_matches(tmp_path / "few.h5", {("a", "b"): 3}))
    assert "has no matches of" in refused(capsys, search(folder, "--matches", few, "--calibrated", calibration))
    write_map(tmp_path / "space", 3, 20, "b" * 64)
    elsewhere = ["search", str(tmp_path / "space" / "index"), "--store", str(tmp_path / "space" / "store"), "-k", "6"]
    assert "descriptors of space" in refused(capsys, [*elsewhere, *both])
    assert "no calibration can be read" in refused(
        capsys, search(folder, "--matches", matches, "--calibrated", str(tmp_path / "absent.json"))
    )


def test_nothing_is_written_where_nothing_is_learned(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    words = learn(folder, "a", "b")
    words.remove(str(folder / "b" / "store"))
    assert "1 of --store" in refused(capsys, [*words, "-o", str(tmp_path / "c.json")])
    assert "ground truth" in refused(
        capsys, [*learn(folder, "a"), "--ground-truth", str(tmp_path / "none.json"), "-o", str(tmp_path / "c.json")]
    )
    assert list(tmp_path.iterdir()) == []
