"""The page is whole, escaped, bounded, and answers the night first."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.errors import UsageError
from gloam.workflows.reports.page import (
    MAX_RESULTS,
    MAX_ROWS,
    THUMBNAIL,
    ErrorSet,
    GalleryResult,
    GalleryRow,
    PoseTrack,
    ReportData,
    Table,
    classify,
    headline,
    write_report,
)
from tests.workflows.reports.page_data import full_report, photographs


def test_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    write_report(full_report(photographs(tmp_path / "photos")), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "url(" not in re.sub(r"url\(#map-\d+\)", "", page)
    assert "http" not in page
    assert all(match for match in re.findall(r"<img [^>]*alt=\"([^\"]*)\"", page))
    assert page.count("<img ") == len(re.findall(r"<img [^>]*alt=\"[^\"]+\"", page))


def test_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    data = full_report(photographs(tmp_path / "photos"))
    for name in ("a.html", "b.html"):
        write_report(data, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_classes_exclude_each_other_and_sum_to_all() -> None:
    outcome = classify(
        ErrorSet("m", "night", [0.25, 0.2, 0.4, 4.0, 9.0, np.nan, 0.1], [2.0, 3.0, 5.0, 9.0, 1.0, np.nan, np.nan])
    )
    assert outcome.counts == (1, 2, 1, 1, 2)
    assert sum(outcome.counts) == outcome.total == 7
    assert outcome.recall(1) == pytest.approx(3 / 7)


def test_headline_is_the_night() -> None:
    sets = [classify(ErrorSet("m", name, [0.1], [0.1])) for name in ("night-rain", "day", "night", "dusk")]
    found = headline(sets)
    assert found is not None
    assert found.condition == "night"
    assert headline([]) is None


def test_page_states_the_night_recall_of_the_named_method(tmp_path: Path) -> None:
    errors = [
        ErrorSet("first", "night", [9.0] * 4, [9.0] * 4),
        ErrorSet("second", "night", [0.1, 0.1, 0.1, np.nan], [1.0, 1.0, 1.0, np.nan]),
    ]
    for method, expected in ((None, "0"), ("second", "75")):
        write_report(ReportData("t", errors=errors, method=method), tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert f'<p class="answer">{expected}<small>' in page


def test_gallery_is_bounded_night_first_with_small_thumbnails(tmp_path: Path) -> None:
    pictures = photographs(tmp_path / "photos", 2)
    results = [GalleryResult(pictures[1], 0.5, True)] * (MAX_RESULTS + 3)
    rows = [GalleryRow(pictures[0], f"day {n}", "day", results) for n in range(MAX_ROWS)]
    rows.append(GalleryRow(pictures[0], "the night one", "night", results))
    write_report(ReportData("t", gallery=rows), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<article") == MAX_ROWS
    assert page.count("<img ") == MAX_ROWS * (1 + MAX_RESULTS)
    assert page.index("the night one") < page.index("day 0")
    assert f"{MAX_ROWS} of {MAX_ROWS + 1} queries are shown" in page
    encoded = re.search(r"data:image/jpeg;base64,([^\"]+)", page)
    assert encoded is not None
    with Image.open(io.BytesIO(base64.b64decode(encoded[1]))) as image:
        assert max(image.size) == THUMBNAIL


def test_unreadable_image_is_shown_as_its_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    row = GalleryRow(tmp_path / "empty.jpg", "q", "night", [GalleryResult(tmp_path / "gone.jpg", 0.1, None)])
    write_report(ReportData("t", gallery=[row]), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<img " not in page
    assert page.count('class="absent"') == 2


def test_numbers_are_right_aligned_and_nan_is_a_dash(tmp_path: Path) -> None:
    table = Table("t", ["name", "value"], [["a", 0.5], ["b", float("nan")], ["c", None], ["d", 3]])
    write_report(ReportData("t", tables=[table]), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<td>a</td><td class="n">0.500</td>' in page
    assert page.count('<td class="n">\N{EN DASH}</td>') == 2
    assert '<th scope="col" class="n">value</th>' in page


def test_empty_and_degenerate_data_make_a_page(tmp_path: Path) -> None:
    lost = np.full((2, 2), np.nan)
    data = ReportData(
        "nothing",
        errors=[ErrorSet("m", "night", [], []), ErrorSet("m", "day", [np.nan], [np.nan])],
        tracks=[PoseTrack("night", np.zeros((2, 2)), lost), PoseTrack("day", np.empty((0, 2)), np.empty((0, 2)))],
    )
    for report in (ReportData("nothing"), data):
        write_report(report, tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert page.rstrip().endswith("</html>")
        assert "nan" not in page


def test_far_estimates_do_not_change_the_frame(tmp_path: Path) -> None:
    true = np.stack([np.linspace(0, 50, 10), np.zeros(10)], axis=1)
    texts = []
    for offset in (1.0, 1e6):
        estimated = true.copy()
        estimated[3] += offset
        write_report(ReportData("t", tracks=[PoseTrack("night", true, estimated)]), tmp_path / "report.html")
        texts.append((tmp_path / "report.html").read_text(encoding="utf-8"))
    discs = [re.findall(r'<circle class="truth"[^>]+>', text) for text in texts]
    assert discs[0] == discs[1]
    assert len(discs[0]) == 10


@pytest.mark.parametrize(
    "data",
    [
        ReportData("t", errors=[ErrorSet("m", "night", [1.0], [])]),
        ReportData("t", tables=[Table("t", ["a"], [["b", "c"]])]),
        ReportData("t", tracks=[PoseTrack("night", np.zeros((2, 2)), np.zeros((3, 2)))]),
    ],
)
def test_lengths_that_differ_are_refused(data: ReportData, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_report(data, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
