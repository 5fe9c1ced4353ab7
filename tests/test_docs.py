"""What the documentation says can be typed, and leads somewhere. ``benchmarks/newcomer.py`` runs it."""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.__main__ import names
from benchmarks.shared.documented import ROOT, Block, blocks, pages
from benchmarks.shared.stand_ins import StandIns
from gloam.cli.main import build_parser

PAGES = pages()
MADE = runpy.run_path(str(ROOT / "docs/make_cli.py"))
WORDS = {"pip", "python", "git", "cd", "cp", "mkdocs"}  # programs of others


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page)]


@cache
def parser() -> argparse.ArgumentParser:
    return build_parser()


@pytest.mark.parametrize(
    "block", [block for block in all_blocks() if not block.python], ids=lambda b: f"{b.page}:{b.line}"
)
def test_documented_commands_parse(block: Block) -> None:
    for line in block.commands:
        words = shlex.split(block.as_run(line))
        if words[0] == "gloam":
            parser().parse_args(words[1:])
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), f"no target {words[1]}"
        elif words[:3] == ["python", "-m", "benchmarks"]:
            assert words[3] in names() or words[3] == "NAME", f"no benchmark {words[3]}"
        else:
            assert words[0] in WORDS, f"{line} is not checked"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_containers_scripts_and_manifests_parse(page: Path) -> None:
    for block in re.findall(r"```(?:shell|yaml)\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(?:GLOAM_\w+=.* )?docker\b", line):
                in_a_container(shlex.split(line, comments=True))
            elif command := re.search(r"(?:^|\s)gloam (\w+ .*)$", line):
                parser().parse_args(shlex.split(re.sub(r"\$\w+", "1", command[1]), comments=True))


def in_a_container(words: list[str]) -> None:
    """Its script or target is there, and the command behind the image parses."""
    while "=" in words[0]:
        words = words[1:]
    if words[0] != "docker":
        assert os.access(ROOT / words[0], os.X_OK), f"no script {words[0]}"
        if words[0].endswith("run-benchmark") and words[1] != "town":
            parser().parse_args(["reproduce", *(word for word in words[1:] if word != "--gpu")])
    elif words[1] == "compose":
        found = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
        service = next(word for word in words[words.index("run") :] if word in found["services"])
        assert found["services"][service]["profiles"] == [words[words.index("--profile") + 1]]
        parser().parse_args(words[words.index(service) + 1 :])
    else:
        stages = re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8"), re.M)
        assert words[words.index("--target") + 1] in stages


def test_what_pages_say_of_their_commands_is_of_commands_that_are_there() -> None:
    known = StandIns(Path("unused")).makers
    for block in all_blocks():
        where = f"{block.page}:{block.line}"
        begins = [begin for _, begin, _ in block.needs] + [begin for begin, _ in (*block.shorten, *block.exits)]
        for begin in begins:
            assert any(command.startswith(begin) for command in block.commands), f"{where}: no command begins {begin!r}"
        for name, stand_in in block.give:
            assert stand_in.split("/")[0] in known, f"{where}: nothing stands in for {name}"
        if block.python:
            compile("\n".join([*block.define, *block.commands]), where, "exec")


def slugs(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and mkdocs both make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    titles = (re.sub(r"[`*]|\]\([^)]*\)|\[", "", title) for title in re.findall(r"^#+ (.*)$", text, re.M))
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_resolve(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in slugs(file), (
            f"{page.name} links to {target}#{anchor}, a heading that is not there"
        )


def test_every_page_is_in_the_site_and_every_entry_is_a_page() -> None:
    def entries(value: Any) -> list[str]:
        if isinstance(value, str):
            return [value]
        parts = value.values() if isinstance(value, dict) else value
        return [entry for part in parts for entry in entries(part)]

    listed = entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md")), "see nav of mkdocs.yml"


def test_pages_of_the_site_lead_to_no_file_outside_it() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert "](../" not in page.read_text(encoding="utf-8"), f"{page.name} links to what the site does not have"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_begins_with_its_title(page: Path) -> None:
    shown = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.S)
    assert re.match(r"# \w", shown.lstrip()), f"{page.name} has no title"
    assert len(re.findall(r"^# ", re.sub(r"^```.*?^```$", "", shown, flags=re.S | re.M), re.M)) == 1


def test_no_line_of_the_changelog_stands_twice() -> None:
    lines = [line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line]
    assert sorted({line for line in lines if lines.count(line) > 1}) == [], "a merge kept both sides"


def test_every_benchmark_is_documented() -> None:
    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert [name for name in names() if f"| `{name}` |" not in page] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_the_page_of_commands_is_what_the_parsers_say() -> None:
    assert (ROOT / "docs/cli.md").read_text(encoding="utf-8") == MADE["page"](), "run `python docs/make_cli.py`"
