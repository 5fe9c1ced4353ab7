import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.shared.intervals import group_bootstrap
from gloam.errors import DataError, IncompatibleError
from gloam.eval.retrieval.ground_truth import parse_ground_truth, read_ground_truth
from gloam.eval.retrieval.scores import (
    average_precision,
    chance_average_precision,
    chance_recall,
    evaluate,
    positive_ranks,
)


def plain_ranking(scores, positives, junk):
    """Stable sort of everything, junk removed: what the counting must reproduce."""
    order = [index for index in np.argsort(-np.asarray(scores, np.float64), kind="stable") if index not in set(junk)]
    return [rank for rank, index in enumerate(order) if index in set(positives)]


def plain_average_precision(ranks, positives):
    total = 0.0
    for j, rank in enumerate(ranks):
        before = 1.0 if rank == 0 else j / rank
        total += (before + (j + 1) / (rank + 1)) / 2
    return total / positives


@pytest.mark.parametrize(
    ("ranks", "positives", "expected"),
    [([0, 1, 2], 3, 1.0), ([0, 2, 5], 3, 0.677778), ([4], 1, 0.1), ([0, 3, 4], 4, 0.491667)],
)
def test_average_precision_golden_values(ranks, positives, expected):
    assert average_precision(ranks, positives) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("junk", "mean_ap", "precision"), [([0], 0.416667, {1: 0, 5: 2 / 3, 10: 2 / 3}), ([0, 3], 1.0, None)]
)
def test_ranking_with_junk_golden_values(junk, mean_ap, precision):
    scores = np.zeros(5, np.float32)
    scores[[3, 1, 0, 2, 4]] = [5, 4, 3, 2, 1]
    truth = parse_ground_truth({"imlist": list("abcde"), "qimlist": ["q"], "gnd": [{"ok": [1, 2], "junk": junk}]})
    found = evaluate(["q"], np.ones((1, 1), np.float32), list("abcde"), scores[:, None], truth, ks=(1, 5, 10))
    assert found.mAP == pytest.approx(mean_ap, abs=1e-6)
    if precision:
        assert found.precision == pytest.approx(precision)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_counted_ranks_equal_a_stable_sort(data):
    n = data.draw(st.integers(1, 40))
    levels = data.draw(st.sampled_from([1, 2, 3, 1000]))  # 1: everything tied
    scores = np.array(data.draw(st.lists(st.integers(0, levels - 1), min_size=n, max_size=n)), np.float32)
    roles = data.draw(st.lists(st.sampled_from("pjn"), min_size=n, max_size=n))
    roles[data.draw(st.integers(0, n - 1))] = "p"
    positives = np.array([i for i, role in enumerate(roles) if role == "p"])
    junk = np.array([i for i, role in enumerate(roles) if role == "j"], np.int64)
    expected = plain_ranking(scores, positives, junk)
    ranks = positive_ranks(scores.copy(), positives, junk)
    assert ranks.tolist() == expected
    assert average_precision(ranks, len(positives)) == pytest.approx(
        plain_average_precision(expected, len(positives)), abs=1e-12
    )


