"""A training set of one's own images: what kind of source it is, read, counted and written as ``set.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloam.data.retrieval_sets.check import counts, describe_set
from gloam.data.retrieval_sets.native import hold_out_clusters, write_native
from gloam.data.retrieval_sets.sets import read_retrieval_set
from gloam.data.sources.items import counts_left_out
from gloam.data.text import table_rows
from gloam.errors import DataError, UsageError
from gloam.files import expect_output

POSED = ("positives", "distance", "heading", "shared_points", "apart", "side", "one_world")
TAKES: dict[str, tuple[str, ...]] = {  # options that a kind has beside its source
    "folder": ("pairs_per_image", "singles", "seed"),
    "csv": ("images", "pairs_per_image", "singles", "seed"),
    "pairs": ("images",),
    "kapture": (*POSED, "pairs_per_image", "seed"),
    "town": ("distance", "apart", "side", "pairs_per_image"),
    "sfm": ("images", "set_name", "day", "night"),
    "nd": ("images", "set_name", "day", "night"),
    "gld_csv": ("images", "pairs_per_image", "singles", "seed"),
    "json": ("images", "set_name"),
}
NEED_IMAGES = ("sfm", "nd", "gld_csv")


@dataclass(frozen=True)
class BuiltSet:
    """What was written.

    Attributes:
        path: the file.
        kind: of the source.
        images_root: folder that names are relative to.
        sets: facts of each set by its name, see :func:`gloam.data.retrieval_sets.check.describe_set`.
        left_out: how much of the source is in no set, by the reason.
    """

    path: Path
    kind: str
    images_root: Path
    sets: Mapping[str, Mapping[str, Any]]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        sets = {name: dict(facts) for name, facts in self.sets.items()}
        found = {"set": str(self.path), "kind": self.kind, "images_root": str(self.images_root), "sets": sets}
        return found | ({"left_out": dict(self.left_out)} if self.left_out else {})

    def to_text(self) -> str:
        """A line for every set."""
        lines = [f"{self.path}: images below {self.images_root}"]
        lines += [counts(name, facts) for name, facts in self.sets.items()]
        if left := counts_left_out(self.left_out):
            lines.append(left)
        lines.append(f"next: gloam dataset check {self.path}")
        return "\n".join(lines)


def build_set(
    sources: Sequence[Path],
    output: Path,
    kind: str = "auto",
    *,
    options: Mapping[str, Any] | None = None,
    set_name: str | None = None,
    validation: float | None = None,
) -> BuiltSet:
    """Read a source and write it as a set, or as two.

    Args:
        sources: a folder of places, a table, a list, a pickle; several for kapture alone.
        output: ``.json`` file to write.
        kind: a key of :data:`TAKES`, or ``auto``, which looks at the source.
        options: of the kind's reader, by name; None stands for its default. ``set_name`` is one of them.
        set_name: of the written set.
        validation: share of the clusters, in (0, 1), to hold out as set ``val``.

    Raises:
        DataError: a source that cannot be read as that kind.
        UsageError: an output of another suffix, options of another kind, or several sources where one is read.
    """
    expect_output(output, ".json", "a set")
    kind = kind_of(sources[0]) if kind == "auto" else kind
    if len(sources) > 1 and kind != "kapture":
        raise UsageError(f"several sources need --from kapture; a set of kind {kind} is read from one")
    given: dict[str, Any] = {"folder" if kind == "town" else "path": sources if kind == "kapture" else sources[0]}
    asked = {**(options or {}), "set_name": set_name}
    for name, value in sorted(asked.items()):
        if value is None:
            continue
        if name not in TAKES[kind]:
            users = ", ".join(other for other, names in TAKES.items() if name in names)
            raise UsageError(f"--{name.replace('_', '-')} is for {users}; this source is of kind {kind}")
        given[name] = value
    if kind in NEED_IMAGES and "images" not in given:
        raise UsageError(f"a set of kind {kind} needs --images DIR, the folder of its images")
    whole = read_retrieval_set(kind, **given)
    sets = {set_name or "train": whole}
    if validation is not None:
        sets = dict(zip(("train", "val"), hold_out_clusters(whole, validation), strict=True))
    root = write_native(output, sets)
    return BuiltSet(output, kind, root, {name: describe_set(part) for name, part in sets.items()}, whole.left_out)


def kind_of(source: Path) -> str:
    """What kind of source a folder or file is, a key of :data:`TAKES`.

    Raises:
        DataError: there is none, or a table that cannot be read.
    """
    if source.is_dir():
        if (source / "sensors" / "records_camera.txt").is_file():
            return "kapture"
        return "town" if (source / "town.json").is_file() else "folder"
    if not source.is_file():
        raise DataError(f"{source}: no such folder or file")
    if source.suffix == ".pkl":
        return "sfm"
    if source.suffix == ".json":
        return "json"
    if source.suffix == ".csv":
        return "gld_csv" if "landmark_id" in table_rows(source)[0] else "csv"
    return "pairs"
