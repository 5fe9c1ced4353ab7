"""The text format of visuallocalization.net (LTVL2020): one line per localized query, ``name qw qx qy qz tx ty tz``.

World to camera. A query that was not localized is absent; hloc writes the top-1 database pose in its place, which
changes coarse recalls.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Literal

from gloam.data.scene import Pose
from gloam.errors import DataError
from gloam.files import write_text

Style = Literal["aachen", "robotcar", "full"]


def benchmark_name(name: str, camera_id: str, style: Style) -> str:
    """The name that the evaluation server expects: basename, ``<camera>/<basename>``, or the full path."""
    if style == "aachen":
        return PurePosixPath(name).name
    if style == "robotcar":
        return f"{camera_id}/{PurePosixPath(name).name}"
    return name


def write_ltvl(
    path: str | Path, poses: Mapping[str, Pose | None], camera_ids: Mapping[str, str], style: Style = "aachen"
) -> int:
    """Write localized poses, sorted by name, atomically.

    Returns:
        number of lines.

    Raises:
        DataError: two queries get the same name in this style.
    """
    lines: dict[str, str] = {}
    for name in sorted(poses):
        pose = poses[name]
        if pose is None:
            continue
        short = benchmark_name(name, camera_ids[name], style)
        if short in lines:
            raise DataError(f"two queries are called {short!r} in the style {style!r}; use --ltvl-style full")
        numbers = " ".join(repr(float(value)) for value in (*pose.quaternion, *pose.translation))
        lines[short] = f"{short} {numbers}"
    write_text(path, "".join(line + "\n" for line in lines.values()))
    return len(lines)
