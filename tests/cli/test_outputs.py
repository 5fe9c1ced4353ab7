"""``index``, ``search``, ``pairs`` and ``doctor`` as they are typed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from gloam.cli import doctor, index, pairs, search
from gloam.cli.report import Report
from gloam.data.pairs import read_pairs
from gloam.errors import IncompatibleError, UsageError
from gloam.runtime.store import Job, Row, ShardWriter
from tests.runtime.sources import random_source


def run(verb: object, *words: str) -> Report:
    parser = argparse.ArgumentParser()
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
    assert built.data["options"] == {"max_side": 64}
    found = run(search, str(tmp_path / "index"), "--store", str(query), "-k", "4").data["results"]
    words = ["--query", str(query), "--map", str(mapping), "-k", "4", "-o", str(tmp_path / "pairs.txt")]
    assert run(pairs, *words).data["pairs"] == 20
    for pair in read_pairs(tmp_path / "pairs.txt"):
        scores = {item["image"]: item["score"] for item in found[pair.query]}
        assert scores[pair.mapping] == pytest.approx(pair.score, abs=1e-5)


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
