from __future__ import annotations

import json

import numpy as np
import pytest

from gloam.data.scene import Pose, Record, Scene
from gloam.errors import DataError, UsageError
from gloam.eval.retrieval.recall_distance import read_positions, recall_within
from gloam.runtime.descriptors.source import DescriptorArray


def street(rng, queries=20, images=60):
    """Descriptors that know roughly where they are."""
    points = {f"q{n:02d}": rng.uniform(0, 100, 2) for n in range(queries)}
    points |= {f"m{n:02d}": rng.uniform(0, 100, 2) for n in range(images)}

    def source(letter):
        names = [name for name in points if name[0] == letter]
        rows = np.stack([[*points[name] / 60, 1.0] for name in names]) + rng.normal(0, 0.1, (len(names), 3))
        return DescriptorArray(names, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))

    return source("q"), source("m"), points


def test_equals_a_plain_loop():
    queries, database, points = street(np.random.default_rng(0))
    distances, ks = (5.0, 20.0, 60.0), (1, 5, 100)
    night = [name for name in queries.names if int(name[1:]) < 5]
    conditions = {"night": [*night, "stranger"], "fog": []}
    found = recall_within(queries, database, points, points, distances=distances, ks=ks, conditions=conditions)
    hits = {(k, d): [] for k in ks for d in distances}
    for name, row in zip(queries.names, queries.descriptors, strict=True):
        order = np.argsort(-(database.descriptors @ row), kind="stable")
        errors = [np.linalg.norm(points[name] - points[database.names[column]]) for column in order]
        for k, d in hits:
            hits[k, d].append(min(errors[:k]) <= d)
    for k in ks:
        assert found.recall[k] == pytest.approx([np.mean(hits[k, d]) for d in distances])
    assert found.recall[100] == found.reachable  # the whole map
    assert found.conditions["night"].recall[1][1] == pytest.approx(np.mean(hits[1, 20.0][:5]))
    assert found.conditions["fog"].queries == 0
    share = [np.mean([np.linalg.norm(points[q] - points[m]) <= 20 for m in database.names]) for q in queries.names]
    assert found.chance[1] == pytest.approx(np.mean(share))
    json.dumps(found.to_dict(), allow_nan=False)


def test_curves_rise_with_distance_and_with_more_images():
    queries, database, points = street(np.random.default_rng(1))
    found = recall_within(queries, database, points, points)
    curves = np.array([found.recall[k] for k in sorted(found.recall)] + [found.reachable])
    assert (np.diff(curves, axis=0) >= 0).all()
    assert (np.diff(curves, axis=1) >= 0).all()


def test_positions_from_a_table_and_from_kapture(tmp_path):
    table = tmp_path / "positions.csv"
    table.write_text("image,x,y\na,1,2\nb,3,4.5\n")
    assert read_positions(table)["b"].tolist() == [3.0, 4.5]
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert read_positions(table)["b"].tolist() == [3.0, 4.5]
    for content, message in (
        ("image,lat,lon\na,1,2\n", "line 1: the columns are image, x, y"),
        ("image,x,y\na,1,far\n", "line 2: 'a' has no position"),
        ("image,x,y\na,1,2\nb,nan,2\n", "line 3: 'b' has no position .*not finite"),
        ("image,x,y\na,1,2\nb,1\n", r"positions\.csv:3: 2 values where the header has 3"),
        ("image,x,x\na,1,2\n", "two columns of one name"),
        ("image,x,y\na,1,2\n./a,3,4\n", "line 3: image 'a' is listed twice"),
        ("", "the columns are image, x, y"),
        ("image,x,y\n", "no positions"),
    ):
        table.write_text(content)
        with pytest.raises(DataError, match=message):
            read_positions(table)
    pytest.importorskip("kapture")
    from gloam.data.kapture_io import write_scene
    from gloam.data.scene import Camera

    scene = Scene(
        tmp_path / "map",
        {"cam": Camera("SIMPLE_PINHOLE", 8, 6, (7.0, 4.0, 3.0))},
        {"a.jpg": Record("cam", 0)},
        {"a.jpg": Pose((1.0, 0.0, 0.0, 0.0), (-3.0, 0.0, 1.0))},
    )
    write_scene(scene)
    assert read_positions(tmp_path / "map")["a.jpg"].tolist() == [3.0, 0.0, -1.0]


def test_bad_positions_are_named():
    one = DescriptorArray(["a"], np.ones((1, 2), np.float32))
    here = {"a": np.zeros(2)}
    with pytest.raises(DataError, match=r"1 of 1 map images have no position \(the first is a\)"):
        recall_within(one, one, here, {})
    with pytest.raises(DataError, match="position of query image a is not finite"):
        recall_within(one, one, {"a": np.array([0, np.nan])}, here)
    with pytest.raises(DataError, match="2 axes, map positions 3"):
        recall_within(one, one, here, {"a": np.zeros(3)})
    with pytest.raises(UsageError, match="ascending"):
        recall_within(one, one, here, here, distances=(5.0, 1.0))
    with pytest.raises(DataError, match="'a' is not finite"):
        recall_within(DescriptorArray(["a"], np.full((1, 2), np.nan, np.float32)), one, here, here)
