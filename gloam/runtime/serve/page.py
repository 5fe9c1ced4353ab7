"""The web page: one file, that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import re


@functools.cache
def text() -> str:
    """HTML, with its style and script inside."""
    return (importlib.resources.files("gloam.runtime.serve") / "page.html").read_text(encoding="utf-8")


@functools.cache
def policy() -> str:
    """Content-Security-Policy: the page's own style and script, by their hashes, and this service's answers."""
    style, script = (_hashed(tag) for tag in ("style", "script"))
    return (
        f"default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src 'self' blob: data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashed(tag: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", text(), re.DOTALL)
    assert found is not None  # the page has one of each
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"
