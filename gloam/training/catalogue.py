"""What recipes there are, what each reproduces and needs, and what each of its keys is for."""

from __future__ import annotations

import dataclasses
import importlib.resources
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gloam.errors import UsageError, require
from gloam.record import to_json
from gloam.training.typed_config import ABOUT, About, recipe_about, recipes_of

PACKAGES = {
    "embedder": "gloam.training.recipes",
    "metric": "gloam.training.recipes.metric",
    "translator": "gloam.training.recipes.translators",
    "edges": "gloam.training.recipes.edges",
}
WIDTH = 100  # of the reasons' lines


@dataclass(frozen=True)
class Recipes:
    """The recipes of a kind of training.

    Attributes:
        about: what each of them is, by name.
    """

    about: Mapping[str, About]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"recipes": list(self.about), "about": {name: asdict(item) for name, item in self.about.items()}}

    def __str__(self) -> str:
        """A line a recipe, under a heading."""
        fields = [field.name for field in dataclasses.fields(About)]
        rows = [("recipe", *fields)]
        rows += [(name, *(str(getattr(item, field)) for field in fields)) for name, item in self.about.items()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


@dataclass(frozen=True)
class Key:
    """A key of a recipe.

    Attributes:
        name: dotted, as ``--set`` takes it.
        value: JSON-ready.
        stated: by the recipe; else it is the default.
        reason: what it is, and why it has this value where the recipe says so.
    """

    name: str
    value: Any
    stated: bool
    reason: str


@dataclass(frozen=True)
class ShownRecipe:
    """A recipe with all its keys.

    Attributes:
        name: of the recipe.
        about: what it is.
        remarks: what its file says of it.
        keys: all of them, defaults included, in order.
    """

    name: str
    about: About
    remarks: str
    keys: tuple[Key, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "recipe": self.name,
            "about": asdict(self.about),
            "remarks": self.remarks,
            "keys": [asdict(key) for key in self.keys],
        }

    def __str__(self) -> str:
        """YAML that ``--config`` takes, with the reasons as comments."""
        yaml = require("yaml", "train", "show a recipe")
        facts = ", ".join(f"{name}: {value}" for name, value in asdict(self.about).items())
        lines = [f"# {line}" for line in _wrapped(f"{self.name}: {self.remarks}", 2)]
        lines += [f"# {facts}", "# A value without 'default' is the recipe's own."]
        open_parts: tuple[str, ...] = ()
        for key in self.keys:
            *above, last = key.name.split(".")
            shared = sum(1 for _ in _same(open_parts, tuple(above)))
            lines += [f"{'  ' * depth}{above[depth]}:" for depth in range(shared, len(above))]
            open_parts, indent = tuple(above), "  " * len(above)
            lines += [f"{indent}# {line}" for line in _wrapped(key.reason, len(indent) + 2)]
            value = yaml.safe_dump(key.value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
            lines.append(f"{indent}{last}: {value}{'' if key.stated else '  # default'}")
        return "\n".join(lines)


def list_recipes(kind: str) -> Recipes:
    """The recipes of a kind of training.

    Args:
        kind: of :data:`PACKAGES`.
    """
    package = PACKAGES[kind]
    return Recipes({name: recipe_about(package, name) for name in recipes_of(package)})


def show_recipe(kind: str, name: str) -> ShownRecipe:
    """A recipe with every key, its value and its reason.

    Args:
        kind: of :data:`PACKAGES`.
        name: of the recipe.

    Raises:
        UsageError: there is none of that name.
    """
    package = PACKAGES[kind]
    about = recipe_about(package, name)
    text = (importlib.resources.files(package) / f"{name}.yaml").read_text(encoding="utf-8")
    remarks = " ".join(line.removeprefix("#").strip() for line in text[: text.index(f"{ABOUT}:")].splitlines())
    own = _comments(text)
    keys = []
    for key, value, doc in _walk(_config(kind, name)):
        inside = {name: remark for name, remark in own.items() if name == key or name.startswith(f"{key}.")}
        reasons = [doc, *(f"Here: {remark}" for remark in inside.values() if remark)]
        keys.append(Key(key, value, bool(inside), ". ".join(reason.rstrip(".") for reason in reasons if reason)))
    return ShownRecipe(name, about, remarks.strip(), tuple(keys))


def keys_of(kind: str, name: str) -> list[str]:
    """Dotted names of every key of a recipe, defaults included; empty where there is no such recipe."""
    try:
        return [key for key, _, _ in _walk(_config(kind, name))]
    except UsageError:
        return []


def _config(kind: str, name: str) -> Any:
    if kind == "translator":
        from gloam.training.translators.config import read_translator_recipe

        return read_translator_recipe(name)
    if kind == "edges":
        from gloam.training.edges.config import read_detector_recipe

        return read_detector_recipe(name)
    from gloam.training.embedders.config import read_metric_recipe

    return read_metric_recipe(name, kind=kind)


def _walk(config: Any, above: str = "") -> Iterator[tuple[str, Any, str]]:
    """Dotted name, JSON value and description of every field of a dataclass and of those inside it."""
    docs = _documented(type(config))
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{above}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _walk(value, f"{name}.")
        else:
            yield name, to_json(value), docs.get(field.name, "")


def _documented(kind: type) -> dict[str, str]:
    """Description of each attribute, from the docstrings of a class and of what it inherits."""
    found: dict[str, str] = {}
    for member in kind.__mro__:
        doc = inspect.cleandoc(member.__doc__ or "") if dataclasses.is_dataclass(member) else ""
        part = re.search(r"^Attributes:\n((?:[ ]{4}.*\n?|\n)+)", doc, re.MULTILINE)
        text = re.sub(r"\n +", " ", textwrap.dedent(part[1])) if part else ""
        for entry in re.sub(r"``|:\w+:`|`", "", text).splitlines():
            # One entry may describe several: "width, height: pixels", "views: of each; held_out: of the other".
            for names, said in re.findall(r"(?:^|; )((?:\w+, )*\w+): (.*?)(?=; (?:\w+, )*\w+: |$)", entry):
                for name in names.split(", "):
                    found.setdefault(name, said.strip())
    return found


def _comments(text: str) -> dict[str, str]:
    """The comment beside each key of a recipe's file, by dotted name; empty where there is none."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = re.match(r"( *)(\w+):(.*)", line)
        if match is None:
            continue
        indent = len(match[1])
        path = [(depth, key) for depth, key in path if depth < indent] + [(indent, match[2])]
        remark = re.search(r"(?:^|\s)#\s*(.*)$", match[3])
        found[".".join(key for _, key in path)] = remark[1] if remark else ""
    return found


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False)


def _same(first: tuple[str, ...], second: tuple[str, ...]) -> Iterator[str]:
    """What two paths have in common from their beginning."""
    for one, other in zip(first, second, strict=False):
        if one != other:
            return
        yield one
