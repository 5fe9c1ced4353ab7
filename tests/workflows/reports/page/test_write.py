"""The page is whole, escaped, bounded, and answers the night first."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam import __version__
from gloam.errors import UsageError
from gloam.workflows.reports.page.data import (
    MAX_ROWS,
    Control,
    ErrorSet,
    GalleryResult,
    GalleryRow,
    PoseTrack,
    ReportData,
    Table,
)
from gloam.workflows.reports.page.gallery import MAX_RESULTS, chosen_rows
from gloam.workflows.reports.page.hero import classify, headline
from gloam.workflows.reports.page.pictures import THUMBNAIL
from gloam.workflows.reports.page.template import three_digits
from gloam.workflows.reports.page.terms import explained
from gloam.workflows.reports.page.write import write_report
from tests.workflows.reports.page.page_data import full_report, photographs


def test_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    write_report(full_report(photographs(tmp_path / "photos")), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"src=\"(?!data:)", page)
    assert set(re.findall(r"href=\"(?!data:|#)([^\"]*)", page)) == {"queries.html"}
    assert "url(" not in re.sub(r"url\(#map-\d+\)", "", page)
    assert "http" not in page
    assert all(match for match in re.findall(r"<img [^>]*alt=\"([^\"]*)\"", page))
    assert page.count("<img ") == len(re.findall(r"<img [^>]*alt=\"[^\"]+\"", page))


def test_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    data = full_report(photographs(tmp_path / "photos"))
    for name in ("a.html", "b.html"):
        write_report(data, tmp_path / name, made={"date": "2026-01-01"})
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
    rows.append(GalleryRow(pictures[0], "night one", "night", results))
    write_report(ReportData("t", gallery=rows), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<article") == MAX_ROWS
    assert page.count("<img ") == MAX_ROWS * (1 + MAX_RESULTS)
    assert page.index("night one") < page.index("day 0")
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
    assert page.count('class="shown absent"') == 2


def test_numbers_are_right_aligned_and_nan_is_a_dash(tmp_path: Path) -> None:
    table = Table(
        "t", ["name", "value", "text"], [["a", 0.5, "x"], ["b", float("nan"), None], ["c", None, ""], ["d", 3, ""]]
    )
    write_report(ReportData("t", tables=[table]), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<td>a</td><td class="n">0.500</td><td>x</td>' in page
    assert "<td>\N{EN DASH}</td>" in page  # of text, on the left
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
        write_report(report, tmp_path / "report.html", made={})
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


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a report with everything."""
    folder = tmp_path_factory.mktemp("full")
    write_report(full_report(photographs(folder / "photos")), folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_contents_name_every_section_and_lead_there(full: str) -> None:
    nav = full[full.index('<nav class="contents"') : full.index("</nav>")]
    linked = re.findall(r'href="#([^"]+)">([^<]+)<', nav)
    headed = re.findall(r'<h2 id="([^"]+)">([^<]+)<', full)
    assert linked == headed
    assert [key for key, _ in headed] == ["examples", "retrieval", "errors", "above", "numbers", "made"]
    assert len(set(re.findall(r'id="([^"]+)"', full))) == len(re.findall(r'id="([^"]+)"', full))


def test_the_first_screen_compares_with_the_control(tmp_path: Path) -> None:
    errors = [
        ErrorSet(method, condition, [0.1] * good + [9.0] * (4 - good), [1.0] * 4)
        for method, condition, good in (("a", "day", 4), ("a", "night", 3), ("b", "day", 2), ("b", "night", 1))
    ]
    data = ReportData("t", errors=errors, method="a", control=Control("b", "untrained", "trained"))
    write_report(data, tmp_path / "report.html")
    hero = (tmp_path / "report.html").read_text(encoding="utf-8")
    hero = hero[hero.index('<section class="hero') : hero.index("</section>")]
    assert re.findall(r'class="answer( beside)?">(\d+)<small>%</small></p><span>(\w+)<', hero) == [
        ("", "75", "trained"),
        (" beside", "25", "untrained"),
    ]
    assert "of 4 night queries are localized" in hero
    assert hero.count('class="thin"') == 2
    assert re.findall(r'class="fine" style="flex:(\d)', hero) == ["4", "2", "3", "1"]


def rows_of(**conditions: str) -> list[GalleryRow]:
    """Rows by condition: f a failure, s a success, ? not told."""
    told = {"f": True, "s": False, "?": None}
    return [
        GalleryRow(Path("q"), f"{condition}{number}", condition, [], failed=told[letter])
        for condition, letters in conditions.items()
        for number, letter in enumerate(letters)
    ]


@pytest.mark.parametrize(
    ("rows", "most", "expected"),
    [
        (rows_of(day="sss", night="fff"), 4, {"night": "ff", "day": "ss"}),
        (rows_of(day="s", night="ffffff"), 5, {"night": "ffff", "day": "s"}),
        (rows_of(night="ssssffff"), 6, {"night": "ffffss"}),
        (rows_of(night="fsssss"), 6, {"night": "fsssss"}),
        (rows_of(night="fff"), 6, {"night": "fff"}),
        (rows_of(night="????"), 2, {"night": "??"}),
        (rows_of(a="f", b="f", c="f"), 2, {"a": "f", "b": "f"}),
        ([], 3, {}),
    ],
)
def test_conditions_share_the_room_and_failures_come_first(
    rows: list[GalleryRow], most: int, expected: dict[str, str]
) -> None:
    letter = {True: "f", False: "s", None: "?"}
    found = chosen_rows(rows, most)
    assert {condition: "".join(letter[row.failed] for row in part) for condition, part in found.items()} == expected
    assert list(found) == list(expected)


def test_examples_say_what_became_of_a_query_and_show_its_matches(full: str) -> None:
    assert full.count('<img class="matches"') == 4
    assert full.count("<details open>") == 2  # the first of each condition
    assert "✗ not localized: 9 correspondences with the map" in full
    assert "✓ 0.021 m and 0.12° off" in full
    assert full.index("<h3>night") < full.index("<h3>day")
    assert "2 of 2 queries" in full


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.4681, "0.468"),
        (0.007, "0.007"),
        (0.9996, "1.00"),
        (1.0, "1.00"),
        (17.899, "17.9"),
        (99.96, "100"),
        (95.8333, "95.8"),
        (100.0, "100"),
        (12345.6, "12346"),
        (-0.25, "-0.250"),
        (0.00012, "1.2e-04"),
        (0.0, "0"),
    ],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert three_digits(value) == shown


