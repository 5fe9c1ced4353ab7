"""Inputs that became other than those of the run before: replaced, repaired, exchanged, gone, new, turned, resized."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.shared.faults.stored import Fault
from benchmarks.shared.faults.workspace import picture, write_picture
from benchmarks.shared.tiny import parquet_of, tar_of

Change = Callable[[Path, np.random.Generator], Sequence[str]]  # of a folder of pictures; names that it is about
GROW = ("--grow",)
ORIENTATION = 0x0112


def replaced(folder: Path, rng: np.random.Generator) -> Sequence[str]:
    """Another picture under the name of one."""
    name = f"p{rng.choice([1, 2, 4, 5, 7])}.png"
    write_picture(folder / name, int(rng.integers(300, 400)))
    return (name,)


def dated_back(folder: Path, rng: np.random.Generator) -> Sequence[str]:
    """Another picture, of the same number of bytes and with the time of the one before."""
    path = folder / "p1.png"
    before = path.stat()
    content = Image.fromarray(picture(int(rng.integers(300, 400)), (32, 24)))
    content.save(path)
    with path.open("ab") as handle:
        handle.write(bytes(before.st_size - path.stat().st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return (path.name,)


def repaired(folder: Path, rng: np.random.Generator) -> Sequence[str]:
    """The picture that did not decode is whole."""
    write_picture(folder / "p8.png", 8)
    return ("p8.png",)


def broken(folder: Path, rng: np.random.Generator) -> Sequence[str]:
    """A picture loses its end."""
    path = folder / f"p{rng.choice([1, 2, 4, 5])}.png"
    path.write_bytes(path.read_bytes()[: int(rng.integers(20, 2000))])
    return (path.name,)


def exchanged(folder: Path, rng: np.random.Generator) -> Sequence[str]:
    """Two names exchanged; the files keep their times and numbers."""
    first, second = (folder / f"p{number}.png" for number in rng.choice([1, 2, 4, 5, 7], 2, replace=False))
    first.rename(folder / "between")
    second.rename(first)
    (folder / "between").rename(second)
    return (first.name, second.name)


def turned(folder: Path, rng: np.random.Generator) -> Sequence[str]:
    """A tag says that the picture is to be turned; its pixels stay."""
    path = folder / f"p{rng.choice([0, 3, 6])}.jpg"
    _tag(path, int(rng.choice([3, 6, 8])))
    return (path.name,)


def resized(folder: Path, rng: np.random.Generator) -> Sequence[str]:
    """The same picture, smaller."""
    path = folder / "p2.png"
    Image.open(path).resize((60, 40)).save(path)
    return (path.name,)


def removed(folder: Path, rng: np.random.Generator) -> Sequence[str]:
    """A picture is gone."""
    name = f"p{rng.choice([1, 2, 4, 5])}.png"
    (folder / name).unlink()
    return (name,)


def added(folder: Path, rng: np.random.Generator) -> Sequence[str]:
    """A new picture, in the middle of the order."""
    write_picture(folder / "p15.png", int(rng.integers(300, 400)))
    return ("p15.png",)


def renamed(folder: Path, rng: np.random.Generator) -> Sequence[str]:
    """A picture under a new name."""
    (folder / "p1.png").rename(folder / "p9.png")
    return ("p1.png", "p9.png")


def _tag(path: Path, orientation: int) -> None:
    image = Image.open(path)
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    image.save(path, exif=exif, quality=95)


SAME_NAMES: tuple[Change, ...] = (replaced, repaired, broken, exchanged, turned, resized)
OTHER_NAMES: tuple[Change, ...] = (removed, added, renamed)
FOLDERS = ("extract", "extract --verify-sources", "translate", "translate --verify-sources", "translate --tar")
SOURCES = {"extract tar": "tars/images.tar", "extract table": "tables/images.parquet"}


def input_faults() -> Iterator[Fault]:
    """Every one."""
    for scenario in FOLDERS:
        for change in (*SAME_NAMES, dated_back):
            yield Fault("stale input", _words(change), scenario, _in_folder(change), "fresh")
    for scenario, path in SOURCES.items():
        for change in SAME_NAMES:
            yield Fault("stale input", _words(change), scenario, _packed(change, path), "fresh")
        for change in OTHER_NAMES:
            yield Fault("other images", _words(change), scenario, _packed(change, path, GROW), "named")
            yield Fault("other images", _words(change), f"{scenario} --grow", _packed(change, path), "fresh")
    for scenario in ("extract", "translate", "translate --tar"):
        for change in OTHER_NAMES:
            yield Fault("other images", _words(change), scenario, _in_folder(change, GROW), "named")
            yield Fault("other images", _words(change), f"{scenario} --grow", _in_folder(change), "fresh")
    yield Fault("other images", "list in another order", "extract list", _reordered(GROW), "named")
    yield Fault("other images", "list in another order", "extract list --grow", _reordered(), "fresh")
    for change in (replaced, turned, resized):
        yield Fault("stale input", f"map: {_words(change)}", "asmk build", _in_folder(change), "fresh")
    yield from _place_faults()


def _words(change: Change) -> str:
    return (change.__doc__ or "").rstrip(".").lower()


def _in_folder(change: Change, marks: Sequence[str] = ()) -> Change:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        names = change(work / "images", rng)
        return marks or names

    return plant


def _packed(change: Change, path: str, marks: Sequence[str] = ()) -> Change:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        names = change(work / "images", rng)
        (tar_of if path.endswith(".tar") else parquet_of)(work / "images", work / path)
        return marks or names

    return plant


def _reordered(marks: Sequence[str] = ("list.txt",)) -> Change:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        lines = (work / "list.txt").read_text().splitlines()
        (work / "list.txt").write_text("\n".join(reversed(lines)) + "\n")
        return marks

    return plant


MAP = "town/mapping/sensors"
QUERY = "town/query/sensors"
PHOTO = f"{MAP}/records_data/mapping/cam0/000004.jpg"
ASKED = f"{QUERY}/records_data/day/cam0/100000.jpg"


def _place_faults() -> Iterator[Fault]:
    """Of what is localized, and of the map."""
    for path in (PHOTO, ASKED):
        yield Fault("stale input", f"another picture, {Path(path).name}", "localize", _photo(path, _other), "fresh")
        yield Fault("stale input", f"turned by a tag, {Path(path).name}", "localize", _photo(path, _turn), "fresh")
        yield Fault("not its camera's size", Path(path).name, "localize", _photo(path, _shrink), "named")
        yield Fault("gone", Path(path).name, "localize", _photo(path, Path.unlink), "named")
    edits: dict[str, tuple[str, Callable[[list[str]], list[str]]]] = {
        "a map pose turned": (f"{MAP}/trajectories.txt", lambda row: [*row[:2], *row[3:6], row[2], *row[6:]]),
        "a map pose moved": (f"{MAP}/trajectories.txt", lambda row: [*row[:-1], str(float(row[-1]) + 1.5)]),
        "another focal length of the map": (f"{MAP}/sensors.txt", _wider),
        "another focal length of the queries": (f"{QUERY}/sensors.txt", _wider),
    }
    for what, (path, edit) in edits.items():
        yield Fault("stale input", what, "localize", _edited(path, edit), "fresh")
    yield Fault(
        "stale input", "two map poses exchanged", "localize", _rows_exchanged(f"{MAP}/trajectories.txt"), "fresh"
    )
    yield Fault(
        "stale input",
        "two files of records exchanged",
        "localize",
        _rows_exchanged(f"{MAP}/records_camera.txt"),
        "fresh",
    )
    yield Fault("stale input", "a query less", "localize", _row_less(f"{QUERY}/records_camera.txt"), "fresh")
    yield Fault("stale input", "a map image less", "localize", _row_less(f"{MAP}/records_camera.txt"), "fresh")
    yield Fault("stale input", "pairs in another order", "localize", _row_less("places.txt", keep=True), "fresh")
    yield Fault("stale input", "half of the pairs", "localize", _row_less("places.txt"), "fresh")


def _wider(row: list[str]) -> list[str]:
    return [*row[:6], str(float(row[6]) * 1.1), str(float(row[7]) * 1.1), *row[8:]]


def _other(path: Path) -> None:
    Image.fromarray(picture(77, (192, 144))).save(path, quality=95)


def _turn(path: Path) -> None:
    _tag(path, 6)


def _shrink(path: Path) -> None:
    Image.open(path).resize((96, 72)).save(path, quality=95)


def _photo(path: str, change: Callable[[Path], None]) -> Change:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        change(work / path)
        return (Path(path).name,)

    return plant


def _lines(path: Path) -> tuple[list[str], list[str]]:
    lines = path.read_text().splitlines()
    return [line for line in lines if line.startswith("#")], [line for line in lines if not line.startswith("#")]


def _write(path: Path, head: Sequence[str], rows: Sequence[str]) -> None:
    path.write_text("\n".join([*head, *rows]) + "\n")


def _edited(path: str, edit: Callable[[list[str]], list[str]]) -> Change:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        head, rows = _lines(work / path)
        at = int(rng.integers(len(rows)))
        rows[at] = ", ".join(edit(rows[at].split(", ")))
        _write(work / path, head, rows)
        return (Path(path).name,)

    return plant


def _rows_exchanged(path: str) -> Change:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        head, rows = _lines(work / path)
        first, second = (rows[int(at)].split(", ") for at in rng.choice(len(rows), 2, replace=False))
        keys = {", ".join(row[:2]): row for row in (first, second)}
        swapped = dict(zip(keys, reversed(list(keys.values())), strict=True))
        rows = [
            ", ".join([key, *swapped[key][2:]]) if (key := ", ".join(row.split(", ")[:2])) in swapped else row
            for row in rows
        ]
        _write(work / path, head, rows)
        return (Path(path).name,)

    return plant


def _row_less(path: str, keep: bool = False) -> Change:
    def plant(work: Path, rng: np.random.Generator) -> Sequence[str]:
        head, rows = _lines(work / path)
        _write(work / path, head, rows[::-1] if keep else rows[1:] if "sensors" in path else rows[::2])
        return (Path(path).name, "places.txt")

    return plant
