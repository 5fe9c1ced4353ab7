"""What the documentation says can be typed."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import names
from gloam.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```(?:bash|sh)\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(page.name, line.split(" #")[0].strip()) for line in lines if line.strip()]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_documented_commands_parse(page: str, line: str) -> None:
    words = shlex.split(line)
    if words[0] == "gloam":
        build_parser().parse_args(words[1:])
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), f"{page}: no target {words[1]}"
    elif words[:3] == ["python", "-m", "benchmarks"]:
        assert words[3] in names() or words[3] == "NAME", f"{page}: no benchmark {words[3]}"
    elif words[0].startswith("docker") or words[0].startswith("GLOAM_"):
        in_a_container(page, words)
    else:
        assert words[0] in {"pip", "python", "git", "cd"}, f"{page}: {line} is not checked"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_inside_scripts_and_manifests_parse(page: Path) -> None:
    for block in re.findall(r"```(?:shell|yaml)\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if command := re.search(r"(?:^|\s)gloam (\w+ .*)$", line):
                build_parser().parse_args(shlex.split(re.sub(r"\$\w+", "1", command[1]), comments=True))


def in_a_container(page: str, words: list[str]) -> None:
    """Its script or target is there, and the command behind the image parses."""
    while "=" in words[0]:
        words = words[1:]
    if words[0] != "docker":
        assert os.access(ROOT / words[0], os.X_OK), f"{page}: no script {words[0]}"
        if len(words) > 2 and words[0].endswith("run-benchmark") and words[1] != "town":
            build_parser().parse_args(["reproduce", *(word for word in words[1:] if word != "--gpu")])
    elif words[1] == "compose":
        found = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
        service = next(word for word in words[words.index("run") :] if word in found["services"])
        assert found["services"][service]["profiles"] == [words[words.index("--profile") + 1]], page
        build_parser().parse_args(words[words.index(service) + 1 :])
    else:
        stages = re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8"), re.M)
        assert words[words.index("--target") + 1] in stages, f"{page}: no such target"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_resolve(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_benchmark_is_documented() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in names() if f"`{name}`" not in readme] == []
