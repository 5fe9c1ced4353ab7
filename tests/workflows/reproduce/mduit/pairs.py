"""Weak pairs of three domains where mduit's figures look for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gloam.data.weak_pairs.pair_file import Listed, write_pair_file
from gloam.workflows.reproduce.mduit.request import PAIRS, MduitRequest
from tests.eval.translation.test_domains import street
from tests.tiny_translators import DOMAINS

APART = 12.0  # metres between places


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder: four places by day, night and in snow, three of them for the test, at metres that are known."""
    paths, labels, parts, positions, pairs = [], [], [], [], []
    for label, domain in enumerate(DOMAINS):
        (tmp_path / "images" / domain).mkdir(parents=True)
        for place in range(4):
            paths.append(tmp_path / "images" / domain / f"{place}.png")
            Image.fromarray(street(place, domain)).save(paths[-1])
            labels.append(label)
            parts.append("test" if place else "train")
            positions.append((APART * place, float(label), 0.0))
    for place in range(4):
        pairs += [(place, 4 + place, 1.0, 0.0), (8 + place, place, 2.0, 0.0)]
    file = tmp_path / "data" / PAIRS
    file.parent.mkdir(parents=True)
    write_pair_file(file, Listed({name: {} for name in DOMAINS}, paths, labels, parts, positions, pairs))
    return tmp_path / "data"


def request(table: str, data: Path, tmp_path: Path, **more) -> MduitRequest:
    return MduitRequest(table, data, tmp_path / "out", **{"references": ("day",), **more})
