"""What of a benchmark is there, what is missing, where it comes from, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from gloam.data.images import stored_size
from gloam.data.localization_sets.dataset import Layout, LocalizationSet, SetName
from gloam.data.localization_sets.read import find_set, read_localization_set
from gloam.data.localization_sets.robotcar import V2_LOCATIONS
from gloam.data.localization_sets.sources import ADDRESSES, LICENCES, SetPart, parts_of
from gloam.errors import DataError, ImageError, UsageError
from gloam.files import read_json
from gloam.heartbeat import Heartbeat, Say

CARD = "look_alike.json"  # in the folder of a look-alike's set
MAP, QUERIES, TRAINING = "map images", "queries", "training images"
WHOLE: dict[SetName, dict[str, int]] = {  # images of the benchmarks; how many queries kapture's v2 has is not stated
    "aachen-v1.1": {MAP: 6697, QUERIES: 1015},
    "robotcar-v1": {MAP: 20862, QUERIES: 11934},
    "robotcar-v2": {MAP: 20862, TRAINING: 3 * 1906},
}
COUNTED = ("aachen-v1.1",)  # by files at hand; the others by what papers say, which is worth a note, not an alarm
SHOWN = 8  # missing parts that people are told of one by one


@dataclass(frozen=True)
class SetReport:
    """What :func:`check_localization_set` found.

    Attributes:
        name: of the benchmark; None where none is there.
        layout: its form; where nothing could be read, the one that most is there of.
        parts: of the benchmark in that form.
        counts: images by kind; None where it cannot be read.
        conditions: queries by condition.
        problems: what is wrong, a sentence each.
        notes: what is worth knowing and not wrong.
        look_alike: whether the set says that it is one.
    """

    name: SetName | None
    path: Path
    layout: Layout
    parts: tuple[SetPart, ...] = ()
    counts: dict[str, int] | None = None
    conditions: dict[str, int] | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    look_alike: bool = False

    @property
    def missing(self) -> list[SetPart]:
        """Parts that are needed and not there."""
        return [part for part in self.parts if part.needed and not part.there]

    @property
    def passed(self) -> bool:
        """Whether the benchmark is there and nothing is wrong."""
        return not self.problems and not self.missing

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name,
            "path": str(self.path),
            "layout": self.layout,
            "look_alike": self.look_alike,
            "passed": self.passed,
            "parts": [asdict(part) for part in self.parts],
            "counts": self.counts or {},
            "conditions": self.conditions or {},
            "problems": list(self.problems),
            "notes": list(self.notes),
            "address": None if self.name is None else ADDRESSES[self.name, self.layout],
            "licence": None if self.name is None else LICENCES[self.name],
        }

    def __str__(self) -> str:
        """Lines for people."""
        lines = [f"{self.path}: {'no benchmark' if self.name is None else f'{self.name}, {self.layout} form'}"]
        if self.look_alike:
            lines[0] += ", a look-alike"
        lines += _shown(self.parts)
        if self.counts:
            asked = ", ".join(f"{count} {condition}" for condition, count in (self.conditions or {}).items())
            lines.append(f"read     {', '.join(f'{count} {kind}' for kind, count in self.counts.items())}")
            lines.append(f"queries  {asked}")
        lines += [f"note     {note}" for note in self.notes]
        lines += [f"wrong    {problem}" for problem in self.problems]
        if self.name is not None and not self.look_alike:
            lines.append(f"from     {ADDRESSES[self.name, self.layout]}")
            lines.append(f"licence  {LICENCES[self.name]}")
        lines.append("nothing is missing or wrong" if self.passed else _summary(self))
        return "\n".join(lines)


def check_localization_set(name: SetName | Literal["auto"], path: str | Path, *, say: Say | None = None) -> SetReport:
    """Look at a benchmark: its parts, its lists, and each image's header.

    Args:
        name: of the benchmark, or ``auto``.
        path: its folder.
        say: gets a line of progress now and then.

    Returns:
        the report; faults of the data are in it, not raised.

    Raises:
        UsageError: an unknown name.
    """
    root = Path(path)
    if name != "auto" and name not in get_args(SetName):
        raise UsageError(f"set {name!r}: choose from auto, {', '.join(get_args(SetName))}")
    problems: list[str] = []
    try:
        names, layout = find_set(root)
        found = names[0] if name == "auto" else name
        if found not in names:
            problem = f"{root}: holds {names[0]}, not {found}; give its name, or another folder"
            return SetReport(found, root, layout, problems=(problem,))
    except DataError as error:
        if name == "auto" or not root.is_dir():
            return SetReport(None if name == "auto" else name, root, "kapture", problems=(str(error),))
        found, layout = name, _likelier(root, name)
    card = _card(root)
    locations = int(card["size"]["streets"]) if card else V2_LOCATIONS
    parts = tuple(parts_of(root, found, layout, locations))
    notes = list(_notes(root, parts, found))
    counts = conditions = None
    try:
        read = read_localization_set(found, root)
        counts, conditions = _counts(read), {key: len(names) for key, names in read.conditions.items()}
        other = _other_counts(_stated(card) if card else WHOLE[found], counts)
        (problems if card or found in COUNTED else notes).extend(other)
        problems += _image_faults(read, say)
        if found != "aachen-v1.1" and not read.rig:
            notes.append("no rig is stated, or several are: no camera's pose can be had from another's")
    except DataError as error:
        if not any(part.name in str(error) for part in parts if not part.there):  # else the parts say it
            problems.append(str(error))
    return SetReport(
        found, root, layout, parts, counts, conditions, tuple(problems), tuple(notes), look_alike=card is not None
    )


def _likelier(root: Path, name: SetName) -> Layout:
    """The form of which more is there."""
    return max(get_args(Layout), key=lambda layout: sum(part.there for part in parts_of(root, name, layout)))


def _card(root: Path) -> dict[str, Any] | None:
    try:
        found = read_json(root / CARD)
    except (OSError, ValueError):
        return None
    fine = isinstance(found, dict) and isinstance(found.get("size"), dict)
    return found if fine and isinstance(found["size"].get("streets"), int) else None


def _counts(found: LocalizationSet) -> dict[str, int]:
    counts = {MAP: len(found.mapping.records), QUERIES: len(found.query.records)}
    if found.known_query is not None:
        counts[TRAINING] = len(found.known_query.records)
    return counts


def _stated(card: dict[str, Any]) -> dict[str, int]:
    """Images of a look-alike, as its card counts them."""
    images = 1 if card.get("name") == "aachen-v1.1" else 3  # of a shot
    kinds = {MAP: "mapping", QUERIES: "queries", TRAINING: "training"}
    return {kind: images * sum(card["size"].get(key, {}).values()) for kind, key in kinds.items()}


def _other_counts(expected: dict[str, int], counts: dict[str, int]) -> list[str]:
    return [
        f"{counts.get(kind, 0)} {kind}, where the benchmark has {count}: it is not whole, or of another version"
        for kind, count in expected.items()
        if counts.get(kind, 0) != count
    ]


def _image_faults(found: LocalizationSet, say: Say | None) -> list[str]:
    """Images that are not there, that are none, and that are not of their camera's size."""
    scenes = {MAP: found.mapping, QUERIES: found.query}
    if found.known_query is not None:
        scenes[TRAINING] = found.known_query
    beat = Heartbeat(say, "looking at images", sum(len(scene.records) for scene in scenes.values()), first=3.0)
    faults = []
    for kind, scene in scenes.items():
        missing, unreadable, other = [], [], []
        for name in scene.names:
            beat.update()
            path, camera = scene.image_path(name), scene.camera(name)
            if not path.is_file():
                missing.append(name)
                continue
            try:
                size = stored_size(path)
            except ImageError as error:
                unreadable.append(f"{name!r}: {error}")
                continue
            if size != (camera.width, camera.height):
                other.append(f"{name!r} is {size[0]}x{size[1]}, its intrinsics are of {camera.width}x{camera.height}")
        if missing:
            faults.append(
                f"{len(missing)} of {len(scene.records)} {kind} are not there, first {scene.image_path(missing[0])}"
                + _where_from(found)
            )
        if unreadable:
            faults.append(f"{len(unreadable)} of {len(scene.records)} {kind} cannot be read, first {unreadable[0]}")
        if other:
            faults.append(f"{len(other)} of {len(scene.records)} {kind} are of another size, first {other[0]}")
    return faults


