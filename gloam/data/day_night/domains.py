"""Images of many domains in which those of one place are known: folders named like the domains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from gloam.data.day_night.read import as_item, files_below
from gloam.data.sources import ImageItem
from gloam.errors import DataError, UsageError


@dataclass(frozen=True)
class DomainPairs:
    """Images, and pairs of those that show one place in two domains.

    Attributes:
        images: each with the index of its domain.
        pairs: rows of ``images``.
        places: names of the places that have pairs.
        pair_places: the place of each pair.
    """

    images: tuple[tuple[ImageItem, int], ...]
    pairs: tuple[tuple[int, int], ...]
    places: tuple[str, ...]
    pair_places: tuple[int, ...]


def read_domain_folders(root: str | Path, domains: Sequence[str]) -> DomainPairs:
    """Images of ``root/DOMAIN/...``; those of one name, whatever its ending, show one place.

    Args:
        root: folder of the domains' folders; others in it are left alone.
        domains: names of the folders, in the order of the labels.

    Raises:
        UsageError: a domain without a folder; the folders that there are are named.
        DataError: no such folder, two images of one name in a domain, or no place in two domains.
    """
    place = Path(root)
    if not place.is_dir():
        raise DataError(f"{place}: no such folder")
    for domain in domains:
        if not (place / domain).is_dir():
            known = ", ".join(sorted(folder.name for folder in place.iterdir() if folder.is_dir())) or "none"
            raise UsageError(f"{place}: no folder of domain {domain!r}; its folders are {known}")
    images: list[tuple[ImageItem, int]] = []
    rows: dict[str, dict[int, int]] = {}
    for label, domain in enumerate(domains):
        for name in files_below(place / domain, {}):
            seen = rows.setdefault(str(Path(name).with_suffix("")), {})
            if label in seen:
                raise DataError(f"{place / domain}: {name} and {images[seen[label]][0].name} have one name; rename one")
            seen[label] = len(images)
            images.append((as_item(f"{domain}/{name}", place), label))
    shared = {name: sorted(seen.values()) for name, seen in sorted(rows.items()) if len(seen) > 1}
    if not shared:
        raise DataError(f"{place}: no image name is in two of the domains {', '.join(domains)}; name places alike")
    found = [(pair, at) for at, seen in enumerate(shared.values()) for pair in combinations(seen, 2)]
    return DomainPairs(tuple(images), tuple(pair for pair, _ in found), tuple(shared), tuple(at for _, at in found))
