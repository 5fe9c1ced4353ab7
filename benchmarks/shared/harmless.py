"""Changes that make no wrong program, one by one, and why; the benchmark of wrong programs does not draw them.

A change is harmless where what it gives may as well be given: no caller, no contract and no figure can tell.
"""

from __future__ import annotations

# Module, function, what stood, what was put: the reason.
HARMLESS: dict[tuple[str, str, str, str], str] = {}
