"""The templates of pages, filled so that text from elsewhere is text: no markup, no control of what is around it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from gloam import __version__
from gloam.files import printable, write_text
from gloam.workflows.reports.page.provenance import provenance


def write_page(path: str | Path, template: str, made: Mapping[str, str] | None = None, **values: Any) -> None:
    """Fill a template and write it, atomically.

    Args:
        path: of the page.
        template: its file name.
        made: when, where and by which command, see :func:`provenance`; of now and here where None.
        values: of the template; ``title`` and ``contents``, titles of its sections by key, among them.

    Raises:
        StoreError: the file cannot be written.
    """
    made = provenance() if made is None else made
    page = page_environment().get_template(template).render(version=__version__, made=made, **values)
    write_text(path, page)


@functools.cache
def page_environment() -> jinja2.Environment:
    """Of the templates: everything is escaped, control characters and turns of direction are shown."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gloam.workflows.reports.page", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    return environment


def cell(value: str | int | float | None) -> str:
    """A value for people: floats to three digits, at most three of them after the point; what is none is a dash."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "\N{EN DASH}"
    return three_digits(value) if isinstance(value, float) else str(value)


def three_digits(value: float) -> str:
    """``0.468``, ``1.50``, ``17.9``, ``100``; ``3.2e-05`` where less than half a thousandth is left."""
    rounded = abs(float(f"{value:.3g}"))
    if not rounded:
        return "0"
    if rounded < 0.0005:
        return f"{value:.1e}"
    places = 3 - len(str(int(rounded))) if rounded >= 1 else 3
    return f"{value:.{max(places, 0)}f}"


def _plain(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