def test_terms_are_explained_once_where_they_first_stand() -> None:
    first = Table("Retrieval", ["condition", "mAP", "R@1", "R@5"], [])
    second = Table("On one map (2b)", ["condition", "mAP", "median m"], [["KID of day", 0.1, 2.0]])
    found = [[term for term, _ in terms] for terms in explained([first, second])]
    assert found == [["mAP", "R@k"], ["2b", "median m", "KID"]]


def test_the_page_says_when_where_and_how_it_was_made(full: str) -> None:
    made = full[full.index('<h2 id="made">') :]
    assert re.search(r"<dt>date</dt><dd>\d{4}-\d\d-\d\d \d\d:\d\d UTC</dd>", made)
    for name in ("command", "machine", "versions"):
        assert re.search(rf"<dt>{name}</dt><dd>[^<]+</dd>", made)
    assert f"gloam {__version__}" in made


def test_the_street_lies_beneath_and_is_turned_not_mirrored(tmp_path: Path) -> None:
    true = np.stack([np.zeros(5), np.linspace(0, 40, 5)], axis=1)
    left = {"house": np.array([[-9.0, 0.0, -5.0, 40.0]])}  # to the left of someone who walks along +y
    data = ReportData("t", tracks=[PoseTrack("night", true, true)], ground=left)
    write_report(data, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    house = re.search(r'<rect class="house" x="([-\d.]+)" y="([-\d.]+)" width="([\d.]+)" height="([\d.]+)"', page)
    discs = [tuple(map(float, found)) for found in re.findall(r'class="truth" cx="([\d.]+)" cy="([\d.]+)"', page)]
    assert house is not None
    _, y, width, height = map(float, house.groups())
    rightwards = discs[-1][0] > discs[0][0]
    above = y + height < discs[0][1]
    assert rightwards == above  # the house stays on the left hand
    assert width > height
