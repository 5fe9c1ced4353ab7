"""Domains and where their images come from: a YAML table, a CSV table with a column, or a kapture dataset's lists.

::

    root: /data/robotcar        # of relative paths; the table's own folder by default
    domains:
      night:
        sources:
        - robotcar: 2014-12-10-18-10-50      # a traversal as published
      snow:
        attributes: {season: winter, weather: snow}
        sources:
        - kapture: town/query                # a dataset, or the images of some of its lists or names
          conditions: [snow]
        - csv: snow.csv
          images: photos
"""

from __future__ import annotations

import fnmatch
import functools
import importlib.resources
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gloam.data.kapture_io import read_conditions, read_scene
from gloam.data.retrieval_sets.posed import positions
from gloam.data.scene import Scene
from gloam.data.weak_pairs.ins import CAMERA, read_traversal
from gloam.data.weak_pairs.positions import NO_FILE, SPACE, Positions, in_one_frame, thinned, without_extremes
from gloam.data.weak_pairs.table import read_table
from gloam.data.yaml_text import read_mapping
from gloam.errors import DataError, UsageError
from gloam.files import write_bytes
from gloam.record import fill_dataclass, fill_named

KINDS = {"robotcar": ("camera",), "kapture": ("conditions", "names"), "csv": ("images",)}  # and their options
PAPER = "weakly_paired.yaml"  # the table of eleven domains that comes with gloam


@dataclass(frozen=True)
class Source:
    """Images of a domain; one of the first three is named.

    Attributes:
        robotcar: folder of a traversal.
        kapture: dataset with poses.
        csv: table as :mod:`gloam.data.weak_pairs.table` reads it; of one with a column ``domain``, the domain's rows.
        camera: robotcar: folder of the images.
        conditions: kapture: lists of the dataset's ``conditions`` folder; all images where neither these nor ``names``.
        names: kapture: patterns of images' names, such as ``night/rear/*``.
        images: csv: folder that names are relative to; the table's own by default.
    """

    robotcar: str | None = None
    kapture: str | None = None
    csv: str | None = None
    camera: str | None = None
    conditions: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    images: str | None = None

    def __post_init__(self) -> None:
        named = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(named) != 1:
            raise UsageError(f"a source names {' and '.join(named) or 'nothing'}; name one of {', '.join(KINDS)}")
        if not str(getattr(self, named[0])).isprintable():
            raise UsageError(f"the path of a source, {getattr(self, named[0])!r}, has control characters")
        for kind, options in KINDS.items():
            for option in options:
                if kind != named[0] and getattr(self, option):
                    raise UsageError(f"{option} is an option of {kind}; this source is of kind {named[0]}")


