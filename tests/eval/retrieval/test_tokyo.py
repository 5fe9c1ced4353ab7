from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from gloam.errors import DataError, UsageError
from gloam.eval.retrieval.streamed import evaluate_streamed
from gloam.eval.retrieval.tokyo import (
    COMBINATIONS,
    LIGHTINGS,
    combinations,
    condition_matrix,
    lightings_by_order,
    read_tokyo,
)
from gloam.runtime.descriptors.source import DescriptorArray

SPOTS, DIRECTIONS = 4, 3


def spots():
    """The benchmark in small: at every spot three directions, of each three lightings; all else of the spot is junk."""
    names = [f"{n:05d}" for n in range(SPOTS * DIRECTIONS * 3)]
    gnd = []
    for index in range(len(names)):
        scene = range(index // 3 * 3, index // 3 * 3 + 3)
        spot = range(index // 9 * 9, index // 9 * 9 + 9)
        ok = [other for other in scene if other != index]
        gnd.append({"bbx": None, "ok": ok, "junk": [other for other in spot if other not in ok]})
    return {"imlist": names, "qimlist": names, "gnd": gnd}


def written(tmp_path, value):
    path = tmp_path / "gnd_247tokyo1k.pkl"
    path.write_bytes(pickle.dumps(value))
    return path


def test_reads_the_pickle_and_knows_the_lightings_by_order(tmp_path):
    truth = read_tokyo(written(tmp_path, spots()))
    assert {(len(ok), len(junk)) for ok, junk in zip(truth.positives, truth.junk, strict=True)} == {(2, 7)}
    lightings = lightings_by_order(truth, LIGHTINGS)
    assert lightings["night"][:2] == ("00002", "00005")
    assert {len(names) for names in lightings.values()} == {SPOTS * DIRECTIONS}
    assert lightings_by_order(truth, ("night", "day", "sunset"))["night"][0] == "00000"
    with pytest.raises(UsageError, match="day, sunset and night"):
        lightings_by_order(truth, ("day", "night"))


def test_six_combinations_have_one_positive_and_drop_the_third_image(tmp_path):
    truth = read_tokyo(written(tmp_path, spots()))
    lightings = lightings_by_order(truth, LIGHTINGS)
    sets = combinations(truth, lightings)
    assert list(sets) == ["day>sunset", "sunset>day", "sunset>night", "night>sunset", "day>night", "night>day"]
    for (asked, right), item in zip(COMBINATIONS, sets.values(), strict=True):
        assert item.query_names == lightings[asked]
        for query, ok, junk in zip(item.query_names, item.positives, item.junk, strict=True):
            assert [item.map_names[index] in lightings[right] for index in ok] == [True]
            assert len(junk) == 8
            assert item.map_names.index(query) in junk
    assert condition_matrix(truth, lightings, lightings).keys() == {f"{a}>{b}" for a in LIGHTINGS for b in LIGHTINGS}


def test_scores_of_the_combinations_are_those_of_their_lightings(tmp_path):
    """Night looks like itself alone: day and sunset find each other, night finds and is found by nobody."""
    truth = read_tokyo(written(tmp_path, spots()))
    lightings = lightings_by_order(truth, LIGHTINGS)
    count = len(truth.map_names)
    rows = np.zeros((count, count // 3 + 1), np.float32)
    for index, name in enumerate(truth.map_names):
        rows[index, -1] = 1 if name in lightings["night"] else -1
        rows[index, index // 3] = name not in lightings["night"]
    source = DescriptorArray(list(truth.map_names), rows)
    found = evaluate_streamed(source, source, {"all": truth, **combinations(truth, lightings)})
    assert found["day>sunset"].mAP == found["sunset>day"].mAP == 1.0
    assert found["night>day"].mAP < 0.25 > found["day>night"].mAP
    assert found["all"].queries == count


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value["gnd"][4]["junk"].remove(4), "query 00004 would retrieve itself"),
        (lambda value: value["gnd"][4]["ok"].pop(), "scene of query 00003 is another"),
        (lambda value: value["gnd"][0]["ok"].pop(), "query 00000 has 1 positives"),
        (lambda value: value["gnd"][4].update(ok=[0, 1], junk=[4]), "scene of query 00003 is another"),
        (lambda value: value.update(imlist=[*value["imlist"], "x"]), "queries and database differ"),
    ],
)
def test_another_form_is_refused_with_the_first_query(tmp_path, change, message):
    value = json.loads(json.dumps(spots()))
    change(value)
    with pytest.raises(DataError, match=message):
        read_tokyo(written(tmp_path, value))


def test_every_image_needs_one_lighting(tmp_path):
    truth = read_tokyo(written(tmp_path, spots()))
    lightings = dict(lightings_by_order(truth, LIGHTINGS))
    with pytest.raises(DataError, match="no list of sunset"):
        combinations(truth, {name: lightings[name] for name in ("day", "night")})
    with pytest.raises(DataError, match="00000 is in no list"):
        combinations(truth, lightings | {"day": lightings["day"][1:]})
    with pytest.raises(DataError, match="00000 is in day and night"):
        combinations(truth, lightings | {"night": (*lightings["night"], "00000")})
    with pytest.raises(DataError, match="none of the queries"):
        condition_matrix(truth, {"fog": ["w"]}, lightings)