def _where_from(found: LocalizationSet) -> str:
    if found.name == "robotcar-v1" and found.layout == "kapture":
        return "; its archives have no images: link sensors/records_data to those of RobotCar_Seasons-v2"
    return ""


def _notes(root: Path, parts: tuple[SetPart, ...], name: SetName) -> Iterator[str]:
    packed = {path.name: path for folder in (root, root / "images") for path in sorted(folder.glob("*.*"))}
    for part in parts:
        archive = part.source.rpartition("/")[2]
        if not part.there and archive in packed:
            yield f"{part.name} is in {packed[archive]}; unpack it"
    if name != "aachen-v1.1" and any(part.there for part in parts):
        places = [
            path for pattern in ("ins.csv", "gps/ins.csv", "*/gps/ins.csv") for path in sorted(root.glob(pattern))
        ]
        yield (
            f"INS positions: {places[0].relative_to(root)}"
            if places
            else "INS positions: none; they are of the original RobotCar dataset, and no pose is found by them"
        )


def _shown(parts: tuple[SetPart, ...]) -> list[str]:
    lines = []
    for there, word in ((True, "there"), (False, "missing")):
        chosen = [part for part in parts if part.there == there]
        for part in chosen[:SHOWN]:
            optional = "" if part.needed else ", optional"
            lines.append(f"{word:8} {part.name}: {part.purpose}{optional}" + ("" if there else f", from {part.source}"))
        if len(chosen) > SHOWN:
            others = ", ".join(part.name for part in chosen[SHOWN:])
            lines.append(f"{word:8} {others}")
    return lines


def _summary(report: SetReport) -> str:
    parts, problems = len(report.missing), len(report.problems)
    words = [f"{parts} part{'s' * (parts != 1)} missing"] * bool(parts) + [f"{problems} wrong"] * bool(problems)
    return ", ".join(words)
