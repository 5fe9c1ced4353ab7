"""Pairs by distance and direction, against all distances."""

from __future__ import annotations

import numpy as np
import pytest

from gloam.data.retrieval_sets import pairing
from gloam.data.retrieval_sets.pairing import neighbours
from gloam.data.weak_pairs.matching import angles, match
from gloam.data.weak_pairs.positions import of_yaw


def views(rng: np.random.Generator, count: int, extent: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0, extent, (count, 3)) * (1, 0.4, 0), of_yaw(rng.uniform(-4, 4, count))


@pytest.mark.parametrize("at_once", [1, 50, 1 << 20])
def test_neighbours_are_those_of_all_distances(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(pairing, "AT_ONCE", at_once)
    rng = np.random.default_rng(1)
    for first, second, distance in (
        (rng.uniform(0, 50, (80, 3)), rng.uniform(0, 50, (60, 3)), 9.0),
        (rng.uniform(0, 1, (30, 2)) + 5e6, rng.uniform(0, 1, (30, 2)) + 5e6, 0.2),
        (np.zeros((9, 2)), np.zeros((7, 2)), 1.0),
        (np.zeros((9, 2)), np.ones((7, 2)) * 50, 1.0),
        (np.zeros((0, 2)), np.zeros((7, 2)), 1.0),
    ):
        parts = list(neighbours(first, second, distance))
        found = [pair for rows, columns in parts for pair in zip(rows.tolist(), columns.tolist(), strict=True)]
        close = ((first[:, None] - second[None]) ** 2).sum(axis=2) <= distance**2
        assert found == [tuple(pair) for pair in np.argwhere(close).tolist()]


@pytest.mark.parametrize("rule", ["mutual", "nearest"])
def test_pairs_are_those_of_a_plain_search(rule: str) -> None:
    rng = np.random.default_rng(2)
    first, second = views(rng, 150), views(rng, 120)
    metres = np.linalg.norm(first[0][:, None] - second[0][None], axis=2)
    turn = np.degrees(np.arccos(np.clip(first[1] @ second[1].T, -1, 1)))
    cost = np.where((metres <= 8) & (turn <= 40), metres, np.inf)
    of_first = {(row, int(cost[row].argmin())) for row in range(150) if np.isfinite(cost[row]).any()}
    of_second = {(int(cost[:, column].argmin()), column) for column in range(120) if np.isfinite(cost[:, column]).any()}
    rows, columns, apart, degrees = match(first, second, 8.0, 40.0, rule)  # type: ignore[arg-type]
    wanted = of_first & of_second if rule == "mutual" else of_first | of_second
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == sorted(wanted)
    np.testing.assert_allclose(apart, metres[rows, columns])
    np.testing.assert_allclose(degrees, turn[rows, columns], atol=1e-5)
    back = match(second, first, 8.0, 40.0, rule)  # type: ignore[arg-type]
    assert set(zip(back[1].tolist(), back[0].tolist(), strict=True)) == wanted


def test_directions_are_compared_around_the_circle_and_thresholds_are_kept() -> None:
    here = np.zeros((1, 3))
    for first, second, degrees in ((179.0, -179.0, 2.0), (359.5, 0.5, 1.0), (0.0, 180.0, 180.0), (0.0, 10.0, 10.0)):
        pair = (here, of_yaw(np.radians([first]))), (here, of_yaw(np.radians([second])))
        assert angles(pair[0][1], pair[1][1])[0] == pytest.approx(degrees, abs=1e-9)
        assert len(match(*pair, 3.0, degrees)[0]) == 1
        assert len(match(*pair, 3.0, degrees - 0.01)[0]) == 0
    facing = of_yaw(np.zeros(1))
    near, far = np.array([[620003.1, 5735000.1, 0]]), np.array([[620000.1, 5735000.1, 0]])
    assert len(match((near, facing), (far, facing), 3.0, 10.0)[0]) == 1
    assert len(match((near, facing), (far, facing), 2.999, 10.0)[0]) == 0


def test_equally_near_images_go_by_their_order_and_nothing_by_heading_where_none_is_asked() -> None:
    first = (np.array([[0.0, 0, 0]]), np.full((1, 3), np.nan))
    second = (np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0]]), np.full((3, 3), np.nan))
    rows, columns, _, degrees = match(first, second, 3.0, 180.0)
    assert (rows.tolist(), columns.tolist()) == ([0], [0])
    assert np.isnan(degrees).all()
    assert len(match(first, second, 3.0, 180.0, "nearest")[0]) == 3
    assert len(match(first, second, 3.0, 90.0)[0]) == 0
