"""The file of weak pairs: JSON, written by ``gloam pair`` or by hand, and a plain CSV table of them.

::

    {"format": "gloam weak pairs", "version": 1, "images_root": "photos", "frame": "UTM zone 30 north",
     "domains": [{"name": "night", "attributes": {}}, {"name": "snow", "attributes": {}}],
     "images": [["a.jpg", "night", "train", 620012.5, 5734987.1, 0.0], ...],
     "pairs": [["a.jpg", "night", "b.jpg", "snow", 1.25, 3.1, "train"], ...], ...}

A domain's label is its place in ``domains``. An image is a name relative to ``images_root`` (and that to the file), its
domain, its part (``train`` or ``test``) and its position. A pair is two images and their domains, metres and degrees
between them (null where unknown), and the part that both are of. ``images`` may be left out of a file that is written
by hand; other keys are notes. A line of white space behind the text seals what gloam has written.

A CSV table has the columns ``path_a``, ``domain_a``, ``path_b``, ``domain_b``, and perhaps ``dist_m``, ``dyaw_deg`` and
``part``; its names are relative to it, and its domains are in the order of their names.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gloam.data.day_night.read import as_item
from gloam.data.sources import ImageItem
from gloam.data.text import plain_name, table_rows
from gloam.data.weak_pairs.domains import expect_known
from gloam.errors import DataError, UsageError
from gloam.files import bad_name, read_sealed, sealed, write_text

FORMAT, VERSION = "gloam weak pairs", 1
COLUMNS = ("path_a", "domain_a", "path_b", "domain_b", "dist_m", "dyaw_deg", "part")
NEEDED = COLUMNS[:4]
USED = ("train", "test")
Row = tuple[str, Sequence[Any]]  # where it stands, and its values


class PairedImage(NamedTuple):
    """An image, the label of its domain, its part, and its position (metres) where one is known."""

    item: ImageItem
    label: int
    part: str
    position: tuple[float, float, float] | None


class WeakPair(NamedTuple):
    """Two images of different domains; metres and degrees between them, None where unknown."""

    first: PairedImage
    second: PairedImage
    distance: float | None
    angle: float | None


@dataclass(frozen=True)
class WeakPairs:
    """Pairs and all images, also those without a partner.

    Attributes:
        domains: names; a label is a place among them.
        attributes: of each domain.
        images: in the order of the file.
        pairs: in the order of the file.
    """

    domains: tuple[str, ...]
    attributes: tuple[Mapping[str, str], ...]
    images: tuple[PairedImage, ...]
    pairs: tuple[WeakPair, ...]


@dataclass(frozen=True)
class Listed:
    """What is written.

    Attributes:
        domains: attributes by name, in the order of the labels.
        paths, labels, parts, positions: of each image.
        pairs: rows of ``paths``, and metres and degrees between them; the latter NaN where unknown.
        notes: other keys of the file.
    """

    domains: Mapping[str, Mapping[str, str]]
    paths: Sequence[Path]
    labels: Sequence[int]
    parts: Sequence[str]
    positions: Sequence[Sequence[float]]
    pairs: Sequence[tuple[int, int, float, float]]
    notes: Mapping[str, Any] = field(default_factory=dict)


def write_pair_file(path: Path, listed: Listed) -> None:
    """Write pairs, sealed and atomically; names are relative to the folder that holds all the images.

    Raises:
        DataError: a name that a list cannot hold.
    """
    absolute = [Path(os.path.abspath(image)) for image in listed.paths]
    root = Path(os.path.commonpath([image.parent for image in absolute]))
    names = [image.relative_to(root).as_posix() for image in absolute]
    if bad := [f"{name!r} {reason}" for name in names if (reason := bad_name(name))]:
        raise DataError(f"{path}: {len(bad)} names cannot be listed, first {bad[0]}; rename the files")
    domains = list(listed.domains)
    owned = [domains[label] for label in listed.labels]
    images = [
        [name, domain, part, *(round(float(value), 3) for value in position)]
        for name, domain, part, position in zip(names, owned, listed.parts, listed.positions, strict=True)
    ]
    pairs = [
        [names[a], owned[a], names[b], owned[b], round(m, 4), None if math.isnan(d) else round(d, 4), listed.parts[a]]
        for a, b, m, d in listed.pairs
    ]
    head = {
        "format": FORMAT,
        "version": VERSION,
        "images_root": Path(os.path.relpath(root, os.path.abspath(path.parent))).as_posix(),
        "domains": [{"name": name, "attributes": dict(value)} for name, value in listed.domains.items()],
        **listed.notes,
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in head.items()]
    for key, rows in (("images", images), ("pairs", pairs)):
        lines.append(f'"{key}": [\n' + ",\n".join(json.dumps(row, allow_nan=False) for row in rows) + "\n]")
    write_text(path, sealed("{" + ",\n".join(lines) + "}"))


def read_pair_file(
    path: str | Path,
    part: str | None = None,
    domains: Sequence[str] = (),
    images: str | Path | None = None,
    *,
    check_files: bool = True,
) -> WeakPairs:
    """Read weak pairs.

    Args:
        path: the ``.json`` file or ``.csv`` table.
        part: ``train`` or ``test``; both where None.
        domains: the ones to keep, whose order is then that of the labels; all where empty.
        images: folder that names are relative to, in place of the file's own.
        check_files: refuse images that are not there.

    Raises:
        DataError: unreadable, damaged, or a row that is malformed, of an unknown domain, of one domain alone, there
            twice, or of an image that is not there; the row is named. No pairs of that part.
        UsageError: an unknown domain or part is asked for; the known ones are named.
    """
    file = Path(path)
    if part is not None and part not in USED:
        raise UsageError(f"unknown part {part!r} of weak pairs; choose {' or '.join(USED)}")
    if file.suffix == ".csv":
        content, rows = {}, list(_table(file))
        named: dict[str, Mapping[str, str]] = {
            name: {} for name in sorted({str(row[place]) for _, row in rows for place in (1, 3)})
        }
    else:
        content = _load(file)
        named = _domains(file, content)
        rows = list(_rows(file, content, "pairs"))
    root = Path(images) if images is not None else file.parent / str(content.get("images_root", "."))
    found = _Reader(named, root)
    for where, row in _rows(file, content, "images") if "images" in content else ():
        found.image(where, row)
    pairs = [found.pair(where, row, "images" in content) for where, row in rows]
    expect_known(domains, list(named), str(file))
    kept = list(domains or named)
    old = list(named)
    label = {old.index(name): place for place, name in enumerate(kept)}

    def wanted(image: PairedImage) -> bool:
        return image.label in label and part in (None, image.part)

    chosen = [pair for pair in pairs if wanted(pair.first) and wanted(pair.second)]
    if not chosen:
        of = (f" of part {part}" if part else "") + (f" of {', '.join(domains)}" if domains else "")
        raise DataError(f"{file}: holds no pairs{of}; pair the domains again")
    shown = {name: image._replace(label=label[image.label]) for name, image in found.known.items() if wanted(image)}
    if check_files:
        _expect_files(file, [image.item for image in shown.values()])
    return WeakPairs(
        tuple(kept),
        tuple(named[name] for name in kept),
        tuple(shown.values()),
        tuple(p._replace(first=shown[p.first.item.name], second=shown[p.second.item.name]) for p in chosen),
    )


class _Reader:
    """Images and pairs of one file, checked as they come."""

    def __init__(self, domains: Mapping[str, object], root: Path) -> None:
        self.labels = {name: place for place, name in enumerate(domains)}
        self.root = root
        self.known: dict[str, PairedImage] = {}
        self.seen: dict[frozenset[str], str] = {}

    def image(self, where: str, row: Sequence[Any]) -> None:
        if len(row) != 6:
            raise DataError(f"{where}: {len(row)} values; an image is name, domain, part, x, y, z")
        name = self._name(where, row[0])
        if name in self.known:
            raise DataError(f"{where}: image {name!r} is there already; remove one of the two")
        x, y, z = (_number(where, what, value) for what, value in zip(("x", "y", "z"), row[3:], strict=True))
        label = self._label(where, row[1])
        self.known[name] = PairedImage(as_item(name, self.root), label, _part(where, row[2]), (x, y, z))

    def pair(self, where: str, row: Sequence[Any], listed: bool) -> WeakPair:
        if len(row) != len(COLUMNS):
            raise DataError(f"{where}: {len(row)} values; a pair is {', '.join(COLUMNS)}")
        first, second = (self._of_pair(where, row[at], row[at + 1], row[6], listed) for at in (0, 2))
        if first.label == second.label:
            raise DataError(f"{where}: both images are of domain {row[1]!r}; a pair is of two domains")
        key = frozenset((first.item.name, second.item.name))
        if self.seen.setdefault(key, where) != where:
            raise DataError(f"{where}: the pair is there already, in {self.seen[key]}; remove one of the two")
        metres, degrees = (
            None if value is None else _number(where, what, value, most)
            for what, value, most in (("dist_m", row[4], math.inf), ("dyaw_deg", row[5], 180.0))
        )
        return WeakPair(first, second, metres, degrees)

    def _of_pair(self, where: str, name: Any, domain: Any, part: Any, listed: bool) -> PairedImage:
        name = self._name(where, name)
        if name not in self.known and not listed:
            item = as_item(name, self.root)
            self.known[name] = PairedImage(item, self._label(where, domain), _part(where, part), None)
        if name not in self.known:
            raise DataError(f"{where}: image {name!r} is not among the file's images")
        image = self.known[name]
        if image.label != self._label(where, domain):
            raise DataError(f"{where}: image {name!r} is of domain {domain!r} here and of another elsewhere")
        if image.part != _part(where, part):
            raise DataError(f"{where}: image {name!r} is of part {part!r} here and of {image.part!r} elsewhere")
        return image

    def _name(self, where: str, value: Any) -> str:
        name = plain_name(value) if isinstance(value, str) else ""
        if not isinstance(value, str) or (reason := bad_name(name)):
            raise DataError(f"{where}: image name {value!r} {reason if isinstance(value, str) else 'is no text'}")
        return name

    def _label(self, where: str, value: Any) -> int:
        if not isinstance(value, str) or value not in self.labels:
            raise DataError(f"{where}: unknown domain {value!r}; the file has {', '.join(self.labels)}")
        return self.labels[value]


def _load(path: Path) -> dict[str, Any]:
    try:
        content = read_sealed(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the pair file cannot be read ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path}: is no file of weak pairs; gloam pair writes one")
    if content.get("version") != VERSION:
        raise DataError(f"{path}: is of version {content.get('version')!r}; this gloam reads version {VERSION}")
    return content


def _domains(path: Path, content: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    stated = content.get("domains")
    found: dict[str, Mapping[str, str]] = {}
    for place, value in enumerate(stated if isinstance(stated, list) else []):
        where = f"{path}: domains[{place}]"
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(name, str) or not name:
            raise DataError(f"{where}: has no name; a domain is {{'name': ..., 'attributes': {{}}}}")
        if name in found:
            raise DataError(f"{where}: domain {name!r} is named twice; name each once")
        attributes = value.get("attributes", {})
        if not isinstance(attributes, dict) or not all(isinstance(item, str) for item in attributes.values()):
            raise DataError(f"{where}: attributes of {name!r} are no words by name")
        found[name] = attributes
    if len(found) < 2:
        raise DataError(f"{path}: has {len(found)} domains; pairs are of two at least")
    return found


def _rows(path: Path, content: Mapping[str, Any], key: str) -> Iterator[Row]:
    rows = content.get(key)
    if not isinstance(rows, list):
        raise DataError(f"{path}: {key!r} is missing or no list")
    for place, row in enumerate(rows):
        if not isinstance(row, list):
            raise DataError(f"{path}: {key}[{place}]: is no list of values")
        yield f"{path}: {key}[{place}]", row


def _table(path: Path) -> Iterator[Row]:
    columns, lines = table_rows(path, "the table of weak pairs")
    if missing := [name for name in NEEDED if name not in columns]:
        raise DataError(f"{path}:1: no column {missing[0]!r}; expected {','.join(NEEDED)}[,dist_m][,dyaw_deg][,part]")
    for line, cells in lines:
        row = {name: value.strip() for name, value in cells.items()}
        where = f"{path}:{line}"
        if empty := [name for name in NEEDED if not row[name]]:
            raise DataError(f"{where}: {empty[0]} is empty; name it, or leave the row out")
        numbers = [_cell(where, name, row.get(name, "")) for name in COLUMNS[4:6]]
        yield where, [*(row[name] for name in NEEDED), *numbers, row.get("part") or "train"]


def _cell(where: str, what: str, text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise DataError(f"{where}: {what} {text[:40]!r} is not a number") from None


def _number(where: str, what: str, value: Any, most: float | None = None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{where}: {what} {value!r} is not a finite number")
    if most is not None and not 0 <= value <= most:
        raise DataError(f"{where}: {what} {value:g} is {'below 0' if value < 0 else f'above {most:g}'}")
    return float(value)


def _part(where: str, value: Any) -> str:
    if value not in USED:
        raise DataError(f"{where}: part {value!r} is neither {' nor '.join(USED)}")
    return str(value)


def _expect_files(path: Path, items: Sequence[ImageItem]) -> None:
    missing = [item for item in items if not item.path.is_file()]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(items)} images are not there, first {missing[0].path}; put them back, or "
            "name their folder"
        )
