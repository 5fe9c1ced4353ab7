"""The page of a localization: failures first, each with its reason; counts, errors and matches beside the others."""

from __future__ import annotations

import dataclasses
import html
import re

import numpy as np
import pytest

from gloam.data.kapture_io import write_scene
from gloam.data.scene import Record
from gloam.eval.localization.localize import Localization, localize
from gloam.eval.localization.request import LocalizeRequest
from gloam.workflows.reports.queries import query_rows, query_table, write_query_report
from tests.eval.localization.test_localize import write_features
from tests.runtime.localization.exact_world import MAP, put, scenes


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Localization:
    """Of one query that is localized, and one that nothing was retrieved for."""
    root = tmp_path_factory.mktemp("world")
    mapping, query = scenes(root)
    query = dataclasses.replace(query, records=query.records | {"r.png": Record("c", 3)})
    for scene in (mapping, query):
        write_scene(scene)
    for name in MAP:
        put(mapping, name, (640, 480))
    put(query, "q.png", (640, 480))
    (root / "pairs.txt").write_text("".join(f"q.png {name}\n" for name in MAP))
    features = str(write_features(root / "made"))
    request = LocalizeRequest(
        mapping.root,
        query.root,
        root / "out",
        pairs=root / "pairs.txt",
        features=features,
        methods=("2b", "top1"),
        workers=1,
    )
    return localize(request)


@pytest.fixture(scope="module")
def page(found: Localization) -> str:
    path = write_query_report(found)
    assert path == found.output / "report.html"
    return path.read_text(encoding="utf-8")


def words(text: str) -> str:
    bare = re.sub(r"<(style|svg).*?</\1>", "", text, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", bare)))


def test_failures_come_first_with_their_reason(page: str) -> None:
    seen = words(page)
    assert "50 % of 2 queries have a pose by 2b." in seen
    assert "r.png ✗ not localized: no map image was retrieved" in seen
    assert seen.index("r.png ✗") < seen.index("q.png ✓")
    assert "2b no map image was retrieved 1" in seen
    assert "top1 no map image was retrieved 1" in seen


def test_a_localized_query_has_its_counts_and_its_matches(page: str, found: Localization) -> None:
    inliers, all_of = (table["2b"]["q.png"] for table in (found.result.inliers, found.result.correspondences))
    assert f"q.png ✓ {inliers} of {all_of} correspondences agree; expected to be within" in words(page)
    assert page.count('<img class="matches"') == 1  # of 2b alone: top1 matches nothing
    assert re.search(r"Matches: with \w\.png, \d+ matches: \d+ inliers, 0 outliers", page)
    assert page.count('class="estimate"') == 2  # a pose by each method, seen from above
    assert 'class="truth"' not in page


def test_what_cannot_be_read_says_so_and_the_page_is_whole(page: str) -> None:
    assert page.count('class="shown absent"') == 2  # the query without a file, by both methods
    assert "<script" not in page
    assert "http" not in page
    assert page.rstrip().endswith("</html>")


def test_true_poses_decide_what_a_failure_is(found: Localization) -> None:
    outcomes = found.outcomes["2b"]
    conditions = {"q.png": "night", "r.png": "day"}
    for metres, failed in ((0.1, False), (3.0, True)):
        errors = {"q.png": (metres, 1.0), "r.png": (np.nan, np.nan)}
        rows = query_rows("2b", found.result, outcomes, conditions, errors, {("q.png", "a.png"): (0.5, True)})
        assert [(row.label, row.condition, row.failed) for row in rows] == [
            ("r.png", "day", True),
            ("q.png", "night", failed),
        ]
        assert f"{metres:.3g}" in rows[1].outcome
        judged = {item.path.name: (item.score, item.correct) for item in rows[1].results}
        assert judged["a.png"] == (0.5, True)
        assert judged["m.png"] == (None, None)
        table = query_table(outcomes, "t", errors=errors)
        assert [row[0] for row in table.rows] == ["r.png", "q.png"]
        assert table.rows[1][table.columns.index("off by m")] == metres
