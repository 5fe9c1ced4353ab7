"""Drives on disk: a folder for each part and domain, a table of positions, and files of weak pairs."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gloam.data.town.contact_sheet import write_sheet
from gloam.data.town.dataset import CHECKSUMS, claim_folder, default_workers, is_whole, read_sums, write_jpeg
from gloam.data.town.drives.config import LOOK, PARTS, DrivesConfig
from gloam.data.town.drives.poses import DriveShot, plan_drives
from gloam.data.town.look2.street import NightStreet
from gloam.data.town.processes import in_processes, watching
from gloam.data.town.street import pinhole
from gloam.data.weak_pairs.matching import match
from gloam.data.weak_pairs.pair_file import Listed, write_pair_file
from gloam.data.weak_pairs.positions import of_yaw
from gloam.errors import UsageError
from gloam.files import sealed_json, sha256_file, write_text, write_where_changed
from gloam.heartbeat import progress_bar

CARD, POSITIONS, PAIRS, TEST_PAIRS = "town.json", "positions.csv", "pairs.json", "test.json"
SHOWN = 5  # damaged images that the report names, and rows of the contact sheet


@dataclass(frozen=True)
class DrivesRequest:
    """What to render.

    Attributes:
        out: folder to write; drives that were begun there are finished.
        config: the drives.
        workers: rendering processes; 0 is one per core.
        contact_sheet: picture to write, places down and domains across, or None.

    Raises:
        UsageError: a negative number of processes.
    """

    out: Path
    config: DrivesConfig = field(default_factory=DrivesConfig)
    workers: int = 0
    contact_sheet: Path | None = None

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UsageError(f"--workers {self.workers}: must be 0 or more")


@dataclass(frozen=True)
class Drives:
    """Drives on the disk.

    Attributes:
        folder, config: of the drives.
        images, pairs: how many, by part.
        pair_files: ``pairs.json``, whose part ``train`` is of the training streets and ``test``, what training holds
            out, of the validation streets; ``test.json``, of the test streets alone. Those without pairs are not there.
        rendered, reused: images that were rendered now, and that were there already.
        damaged: names of images that were there, but not as they were rendered; they were rendered again.
        seconds: of it all.
    """

    folder: Path
    config: DrivesConfig
    images: dict[str, int]
    pairs: dict[str, int]
    pair_files: tuple[Path, ...]
    rendered: int
    reused: int
    damaged: tuple[str, ...]
    seconds: float

    @property
    def positions(self) -> Path:
        """Table of all images: where they are, which way they look, domain and part; ``gloam pair`` reads it."""
        return self.folder / POSITIONS

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "folder": str(self.folder),
            "look": LOOK,
            "content_hash": self.config.content_hash(),
            "domains": list(self.config.domains),
            "images": self.images,
            "pairs": self.pairs,
            "positions": str(self.positions),
            "pair_files": list(map(str, self.pair_files)),
            "rendered": self.rendered,
            "reused": self.reused,
            "damaged": list(self.damaged),
            "seconds": round(self.seconds, 2),
        }

    def __str__(self) -> str:
        """Lines for people."""
        parts = (f"{part}: {self.images[part]} images, {self.pairs[part]} pairs" for part in self.images)
        return (
            f"{self.folder}: {len(self.config.domains)} domains, {'; '.join(parts)}\n"
            f"{', '.join(map(str, (*self.pair_files, self.positions)))}: "
            f"{self.rendered} rendered, {self.reused} reused, {self.seconds:.1f} s"
            + (f"\ndamaged, rendered again: {', '.join(self.damaged[:SHOWN])}" if self.damaged else "")
        )


def write_drives(request: DrivesRequest, progress: bool = False) -> Drives:
    """Render drives, or finish what was begun, and pair them.

    Args:
        request: what to render.
        progress: say how far it is, on stderr.

    Raises:
        StoreError: the folder holds something else, or cannot be written.
        UsageError: the config gives no drives.
    """
    started = time.perf_counter()
    root, config = request.out, request.config
    shots = plan_drives(config)
    claim_folder(root, {"config": config.as_json(), "look": LOOK, "content_hash": config.content_hash()}, LOOK)
    sums = read_sums(root)
    missing = [shot for shot in shots if not is_whole(root, root / shot.name, sums)]
    damaged = tuple(shot.name for shot in missing if (root / shot.name).is_file())
    render = functools.partial(_render, root, config)
    streets = [list(group) for _, group in itertools.groupby(missing, lambda shot: shot.street)]
    workers = request.workers or default_workers()
    with progress_bar(len(missing), "rendering", "photographs", shown=progress) as bar:
        if workers <= 1 or len(streets) < 2:
            for street in streets:
                render(street)
                bar.update(len(street))
        else:
            seen = watching([root / shot.name for shot in missing], bar.update)
            for _ in in_processes(render, streets, workers, root, seen):
                pass
    stated = {shot.name: sha256_file(root / shot.name) for shot in shots}
    write_where_changed(root / CHECKSUMS, sealed_json(stated))
    rows = [f"{s.name},{s.domain},{s.part},{s.street},{s.x},{s.y},{s.yaw}" for s in shots]
    write_text(root / POSITIONS, "\n".join(["image,domain,part,street,x,y,yaw", *rows]) + "\n")
    files, pairs = _write_pairs(root, config, shots)
    if request.contact_sheet is not None:
        shown = _shown(root, config, shots)
        labels = [str(row[0].relative_to(root)) for row in shown]
        write_sheet(request.contact_sheet, shown, config.domains, labels, (config.width, config.height))
    images = {part: sum(shot.part == part for shot in shots) for part in PARTS if getattr(config, part)}
    reused, seconds = len(shots) - len(missing), time.perf_counter() - started
    return Drives(root, config, images, pairs, files, len(missing), reused, damaged, seconds)


def _render(root: Path, config: DrivesConfig, shots: Sequence[DriveShot]) -> None:
    """Photographs of one street."""
    texels = min(64, max(8, config.width // 8))
    street = NightStreet(shots[0].street, config.length, texels, config.optics)
    camera = pinhole(config.width, config.height, config.focal or None)
    for (domain, way), group in itertools.groupby(shots, lambda shot: (shot.domain, shot.way)):
        visit = f"drive {way}"
        street.open_visit(domain, visit, traffic=1 if way == "there" else -1)  # on the lane that the camera is not on
        for shot in group:
            view = street.render(shot.pose, domain, camera, shot.seed, visit)
            write_jpeg(root / shot.name, view.image, config.jpeg_quality)
        street.close_visits()


def _write_pairs(
    root: Path, config: DrivesConfig, shots: Sequence[DriveShot]
) -> tuple[tuple[Path, ...], dict[str, int]]:
    """The pair files, and how many pairs each part has."""
    found = {part: _pairs_of(config, shots, part) for part in PARTS if getattr(config, part)}
    files = []
    for name, parts in ((PAIRS, {"train": "train", "val": "test"}), (TEST_PAIRS, {"test": "test"})):
        rows = [row for row, shot in enumerate(shots) if shot.part in parts]
        place = {row: index for index, row in enumerate(rows)}
        pairs = [(place[a], place[b], metres, turn) for part in parts for a, b, metres, turn in found.get(part, [])]
        if not pairs:
            continue
        listed = Listed(
            {domain: {} for domain in config.domains},
            [root / shots[row].name for row in rows],
            [config.domains.index(shots[row].domain) for row in rows],
            [parts[shots[row].part] for row in rows],
            [(shots[row].x, shots[row].y, 0.0) for row in rows],
            pairs,
            {"frame": "x, y", "distance": config.distance, "heading": config.heading, "rule": "mutual"},
        )
        write_pair_file(root / name, listed)
        files.append(root / name)
    return tuple(files), {part: len(pairs) for part, pairs in found.items()}


def _pairs_of(config: DrivesConfig, shots: Sequence[DriveShot], part: str) -> list[tuple[int, int, float, float]]:
    """Mutually nearest images of every two domains in a part, as ``gloam pair`` finds them."""
    centers = np.array([(shot.x, shot.y, 0.0) for shot in shots])
    directions = of_yaw(np.radians([shot.yaw for shot in shots]))
    of_part = [
        np.array([row for row, s in enumerate(shots) if (s.part, s.domain) == (part, domain)], np.int64)
        for domain in config.domains
    ]
    found: list[tuple[int, int, float, float]] = []
    for first, second in itertools.combinations(of_part, 2):
        one, other = ((centers[rows], directions[rows]) for rows in (first, second))
        a, b, metres, degrees = match(one, other, config.distance, config.heading)
        found += zip(first[a].tolist(), second[b].tolist(), metres.tolist(), degrees.tolist(), strict=True)
    return found


def _shown(root: Path, config: DrivesConfig, shots: Sequence[DriveShot]) -> list[list[Path]]:
    """Images of some places, a row each, domains across."""
    places = [shot.name for shot in shots if shot.domain == config.domains[0]]
    chosen = np.linspace(0, len(places) - 1, min(SHOWN, len(places))).round().astype(int)
    head = f"/{config.domains[0]}/"
    return [[root / places[row].replace(head, f"/{domain}/", 1) for domain in config.domains] for row in chosen]
