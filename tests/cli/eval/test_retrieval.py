from __future__ import annotations

import csv
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.cli import main
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import Job, Row

PACK = Path(os.environ.get("GLOAM_DATA", "absent")) / "gt_formats"
needs_pack = pytest.mark.skipif(not PACK.is_dir(), reason="GLOAM_DATA names no folder with gt_formats")


def write_store(folder, names, rows):
    rows = np.asarray(rows, np.float32)
    job = Job("s" * 64, "f" * 64, rows.shape[1], "cosine", "x" * 64, len(names), {})
    writer = ShardWriter(folder, job, 1)
    writer.write(0, [Row(name) for name in names], rows)
    writer.finish()
    return str(folder)


@pytest.fixture
def stores(tmp_path):
    query = write_store(tmp_path / "q", ["n1", "n2"], [[1, 0], [0, 1]])
    return ["--query", query, "--map", write_store(tmp_path / "m", ["d1", "d2"], [[1, 0], [0.6, 0.8]])]


@pytest.fixture
def truth(tmp_path):
    path = tmp_path / "truth.json"
    value = {"imlist": ["d1", "d2"], "qimlist": ["n1", "n2"], "gnd": [{"ok": [0]}, {"ok": [0]}]}
    path.write_text(json.dumps({"night2day": value}))
    return path


