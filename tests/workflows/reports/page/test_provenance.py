"""A page says by which command it was made, as a person would type it."""

from __future__ import annotations

import pytest

from gloam.workflows.reports.page.provenance import command_line, provenance


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/usr/bin/gloam", "demo", "-o", "a folder"], "gloam demo -o 'a folder'"),
        (["/src/gloam/cli/main.py", "demo"], "gloam demo"),
        (["/src/gloam/__main__.py", "doctor"], "gloam doctor"),
        (["/other/main.py", "x"], "main.py x"),
        ([], "''"),
    ],
)
def test_the_command(words: list[str], said: str) -> None:
    assert command_line(words) == said


def test_it_names_what_decides_a_result() -> None:
    found = provenance()
    assert list(found) == ["date", "command", "machine", "versions"]
    assert "gloam " in found["versions"]
    assert "Python 3." in found["versions"]
    assert "core" in found["machine"]
