"""The evaluation server's file of a benchmark: written as the server takes it, and checked before it is sent.

What is looked for are mistakes of form (names, columns, quaternions, line ends) and of convention, see
:mod:`gloam.eval.localization.pose_conventions`. The hidden poses are never needed.
"""

from __future__ import annotations

import codecs
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gloam.data.localization_sets.dataset import LocalizationSet, SetName
from gloam.data.localization_sets.read import read_localization_set
from gloam.data.scene import Pose, Scene
from gloam.errors import DataError, UsageError
from gloam.eval.localization.ltvl import benchmark_name, write_ltvl
from gloam.eval.localization.pose_conventions import OUTSIDE, convention_faults, count_outside
from gloam.files import printable, read_file, sha256_file, write_json

Unlocalized = Literal["absent", "top1"]
UNLOCALIZED: tuple[Unlocalized, ...] = ("absent", "top1")
UNIT = 2e-3  # of a quaternion's length; numbers rounded to three digits stay below
WHOLE = 0.9  # share of a location's queries that have a line, from which on it is there
SHOWN = 5  # faults of a kind that a text lists
Floats = npt.NDArray[np.float64]
COLUMNS = "name qw qx qy qz tx ty tz"


@dataclass(frozen=True)
class Submission:
    """A written file.

    Attributes:
        path: of it; beside it lies ``PATH.json`` with what is said here.
        benchmark: name of the set.
        queries: that the server scores.
        localized: lines with a pose of their own.
        filled: lines with the first retrieved image's pose, by ``unlocalized``.
        unlocalized: what stands for a query without a pose.
        by_condition: of each condition the scored queries and those of them without a line.
        sha256: of the file.
    """

    path: Path
    benchmark: str
    queries: int
    localized: int
    filled: int
    unlocalized: Unlocalized
    by_condition: Mapping[str, tuple[int, int]]
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        counts = {name: {"queries": n, "absent": absent} for name, (n, absent) in self.by_condition.items()}
        return {
            "file": self.path.name,
            "benchmark": self.benchmark,
            "queries": self.queries,
            "localized": self.localized,
            "filled_with_top1": self.filled,
            "unlocalized": self.unlocalized,
            "conditions": counts,
            "format": f"{COLUMNS}, world to camera",
            "sha256": self.sha256,
        }