def run_json(arguments, capsys):
    assert main.main(["eval", "retrieval", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refused(arguments, capsys):
    assert main.main(["eval", "retrieval", *map(str, arguments)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_prints_scores_per_condition_beside_chance(stores, truth, tmp_path, capsys):
    lists = tmp_path / "conditions"
    lists.mkdir()
    (lists / "night.txt").write_text("n1\n")
    command = [*stores, "--ground-truth", truth]
    data = run_json([*command, "--set", "night2day", "--conditions", lists], capsys)
    assert data["recall"]["1"] == 0.5
    assert data["mAP"] == pytest.approx((1 + 0.25) / 2)
    assert data["conditions"]["night"]["mAP"] == 1
    assert data["chance"]["recall"]["1"] == 0.5
    assert main.main(["eval", "retrieval", *map(str, command)]) == 0
    assert "chance" in capsys.readouterr().out


def test_distractors_and_a_matrix_of_conditions(stores, truth, tmp_path, capsys):
    more = write_store(tmp_path / "d", ["x1", "x2"], [[0.1, 1], [0, 0.5]])
    for name, image in (("queries", "n2"), ("images", "d1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rain.txt").write_text(f"{image}\n")
    lists = ["--conditions", tmp_path / "queries", "--map-conditions", tmp_path / "images"]
    data = run_json([*stores, "--ground-truth", truth, "--distractors", more, *lists], capsys)
    assert data["mAP"] == pytest.approx((1 + 0.125) / 2)  # n2's positive falls from rank 1 to rank 3
    assert data["matrix"]["rain>rain"]["mAP"] == pytest.approx(0.125)
    assert data["identity"]["distractors"] == "2"


def test_report_holds_scores_tables_and_the_worst_queries(stores, truth, tmp_path, capsys):
    for name in ("n1", "n2", "d1"):  # d2 is not there: its reason is shown in its place
        Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / name, "PNG")
    folder = tmp_path / "report"
    run_json([*stores, "--ground-truth", truth, "--report", folder, "--images", tmp_path], capsys)
    page = (folder / "report.html").read_text()
    assert page.index("average precision 0.250") < page.index("average precision 1.00")
    assert "image not found" in page or "No such file" in page
    assert re.search(r'class="answer long">0.625<small>mAP</small></p><span>these descriptors<', page)
    assert "over 2 queries" in page
    rows = list(csv.DictReader((folder / "per_query.csv").open()))
    assert [(row["query"], row["ap"], row["positives"]) for row in rows] == [
        ("n2", "0.250000", "1"),
        ("n1", "1.000000", "1"),
    ]
    assert json.loads((folder / "scores.json").read_text())["sets"]["truth"]["mAP"] == pytest.approx(0.625)


def test_without_images_the_report_names_what_was_retrieved(stores, truth, tmp_path, capsys):
    run_json([*stores, "--ground-truth", truth, "--report", tmp_path / "report"], capsys)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<img" not in page
    rows = re.findall(r"<tr><td>(n\d)</td><td></td><td class=\"n\">([\d.]+)</td><td>([^<]+)</td><td>([^<]+)</td>", page)
    assert rows == [
        ("n2", "0.250", "✗ d2 (0.800)", "✓ d1 (0.000)"),
        ("n1", "1.00", "✓ d1 (1.000)", "✗ d2 (0.600)"),
    ]


def test_the_gallery_shows_only_what_is_ranked(truth, tmp_path, capsys):
    """One store for queries and map, as `gloam extract` of one folder gives."""
    whole = write_store(tmp_path / "all", ["n1", "n2", "d1", "d2"], [[1, 0], [0, 1], [1, 0], [0.6, 0.8]])
    for name in ("n1", "n2", "d1", "d2"):
        Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / name, "PNG")
    command = ["--query", whole, "--map", whole, "--ground-truth", truth]
    run_json([*command, "--report", tmp_path / "report", "--images", tmp_path], capsys)
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count('<li class="yes">') == 2  # d1 for both; the queries themselves are nowhere
    assert page.count('<li class="no">') == 2


@needs_pack
def test_revisited_names_without_suffix_and_the_papers_rows(tmp_path, capsys):
    path = PACK / "revisitop" / "gnd_roxford5k.pkl"
    value = json.loads(json.dumps(pickle.loads(path.read_bytes())))
    rng = np.random.default_rng(0)
    query = write_store(tmp_path / "q", [f"{name}.jpg" for name in value["qimlist"]], rng.normal(size=(70, 8)))
    names = [f"jpg/{name}.jpg" for name in value["imlist"]]
    database = write_store(tmp_path / "m", names, rng.normal(size=(len(names), 8)))
    command = ["--query", query, "--map", database, "--protocol", "revisited", "--ground-truth", path]
    data = run_json([*command, "--report", tmp_path / "report"], capsys)
    assert list(data["sets"]) == ["easy", "hard", "medium"]  # sorted by JSON
    assert data["set"] == "medium"
    assert data["sets"]["easy"]["queries"] == 68
    page = (tmp_path / "report" / "report.html").read_text()
    assert "dark-side, table 1" in page
    assert "VGG16 CycleGAN CD" in page
    assert "this run" in page


def test_tokyo_by_the_order_of_names(tmp_path, capsys):
    names = [f"{n:05d}.jpg" for n in range(18)]
    gnd = []
    for index in range(18):
        scene = [other for other in range(index // 3 * 3, index // 3 * 3 + 3) if other != index]
        spot = range(index // 9 * 9, index // 9 * 9 + 9)
        gnd.append({"ok": scene, "junk": [other for other in spot if other not in scene]})
    path = tmp_path / "gnd_247tokyo1k.json"
    bare = [name[:-4] for name in names]
    path.write_text(json.dumps({"imlist": bare, "qimlist": bare, "gnd": gnd}))
    store = write_store(tmp_path / "s", names, np.repeat(np.eye(6), 3, axis=0))
    command = ["--query", store, "--map", store, "--protocol", "tokyo", "--ground-truth", path]
    data = run_json([*command, "--order", "day,sunset,night", "--report", tmp_path / "report"], capsys)
    assert data["mAP"] == 1.0
    assert {name: item["mAP"] for name, item in data["matrix"].items()} == dict.fromkeys(data["matrix"], 1.0)
    assert len(data["matrix"]) == 6
    assert data["conditions"]["night"]["queries"] == 6
    assert "Tokyo 24/7 from one lighting" in (tmp_path / "report" / "report.html").read_text()
    assert "day, sunset and night" in refused([*command, "--order", "day,night"], capsys)


def test_clusters_from_folders_and_from_a_table(tmp_path, capsys):
    store = write_store(tmp_path / "s", ["a/1", "a/2", "b/1", "b/2"], np.repeat(np.eye(2), 2, axis=0))
    command = ["--query", store, "--map", store, "--protocol", "clusters"]
    assert run_json(command, capsys)["mAP"] == 1.0
    table = tmp_path / "places.csv"
    table.write_text("image,cluster\na/1,x\nb/1,x\na/2,y\nb/2,z\n")
    data = run_json([*command, "--ground-truth", table], capsys)
    assert data["skipped"] == 2
    table.write_text("image,cluster\na/1,x\nb/1,w\na/2,y\nb/2,z\n")
    assert "none of 4 places has a second image" in refused([*command, "--ground-truth", table], capsys)


def test_recall_within_a_distance_and_its_curve(stores, tmp_path, capsys):
    for name, content in (("q", "n1,0,0\nn2,10,0\n"), ("m", "d1,3,0\nd2,10,4\n")):
        (tmp_path / f"{name}.csv").write_text("image,x,y\n" + content)
    places = ["--query-positions", tmp_path / "q.csv", "--map-positions", tmp_path / "m.csv"]
    command = [*stores, "--protocol", "distance", *places, "--distances", "1", "3.5", "5"]
    data = run_json([*command, "--report", tmp_path / "report"], capsys)
    assert data["distance"]["recall"]["1"] == [0.0, 0.5, 1.0]
    assert "Within a distance" in (tmp_path / "report" / "report.html").read_text()
    assert main.main(["eval", "retrieval", *map(str, command)]) == 0
    assert "reachable" in capsys.readouterr().out


def test_refusals_are_one_line(stores, truth, tmp_path, capsys):
    command = [*stores, "--ground-truth", truth]
    assert "no set 'x'; choose one of night2day" in refused([*command, "--set", "x"], capsys)
    assert "needs --ground-truth" in refused([*stores, "--protocol", "tokyo"], capsys)
    assert "--query-positions" in refused([*stores, "--protocol", "distance"], capsys)
    assert "use the protocol sets" in refused([*command, "--protocol", "revisited"], capsys)
    assert "--order belongs" in refused([*command, "--order", "day,sunset,night"], capsys)
    missing = write_store(tmp_path / "less", ["d1"], [[1, 0]])
    assert "1 of 2 map images" in refused([*command[:2], "--map", missing, "--ground-truth", truth], capsys)
    nan = write_store(tmp_path / "nan", ["d1", "d2"], [[1, 0], [np.nan, 0]])
    assert "'d2' is not finite" in refused([*command[:2], "--map", nan, "--ground-truth", truth], capsys)


def store_with_failures(folder, names, rows, failed):
    """A store as `extract` leaves it where some images could not be read."""
    rows = np.asarray(rows, np.float32)
    every = sorted([*names, *failed])
    job = Job("s" * 64, "f" * 64, rows.shape[1], "cosine", "x" * 64, len(every), {})
    writer = ShardWriter(folder, job, 1)
    table = [Row(name, status="corrupt" if name in failed else "ok") for name in every]
    writer.write(0, table, rows[[names.index(name) for name in every if name not in failed]])
    writer.finish()
    return str(folder)


def failing(tmp_path):
    """Four places in one order; query b and map image y of place 1 cannot be read."""
    axes = np.eye(4)
    query = store_with_failures(tmp_path / "fq", ["p0/a.jpg", "p2/c.jpg", "p3/d.jpg"], axes[[0, 2, 3]], ["p1/b.jpg"])
    images = store_with_failures(tmp_path / "fm", ["p0/w.jpg", "p2/y.jpg", "p3/z.jpg"], axes[[0, 2, 3]], ["p1/x.jpg"])
    return ["--query", query, "--map", images]


def truths(tmp_path):
    queries, images = [f"p{n}/{q}.jpg" for n, q in enumerate("abcd")], [f"p{n}/{m}.jpg" for n, m in enumerate("wxyz")]
    sets = tmp_path / "sets.json"
    sets.write_text(json.dumps({"imlist": images, "qimlist": queries, "gnd": [{"ok": [n]} for n in range(4)]}))
    vpr = tmp_path / "vpr.json"
    vpr.write_text(json.dumps([[n, [n]] for n in range(4)]))
    for side, names in (("q", queries), ("m", images)):
        lines = "".join(f"{name},{100 * n},0\n" for n, name in enumerate(names))
        (tmp_path / f"{side}.csv").write_text("image,x,y\n" + lines)
    return {
        "sets": ["--ground-truth", sets],
        "vpr-bench": ["--ground-truth", vpr],
        "clusters": [],
        "distance": ["--query-positions", tmp_path / "q.csv", "--map-positions", tmp_path / "m.csv"],
    }


@pytest.mark.parametrize("protocol", ["sets", "vpr-bench", "clusters", "distance"])
def test_an_image_that_could_not_be_read_is_a_miss_and_shifts_nothing(protocol, tmp_path, capsys):
    command = [*failing(tmp_path), "--protocol", protocol, *truths(tmp_path)[protocol]]
    data = run_json([*command, "--report", tmp_path / "report", "--images", tmp_path], capsys)
    found = data["distance"] if protocol == "distance" else data
    recall = found["recall"]["1"]
    assert (recall[0] if protocol == "distance" else recall) == 0.75
    assert (found["queries"], found["failed"], found["failed_map"]) == (4, 1, 1)
    if protocol != "distance":
        assert (data["mAP"], data["skipped"]) == (0.75, 0)
    assert "could not be described" in (tmp_path / "report" / "report.html").read_text()
    assert main.main(["eval", "retrieval", *map(str, command)]) == 0
    assert "1 queries and 1 map images could not be described" in capsys.readouterr().out


def test_a_missing_file_is_never_replaced_by_another_of_its_stem(tmp_path, capsys):
    rows = [[1, 0], [0, 1]]
    query = write_store(tmp_path / "q2", ["q1.jpg", "q2.jpg"], rows)
    path = tmp_path / "t.json"
    value = {"imlist": ["a/x.jpg", "a/y.jpg"], "qimlist": ["q1", "q2"], "gnd": [{"ok": [0]}, {"ok": [1]}]}
    path.write_text(json.dumps(value))
    command = ["--query", query, "--ground-truth", path, "--map"]
    for number, stored in enumerate((["b/x.jpg", "a/y.jpg"], ["a/x.png", "a/y.jpg"], ["b/x.jpg", "b/y.jpg"])):
        assert "a/x.jpg" in refused([*command, write_store(tmp_path / f"no{number}", stored, rows)], capsys)
    for number, stored in enumerate((["a/x.jpg", "a/y.jpg"], ["jpg/a/x.jpg", "jpg/a/y.jpg"], ["x.jpg", "y.jpg"])):
        assert run_json([*command, write_store(tmp_path / f"yes{number}", stored, rows)], capsys)["mAP"] == 1.0
    twice = store_with_failures(tmp_path / "twice", ["q1.jpg", "a/q2.jpg"], rows, ["b/q2.jpg"])
    images = write_store(tmp_path / "m2", ["a/x.jpg", "a/y.jpg"], rows)
    assert "1 of 2 query images" in refused(["--query", twice, "--map", images, "--ground-truth", path], capsys)


def test_skipped_queries_are_counted_in_every_set(stores, tmp_path, capsys):
    path = tmp_path / "gnd.json"
    entries = [{"easy": [0], "hard": [], "junk": []}, {"easy": [], "hard": [1], "junk": []}]
    path.write_text(json.dumps({"imlist": ["d1", "d2"], "qimlist": ["n1", "n2"], "gnd": entries}))
    command = [*stores, "--protocol", "revisited", "--ground-truth", path]
    data = run_json(command, capsys)
    assert {name: item["skipped"] for name, item in data["sets"].items()} == {"easy": 1, "medium": 0, "hard": 1}
    assert main.main(["eval", "retrieval", *map(str, command)]) == 0
    rows = {line.split()[0]: line.split()[1:4] for line in capsys.readouterr().out.splitlines() if line}
    assert rows["medium"] == ["2", "0", "0"]
    assert rows["easy"] == rows["hard"] == ["1", "0", "1"]
