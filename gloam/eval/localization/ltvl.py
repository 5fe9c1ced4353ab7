"""The text format of visuallocalization.net (LTVL2020): one line per localized query, ``name qw qx qy qz tx ty tz``.

World to camera. A query that was not localized is absent; hloc writes the top-1 database pose in its place, which
changes coarse recalls. :mod:`gloam.eval.localization.submission` writes and checks a benchmark's whole file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import get_args

from gloam.data.kapture_text import transform_problem
from gloam.data.localization_sets.dataset import NameStyle
from gloam.data.scene import Pose
from gloam.data.text import finite, text_lines
from gloam.errors import DataError
from gloam.files import write_text

ROUNDING = 1e-9  # of a unit quaternion's length


def benchmark_name(name: str, camera_id: str, style: NameStyle) -> str:
    """The name that the evaluation server expects: basename, ``<camera>/<basename>``, or the full path."""
    if style == "aachen":
        return PurePosixPath(name).name
    if style == "robotcar":
        return f"{camera_id}/{PurePosixPath(name).name}"
    return name


def write_ltvl(
    path: str | Path, poses: Mapping[str, Pose | None], camera_ids: Mapping[str, str], style: NameStyle = "aachen"
) -> int:
    """Write localized poses, sorted by name, atomically; a quaternion that is not of length 1 is brought to it.

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
        length = math.hypot(*pose.quaternion)
        scale = 1.0 if abs(length - 1) <= ROUNDING else length  # what is right to the last digits keeps its bytes
        quaternion = (value / scale for value in pose.quaternion)
        numbers = " ".join(repr(float(value)) for value in (*quaternion, *pose.translation))
        lines[short] = f"{short} {numbers}"
    write_text(path, "".join(line + "\n" for line in lines.values()))
    return len(lines)


def read_ltvl(path: str | Path) -> dict[str, Pose]:
    """Poses by the names of the file.

    Raises:
        DataError: unreadable, or a line that is no name and pose, or of a name that was there before.
    """
    poses: dict[str, Pose] = {}
    for number, line in text_lines(Path(path), "the poses cannot be read"):
        name, *texts = line.rsplit(maxsplit=7)
        try:
            w, x, y, z, *translation = map(finite, texts)
            tx, ty, tz = translation
        except ValueError:
            raise DataError(f"{path}:{number}: malformed; expected name qw qx qy qz tx ty tz") from None
        if reason := transform_problem((w, x, y, z), (tx, ty, tz)):
            raise DataError(f"{path}:{number}: the pose is malformed: {reason}; correct the row, or leave it out")
        if name in poses:
            raise DataError(f"{path}:{number}: {name!r} is there already; remove one of the two")
        poses[name] = Pose((w, x, y, z), (tx, ty, tz))
    return poses


def by_image(poses: Mapping[str, Pose], camera_ids: Mapping[str, str]) -> dict[str, Pose]:
    """Poses by the images' own names, whichever style their names are in.

    Args:
        poses: by the names of a file.
        camera_ids: of every image that may be meant, by its own name.

    Raises:
        DataError: names that are those of the images in no style, or of two images.
    """
    for style in reversed(get_args(NameStyle)):
        images: dict[str, list[str]] = {}
        for image, camera_id in camera_ids.items():
            images.setdefault(benchmark_name(image, camera_id, style), []).append(image)
        if poses.keys() <= images.keys() and all(len(images[name]) == 1 for name in poses):
            return {images[name][0]: pose for name, pose in poses.items()}
    stranger = min(poses.keys() - camera_ids.keys())
    raise DataError(
        f"{stranger!r} is the name of no image of the ground truth, or of several, as a path, as camera and file name "
        "or as a file name alone; give the ground truth of these queries, or write poses with --ltvl-style full"
    )
