"""The commands of a page are found, run in order, and judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.newcomer import checkout_state, chosen_pages, judged, met, run, run_pages
from benchmarks.shared.documented import ROOT, blocks, matches
from benchmarks.shared.result import KEPT
from gloam.errors import DataError

PAGE = """# A page

<!-- run
before: echo begun > begun.txt
define: number = 3
shorten: cat begun.txt | other.txt
needs: gpu | false | a card
exit: 4 | exit 4
-->

```bash
echo "two words" \\
  > other.txt   # a comment
cat begun.txt
exit 4
false
```

<!-- prints -->

```text
begun
two ...
```

<!-- run
define: number = 3
-->

```python
assert number == 3
```

```text
false
```

```bash
false
python -c 'import gloam, sys; sys.exit(gloam.__file__ is None)'
```
"""


def test_a_page_is_run_in_order_and_what_fails_is_counted(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    found = run_pages([page], tmp_path / "runs")
    assert [(row["command"], row["outcome"]) for row in found] == [
        ('echo "two words" > other.txt', "done"),
        ("cat begun.txt", "done"),
        ("exit 4", "done"),
        ("false", "not run"),
        ("a program of Python", "done"),
        ("false", "failed"),
        ("python -c 'import gloam, sys; sys.exit(gloam.__file__ is None)'", "done"),
    ]
    result = judged(found, whole=True)
    assert (result.value, result.met) == (1, False)
    assert result.detail["not run, by need"] == {"gpu": 1}
    assert result.detail["failed"][0]["said"].startswith("exit code 1")
    assert (result.detail["commands"], result.detail["run"]) == (7, 6)


def test_pages_without_failures_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEPT, str(tmp_path / "kept"))
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    for page, last in ((good, "true"), (bad, "false")):
        page.write_text(f"```bash\necho x >> {tmp_path}/{page.stem}.txt\n{last}\n```\n")
    first = run_pages([good, bad], tmp_path / "runs")
    assert run_pages([good, bad], tmp_path / "runs")[:2] == first[:2]
    assert [(tmp_path / f"{name}.txt").read_text().count("x") for name in ("good", "bad")] == [1, 2]
    good.write_text(good.read_text().replace("true", "true && true"))
    run_pages([good], tmp_path / "runs")
    assert (tmp_path / "good.txt").read_text().count("x") == 2, "another page"


@pytest.mark.parametrize("name", ["Makefile", "examples/cpp/describe.cpp", "docker/Dockerfile"])
def test_a_changed_file_of_the_checkout_is_another_state(name: str, tmp_path: Path) -> None:
    for path in (name, "examples/node/node_modules/made.js"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("one")
    before = checkout_state(tmp_path)
    (tmp_path / "examples/node/node_modules/made.js").write_text("two")
    assert checkout_state(tmp_path) == before
    (tmp_path / name).write_text("two")
    assert checkout_state(tmp_path) != before


def test_too_little_run_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    done = {"page": "a", "outcome": "done", "seconds": 1.0}
    left = {"page": "a", "outcome": "not run", "needs": "gpu", "seconds": 0.0}
    assert judged([done, done, left], whole=True).met is True
    assert judged([done, left], whole=True).met is False  # half of them
    assert judged([done, left], whole=True).detail["share run"] == 0.5
    assert judged([left], whole=True).met is False
    assert judged([], whole=True).met is False
    assert judged([done], whole=False).met is None
    monkeypatch.setenv("GLOAM_BENCH_ONLY", "README.md,readme.md")
    with pytest.raises(DataError, match="no page readme; there are README, "):
        run()


def test_another_output_than_the_page_shows_is_a_failure(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\necho 3\n```\n\n<!-- prints -->\n\n```text\n4\n```\n")
    (row,) = run_pages([page], tmp_path / "runs")
    assert row["outcome"] == "failed"
    assert "prints another text" in row["said"]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a b", "a b\n", True),
        ("a ... b\nc", "a 1.5 s b  \nc\n", True),
        ("a ... b", "a 1\n2 b", True),
        ("a", "a\nb", False),
        ("a.c", "abc", False),
    ],
)
def test_what_is_shown_is_compared(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("gives: town", "begins with none of"),
        ("needs: gpu | gloam", "needs has 3 parts"),
        ("needs: luck | gloam | why", "nobody knows the need 'luck'"),
    ],
)
def test_words_that_nobody_knows_are_named_with_their_line(said: str, reason: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n<!-- run\n{said}\n-->\n\n```bash\nls\n```\n")
    with pytest.raises(DataError, match=f"page.md:8: .*{reason}"):
        blocks(page)


def test_what_there_is_can_be_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLOAM_NEWCOMER_HAS", "network,time")
    monkeypatch.setenv("GLOAM_DATA", str(tmp_path))
    assert met("network")
    assert not met("network,cluster")
    assert not met("GLOAM_DATA:weights")
    (tmp_path / "weights").touch()
    assert met("GLOAM_DATA:weights,time")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "docs/from_hloc.md", "docs/embedders.md"])
def test_pages_run(name: str, tmp_path: Path) -> None:
    found = run_pages([ROOT / name], tmp_path)
    assert [row for row in found if row["outcome"] == "failed"] == []
    assert any(row["outcome"] == "done" for row in found)


def test_pages_go_by_their_names_and_one_that_is_not_there_is_no_success() -> None:
    assert [page.name for page in chosen_pages(["index", "README.md"])] == ["README.md", "index.md"]
    assert {page.name for page in chosen_pages([])} >= {"README.md", "tutorial.md", "commands.md"}
    with pytest.raises(DataError, match="no page indx; there are README, "):
        chosen_pages(["index.md", "indx"])
