"""The commands of README and of the documentation, with what the pages say of how they can be run.

A comment above a block of commands has a line for each word of it::

    <!-- run
    give: town photos=places      stand-ins that lie in the page's folder, NAME or NAME=STAND-IN
    before: ln -s a b             what a reader has done already
    define: images = []           of a Python block: names that it uses
    shorten: gloam train | -x 1   commands that begin so get these words too
    needs: gpu | gloam engine | why
                                  commands that begin so are not run where the need, or one of several, is not met
    exit: 1 | gloam data check    commands that begin so end with this code
    -->

A block that comes right behind ``<!-- prints -->`` is what the commands above it print; ``...`` stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gloam.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
SHELL, PYTHON = ("bash", "sh"), ("python",)
# What commands may need that is not everywhere; GLOAM_DATA:PATH is a file of the data packs.
NEEDS = {
    "gpu": "an NVIDIA GPU",
    "rtx": "TensorRT for RTX",
    "bf16": "a processor that computes in bf16",
    "network": "registries of packages",
    "web": "the network beyond registries of packages",
    "cluster": "several machines, or a folder that they share",
    "time": "an hour and more",
    "data": "files of others that cannot be passed on",
    "GLOAM_DATA": "the data packs",
}
FIELDS = {"needs": 3, "shorten": 2, "exit": 2, "give": 1, "before": 1, "define": 1}  # and how many parts each has
BLOCK = re.compile(
    r"(?:^<!-- run\n(?P<said>.*?)^-->\n\s*)?^```(?P<language>\w+)\n(?P<text>.*?)^```$"
    r"(?:\s*^<!-- prints -->\n\s*^```text\n(?P<prints>.*?)^```$)?",
    re.S | re.M,
)


@dataclass(frozen=True)
class Block:
    """Commands that stand together.

    Attributes:
        page: path below the checkout; line: of its first command.
        commands: one a line, what a page has broken put together and without comments; a whole program of Python.
        python: whether it is one.
        give: stand-ins by the names they lie under.
        before, define: lines of the shell, and of Python.
        needs: what, of which commands, why; shorten: of which, words; exits: of which, exit code.
        prints: what they print, or None where the page does not say.
    """

    page: str
    line: int
    commands: tuple[str, ...]
    python: bool
    give: tuple[tuple[str, str], ...]
    before: tuple[str, ...]
    define: tuple[str, ...]
    needs: tuple[tuple[str, str, str], ...]
    shorten: tuple[tuple[str, str], ...]
    exits: tuple[tuple[str, int], ...]
    prints: str | None

    def needed(self, command: str) -> tuple[str, str] | None:
        """What a command needs and why; None where it needs nothing."""
        return next(((what, why) for what, begin, why in self.needs if command.startswith(begin)), None)

    def as_run(self, command: str) -> str:
        """The command with what shortens it."""
        return " ".join([command, *(words for begin, words in self.shorten if command.startswith(begin))])

    def exit_code(self, command: str) -> int:
        """What the command ends with."""
        return next((code for begin, code in self.exits if command.startswith(begin)), 0)


def pages() -> list[Path]:
    """README, CONTRIBUTING and the pages that are written by hand or made, in order."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The blocks of commands and of Python of a page, in order.

    Raises:
        DataError: a word or a need that nobody knows, with its page and line.
    """
    text = page.read_text(encoding="utf-8")
    if text.startswith("<!-- made -->"):  # of signatures
        return []
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    return list(_blocks(text, name))


def _blocks(text: str, name: str) -> Iterator[Block]:
    for found in BLOCK.finditer(text):
        python = found["language"] in PYTHON
        if not python and found["language"] not in SHELL:
            continue
        line = text.count("\n", 0, found.start("text")) + 1
        said = _said(found["said"] or "", f"{name}:{line}")
        yield Block(
            name,
            line,
            (found["text"],) if python else tuple(_commands(found["text"])),
            python,
            tuple(
                (item.split("=")[0], item.split("=")[-1]) for (items,) in said.get("give", []) for item in items.split()
            ),
            tuple(words for (words,) in said.get("before", [])),
            tuple(words for (words,) in said.get("define", [])),
            tuple((what, begin, why) for what, begin, why in said.get("needs", [])),
            tuple((begin, words) for begin, words in said.get("shorten", [])),
            tuple((begin, int(code)) for code, begin in said.get("exit", [])),
            found["prints"],
        )


def _said(text: str, where: str) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        word, _, rest = line.partition(":")
        if word not in FIELDS:
            raise DataError(f"{where}: {line!r} begins with none of {', '.join(FIELDS)}")
        parts = [part.strip() for part in rest.split(" | ", FIELDS[word] - 1)]
        if len(parts) != FIELDS[word] or not all(parts):
            raise DataError(f"{where}: {line!r}: {word} has {FIELDS[word]} parts, with ' | ' between them")
        unknown = [each for each in parts[0].split(",") if word == "needs" and each.split(":")[0] not in NEEDS]
        if unknown:
            raise DataError(f"{where}: nobody knows the need {unknown[0]!r}; choose one of {', '.join(NEEDS)}")
        found.setdefault(word, []).append(parts)
    return found


def _commands(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        command = re.sub(r"\s+#\s.*$", "", line).strip()
        if command and not command.startswith("#"):
            yield " ".join(command.split())


def matches(expected: str, printed: str) -> bool:
    """Whether what was printed is what a page shows; ``...`` stands for anything, and blanks at ends of lines count
    nothing."""
    wanted, found = ("\n".join(line.rstrip() for line in text.strip().splitlines()) for text in (expected, printed))
    return re.fullmatch(".*?".join(map(re.escape, wanted.split("..."))), found, re.S) is not None
