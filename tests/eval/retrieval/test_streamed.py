"""Streamed scores equal a plain ranking, on the official ground truth too."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from gloam.errors import DataError, IncompatibleError, UsageError
from gloam.eval.retrieval.ground_truth import parse_ground_truth, read_ground_truth, read_ground_truth_sets
from gloam.eval.retrieval.scores import evaluate
from gloam.eval.retrieval.streamed import evaluate_stores, evaluate_streamed
from gloam.runtime.descriptors.source import DescriptorArray

PACK = Path(os.environ.get("GLOAM_DATA", "absent")) / "gt_formats" / "revisitop"
needs_pack = pytest.mark.skipif(not PACK.is_dir(), reason="GLOAM_DATA names no folder with gt_formats")


def plain_scores(order, right, ignored, ks=(1, 5, 10)):
    """Average precision and precision at k of a ranking, walked item by item."""
    hits, kept, total, seen = 0, 0, 0.0, []
    for item in order:
        if item in ignored:
            continue
        if item in right:
            before = hits / kept if kept else 1.0
            hits += 1
            total += (before + hits / (kept + 1)) / 2
        seen.append(item in right)
        kept += 1
        if hits == len(right):
            break  # nothing below the last positive changes either score
    return total / len(right), [sum(seen[:k]) / min(k, len(seen)) for k in ks]


def official_entries(name):
    with open(PACK / f"gnd_{name}.pkl", "rb") as handle:
        value = pickle.load(handle)
    rules = {"easy": ("easy", "hard"), "medium": ("easy", "hard"), "hard": ("hard", "easy")}
    for protocol in rules:
        for query, entry in enumerate(value["gnd"]):
            easy, hard, junk = (set(entry[key]) for key in ("easy", "hard", "junk"))
            right = {"easy": easy, "medium": easy | hard, "hard": hard}[protocol]
            ignored = {"easy": junk | hard, "medium": junk, "hard": junk | easy}[protocol]
            yield protocol, value["qimlist"][query], query, right, ignored


def ranking_scores(kind, truths, rng):
    """``[images, queries]``: a column is what a query thinks of every image."""
    images, queries = len(truths["medium"].map_names), len(truths["medium"].query_names)
    scores = rng.random((images, queries)).astype(np.float32)
    if kind == "tied":
        return np.floor(scores * 4)
    for query in range(queries):
        if kind == "perfect":
            for name, bonus in (("hard", 1), ("easy", 1)):
                scores[truths[name].positives[query], query] += bonus
        if kind == "adversarial":  # all that is right comes last, the junk first
            scores[truths["medium"].positives[query], query] -= 2
            scores[truths["medium"].junk[query], query] += 2
    return scores


@needs_pack
@pytest.mark.parametrize("name", ["roxford5k", "rparis6k"])
@pytest.mark.parametrize("kind", ["random", "perfect", "tied", "adversarial"])
def test_official_ground_truth_scores_as_the_plain_walk(name, kind):
    truths = read_ground_truth_sets(PACK / f"gnd_{name}.pkl")
    scores = ranking_scores(kind, truths, np.random.default_rng(5))
    truth = truths["medium"]
    queries = DescriptorArray(list(truth.query_names), np.eye(len(truth.query_names), dtype=np.float32))
    found = evaluate_streamed(queries, DescriptorArray(list(truth.map_names), scores), truths, ks=(1, 5, 10))
    expected = {protocol: [] for protocol in truths}
    for protocol, query, column, right, ignored in official_entries(name):
        if right:
            order = np.argsort(-scores[:, column], kind="stable")
            ap, precision = plain_scores(order.tolist(), right, ignored)
            assert found[protocol].per_query[query] == pytest.approx(ap, abs=1e-9)
            expected[protocol].append([ap, *precision])
    for protocol, rows in expected.items():
        mean = np.mean(rows, axis=0)
        assert found[protocol].mAP == pytest.approx(mean[0], abs=1e-9)
        assert list(found[protocol].precision.values()) == pytest.approx(mean[1:].tolist(), abs=1e-9)
        assert found[protocol].queries == len(rows)
    if kind == "perfect":
        assert found["easy"].mAP == found["medium"].mAP == found["hard"].mAP == 1.0
    if kind == "adversarial":
        assert found["medium"].mAP < 0.05


@needs_pack
def test_pickle_and_json_of_one_benchmark_are_equal():
    for name in ("roxford5k", "rparis6k"):
        first, second = (read_ground_truth_sets(PACK / f"gnd_{name}{suffix}") for suffix in (".pkl", ".json.gz"))
        for protocol in ("easy", "medium", "hard"):
            assert first[protocol].map_names == second[protocol].map_names
            assert first[protocol].boxes == second[protocol].boxes
            for rows in ("positives", "junk"):
                pairs = zip(getattr(first[protocol], rows), getattr(second[protocol], rows), strict=True)
                assert all(np.array_equal(one, other) for one, other in pairs)
    assert len(first["medium"].query_names) == 70
    with pytest.raises(DataError, match="names several sets; choose one of easy, hard, medium"):
        read_ground_truth(PACK / "gnd_roxford5k.pkl")


def small_truth(rng, queries=9, images=40, positives=5):
    chosen = [rng.permutation(images) for _ in range(queries)]
    gnd = [{"ok": row[:positives].tolist(), "junk": row[positives : positives + 4].tolist()} for row in chosen]
    gnd[0] = {"ok": [], "junk": []}
    names = {"imlist": [f"m{n}" for n in range(images)], "qimlist": [f"q{n}" for n in range(queries)]}
    return parse_ground_truth({**names, "gnd": gnd, "conditions": {"night": ["q1", "q2"]}})


def whole_numbers(rng, rows, levels):
    """Small integers: every order of summation gives the same scores, and many are equal."""
    return rng.integers(-levels, levels + 1, (rows, 6)).astype(np.float32)


@pytest.mark.parametrize("levels", [1, 50])
@pytest.mark.parametrize("blocks", [(7, 1), (7, 60), (32768, 1 << 23)])
def test_any_block_size_and_order_of_rows_gives_the_scores_of_one_matrix(monkeypatch, levels, blocks):
    monkeypatch.setattr("gloam.eval.retrieval.streamed.BLOCK_ROWS", blocks[0])
    monkeypatch.setattr("gloam.eval.retrieval.streamed.BLOCK_VALUES", blocks[1])
    rng = np.random.default_rng(levels)
    truth = small_truth(rng)
    queries = DescriptorArray([*truth.query_names, "other"], whole_numbers(rng, 10, levels))
    names = [*truth.map_names, "stranger", "another"]
    rows = whole_numbers(rng, len(names), levels)
    order = rng.permutation(len(names))
    shuffled = DescriptorArray([names[row] for row in order], rows[order])
    whole = evaluate(queries.names, queries.descriptors, names, rows, truth)
    assert evaluate_stores(queries, shuffled, truth) == whole
    # distractors are further images of the database, right for nothing, after all others
    far = whole_numbers(rng, 33, levels)
    longer = parse_ground_truth(
        {
            "imlist": [*truth.map_names, *(f"d{n}" for n in range(33))],
            "qimlist": list(truth.query_names),
            "gnd": [{"ok": p.tolist(), "junk": j.tolist()} for p, j in zip(truth.positives, truth.junk, strict=True)],
            "conditions": {"night": ["q1", "q2"]},
        }
    )
    expected = evaluate(
        queries.names, queries.descriptors, list(longer.map_names), np.concatenate([rows[:-2], far]), longer
    )
    halves = [DescriptorArray([f"{n}" for n in range(part.shape[0])], part) for part in np.split(far, [20])]
    assert evaluate_stores(queries, shuffled, truth, distractors=halves) == expected


def test_several_sets_at_once_are_the_sets_one_by_one():
    rng = np.random.default_rng(3)
    first, second = small_truth(rng), small_truth(rng)
    queries = DescriptorArray(list(first.query_names), whole_numbers(rng, 9, 9))
    database = DescriptorArray(list(first.map_names), whole_numbers(rng, 40, 9))
    both = evaluate_streamed(queries, database, {"a": first, "b": second})
    assert both["a"] == evaluate_stores(queries, database, first)
    assert both["b"] == evaluate_stores(queries, database, second)
    with pytest.raises(UsageError, match="different databases"):
        evaluate_streamed(queries, database, {"a": first, "b": small_truth(rng, images=30)})
    with pytest.raises(UsageError, match="at least one"):
        evaluate_streamed(queries, database, {})


def test_refusals_name_the_image():
    truth = parse_ground_truth({"imlist": ["a", "b"], "qimlist": ["q"], "gnd": [{"ok": [0]}]})
    row = np.ones((1, 2), np.float32)
    queries, database = DescriptorArray(["q"], row, "s"), DescriptorArray(["a", "b"], np.ones((2, 2), np.float32), "s")
    assert evaluate_stores(queries, database, truth).mAP == 1.0
    with pytest.raises(DataError, match=r"1 of 2 map images .* first is b"):
        evaluate_stores(queries, DescriptorArray(["a"], row, "s"), truth)
    with pytest.raises(DataError, match=r"1 of 1 query images .* first is q"):
        evaluate_stores(DescriptorArray(["r"], row, "s"), database, truth)
    with pytest.raises(DataError, match="query descriptor of q is not finite"):
        evaluate_stores(DescriptorArray(["q"], row * np.nan, "s"), database, truth)
    with pytest.raises(DataError, match="descriptor of 'b' is not finite"):
        evaluate_stores(queries, DescriptorArray(["a", "b"], np.float32([[1, 0], [np.inf, 0]]), "s"), truth)
    with pytest.raises(DataError, match="descriptor of 'x' is not finite"):
        evaluate_stores(queries, database, truth, distractors=[DescriptorArray(["x"], row * np.nan, "s")])
    with pytest.raises(IncompatibleError, match="dimension 2, map descriptors 3"):
        evaluate_stores(queries, DescriptorArray(["a", "b"], np.ones((2, 3), np.float32), "s"), truth)
    with pytest.raises(IncompatibleError, match="space"):
        evaluate_stores(queries, DescriptorArray(["a", "b"], np.ones((2, 2), np.float32), "t"), truth)


class Evil:
    def __reduce__(self):
        return print, ("ran",)


def test_a_pickle_that_names_a_class_is_refused_by_name(tmp_path, capsys):
    path = tmp_path / "gnd_evil.pkl"
    path.write_bytes(pickle.dumps({"imlist": ["a"], "qimlist": ["q"], "gnd": [{"ok": [0], "junk": Evil()}]}))
    with pytest.raises(DataError, match=r"builtins\.print"):
        read_ground_truth(path)
    assert "ran" not in capsys.readouterr().out


def test_the_older_pickle_and_its_arrays_are_read(tmp_path):
    path = tmp_path / "gnd_old.pkl"
    entry = {"ok": np.array([1, 2]), "junk": [np.int64(0)], "bbx": None}
    path.write_bytes(pickle.dumps({"imlist": list("abc"), "qimlist": ["q"], "gnd": [entry]}, protocol=2))
    truth = read_ground_truth(path)
    assert truth.positives[0].tolist() == [1, 2]
    assert truth.junk[0].tolist() == [0]
    assert truth.boxes == (None,)
    for name, gnd, message in (
        ("half", [{"easy": [0], "junk": []}], "q: no 'ok' list"),
        ("range", [{"easy": [9], "hard": [], "junk": []}], r"q: ok index 9 is outside 0\.\.2"),
        ("box", [{"ok": [0], "bbx": [5, 5, 1, 1]}], "bbx"),
    ):
        broken = tmp_path / f"{name}.pkl"
        broken.write_bytes(pickle.dumps({"imlist": list("abc"), "qimlist": ["q"], "gnd": gnd}))
        with pytest.raises(DataError, match=message):
            read_ground_truth(broken, None if name == "box" else "easy")
