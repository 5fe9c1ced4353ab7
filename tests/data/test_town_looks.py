"""Each look renders the same bytes for ever, says which it is, and is never mixed with another."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from gloam.cli import town as verb
from gloam.data.town import CONDITIONS, LOOKS, TownConfig, open_street, write_town
from gloam.data.town.render import RenderedTown, TownRequest
from gloam.data.town.sampling import camera_pose
from gloam.data.town.street import pinhole
from gloam.errors import StoreError, UsageError

# sha256 of a view's pixels, then of its depth, by look: what a look renders once, it renders for ever.
VIEWS = {
    1: {
        "day": ("88b1b780e0e288383b541c6364199ed9", "f6786c10e340b28c3c0560e38b4df6e9"),
        "dusk": ("efda9d7969e9d1695228212f4def5061", "f6786c10e340b28c3c0560e38b4df6e9"),
        "night": ("e3cf62d0835433b5591b2c74ec2783ec", "f6786c10e340b28c3c0560e38b4df6e9"),
        "night-rain": ("36e1c8e5dba8e044583c23b9ef956701", "f6786c10e340b28c3c0560e38b4df6e9"),
    },
    2: {
        "day": ("e33af5a76dee0cd60c3de2c7aacaa95c", "20405702e97756da8dd5596bceb16e25"),
        "dusk": ("262875ce1b152d05d1408a577b314383", "88cefad987e464e2b7cddc0ae8683639"),
        "night": ("c3ce2033f7047c8f27cb9fbbab7853b2", "00c3e76b0aece8ee4c6b45150d927a32"),
        "night-rain": ("eba1376108ccbd128cbbeaec741c699f", "60efdb2d8f7b511ae24a034aebd1f190"),
    },
}
FIRST_HASH = "55ec7a0302a827821b4a8a9b279053738c4f56da95bada395dcd752f53db2512"
SMALL = TownConfig(seed=5, length=30.0, width=64, height=48, queries=1, texels=8, spacing=12.0, conditions=("day",))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_is_what_it_was(look: int) -> None:
    street = open_street(5, 30, 16, look)
    for condition in CONDITIONS:
        view = street.render(camera_pose(9.0, 0.4, 1.6, 12.0, 3.0), condition, pinhole(128, 96), noise_seed=1)
        assert (digest(view.image.tobytes()), digest(view.depth.tobytes())) == VIEWS[look][condition], condition


def test_folders_of_the_first_look_stay_valid() -> None:
    assert TownConfig(look=1).content_hash() == FIRST_HASH


def test_an_unknown_look_is_refused() -> None:
    with pytest.raises(UsageError, match=r"look 9: choose from 1, 2"):
        TownConfig(look=9)
    with pytest.raises(UsageError, match=r"look 0: choose from 1, 2"):
        open_street(1, look=0)


def test_a_folder_says_its_look_and_refuses_another(tmp_path: Path) -> None:
    write_town(tmp_path / "town", SMALL)
    card = tmp_path / "town" / "town.json"
    stated = json.loads(card.read_text())
    assert stated["config"]["look"] == 1
    del stated["config"]["look"]  # as it was written before looks had numbers
    card.write_text(json.dumps(stated))
    second = dataclasses.replace(SMALL, look=2)
    with pytest.raises(StoreError, match=r"holds a town of look 1, not 2; choose another folder or give --look 1"):
        write_town(tmp_path / "town", second)
    assert write_town(tmp_path / "town", SMALL).rendered == 0
    assert write_town(tmp_path / "second", second).rendered > 0
    assert json.loads((tmp_path / "second" / "town.json").read_text())["config"]["look"] == 2
    with pytest.raises(StoreError, match=r"holds a town of look 2, not 1; choose another folder or give --look 2"):
        write_town(tmp_path / "second", SMALL)
    with pytest.raises(StoreError, match="another config"):
        write_town(tmp_path / "second", dataclasses.replace(second, noise=3.0))


def test_the_verb_passes_the_camera_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = argparse.ArgumentParser()
    parser.set_defaults(leaf=parser)  # as every verb has it
    verb.add_arguments(parser)
    parser.set_defaults(json=True)  # which every verb has
    asked: list[TownRequest] = []

    def keep(request: TownRequest, *, progress: bool) -> RenderedTown:
        asked.append(request)
        return RenderedTown(write_town(tmp_path / "town", SMALL), 0.0, None)

    monkeypatch.setattr("gloam.data.town.render.render_town", keep)
    verb.run(parser.parse_args(["out", "--look", "2", "--noise", "3", "--motion-blur", "4", "--defocus", "2"]))
    assert asked[0].config == TownConfig(look=2, noise=3, motion_blur=4, defocus=2)
    with pytest.raises(UsageError, match="give look 2"):
        verb.run(parser.parse_args(["out", "--noise", "3"]))
    assert verb.run(parser.parse_args(["out"])).data["look"] == asked[1].config.look == 1
