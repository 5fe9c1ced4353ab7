"""Each look renders the same bytes for ever, says which it is, and is never mixed with another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from gloam.data.town import CONDITIONS, Street, TownConfig, write_town
from gloam.data.town.sampling import camera_pose
from gloam.data.town.street import pinhole
from gloam.errors import StoreError, UsageError

# sha256 of a view's pixels, then of its depth: what a look renders once, it renders for ever.
FIRST = {
    "day": "88b1b780e0e288383b541c6364199ed9",
    "dusk": "efda9d7969e9d1695228212f4def5061",
    "night": "e3cf62d0835433b5591b2c74ec2783ec",
    "night-rain": "36e1c8e5dba8e044583c23b9ef956701",
    "depth": "f6786c10e340b28c3c0560e38b4df6e9",
}
FIRST_HASH = "55ec7a0302a827821b4a8a9b279053738c4f56da95bada395dcd752f53db2512"
SMALL = TownConfig(seed=5, length=30.0, width=64, height=48, queries=1, texels=8, spacing=12.0, conditions=("day",))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def test_the_first_look_is_what_it_was() -> None:
    street = Street(5, 30, 16)
    for condition in CONDITIONS:
        view = street.render(camera_pose(9.0, 0.4, 1.6, 12.0, 3.0), condition, pinhole(128, 96), noise_seed=1)
        assert digest(view.image.tobytes()) == FIRST[condition], condition
        assert digest(view.depth.tobytes()) == FIRST["depth"]


def test_folders_of_the_first_look_stay_valid() -> None:
    assert TownConfig(look=1).content_hash() == FIRST_HASH


def test_an_unknown_look_is_refused() -> None:
    with pytest.raises(UsageError, match=r"look 9: choose from 1"):
        TownConfig(look=9)


def test_a_folder_says_its_look_and_refuses_another(tmp_path: Path) -> None:
    write_town(tmp_path / "town", SMALL)
    card = tmp_path / "town" / "town.json"
    stated = json.loads(card.read_text())
    assert stated["config"]["look"] == 1
    del stated["config"]["look"]  # as it was written before looks had numbers
    card.write_text(json.dumps(stated))
    assert write_town(tmp_path / "town", SMALL).rendered == 0
    stated["config"]["look"] = 2
    card.write_text(json.dumps(stated))
    with pytest.raises(StoreError, match=r"holds a town of look 2, not 1; choose another folder or give --look 2"):
        write_town(tmp_path / "town", SMALL)
