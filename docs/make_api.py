"""Writes ``docs/api.md`` from the docstrings of the public names: ``python docs/make_api.py``."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import gloam

PAGE = Path(__file__).with_name("api.md")
INTRO = """<!-- made -->

# Python interface

What `import gloam` gives. Each name is loaded when first asked for, so the import itself loads no package outside the
standard library. This page is made from the docstrings by `python docs/make_api.py`.
"""


def public_members(value: type) -> list[tuple[str, object]]:
    """Methods and properties that the class itself defines, in the order of its source."""
    found = []
    for name, member in vars(value).items():
        inner = getattr(member, "__func__", member)
        documented = callable(inner) or isinstance(inner, property)
        if documented and (not name.startswith("_") or name == "__call__") and inspect.getdoc(inner):
            found.append((name, inner))
    return found


def _signature(name: str, value: object) -> str:
    if isinstance(value, property):
        return name
    text = str(inspect.signature(value))  # type: ignore[arg-type]  # a function, where it is no property
    text = re.sub(r"'([^']*)'", r"\1", text)
    return name + re.sub(r"^\((?:self|cls)(?:, )?", "(", text)


def _section(level: int, title: str, signature: str, value: object) -> str:
    text = inspect.getdoc(value) or ""
    text = re.sub(r":(?:class|func|mod|meth|data|attr):`~?\.?([^`]+)`", r"`\1`", text).replace("``", "`")
    return f"{'#' * level} {title}\n\n```python\n{signature}\n```\n\n```text\n{text}\n```\n"


def page() -> str:
    """The whole page."""
    parts = [INTRO]
    for name in sorted(gloam.__all__, key=str.lower):
        value = getattr(gloam, name)
        if inspect.isclass(value):
            parts.append(_section(2, f"gloam.{name}", f"class gloam.{name}", value))
            parts += [
                _section(3, f"{name}.{member}", _signature(member, inner), inner)
                for member, inner in public_members(value)
            ]
        else:
            parts.append(_section(2, f"gloam.{name}", _signature(f"gloam.{name}", value), value))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
