"""Weak pairs of a table of domains: read, split, matched, counted, and written as pair file and map."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from gloam.data.sources.items import counts_left_out
from gloam.data.weak_pairs.domains import DomainTable, chosen, read_domains, read_positions
from gloam.data.weak_pairs.map_picture import draw_map
from gloam.data.weak_pairs.matching import Rule, match
from gloam.data.weak_pairs.pair_file import Listed, write_pair_file
from gloam.data.weak_pairs.positions import SPACE, UTM, Positions, plane_axes
from gloam.data.weak_pairs.split import PARTS, Regions, block_regions, read_regions, split
from gloam.errors import DataError, UsageError
from gloam.files import expect_output
from gloam.record import to_json

Indices = npt.NDArray[np.int64]
Found = list[tuple[int, int, float, float]]  # two images, metres and degrees


@dataclass(frozen=True)
class PairRequest:
    """What to pair.

    Attributes:
        source: table of domains, see :func:`gloam.data.weak_pairs.domains.read_domains`.
        output: ``.json`` pair file to write; the map is written beside it as ``.png``.
        domains: the ones to pair, in this order; all where empty.
        distance: metres that the images of a pair are apart at most.
        heading: degrees between their directions at most; 180 asks for none.
        rule: see :func:`gloam.data.weak_pairs.matching.match`.
        test_regions: file of test regions, see :func:`gloam.data.weak_pairs.split.read_regions`.
        blocks: side of squares that are drawn as test regions instead, metres.
        test_share: of the images that the squares hold.
        seed: of the draw.
        gap: metres around test regions whose images are in no part.
        spacing: metres that a traversal's images are apart at least; 0 keeps all.
        ins_gap: seconds between two rows of the INS from which on nothing is known between them.
        extremes: share of a traversal's darkest and of its brightest images to leave out; every image is then decoded.
    """

    source: Path
    output: Path
    domains: tuple[str, ...] = ()
    distance: float = 3.0
    heading: float = 10.0
    rule: Rule = "mutual"
    test_regions: Path | None = None
    blocks: float | None = None
    test_share: float = 0.2
    seed: int = 0
    gap: float = 25.0
    spacing: float = 1.0
    ins_gap: float = 0.2
    extremes: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (
            ("distance", self.distance),
            ("heading", self.heading),
            ("ins-gap", self.ins_gap),
            ("blocks", 1.0 if self.blocks is None else self.blocks),
        ):
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"--{name} {value:g}: must be a number above 0")
        for name, value in (("gap", self.gap), ("spacing", self.spacing)):
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"--{name} {value:g}: must be a number from 0 on")
        if self.rule not in get_args(Rule):
            raise UsageError(f"unknown rule {self.rule!r}; choose {' or '.join(get_args(Rule))}")
        if not 0 < self.test_share < 1:
            raise UsageError(f"--test-share {self.test_share:g}: must be between 0 and 1")
        if not 0 <= self.extremes < 0.5:
            raise UsageError(f"--extremes {self.extremes:g}: must be at least 0 and below 0.5")
        if self.test_regions is not None and self.blocks is not None:
            raise UsageError("--test-regions names the test regions and --blocks draws them; give one of the two")


@dataclass(frozen=True)
class Paired:
    """What was written.

    Attributes:
        path, map: the files.
        domains: names, in the order of the labels.
        images: of each domain that are in a part.
        left_out: of each domain's sources, by the reason.
        parts: images of each part, by its name.
        pairs: of each part, a symmetric table of the domains.
        regions: of the test.
        notes: what a person should know.
    """

    path: Path
    map: Path
    domains: tuple[str, ...]
    images: tuple[int, ...]
    left_out: tuple[Mapping[str, int], ...]
    parts: Mapping[str, int]
    pairs: Mapping[str, list[list[int]]]
    regions: Regions | None
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = zip(self.domains, self.images, self.left_out, strict=True)
        return {
            "pairs_file": str(self.path),
            "map": str(self.map),
            "domains": {name: {"images": count, "left_out": dict(left)} for name, count, left in rows},
            "images": dict(self.parts),
            "pairs": {part: dict(zip(self.domains, table, strict=True)) for part, table in self.pairs.items()},
            "test_regions": to_json(self.regions.test) if self.regions else [],
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """A line for every domain, and a table of counts for every part."""
        lines = [f"{self.path}: pairs of {len(self.domains)} domains; map: {self.map}"]
        for name, count, left in zip(self.domains, self.images, self.left_out, strict=True):
            lines.append(f"{name}: {count} images" + (f"; {said}" if (said := counts_left_out(left)) else ""))
        wide = max(6, *(len(name) for name in self.domains)) + 2
        for part, table in self.pairs.items():
            total = sum(map(sum, table)) // 2
            lines.append(f"{part}: {self.parts[part]} images, {total} pairs")
            lines.append(" " * wide + "".join(name.rjust(wide) for name in self.domains))
            for name, row in zip(self.domains, table, strict=True):
                cells = ["-" if other == name else str(n) for other, n in zip(self.domains, row, strict=True)]
                lines.append(name.rjust(wide) + "".join(cell.rjust(wide) for cell in cells))
        if self.regions:
            lines.append(f"gap: {self.parts['gap']} images, in no part; {len(self.regions.test)} test regions")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def pair_domains(request: PairRequest) -> Paired:
    """Read the domains' images, split them by place, pair those of each part, and write pair file and map.

    Raises:
        DataError: what is wrong with the sources; fewer than two domains; no headings where they are asked for; a part
            without images; no pairs.
        UsageError: an unknown domain, an output of another suffix, or regions that are none.
    """
    expect_output(request.output, ".json", "a pair file")
    table = chosen(read_domains(request.source), request.domains, str(request.source))
    if len(table.domains) < 2:
        raise DataError(f"{request.source}: one domain, {next(iter(table.domains))!r}, has no partner; name another")
    sources = read_positions(table, request.spacing, request.ins_gap, request.extremes)
    images = _Images(sources)
    if request.heading < 180:
        images.expect_headings()
    regions, parts = _split(request, images)
    found: dict[str, Found] = {}
    for place, part in enumerate(PARTS[: 2 if regions else 1]):
        found[part] = images.paired(np.flatnonzero(parts == place), request)
    flat = [pair for pairs in found.values() for pair in pairs]
    if not flat:
        raise DataError(
            f"{request.source}: no two images of different domains are within {request.distance:g} m and "
            f"{request.heading:g} degrees; raise --distance or --heading, or check the positions"
        )
    _write(request, table, images, parts, flat, regions)
    count = len(table.domains)
    tables = {part: [[0] * count for _ in range(count)] for part in found}
    for name, pairs in found.items():
        for first, second, _, _ in pairs:
            a, b = int(images.labels[first]), int(images.labels[second])
            tables[name][a][b] += 1
            tables[name][b][a] += 1
    used = np.bincount(images.labels[parts < 2], minlength=count)
    return Paired(
        request.output,
        request.output.with_suffix(".png"),
        tuple(table.domains),
        tuple(used.tolist()),
        tuple(_left_out(positions) for positions in sources.values()),
        {part: int((parts == place).sum()) for place, part in enumerate(PARTS[: 3 if regions else 1])},
        tables,
        regions,
        _notes(sources, images, flat),
    )


class _Images:
    """All images, by domain and then by name."""

    def __init__(self, sources: Mapping[str, list[Positions]]) -> None:
        rows = [
            (label, str(path), path, source.centers[row], source.directions[row])
            for label, found in enumerate(sources.values())
            for source in found
            for row, path in enumerate(source.paths)
        ]
        rows.sort(key=lambda row: row[:2])
        self.labels: Indices = np.array([row[0] for row in rows], np.int64)
        self.paths = [row[2] for row in rows]
        self.centers = np.array([row[3] for row in rows]).reshape(-1, 3)
        self.directions = np.array([row[4] for row in rows]).reshape(-1, 3)
        self.frame = next(source.frame for found in sources.values() for source in found)
        self.axes = plane_axes(self.centers) if self.frame == SPACE else (0, 1)
        self.plane = self.centers[:, self.axes]

    def expect_headings(self) -> None:
        without = np.flatnonzero(np.isnan(self.directions[:, 0]))
        if len(without):
            raise DataError(
                f"{self.paths[without[0]]}: has no heading ({len(without)} such images); add a column yaw, or pair by "
                "distance alone with --heading 180"
            )

    @property
    def axis_names(self) -> tuple[str, str]:
        if self.frame.startswith(UTM):
            return "easting", "northing"
        return "xyz"[self.axes[0]], "xyz"[self.axes[1]]

    def paired(self, rows: Indices, request: PairRequest) -> Found:
        """Pairs among some images, by the two domains and then by the images."""
        groups = [rows[self.labels[rows] == label] for label in range(int(self.labels.max()) + 1)]
        found: Found = []
        for first, second in itertools.combinations(groups, 2):
            of_first, of_second = ((self.centers[group], self.directions[group]) for group in (first, second))
            a, b, metres, degrees = match(of_first, of_second, request.distance, request.heading, request.rule)
            found += zip(first[a].tolist(), second[b].tolist(), metres.tolist(), degrees.tolist(), strict=True)
        return found


def _split(request: PairRequest, images: _Images) -> tuple[Regions | None, Indices]:
    if request.test_regions is not None:
        regions = read_regions(request.test_regions)
    elif request.blocks is not None:
        regions = block_regions(images.plane, request.blocks, request.test_share, request.seed)
    else:
        return None, np.zeros(len(images.paths), np.int64)
    parts = split(images.plane, regions.test, request.gap)
    for place, name in enumerate(PARTS[:2]):
        if not (parts == place).any():
            low, high = images.plane.min(axis=0), images.plane.max(axis=0)
            extent = " and ".join(f"{axis} {low[i]:.1f} to {high[i]:.1f}" for i, axis in enumerate(images.axis_names))
            raise DataError(
                f"{request.test_regions or '--blocks'}: no image is left for {name} with a gap of {request.gap:g} m; "
                f"positions are {extent}"
            )
    return regions, parts


def _write(
    request: PairRequest, table: DomainTable, images: _Images, parts: Indices, pairs: Found, regions: Regions | None
) -> None:
    kept = np.flatnonzero(parts < 2)
    place = {row: index for index, row in enumerate(kept.tolist())}
    listed = Listed(
        {name: domain.attributes for name, domain in table.domains.items()},
        [images.paths[row] for row in kept],
        images.labels[kept].tolist(),
        [PARTS[part] for part in parts[kept]],
        images.centers[kept].tolist(),
        [(place[a], place[b], metres, degrees) for a, b, metres, degrees in pairs],
        {
            "frame": images.frame,
            "map_axes": list(images.axis_names),
            "distance": request.distance,
            "heading": request.heading,
            "rule": request.rule,
            "gap": request.gap if regions else None,
            "test_regions": to_json(regions.test) if regions else [],
        },
    )
    write_pair_file(request.output, listed)
    draw_map(
        request.output.with_suffix(".png"),
        images.plane,
        images.labels,
        parts,
        np.array([pair[:2] for pair in pairs], np.int64).reshape(-1, 2),
        list(table.domains),
        regions.test if regions else (),
        images.axis_names,
    )


def _left_out(sources: list[Positions]) -> dict[str, int]:
    found: dict[str, int] = {}
    for source in sources:
        for reason, count in source.left_out.items():
            found[reason] = found.get(reason, 0) + count
    return found


def _notes(sources: Mapping[str, list[Positions]], images: _Images, pairs: Found) -> tuple[str, ...]:
    notes = [note for found in sources.values() for source in found for note in source.notes]
    paired = {int(images.labels[row]) for pair in pairs for row in pair[:2]}
    notes += [f"no image of {name} is in a pair" for label, name in enumerate(sources) if label not in paired]
    return tuple(dict.fromkeys(notes))
