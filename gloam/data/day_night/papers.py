"""Where the papers took their day and night photographs from: the layouts of four public datasets."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from gloam.data.day_night.read import Paired, Unpaired, as_item, files_below, read_day_night, refuse_overlap
from gloam.data.sources import ImageItem
from gloam.data.text import finite, listed_name, text_lines
from gloam.errors import DataError

NIGHT_SHARE = 0.9  # the thesis: night where the attribute is above this
ROBOTCAR_DAY = ("sun", "snow", "rain", "dawn", "dusk")  # the thesis; overcast is not among them
ROBOTCAR_NIGHT = ("night", "night-rain")
ROBOTCAR_CAMERA = "rear"
AACHEN_DAY = ("db_with_intrinsics.txt", "day_time_queries_with_intrinsics.txt")
AACHEN_NIGHT = ("night_time_queries_with_intrinsics.txt",)
CID = re.compile(r"[0-9a-f]{32}")


def read_transient(root: str | Path, above: float = NIGHT_SHARE) -> Paired:
    """Transient Attributes: every night image with every other image of the same webcam.

    Night images have the attribute ``night`` above ``above``; the others of a webcam are its day, as in the thesis.

    Args:
        root: holds ``annotations/annotations.tsv`` and ``annotations/attributes.txt`` (or both files directly), and
            the images in ``imageAlignedLD/``.

    Raises:
        DataError: files are absent or malformed (line and reason), or no webcam has both.
    """
    place = Path(root)
    notes = place / "annotations" if (place / "annotations").is_dir() else place
    images = place / "imageAlignedLD" if (place / "imageAlignedLD").is_dir() else place
    attributes = [name for _, name in text_lines(notes / "attributes.txt")]
    if "night" not in attributes:
        raise DataError(f"{notes / 'attributes.txt'}: has no line 'night'")
    webcams: dict[str, tuple[list[ImageItem], list[ImageItem]]] = {}
    rows: dict[Path, str] = {}
    left_out: dict[str, int] = {}
    table = notes / "annotations.tsv"
    for number, line in text_lines(table):
        name, *cells = line.split("\t")
        if len(cells) != len(attributes):
            raise DataError(f"{table}:{number}: {len(cells)} attributes after the name; expected {len(attributes)}")
        try:
            share = {attributes[i]: finite(cells[i].split(",")[0]) for i in range(len(cells))}
        except ValueError:
            raise DataError(f"{table}:{number}: an attribute is not a number; expected 'value,confidence'") from None
        day, night = webcams.setdefault(name.split("/")[0], ([], []))
        item = as_item(name, images)
        rows[item.path] = f"{table.name}:{number}"
        (night if share["night"] > above else day).append(item)
    alone = sum(len(day) + len(night) for day, night in webcams.values() if not (day and night))
    if alone:
        left_out["of a webcam without the other domain"] = alone
    pairs = tuple(itertools.chain.from_iterable(itertools.product(day, night) for day, night in webcams.values()))
    if not pairs:
        raise DataError(f"{table}: no webcam has images with night above {above} and others")
    return Paired(pairs, rows, left_out)


def read_aachen(root: str | Path, day: str | None = None, night: str | None = None) -> Unpaired:
    """Aachen Day-Night: day is the mapping images and the day queries, night the night queries.

    Args:
        root: holds ``db/`` and ``query/``, or ``images_upright/`` with these.
        day, night: lists of names; by default ``*_with_intrinsics.txt`` in or below ``root`` where they are, else all
            files of ``db/`` and ``query/day/``, and of ``query/night/``.

    Raises:
        DataError: no images, or a list that cannot be read.
    """
    place = Path(root)
    images = place / "images_upright" if (place / "images_upright").is_dir() else place
    rows: dict[Path, str] = {}
    left_out: dict[str, int] = {}
    found = []
    for given, names, folders in (
        (day, AACHEN_DAY, ("db", "query/day")),
        (night, AACHEN_NIGHT, ("query/night",)),
    ):
        lists = [Path(given)] if given else [path for name in names if (path := _first_file(place, name)) is not None]
        items: dict[Path, ImageItem] = {}
        for path in lists:
            for number, line in text_lines(path):
                item = as_item(listed_name(line), images)
                items[item.path] = item
                rows.setdefault(item.path, f"{path.name}:{number}")
        if not lists:
            present = [folder for folder in folders if (images / folder).is_dir()]
            for folder in present:
                named = [as_item(f"{folder}/{name}", images) for name in files_below(images / folder, left_out)]
                items.update({item.path: item for item in named})
        if not items:
            raise DataError(f"{images}: no images in {' or '.join(folders)}, and no list that names them")
        found.append(tuple(items.values()))
    refuse_overlap(found[0], found[1], rows)
    return Unpaired(found[0], found[1], rows, left_out)


def read_robotcar(root: str | Path, camera: str = ROBOTCAR_CAMERA) -> Unpaired:
    """RobotCar Seasons, rear camera: day is sun, snow, rain, dawn and dusk; night is night and night-rain.

    Args:
        root: holds a folder per condition with a folder per camera, or ``images/`` with these.

    Raises:
        DataError: no images of one of the domains.
    """
    place = Path(root) / "images" if (Path(root) / "images").is_dir() else Path(root)
    left_out: dict[str, int] = {}
    found = []
    for conditions in (ROBOTCAR_DAY, ROBOTCAR_NIGHT):
        present = [f"{name}/{camera}" for name in conditions if (place / name / camera).is_dir()]
        names = [f"{folder}/{name}" for folder in present for name in files_below(place / folder, left_out)]
        items = [as_item(name, place) for name in names]
        if not items:
            raise DataError(f"{place}: no images in any of {', '.join(f'{name}/{camera}/' for name in conditions)}")
        found.append(tuple(items))
    return Unpaired(found[0], found[1], left_out=left_out)


def read_sfm(day: str | Path, night: str | Path, root: str | Path) -> Unpaired:
    """Retrieval-SfM's ``train_day.txt`` and ``train_night.txt``: one image a line.

    A line is an image's id (32 hexadecimal digits, stored as ``last2/previous2/previous2/id``) or its path below
    ``root``, which is the folder ``ims``.

    Raises:
        DataError: a list that cannot be read or is empty, or an image in both.
    """
    if not Path(root).is_dir():
        raise DataError(f"{root}: no such folder of images")
    found = read_day_night(day, night, root)
    rows = {by_id(path): where for path, where in found.rows.items()}
    moved = [
        tuple(ImageItem(item.name, by_id(item.path), item.problem) for item in items)
        for items in (found.day, found.night)
    ]
    return Unpaired(moved[0], moved[1], rows, found.left_out)


def by_id(path: Path) -> Path:
    """Where Retrieval-SfM keeps the image that a bare id names; other paths stay as they are."""
    if not CID.fullmatch(path.name) or path.exists():
        return path
    name = path.name
    stored = Path(name[-2:]) / name[-4:-2] / name[-6:-4]
    return path if path.parts[-4:-1] == stored.parts else path.parent / stored / name


def _first_file(root: Path, name: str) -> Path | None:
    direct = root / name
    return direct if direct.is_file() else next(iter(sorted(root.rglob(name))), None)
