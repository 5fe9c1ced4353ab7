"""``index``, ``search``, ``pairs`` and ``doctor`` as they are typed."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.cli import doctor, index, pairs, search
from gloam.cli.main import add_common, main
from gloam.cli.shared.report import Report
from gloam.cli.shared.values import nbytes
from gloam.data.kapture_io import write_scene
from gloam.data.pairs import read_pairs
from gloam.data.scene import Pose, Record, Scene
from gloam.errors import DataError, IncompatibleError, UsageError
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import DescriptorStore, Job, Row
from tests.runtime.sources import random_source
from tests.tiny_models import write_tiny_embedder


def run(verb: object, *words: str) -> Report:
    parser = argparse.ArgumentParser()
    add_common(parser)
    verb.add_arguments(parser)  # type: ignore[attr-defined]  # verbs are modules
    report: Report = verb.run(parser.parse_args(words))  # type: ignore[attr-defined]  # verbs are modules
    json.dumps(report.data, allow_nan=False)
    return report


def write_store(folder: Path, count: int, seed: int, prefix: str, space: str = "a" * 64) -> Path:
    source = random_source(count, 8, seed, prefix)
    writer = ShardWriter(folder, Job(space, "b" * 64, 8, "cosine", "c" * 64, count, {"max_side": 64}), 1)
    writer.write(0, [Row(name) for name in source.names], source.rows)
    writer.finish()
    return folder


def test_index_search_and_pairs_agree(tmp_path: Path) -> None:
    mapping, query = write_store(tmp_path / "map", 30, 1, "map"), write_store(tmp_path / "query", 5, 2, "query")
    built = run(index, str(mapping), "-o", str(tmp_path / "index"))
    assert built.data["count"] == 30
    assert built.data["options"]["max_side"] == 64
    found = run(search, str(tmp_path / "index"), "--store", str(query), "-k", "4").data["results"]
    words = ["--query", str(query), "--map", str(mapping), "-k", "4", "-o", str(tmp_path / "pairs.txt")]
    assert run(pairs, *words).data["pairs"] == 20
    for pair in read_pairs(tmp_path / "pairs.txt"):
        scores = {item["image"]: item["score"] for item in found[pair.query]}
        assert scores[pair.mapping] == pytest.approx(pair.score, abs=1e-5)


def test_every_way_to_build_an_index(tmp_path: Path) -> None:
    first, second = write_store(tmp_path / "a", 700, 1, "a"), write_store(tmp_path / "b", 30, 2, "b")
    flat = run(index, str(first), "-o", str(tmp_path / "index"), "--shards", "2")
    assert flat.data["factory"] == "Flat"
    assert "chosen: Flat, about 22.4 kB" in flat.text
    small = run(index, str(first), "-o", str(tmp_path / "small"), "--memory", "20kB")
    assert small.data["factory"] == "IVF16,PQ2x4fs,Refine(SQfp16)"
    assert "recall@10" in small.text
    assert small.data["search"]["nprobe"] >= 1
    graph = run(index, str(first), "-o", str(tmp_path / "graph"), "--kind", "hnsw")
    assert graph.data["factory"] == "HNSW32"
    added = run(index, "--add", str(second), "-o", str(tmp_path / "index"))
    assert (added.data["count"], len(added.data["files"])) == (730, 3)
    run(index, str(second), "-o", str(tmp_path / "other"))
    run(index, str(first), "-o", str(tmp_path / "one"))
    merged = run(index, "--merge", str(tmp_path / "one"), str(tmp_path / "other"), "-o", str(tmp_path / "merged"))
    assert merged.data["count"] == 730
    query = write_store(tmp_path / "query", 5, 3, "query")
    found = [
        run(search, str(tmp_path / name), "--store", str(query), *words).data
        for name, words in (("index", ("--mmap",)), ("merged", ("--device", "auto")))
    ]
    assert found[0]["results"] == found[1]["results"]
    assert found[1]["searched_on"].startswith("CPU: ")


def test_options_of_an_index_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    store, output = str(write_store(tmp_path / "a", 30, 1, "a")), str(tmp_path / "index")
    for words, match in (
        ((), "one of the three"),
        ((store, "--add", store), "one of the three"),
        ((store, "--factory", "Flat", "--memory", "1GB"), "leave out --memory"),
        ((store, "--factory", "Flat", "--kind", "hnsw"), "leave out --memory and --kind"),
        (("--add", store, "--kind", "hnsw"), "keeps its kind"),
        (("--add", store, "--shards", "2"), "keeps its kind"),
        ((store, "--memory", "100"), "a budget of 100 bytes is too small"),
    ):
        with pytest.raises(UsageError, match=match):
            run(index, *words, "-o", output)
    for words in ((store, "--kind", "annoy"), (store, "--memory", "lots")):
        with pytest.raises(SystemExit):
            run(index, *words, "-o", output)
    assert not Path(output).exists()


def test_sizes_as_they_are_typed() -> None:
    typed = {"8GB": 8 * 10**9, "512MiB": 2**29, "1.5 kB": 1500, "12": 12, "7b": 7, "2tib": 2**41}
    assert {text: nbytes(text) for text in typed} == typed
    for text in ("", "GB", "-1GB", "1XB", "8G B", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match="8GB"):
            nbytes(text)


def test_rules_by_camera_location_and_distance(tmp_path: Path) -> None:
    mapping, query = write_store(tmp_path / "map", 30, 1, "map"), write_store(tmp_path / "query", 5, 2, "query")
    names = {side: DescriptorStore.open(tmp_path / side).names for side in ("map", "query")}
    everything = [*names["map"], *names["query"]]
    camera = {name: name.split("/")[1] for name in everything}
    place = {name: str(int(name[-9:-4]) % 4) for name in everything}
    table = tmp_path / "groups.csv"
    table.write_text("image,camera,location\n" + "".join(f"{n},{camera[n]},{place[n]}\n" for n in everything))
    scene = Scene(tmp_path / "scene", {}, {name: Record(camera[name], 1) for name in everything})
    scene.poses = {n: Pose((1.0, 0.0, 0.0, 0.0), (-10.0 * int(place[n]), 0.0, 0.0)) for n in everything}
    scene.records = {name: Record(camera[name], at) for at, name in enumerate(everything)}
    write_scene(scene)
    base = ["--query", str(query), "--map", str(mapping), "-k", "30", "-o", str(tmp_path / "pairs.txt")]

    def kept(*words: object) -> set[tuple[str, str]]:
        report = run(pairs, *base, *map(str, words))
        assert not any(report.data.get("images_without", {}).values())
        return {(pair.query, pair.mapping) for pair in read_pairs(tmp_path / "pairs.txt")}

    every = kept()
    other_camera = {(q, m) for q, m in every if camera[q] != camera[m]}
    same_place = {(q, m) for q, m in every if place[q] == place[m]}
    assert len(every) == 150
    assert kept("--exclude-same", "camera", "--groups", table) == other_camera
    assert kept("--exclude-same", "camera", "--kapture", scene.root) == other_camera
    assert kept("--only-same", "location", "--groups", table) == same_place
    both = kept("--exclude-same", "camera", "--only-same", "location", "--groups", table)
    assert both == other_camera & same_place
    far = {(q, m) for q, m in every if abs(int(place[q]) - int(place[m])) >= 2}
    assert kept("--min-distance", 15, "--kapture", scene.root) == far
    for words, kind, match in (
        (("--exclude-same", "location"), UsageError, "--groups FILE"),
        (("--only-same", "camera"), UsageError, "--kapture DATASET"),
        (("--exclude-same", "location", "--kapture", str(scene.root)), UsageError, "--groups FILE"),
        (("--min-distance", "3"), UsageError, "--kapture"),
        (("--exclude-same", "weather", "--groups", str(table)), DataError, "column 'weather', found image, camera"),
    ):
        with pytest.raises(kind, match=match):
            run(pairs, *base, *words)
    table.write_text("image,camera\nelsewhere.jpg,a\n")
    with pytest.raises(DataError, match="none of the images has a camera"):
        run(pairs, *base, "--exclude-same", "camera", "--groups", str(table))
    table.write_text("image,camera\n" + "".join(f"{n},{camera[n]}\n" for n in everything[3:]))
    report = run(pairs, *base, "--exclude-same", "camera", "--groups", str(table))
    assert report.data["images_without"] == {"camera": 3}
    assert "3 images without a camera" in report.text


def test_queries_of_another_space_are_refused(tmp_path: Path) -> None:
    mapping = write_store(tmp_path / "map", 6, 1, "map")
    query = write_store(tmp_path / "query", 5, 2, "query", "d" * 64)
    run(index, str(mapping), "-o", str(tmp_path / "index"))
    with pytest.raises(IncompatibleError):
        run(search, str(tmp_path / "index"), "--store", str(query))
    with pytest.raises(IncompatibleError):
        run(pairs, "--query", str(query), "--map", str(mapping), "-o", str(tmp_path / "pairs.txt"))
    assert not (tmp_path / "pairs.txt").exists()


def test_images_without_a_model_are_refused_before_anything_loads(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--model"):
        run(search, str(tmp_path / "absent"), "--images", str(tmp_path))


def test_doctor_reports_every_extra() -> None:
    report = run(doctor)
    assert report.exit_code == (0 if report.data["healthy"] else 1)
    assert {"train", "cpu", "gpu", "localization"} <= {extra["name"] for extra in report.data["extras"]}


@pytest.mark.parametrize("place", ["file", "pipe", "file/x", "n" * 300, "/dev/null", "/proc/x", "a/" * 2500])
def test_an_output_that_can_be_no_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / "in" / "a.png")
    write_tiny_embedder(tmp_path / "m.onnx")
    assert main(["extract", "in", "--model", "m.onnx", "-o", "store"]) == 0
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    capsys.readouterr()
    for command in (
        ["extract", "in", "--model", "m.onnx", "-o", place],
        ["extract", place, "--model", "m.onnx", "-o", "out"],
        ["extract", "in", "--model", place, "-o", "out"],
        ["translate", "in", "--model", "gamma", "-o", place],
        ["translate", "in", "--model", "gamma", "--tar", "-o", place],
        ["index", "store", "-o", place],
    ):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert said.startswith(f"gloam {command[0]}: ")
