"""Day and night images for translators: unpaired or paired, from folders, lists and tables, and their check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from gloam.data.images import decode_image, header_size
from gloam.data.sources import ImageItem
from gloam.data.sources.files import count, local_files
from gloam.data.sources.items import NO_IMAGE, is_beside
from gloam.data.text import listed_name, plain_name, table_rows, text_lines
from gloam.errors import DataError, ImageError
from gloam.files import bad_name

FOLDER_NAMES = (("trainA", "trainB"), ("day", "night"))  # CycleGAN's layout (A is day), and plain words
SHOWN = 5  # bad rows that a message names


@dataclass(frozen=True)
class Unpaired:
    """Images of two domains that do not belong together.

    Attributes:
        day, night: the images, in a fixed order.
        rows: of images that a file lists, by path: ``list.txt:12``; for messages.
        left_out: how much of the folders is not used, by the reason.
    """

    day: tuple[ImageItem, ...]
    night: tuple[ImageItem, ...]
    rows: Mapping[Path, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Paired:
    """Pairs of a day and a night image of the same view.

    Attributes:
        pairs: (day, night), in a fixed order; an image may be in several.
        rows, left_out: as in :class:`Unpaired`.
    """

    pairs: tuple[tuple[ImageItem, ImageItem], ...]
    rows: Mapping[Path, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def unpaired(self) -> Unpaired:
        """Every image once."""
        day, night = ({pair[side].path: pair[side] for pair in self.pairs} for side in (0, 1))
        return Unpaired(tuple(day.values()), tuple(night.values()), self.rows, self.left_out)


def read_folders(
    root: str | Path,
    groups: Sequence[str] = (),
    words: Sequence[tuple[str, str]] = FOLDER_NAMES,
    beside: Sequence[str] = (),
) -> Unpaired:
    """Images below folders called ``trainA``/``trainB`` or ``day``/``night``, at any depth.

    Args:
        root: e.g. the parent of ``day`` and ``night``, or of cameras that hold both.
        groups: folders directly below ``root`` to use, e.g. cameras; all where empty.
        words: names of the two domains' folders, in place of the usual ones; the first that are there count.
        beside: names of folders whose images are used elsewhere.

    Raises:
        DataError: no such folder or group, or no images of one of the domains.
    """
    place = Path(root)
    left_out: dict[str, int] = {}
    names = files_below(place, left_out)
    if groups:
        known = {name.split("/")[0] for name in names}
        for group in groups:
            if group not in known:
                raise DataError(f"{place}: has no folder {group!r} with images; there are {', '.join(sorted(known))}")
        names = [name for name in names if name.split("/")[0] in groups]
    names = [name for name in names if not {*beside} & {*name.split("/")[:-1]}]
    for pair in words:
        day, night = (tuple(as_item(n, place) for n in names if word in n.split("/")[:-1]) for word in pair)
        if day and night:
            if elsewhere := len(names) - len(day) - len(night):
                left_out[f"in no folder {pair[0]}/ or {pair[1]}/"] = elsewhere
            return Unpaired(day, night, left_out=left_out)
    wanted = " or ".join("/ and ".join(pair) + "/" for pair in words)
    raise DataError(f"{place}: no images of both domains; expected folders {wanted}")


def read_day_night(day: str | Path, night: str | Path, root: str | Path | None = None) -> Unpaired:
    """One folder, or one text list, for each domain.

    Args:
        day, night: a folder (searched below) or a text file with one image a line, as :mod:`gloam.data.text` reads
            it, so that lists with intrinsics serve too.
        root: folder that the lists' names are relative to; the list's own by default.

    Raises:
        DataError: unreadable or empty, or an image that is in both.
    """
    found = []
    rows: dict[Path, str] = {}
    left_out: dict[str, int] = {}
    for source in (Path(day), Path(night)):
        if source.is_dir():
            items = [as_item(name, source) for name in files_below(source, left_out)]
        else:
            items = read_list(source, Path(root) if root is not None else source.parent, rows)
        if not items:
            raise DataError(f"{source}: no images found")
        found.append(tuple(items))
    refuse_overlap(found[0], found[1], rows)
    return Unpaired(found[0], found[1], rows, left_out)


def read_list(path: Path, root: Path, rows: dict[Path, str]) -> list[ImageItem]:
    """The images of a text list, each once; their lines are added to ``rows``.

    Raises:
        DataError: unreadable.
    """
    items: dict[Path, ImageItem] = {}
    for number, line in text_lines(path):
        item = as_item(listed_name(line), root)
        if item.path not in items:
            items[item.path] = item
            rows[item.path] = f"{path.name}:{number}"
    return list(items.values())


def read_paired_folders(root: str | Path) -> Paired:
    """Pairs of equal relative names, whatever their extensions, below ``trainA``/``trainB`` or ``day``/``night``.

    Raises:
        DataError: the folders are absent, or an image has no partner (the first are named).
    """
    place = Path(root)
    for words in FOLDER_NAMES:
        if all((place / word).is_dir() for word in words):
            break
    else:
        wanted = " or ".join("/ and ".join(words) + "/" for words in FOLDER_NAMES)
        raise DataError(f"{place}: no folders of pairs; expected {wanted}")
    left_out: dict[str, int] = {}
    stems: list[dict[str, str]] = []
    for word in words:
        stems.append({})
        for name in files_below(place / word, left_out):
            stem = name.rpartition(".")[0] or name
            if stem in stems[-1]:
                raise DataError(f"{place / word}: {stems[-1][stem]} and {name} have the same stem; remove one")
            stems[-1][stem] = name
    alone = [f"{words[0]}/{stems[0][stem]}" for stem in stems[0] if stem not in stems[1]]
    alone += [f"{words[1]}/{stems[1][stem]}" for stem in stems[1] if stem not in stems[0]]
    if alone:
        raise DataError(f"{place}: {len(alone)} images have no partner: {', '.join(alone[:SHOWN])}")
    if not stems[0]:
        raise DataError(f"{place}: no images found")
    first, second = place / words[0], place / words[1]
    pairs = tuple((as_item(stems[0][s], first), as_item(stems[1][s], second)) for s in sorted(stems[0]))
    return Paired(pairs, left_out=left_out)


def read_paired_csv(path: str | Path, root: str | Path | None = None) -> Paired:
    """Pairs from a CSV table with the columns ``day`` and ``night``; other columns are left out.

    Args:
        root: folder that the names are relative to; the table's own by default.

    Raises:
        DataError: unreadable, without these columns, or with empty or unsafe names; the first bad rows are named.
    """
    place = Path(path)
    base = Path(root) if root is not None else place.parent
    columns, lines = table_rows(place, "the table of pairs", notes=True)
    if missing := {"day", "night"} - set(columns):
        raise DataError(f"{place}:1: no column {sorted(missing)[0]!r}; the first line names the columns")
    table = [(line, plain_name(row["day"]), plain_name(row["night"])) for line, row in lines]
    bad = [f"{n}: {name!r} {bad_name(name)}" for n, *names in table for name in names if bad_name(name)]
    if bad:
        raise DataError(f"{place}: {len(bad)} bad names: line {'; line '.join(bad[:SHOWN])}")
    if not table:
        raise DataError(f"{place}: holds no pairs")
    rows: dict[Path, str] = {}
    for number, *names in table:
        for name in names:
            rows.setdefault(base / name, f"{place.name}:{number}")
    return Paired(tuple((as_item(day, base), as_item(night, base)) for _, day, night in table), rows)


@overload
def without_small(found: Unpaired, side: int) -> Unpaired: ...
@overload
def without_small(found: Paired, side: int) -> Paired: ...
def without_small(found: Unpaired | Paired, side: int) -> Unpaired | Paired:
    """Without the images that have a side under ``side`` pixels, and without the pairs of these; they are counted.

    Those whose size cannot be read stay, for :func:`check_images` to name.
    """
    left_out = dict(found.left_out)
    seen: dict[Path, bool] = {}

    def kept(item: ImageItem) -> bool:
        if item.path not in seen:
            try:
                seen[item.path] = item.problem is not None or min(header_size(item.path)) >= side
            except ImageError:
                seen[item.path] = True
            if not seen[item.path]:
                count(left_out, f"with a side under {side} px")
        return seen[item.path]

    if isinstance(found, Paired):
        pairs = tuple((day, night) for day, night in found.pairs if kept(day) & kept(night))  # both are counted
        return Paired(pairs, found.rows, left_out)
    days, nights = (tuple(item for item in items if kept(item)) for items in (found.day, found.night))
    return Unpaired(days, nights, found.rows, left_out)


def check_images(
    items: Iterable[ImageItem],
    rows: Mapping[Path, str] | None = None,
    *,
    least_side: int = 1,
    max_side: int | None = None,
    decode: bool = True,
) -> None:
    """Make sure that every image can be used, before hours of training.

    Args:
        rows: where a list names an image, by path.
        least_side: the shorter side that the training's crops need, pixels.
        max_side: the longer side that images are reduced to before they are cropped; None keeps them as they are.
        decode: unpack every image; else only its header is read, which is quick and misses truncated files.

    Raises:
        DataError: naming the first bad rows or files, each with its reason, and how many there are.
    """
    bad = []
    for item in items:
        reason = item.problem or image_problem(item.path, least_side, max_side, decode)
        if reason:
            where = (rows or {}).get(item.path)
            bad.append(f"{where + ': ' if where else ''}{item.name}: {reason}")
    if bad:
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise DataError(f"{len(bad)} images cannot be used: {'; '.join(bad[:SHOWN])}{more}")


def image_problem(path: Path, least_side: int, max_side: int | None, decode: bool) -> str | None:
    """Why an image cannot be used, or None; arguments as in :func:`check_images`."""
    try:
        height, width = decode_image(path).shape[:2] if decode else header_size(path)[::-1]
    except ImageError as error:
        return str(error)
    factor = 1.0 if max_side is None else min(1.0, max_side / max(width, height))
    width, height = round(width * factor), round(height * factor)
    if min(width, height) < least_side:
        return f"{width}x{height}: the crop needs a shorter side of {least_side} px"
    return None


def refuse_overlap(day: Sequence[ImageItem], night: Sequence[ImageItem], rows: Mapping[Path, str]) -> None:
    """Refuse an image that is in both domains.

    Raises:
        DataError: naming the first.
    """
    both = {item.path for item in day} & {item.path for item in night}
    for item in night:
        if item.path in both:
            where = rows.get(item.path, str(item.path))
            raise DataError(f"{where}: {item.name} is in both domains ({len(both)} such images); remove it from one")


def files_below(folder: Path, left_out: dict[str, int]) -> list[str]:
    """Relative posix names of the files below a folder and what it links to, sorted; hidden ones are left out, and
    those that are no images by their name.

    Args:
        left_out: where the number of those that are left out is added, but for hidden ones, by the reason.

    Raises:
        DataError: no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    try:
        names = []
        for name in local_files.below(str(folder), left_out):
            if is_beside(name):
                count(left_out, NO_IMAGE)
            else:
                names.append(name)
        return names
    except OSError as error:
        raise DataError(f"{error.filename}: the folder cannot be read ({error.strerror})") from error


def as_item(name: str, root: Path) -> ImageItem:
    """An image by its name below ``root``; a name that leaves ``root`` is kept as a problem."""
    problem = bad_name(name)
    return ImageItem(name, root / name, f"name {problem}" if problem else None)