@dataclass(frozen=True)
class Domain:
    """One appearance, such as snow.

    Attributes:
        sources: of its images.
        attributes: what the domain is, for people and for labels of several bits.
    """

    sources: tuple[Source, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DomainTable:
    """Domains by name; their order is that of their labels.

    Attributes:
        domains: by name.
        root: folder that paths are relative to, itself relative to the table; the table's own by default.
    """

    domains: Mapping[str, Domain]
    root: str = "."


def read_domains(path: Path) -> DomainTable:
    """A table of domains, by what is there: a ``.csv`` with a column ``domain``, a kapture dataset whose ``conditions``
    folder has lists, or YAML.

    Raises:
        DataError, UsageError: unreadable, no domain, one without sources, one twice, or keys that none has.
    """
    if path.is_dir():
        lists = read_conditions(path / "conditions")
        named = {name: Domain((Source(kapture=str(path), conditions=(name,)),)) for name in lists}
        return DomainTable(named)
    if path.suffix == ".csv":
        found = read_table(path)
        if "" in found:
            raise DataError(f"{path}:1: no column 'domain'; add one, or name the table in a YAML table of domains")
        return DomainTable({name: Domain((Source(csv=str(path)),)) for name in sorted(found)})
    stated = fill_dataclass(DomainTable, read_mapping(path, "read a table of domains"), str(path))
    domains = {}
    for name, value in stated.domains.items():
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise UsageError(f"{path}: domain {name!r} is no plain text; write its name in quotes")
        domains[name] = fill_named(Domain, value, f"{path}: domain {name!r}")
        if not domains[name].sources:
            raise UsageError(f"{path}: domain {name!r} has no sources; name at least one, or leave the domain out")
    if not domains:
        raise UsageError(f"{path}: names no domains")
    return DomainTable(domains, str(path.parent / stated.root))


def chosen(table: DomainTable, names: Sequence[str], where: str) -> DomainTable:
    """Some domains of a table, in the order given; all where none are named.

    Raises:
        UsageError: a domain that the table has not, or one that is named twice.
    """
    expect_known(names, list(table.domains), where)
    return replace(table, domains={name: table.domains[name] for name in names}) if names else table


def expect_known(names: Sequence[str], known: Sequence[str], where: str) -> None:
    """Refuse names of domains that are not there, or twice.

    Raises:
        UsageError: naming the first, and the known ones.
    """
    for place, name in enumerate(names):
        if name not in known:
            raise UsageError(f"{where}: unknown domain {name!r}; it has {', '.join(known)}")
        if name in names[:place]:
            raise UsageError(f"domain {name!r} is named twice; name each once")


def write_paper_table(path: Path) -> None:
    """Write the table of the paper's eleven domains, to be filled with one's own sources."""
    write_bytes(path, importlib.resources.files(__package__).joinpath(PAPER).read_bytes())


def read_positions(
    table: DomainTable, spacing: float = 1.0, gap: float = 0.2, extremes: float = 0.0
) -> dict[str, list[Positions]]:
    """Images of every domain, all in one frame, source by source.

    Args:
        table: of domains.
        spacing: metres that a traversal's images are apart at least; 0 keeps all.
        extremes: share of a traversal's darkest and of its brightest images to leave out; every image is then decoded.
        gap: of the INS, see :func:`gloam.data.weak_pairs.ins.read_traversal`.

    Raises:
        DataError: what the readers find wrong, a domain without images, an image in two places, or positions that
            cannot be compared.
    """
    root = Path(table.root)
    scenes, tables = functools.cache(read_scene), functools.cache(read_table)  # each file once, however many domains
    found = {
        name: [
            _traversal(root / source.robotcar, source, spacing, gap, extremes)
            if source.robotcar is not None
            else _rows(tables(root / source.csv, None if source.images is None else root / source.images), source, name)
            if source.csv is not None
            else _posed(scenes(root / str(source.kapture)), source)
            for source in domain.sources
        ]
        for name, domain in table.domains.items()
    }
    seen: dict[str, str] = {}
    for name, sources in found.items():
        if not sum(map(len, sources)):
            reasons = sorted({reason for source in sources for reason in source.left_out})
            raise DataError(f"domain {name!r} has no images with a position: {', '.join(reasons) or 'none is listed'}")
        for path in (os.path.abspath(path) for source in sources for path in source.paths):
            if path in seen:
                both = "twice in" if seen[path] == name else f"in {seen[path]!r} and in"
                raise DataError(f"{path}: is {both} domain {name!r}; an image has one domain, and is there once")
            seen[path] = name
    flat = iter(in_one_frame([source for sources in found.values() for source in sources]))
    return {name: [next(flat) for _ in sources] for name, sources in found.items()}


def _traversal(folder: Path, source: Source, spacing: float, gap: float, extremes: float) -> Positions:
    found = read_traversal(folder, source.camera or CAMERA, gap)
    found = thinned(found, spacing) if spacing > 0 else found
    return without_extremes(found, extremes) if extremes > 0 else found


def _rows(parts: Mapping[str, Positions], source: Source, domain: str) -> Positions:
    if "" not in parts and domain not in parts:
        raise DataError(f"{source.csv}: no row is of domain {domain!r}; its rows are of {', '.join(sorted(parts))}")
    return parts[domain if domain in parts else ""]


def _posed(scene: Scene, source: Source) -> Positions:
    root = scene.root
    names = scene.names
    if source.conditions:
        lists = read_conditions(root / "conditions")
        if unknown := [name for name in source.conditions if name not in lists]:
            raise DataError(f"{root}: has no list of condition {unknown[0]!r}; it has {', '.join(sorted(lists))}")
        listed = {name for condition in source.conditions for name in lists[condition]}
        if lost := sorted(listed - set(names)):
            raise DataError(f"{root}: image {lost[0]!r} of a condition's list is not in records_camera.txt")
        names = sorted(listed)
    if source.names:
        names = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in source.names)]
        if not names:
            raise DataError(f"{root}: no image is named as {' or '.join(source.names)}; first is {scene.names[0]!r}")
    posed = [name for name in names if name in scene.poses]
    centers, directions = positions([scene.part(posed)])
    left_out = {"no pose": len(names) - len(posed)} if len(posed) < len(names) else {}
    paths = tuple(scene.image_path(name) for name in posed)
    found = Positions(str(root), paths, centers, directions, SPACE, left_out)
    return found.part(np.array([row for row, path in enumerate(paths) if path.is_file()], np.int64), NO_FILE)