def write_submission(
    path: str | Path,
    poses: Mapping[str, Pose | None],
    benchmark: LocalizationSet,
    *,
    unlocalized: Unlocalized = "absent",
    top1: Mapping[str, Pose] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Submission:
    """Write the file of a benchmark's server and a JSON beside it: scored queries alone, sorted by the images' names.

    Args:
        path: of the file.
        poses: by query; None, or no entry, where it was not localized. Queries that are not scored are left out.
        benchmark: whose names, cameras and conditions these are.
        unlocalized: ``absent`` leaves a query without a pose out; ``top1`` writes its first retrieved image's, as hloc
            does, which changes coarse recalls.
        top1: poses of the first retrieved images by query; needed for ``top1``.
        facts: more for the JSON: the row, weights, k.

    Raises:
        UsageError: ``top1`` without those poses.
        DataError: a pose of no query, or two queries of one name in the server's style.
    """
    if unlocalized == "top1" and top1 is None:
        raise UsageError("unlocalized queries as top1 need the poses of the first retrieved images")
    strangers = sorted(set(poses) - set(benchmark.query.records))
    if strangers:
        raise DataError(f"{benchmark.root}: {strangers[0]!r} is no query of {benchmark.name}, but has a pose")
    scored = benchmark.scored_queries
    own = {name: pose for name in scored if (pose := poses.get(name)) is not None}
    filled = {}
    if unlocalized == "top1" and top1 is not None:
        filled = {name: top1[name] for name in scored if name not in own and name in top1}
    place = Path(path)
    cameras = {name: record.camera_id for name, record in benchmark.query.records.items()}
    write_ltvl(place, own | filled, cameras, benchmark.style)
    written = own.keys() | filled.keys()
    found = Submission(
        place,
        benchmark.name,
        len(scored),
        len(own),
        len(filled),
        unlocalized,
        _by_condition(benchmark, written),
        sha256_file(place),
    )
    write_json(place.with_name(f"{place.name}.json"), {**(facts or {}), **found.to_dict()})
    return found


def _by_condition(benchmark: LocalizationSet, written: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Scored queries of each condition, and how many of them have no line."""
    scored, have = set(benchmark.scored_queries), set(written)
    return {
        condition: (len(scored & set(names)), len((scored & set(names)) - have))
        for condition, names in benchmark.conditions.items()
    }


@dataclass(frozen=True)
class Fault:
    """Something wrong with a file: its line, or 0 for the whole; a word for the kind; what is wrong and what to do."""

    line: int
    kind: str
    message: str


@dataclass(frozen=True)
class SubmissionReport:
    """What a look at a file gave.

    Attributes:
        path: of it.
        benchmark: name of the set.
        lines: with something in them.
        scored: of these, poses of queries that the server scores.
        faults: by line.
        notes: what is no fault, and worth knowing.
        absent: of each condition the scored queries and those of them without a line.
    """

    path: Path
    benchmark: str
    lines: int
    scored: int
    faults: Sequence[Fault]
    notes: Sequence[str]
    absent: Mapping[str, tuple[int, int]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "path": str(self.path),
            "benchmark": self.benchmark,
            "lines": self.lines,
            "scored": self.scored,
            "faults": [{"line": item.line, "kind": item.kind, "message": item.message} for item in self.faults],
            "notes": list(self.notes),
            "absent": {name: {"queries": n, "absent": absent} for name, (n, absent) in self.absent.items()},
        }

    def to_text(self) -> str:
        """The verdict, faults with their lines, and what is absent by condition."""
        verdict = f"{len(self.faults)} faults" if self.faults else "ready to submit"
        lines = [f"{self.path}: {self.lines} lines for {self.benchmark}, {self.scored} of scored queries: {verdict}"]
        kinds = Counter(item.kind for item in self.faults)
        shown: Counter[str] = Counter()
        for item in self.faults:
            shown[item.kind] += 1
            if shown[item.kind] <= SHOWN:
                lines.append(f"  {self.path.name}:{item.line}: {item.message}" if item.line else f"  {item.message}")
            elif shown[item.kind] == kinds[item.kind]:
                lines.append(f"  and {kinds[item.kind] - SHOWN} more lines of this kind ({item.kind})")
        counts = [f"{name} {absent} of {queries}" for name, (queries, absent) in self.absent.items() if absent]
        lines.append(f"queries without a line, which count as failures: {', '.join(counts) or 'none'}")
        return "\n".join([*lines, *self.notes])


def validate_submission(path: str | Path, benchmark: LocalizationSet) -> SubmissionReport:
    """Look for what is wrong with a server's file.

    Args:
        path: the file.
        benchmark: that it is for.

    Returns:
        faults, in the order of lines; a query without a line is counted, and is no fault.

    Raises:
        DataError: the file cannot be read at all.
    """
    place = Path(path)
    try:
        content = read_file(place)
    except OSError as error:
        raise DataError(f"{place}: the poses cannot be read ({error.strerror or error}); check the path") from error
    faults, text = _decoded(content)
    names = _Names(benchmark)
    poses: list[tuple[int, Floats]] = []
    written: dict[str, int] = {}
    unscored: list[int] = []
    lines = 0
    rows = text.splitlines()
    while rows and not rows[-1].strip():
        rows.pop()
    for number, row in enumerate(rows, 1):
        if not row.strip():
            faults.append(Fault(number, "blank", "a blank line; remove it"))
            continue
        lines += 1
        name, numbers, problems = _parsed(row, number)
        faults += problems
        image, problem = names.find(name)
        if problem is not None:
            faults.append(Fault(number, problem[0], problem[1]))
        if image is not None:
            if image in written:
                faults.append(
                    Fault(number, "twice", f"{_quoted(name)} is in line {written[image]} already; keep one of the two")
                )
            written.setdefault(image, number)
            if not names.is_scored(image):
                unscored.append(number)
        if numbers is not None:
            poses.append((number, numbers))
    if not lines:
        faults.append(Fault(0, "empty", "the file is empty; a server takes one line for each localized query"))
    scored = [image for image in written if names.is_scored(image)]
    notes = list(names.notes)
    if unscored and not scored:
        cameras = ", ".join(benchmark.scored or ())
        message = f"all {len(unscored)} poses are of cameras that are not scored; those of {cameras} count alone"
        faults.append(Fault(unscored[0], "cameras", message))
    elif unscored:
        notes.append(f"{len(unscored)} lines are of cameras that the server does not score; they change nothing")
    wrong = [Fault(*found) for found in convention_faults(poses, benchmark.mapping)]
    faults += wrong
    outside = 0 if wrong else count_outside(poses, benchmark.mapping)
    if outside > len(poses) / 2:
        notes.append(
            f"{outside} of {len(poses)} cameras stand more than {OUTSIDE:g} m outside the map: are translations metres?"
        )
    absent = _by_condition(benchmark, written)
    if lines:
        notes += _whole_locations(benchmark, set(written))
    faults.sort(key=lambda item: item.line)
    return SubmissionReport(place, benchmark.name, lines, len(scored), faults, notes, absent)


def check_submission(path: str | Path, name: SetName | Literal["auto"], data: str | Path) -> SubmissionReport:
    """:func:`validate_submission` for a benchmark's folder.

    Args:
        path: the file.
        name: of the benchmark, or ``auto``.
        data: its folder.

    Raises:
        DataError: the file or the benchmark cannot be read.
    """
    return validate_submission(path, read_localization_set(name, data))


def _decoded(content: bytes) -> tuple[list[Fault], str]:
    """The text of a file, and what is wrong with its bytes."""
    faults = []
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        faults.append(Fault(1, "encoding", "is UTF-16 text; save it as plain UTF-8 without a byte order mark"))
        return faults, content.decode("utf-16", "replace")
    if content.startswith(codecs.BOM_UTF8):
        faults.append(
            Fault(1, "bom", "begins with a byte order mark, which becomes part of the first name; save it without")
        )
        content = content.removeprefix(codecs.BOM_UTF8)
    if b"\r" in content:
        line = content[: content.index(b"\r")].count(b"\n") + 1
        faults.append(Fault(line, "line ends", "ends in a carriage return; save the file with Unix line ends (LF)"))
    try:
        return faults, content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        faults.append(Fault(line, "encoding", f"is not UTF-8 text ({error.reason}); save it as UTF-8"))
        return faults, content.decode(errors="replace")


def _parsed(row: str, number: int) -> tuple[str, Floats | None, list[Fault]]:
    """Name and seven numbers of a line, quaternion (w, x, y, z) first, and what is wrong with them."""
    if "," in row:
        fields = [field for field in row.replace(",", " ").split() if field]
        fault = Fault(number, "commas", f"has commas; fields are separated by spaces: {COLUMNS}")
    else:
        fields = row.split()
        fault = Fault(number, "columns", f"has {len(fields)} columns, not 8: {COLUMNS}")
    problems = [fault] if "," in row or len(fields) != 8 else []
    name = fields[0] if fields else ""
    if len(fields) != 8:
        return name, None, problems
    values = []
    for text in fields[1:]:
        try:
            values.append(float(text))
        except ValueError:
            problems.append(Fault(number, "number", f"{_quoted(text)} is no number; expected {COLUMNS}"))
            return name, None, problems
    if not all(map(math.isfinite, values)):
        problems.append(
            Fault(number, "not finite", "holds a number that is not finite; leave a query that was not localized out")
        )
        return name, None, problems
    length = math.hypot(*values[:4])
    if abs(length - 1) > UNIT:
        problems.append(
            Fault(number, "quaternion", f"the quaternion has length {length:.4g}, not 1; divide it by its length")
        )
        return name, None, problems
    return name, np.array(values), problems


def _quoted(name: str) -> str:
    return repr(printable(name)[:80])


class _Names:
    """Which image a name of the file means, and if none, what mistake it is."""

    def __init__(self, benchmark: LocalizationSet) -> None:
        self.benchmark = benchmark
        self.notes: list[str] = []
        query = benchmark.query
        self._right = {benchmark_name(n, query.records[n].camera_id, benchmark.style): n for n in query.names}
        self._without = {str(PurePosixPath(name).with_suffix("")): name for name in self._right}
        self._folded = {name.casefold(): name for name in self._right}
        self._by_base: dict[str, list[str]] = defaultdict(list)
        for right in self._right:
            self._by_base[PurePosixPath(right).name].append(right)
        self._map = self._every_name(benchmark.mapping)
        self._known = {} if benchmark.known_query is None else self._every_name(benchmark.known_query)

    def is_scored(self, image: str) -> bool:
        """Whether a pose of an image counts."""
        scored = self.benchmark.scored
        return scored is None or self.benchmark.query.records[image].camera_id in scored

    def find(self, name: str) -> tuple[str | None, tuple[str, str] | None]:
        """The query that a name is of, and kind and message of what is wrong with the name."""
        image = self._right.get(name)
        if image is not None:
            return image, None
        path = PurePosixPath(name.replace("\\", "/"))
        right = self._without.get(str(path.with_suffix(""))) if path.name else None
        if right is not None and self.benchmark.style == "robotcar" and path.suffix in (".png", ".jpg"):
            note = "some names end otherwise than the images' files: RobotCar's server takes .png for .jpg since 2020"
            if note not in self.notes:
                self.notes.append(note)
            return self._right[right], None
        if right is not None and name.casefold() not in self._folded:
            return self._right[right], ("name", f"{_quoted(name)} has another suffix than the query; write {right}")
        return None, self._mistake(name, path)

    def _mistake(self, name: str, path: PurePosixPath) -> tuple[str, str]:
        said, style = _quoted(name), self.benchmark.style
        query = self.benchmark.query
        if str(path) in query.records:
            right = benchmark_name(str(path), query.records[str(path)].camera_id, style)
            return "full path", f"{said} is the full path of a query; write {right}"
        if (known := self._known.get(str(path))) is not None:
            return "other split", (
                f"{said} is {known}, whose pose is public in {self.benchmark.name}, and no query of it; this file "
                "seems to be of the other version's queries"
            )
        if (mapped := self._map.get(str(path))) is not None:
            return "map image", f"{said} is {mapped} of the map, whose pose is known; leave it out"
        if (folded := self._folded.get(name.casefold())) is not None:
            return "name", f"{said} differs in upper and lower case from the query; write {folded}"
        near = self._by_base.get(path.name, [])
        if near and style == "robotcar":
            if len(path.parts) == 1:
                return "camera", f"{said} lacks the camera; write {near[0]}"
            return "camera", f"{said}: no camera {str(path.parent)!r} took that query; write {near[0]}"
        if near:
            return "full path", f"{said} is a path; write the file name alone, {near[0]}"
        return "name", f"{said} is the name of no query of {self.benchmark.name}{self._other(path)}"

    def _other(self, path: PurePosixPath) -> str:
        """Of which other benchmark a name may be."""
        stamped = path.stem.isdigit() and len(path.stem) >= 15  # RobotCar's are times in microseconds
        if stamped and self.benchmark.style == "aachen":
            return "; RobotCar Seasons names images so"
        if not stamped and self.benchmark.style == "robotcar" and path.stem.upper().startswith("IMG_"):
            return "; Aachen Day-Night names images so"
        return ""

    def _every_name(self, scene: Scene) -> dict[str, str]:
        """Images of a scene by path, by camera and file name, and by file name; names of queries are none of them."""
        found: dict[str, str] = {}
        for name in scene.names:
            camera, base = scene.records[name].camera_id, PurePosixPath(name).name
            for spelled in (name, f"{camera}/{base}", base):
                if spelled not in self._by_base:
                    found.setdefault(spelled, repr(name))
        return found


def _whole_locations(benchmark: LocalizationSet, written: set[str]) -> list[str]:
    """Locations that are absent as a whole where others are nearly whole, as in a file of another version."""
    if not benchmark.locations:
        return []
    queries: dict[str, list[str]] = defaultdict(list)
    for name in benchmark.scored_queries:
        if name in benchmark.locations:
            queries[benchmark.locations[name]].append(name)
    shares = {place: len(written & set(names)) / len(names) for place, names in queries.items()}
    gone = sorted(place for place, share in shares.items() if share == 0)
    if not gone or max(shares.values()) < WHOLE:
        return []
    return [
        f"all queries of {len(gone)} of {len(shares)} locations are absent, first {gone[0]}: is this a file of the "
        "other version's queries?"
    ]
