from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gloam.errors import DataError
from gloam.eval.retrieval.places import ground_truth_of_places, places_by_folder, read_place_table, read_vpr_bench

PACK = Path(os.environ.get("GLOAM_DATA", "absent")) / "gt_formats"
needs_pack = pytest.mark.skipif(not PACK.is_dir(), reason="GLOAM_DATA names no folder with gt_formats")


def test_folders_are_places_and_a_query_never_finds_itself():
    names = ["a/1", "a/2", "b/1", "a/3"]
    truth = ground_truth_of_places(names, names, places_by_folder(names))
    assert [row.tolist() for row in truth.positives] == [[1, 3], [0, 3], [], [0, 1]]
    assert [row.tolist() for row in truth.junk] == [[0], [1], [2], [3]]
    apart = ground_truth_of_places(["a/9"], names, places_by_folder([*names, "a/9"]))
    assert apart.positives[0].tolist() == [0, 1, 3]
    assert apart.junk[0].tolist() == []


def test_bad_places_are_named(tmp_path):
    with pytest.raises(DataError, match="loose lies in no folder"):
        places_by_folder(["a/1", "loose"])
    alone = ["a/1", "b/1"]
    with pytest.raises(DataError, match=r"none of 2 places has a second image .*first is a"):
        ground_truth_of_places(alone, alone, places_by_folder(alone))
    with pytest.raises(DataError, match="image z has no place"):
        ground_truth_of_places(["z"], alone, places_by_folder(alone))
    table = tmp_path / "places.csv"
    table.write_text("image,cluster\na,1\nb,1\n")
    assert read_place_table(table) == {"a": "1", "b": "1"}
    table.write_text("image,cluster\na,1\na,2\n")
    with pytest.raises(DataError, match="image a has two clusters"):
        read_place_table(table)
    table.write_text("image,cluster\na,1\nb,\n")
    with pytest.raises(DataError, match=r"places\.csv:3: no cluster here"):
        read_place_table(table)
    table.write_text("picture,cluster\na,1\n")
    with pytest.raises(DataError, match="no column 'image'"):
        read_place_table(table)
    with pytest.raises(DataError, match="cannot be read"):
        read_place_table(tmp_path / "absent.csv")


@needs_pack
@pytest.mark.parametrize(
    ("name", "queries", "images", "answered"),
    [("Tokyo247", 315, 75984, 315), ("GardensPointWalking", 200, 200, 200), ("inria_holidays", 300, 512, 300)],
)
def test_ground_truth_of_vpr_bench(name, queries, images, answered):
    path = PACK / f"vprbench_{name}_gt.json.gz"
    truth = read_vpr_bench(path, [f"q{n:05d}" for n in range(queries)], [f"m{n:05d}" for n in range(images)])
    assert sum(len(row) > 0 for row in truth.positives) == answered
    assert max(row.max() for row in truth.positives) < images
    with pytest.raises(DataError, match="beyond the 9 of the map"):
        read_vpr_bench(path, [f"q{n}" for n in range(queries)], [f"m{n}" for n in range(9)])
    with pytest.raises(DataError, match="beyond the 3 queries"):
        read_vpr_bench(path, ["a", "b", "c"], [f"m{n}" for n in range(images)])


@needs_pack
def test_queries_of_vpr_bench_without_an_image():
    path = PACK / "vprbench_GardensPoint_TN_gt.json.gz"
    truth = read_vpr_bench(path, [f"q{n}" for n in range(400)], [f"m{n}" for n in range(400)])
    assert [len(row) for row in truth.positives[-2:]] == [0, 0]
    assert truth.positives[0].tolist() == [0, 1, 2, 3]


def test_vpr_bench_of_another_form(tmp_path):
    for content in ("{}", '{"imlist": ["b"], "gnd": []}', "[[0, 1]]", "[[0, [true]]]", "[[0, [0.5]]]", "nothing"):
        path = tmp_path / "gt.json"
        path.write_text(content)
        with pytest.raises(DataError, match="not readable as ground truth of VPR-Bench"):
            read_vpr_bench(path, ["a"], ["b"])
    path.write_text(json.dumps([[0, [0]], [0, [0]]]))
    with pytest.raises(DataError, match="query 0 is listed twice"):
        read_vpr_bench(path, ["a"], ["b"])


def test_the_numbers_of_vpr_bench_mean_its_own_list_of_images(tmp_path):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps([[0, [1]], [1, [0]], [2, [2]]]))
    truth = read_vpr_bench(path, ["c", "a", "b"], ["z", "x", "y"])
    assert (truth.query_names, truth.map_names) == (("a", "b", "c"), ("x", "y", "z"))
    with pytest.raises(DataError, match="numbers 3 queries, and there are 4, so its numbers mean other images"):
        read_vpr_bench(path, ["a", "b", "c", "d"], ["x", "y", "z"])
    path.write_text(json.dumps({"qimlist": ["b", "a"], "imlist": ["y", "x"], "gnd": [[0, [1]], [1, [0]]]}))
    truth = read_vpr_bench(path, ["a"], ["x"])  # what is described plays no part
    assert (truth.query_names, truth.map_names) == (("b", "a"), ("y", "x"))
    assert [row.tolist() for row in truth.positives] == [[1], [0]]


def test_an_image_that_is_gone_shifts_no_number_in_silence(tmp_path):
    path = tmp_path / "g.json"
    path.write_text("[[0, [0]], [1, [1]]]")
    queries = ["q/000.jpg", "q/001.jpg"]
    numbered = [f"m/{row:05d}.jpg" for row in range(0, 200, 2)]
    assert read_vpr_bench(path, queries, numbered).map_names == tuple(numbered)
    with pytest.raises(DataError, match=r"between m/00118\.jpg and m/00122\.jpg an image seems to be gone"):
        read_vpr_bench(path, queries, [*numbered[:60], *numbered[61:]])
    irregular = [f"m/{row * row:05d}.jpg" for row in range(100)]  # times, for one, say nothing of what is gone
    assert read_vpr_bench(path, queries, irregular).map_names == tuple(irregular)