def make_truth(rng, queries, database, positives):
    gnd = []
    for row in range(queries):
        chosen = rng.permutation(database)
        ok = [] if row == 0 else chosen[:positives].tolist()
        gnd.append({"ok": ok, "junk": chosen[positives : positives + 3].tolist()})
    names = [f"q{row}" for row in range(queries)]
    return {
        "imlist": [f"m{row}" for row in range(database)],
        "qimlist": names,
        "gnd": gnd,
        "conditions": {"night": names[: queries // 2], "day": names[queries // 2 :], "dusk": []},
    }


def unit(rng, rows, dimension):
    values = rng.normal(size=(rows, dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.mark.parametrize("block_values", [1, 1 << 23])
def test_evaluate_equals_the_plain_loop(monkeypatch, block_values):
    monkeypatch.setattr("gloam.eval.retrieval.scores.BLOCK_VALUES", block_values)
    rng = np.random.default_rng(0)
    value = make_truth(rng, 12, 57, 6)
    truth = parse_ground_truth(value)
    queries, database = unit(rng, 12, 8), unit(rng, 57, 8)
    database[10:20] = database[10]  # ties
    # integers, so that every way to multiply gives the same scores
    queries, database = np.round(queries * 8), np.round(database * 8)
    found = evaluate(truth.query_names, queries, truth.map_names, database, truth)
    values, hits = {}, {}
    for row, entry in enumerate(value["gnd"]):
        if not entry["ok"]:
            continue
        ranks = plain_ranking(database @ queries[row], entry["ok"], entry["junk"])
        values[f"q{row}"] = plain_average_precision(ranks, len(entry["ok"]))
        hits[f"q{row}"] = ranks[0] < 5
    assert found.per_query == pytest.approx(values, abs=1e-9)
    assert found.mAP == pytest.approx(np.mean(list(values.values())), abs=1e-9)
    assert found.recall[5] == pytest.approx(np.mean(list(hits.values())), abs=1e-9)
    assert (found.queries, found.skipped) == (11, 1)
    night = found.conditions["night"]
    assert night.mAP == pytest.approx(np.mean([values[f"q{row}"] for row in range(1, 6)]), abs=1e-9)
    assert np.isnan(found.conditions["dusk"].mAP)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_perfect_ranking_scores_one_and_rows_may_come_in_any_order():
    truth = parse_ground_truth({"imlist": ["a", "b", "c"], "qimlist": ["q"], "gnd": [{"ok": [2], "junk": []}]})
    database = np.eye(4, dtype=np.float32)
    found = evaluate(["x", "q"], np.eye(2, 4, dtype=np.float32), ["z", "c", "b", "a"], database, truth)
    assert found.mAP == 1.0
    assert found.recall == {1: 1.0, 5: 1.0, 10: 1.0, 20: 1.0}


def test_chance_is_the_mean_of_random_rankings():
    rng = np.random.default_rng(1)
    n, p, k = 30, 4, 5
    draws = [np.sort(rng.permutation(n)[:p]) for _ in range(20000)]
    mean_ap = np.mean([average_precision(ranks, p) for ranks in draws])
    assert chance_average_precision(n, p) == pytest.approx(mean_ap, abs=4e-3)
    assert chance_recall(n, p, k) == pytest.approx(np.mean([ranks[0] < k for ranks in draws]), abs=0.015)
    assert chance_average_precision(1, 1) == chance_average_precision(9, 9) == chance_recall(9, 9, 1) == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gnd": [{"ok": [7]}]}, r"q: ok index 7 is outside 0\.\.1"),
        ({"gnd": [{"ok": [-1]}]}, "outside"),
        ({"gnd": [{"ok": [True]}]}, "not a list of integers"),
        ({"gnd": [{"ok": [0, 0]}]}, "twice"),
        ({"gnd": [{"ok": [0], "junk": [0]}]}, "both ok and junk"),
        ({"gnd": [{"easy": [0]}]}, "no 'ok' list"),
        ({"gnd": []}, "0 entries for 1 queries"),
        ({"imlist": ["a", "a"]}, "listed twice: a"),
        ({"imlist": []}, "empty"),
        ({"qimlist": [3]}, "not an image name"),
        ({"conditions": {"night": ["w"]}}, "condition night: not among the queries: w"),
        ({"gnd": None}, "'gnd' is missing"),
    ],
)
def test_bad_ground_truth_is_named(change, message):
    value = {"imlist": ["a", "b"], "qimlist": ["q"], "gnd": [{"ok": [0], "junk": []}]} | change
    with pytest.raises(DataError, match=message):
        parse_ground_truth(value, "truth.json")


def test_sets_gz_and_unreadable_files(tmp_path):
    one = {"imlist": ["a"], "qimlist": ["q"], "gnd": [{"ok": [0]}]}
    packed = tmp_path / "truth.json.gz"
    packed.write_bytes(gzip.compress(json.dumps({"x": one, "y": one, "conditions": {"night": ["q"]}}).encode()))
    assert read_ground_truth(packed, "y").conditions == {"night": ("q",)}
    with pytest.raises(DataError, match="several sets; choose one of x, y"):
        read_ground_truth(packed)
    with pytest.raises(DataError, match="no set 'z'"):
        read_ground_truth(packed, "z")
    plain = tmp_path / "truth.json"
    plain.write_text(json.dumps(one))
    assert read_ground_truth(plain).map_names == ("a",)
    with pytest.raises(DataError, match="leave out the name"):
        read_ground_truth(plain, "x")
    for content in (b"", b"[1]", b'{"a": 1}', b"\xff"):
        plain.write_bytes(content)
        with pytest.raises(DataError, match=r"truth\.json"):
            read_ground_truth(plain)
    with pytest.raises(DataError, match="No such file"):
        read_ground_truth(tmp_path / "absent.json")


def test_refusals():
    truth = parse_ground_truth({"imlist": ["a"], "qimlist": ["q"], "gnd": [{"ok": [0]}]})
    row = np.ones((1, 2), np.float32)
    with pytest.raises(DataError, match=r"1 of 1 map images .* first is a"):
        evaluate(["q"], row, ["b"], row, truth)
    with pytest.raises(IncompatibleError, match="dimension 2, map descriptors 3"):
        evaluate(["q"], row, ["a"], np.ones((1, 3), np.float32), truth)
    with pytest.raises(DataError, match="map descriptor of a is not finite"):
        evaluate(["q"], row, ["a"], row * np.nan, truth)


def test_bootstrap_resamples_groups():
    values = [0.0] * 50 + [1.0] * 50
    groups = ["a"] * 50 + ["b"] * 50
    assert group_bootstrap(values, groups) == (0.0, 1.0)  # two cameras: the mean may be either
    low, high = group_bootstrap(values, range(100))
    assert 0.35 < low < 0.45
    assert 0.55 < high < 0.65
    assert group_bootstrap(values, groups) == group_bootstrap(values, groups)
