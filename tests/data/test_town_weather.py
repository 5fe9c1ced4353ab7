"""The second look's weather: a person can name it, it is the same for ever, and it moves nothing of what there was."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from gloam.data.town import TownConfig
from gloam.data.town.config import CONDITIONS, WEATHER, conditions_of
from gloam.data.town.look2.changes import LANE, plan_visit
from gloam.data.town.look2.hours import HOURS
from gloam.data.town.look2.street import NightStreet
from gloam.data.town.look2.weather import snowed
from gloam.data.town.sampling import camera_pose
from gloam.data.town.street import RenderedView, pinhole
from gloam.errors import UsageError
from gloam.training.translators.data_config import DataConfig

SMALL = pinhole(128, 96)
POSES = (camera_pose(6, -1, 1.6, 6, 3), camera_pose(15, -1, 1.6, -12, 3), camera_pose(24, 1, 1.6, 176, 3))
# sha256 of a view's pixels, as of the other conditions: what is rendered once, is rendered for ever.
VIEWS = {}


@pytest.fixture(scope="module")
def street() -> NightStreet:
    return NightStreet(5, 30, 16)


@pytest.fixture(scope="module")
def views(street: NightStreet) -> dict[str, list[RenderedView]]:
    return {c: [street.render(pose, c, SMALL, noise_seed=1) for pose in POSES] for c in WEATHER}


def saturation(image: np.ndarray) -> float:
    return float(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1].mean())


def test_weather_is_what_it_was(views: dict[str, list[RenderedView]]) -> None:
    for condition, digest in VIEWS.items():
        assert hashlib.sha256(views[condition][0].image.tobytes()).hexdigest()[:32] == digest, condition


def test_a_statistic_tells_the_conditions_apart(views: dict[str, list[RenderedView]]) -> None:
    mean = {c: np.mean([view.image.mean() for view in found]) for c, found in views.items()}
    ground = {c: np.mean([view.image[80:].mean() for view in found]) for c, found in views.items()}
    colour = {c: np.mean([saturation(view.image) for view in found]) for c, found in views.items()}
    assert mean["snow"] > mean["overcast"] > mean["rain"] > mean["dusk"] > mean["night"]
    assert min(mean["sun"], mean["rain"]) > 1.3 * mean["dusk"]
    assert ground["snow"] > 1.4 * max(ground[c] for c in WEATHER if c != "snow")
    assert colour["sun"] > 2 * colour["overcast"] > 2 * colour["rain"] / 1.2
    assert ground["rain"] < ground["overcast"]  # wet
    assert ground["night-rain"] < ground["night"]
    dark = {c: np.mean([(view.image.mean(axis=2) < 30).mean() for view in views[c]]) for c in ("sun", "overcast")}
    assert dark["sun"] > 1.3 * dark["overcast"]  # hard shadows


def test_snow_lies_on_what_faces_up_and_not_on_walls(street: NightStreet) -> None:
    hits = street.scenery("snow").caster.cast(SMALL, camera_pose(6, -1, 4.5, 6, -15))  # onto the cars
    index = hits.surface.ravel()[hits.pixels]
    covered = street.scenery("snow")._covered(np.full((3, index.size), 0.3, np.float32), index, hits, HOURS["snow"])[0]
    axis = street.scenery("snow").caster.axis[index]
    height = street.scenery("snow").caster.offset[index]
    assert np.median(covered[(axis == 2) & (height > 0.2)]) > 0.8  # cars, bins, ledges
    assert np.median(covered[(axis == 2) & (height == 0)]) > 0.6
    assert np.median(covered[axis != 2]) == pytest.approx(0.3)
    assert (covered[axis != 2] > 0.8).mean() > 0.01  # eaves, sills and the foot of walls
    plain = street.scenery("day")._covered(np.full((3, index.size), 0.3, np.float32), index, hits, HOURS["day"])
    assert (plain == np.float32(0.3)).all()


def test_flakes_are_bright_and_few() -> None:
    light = np.full((96, 128, 3), 0.1, np.float32)
    light[:10] = 0.8
    fallen = snowed(np.random.default_rng(0), light.copy())
    assert fallen.max() <= 0.8 + 1e-6
    assert 0.005 < (fallen[20:] > 0.2).mean() < 0.2


def test_traffic_keeps_to_its_lane_and_moves_nothing_else(street: NightStreet) -> None:
    plain = plan_visit(street.plan, 5, "sun", "a", 8).surfaces
    driving = plan_visit(street.plan, 5, "sun", "a", 8, traffic=1).surfaces
    places = [[(s.axis, s.offset, s.low, s.high) for s in found] for found in (plain, driving)]
    assert places[1][: len(plain)] == places[0]
    sides = [s for s in driving[len(plain) :] if s.axis == 1]
    assert sides
    assert all(0 < s.offset < 2 * LANE for s in sides)


def test_unknown_conditions_name_the_known(street: NightStreet) -> None:
    assert conditions_of(1) == CONDITIONS
    assert set(conditions_of(2)) == {*CONDITIONS, *WEATHER}
    with pytest.raises(UsageError, match=r"condition 'fog' is unknown; choose from day, dusk, .*snow, rain"):
        TownConfig(look=2, conditions=("fog",))
    with pytest.raises(UsageError, match=r"condition 'snow' is of look 2; give look 2, or choose from day, dusk"):
        TownConfig(conditions=("snow",))
    with pytest.raises(UsageError, match=r"unknown; choose from day, dusk, night, night-rain$"):
        DataConfig(night_conditions=("snow",))
    assert DataConfig(look=2, night_conditions=("snow",)).night_conditions == ("snow",)
    with pytest.raises(UsageError, match=r"'hail' is unknown; choose from .*snow"):
        street.render(POSES[0], "hail", SMALL)
