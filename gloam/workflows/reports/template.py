"""The templates of pages, filled so that text from elsewhere is text: no markup, no control of what is around it."""

from __future__ import annotations

from typing import Any

import jinja2
from markupsafe import Markup

from gloam.files import printable


def page_environment() -> jinja2.Environment:
    """Of the templates in this folder: everything is escaped, control characters and turns of direction are shown."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("gloam.workflows.reports", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _plain(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
