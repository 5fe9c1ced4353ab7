"""Look-alikes that several modules read: without images, and one with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gloam.data.localization_sets.dataset import SetName
from gloam.data.localization_sets.look_alike import LookAlike, LookAlikeSize, write_look_alike

FEW = {
    "aachen-v1.1": LookAlikeSize(
        64, 1, {"db": 3, "sequences/gopro3_undistorted": 1}, {"query/day/nexus4": 1, "query/night/nexus5x": 1}
    ),
    "robotcar-v2": LookAlikeSize(32, 1, {"overcast-reference": 1}, {"night": 1}, {"snow": 1}),
}


@pytest.fixture(scope="session")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Callable[[SetName], LookAlike]:
    """The look-alike of a name at toy size, without its images; it must not be changed."""
    made: dict[str, LookAlike] = {}

    def get(name: SetName) -> LookAlike:
        if name not in made:
            made[name] = write_look_alike(tmp_path_factory.mktemp(name), name, images=False)
        return made[name]

    return get


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> LookAlike:
    """Six images of an Aachen, rendered; it must not be changed."""
    return write_look_alike(tmp_path_factory.mktemp("few"), "aachen-v1.1", FEW["aachen-v1.1"])


@pytest.fixture
def copied(lists: Callable[[SetName], LookAlike], tmp_path: Path) -> Callable[[SetName], Path]:
    """A copy of the lists of a look-alike's set, to be spoiled."""
    import shutil

    def copy(name: SetName) -> Path:
        return Path(shutil.copytree(lists(name).set, tmp_path / name))

    return copy
