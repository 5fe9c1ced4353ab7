"""Mapping views keep their distance, and queries are held out in place and heading."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gloam.data.scene import position_error, rotation_error
from gloam.data.town.sampling import LANE, camera_pose, check_mapping, clear_of, mapping_poses, query_poses
from gloam.errors import DataError


@pytest.mark.parametrize("seed", [0, 7, 8])
@pytest.mark.parametrize("spacing", [2.0, 2.5])
def test_separations(seed: int, spacing: float) -> None:
    mapping = mapping_poses(seed, 60, spacing)
    queries = query_poses(seed, 60, 24, mapping)
    assert len(mapping) == 2 * len(np.arange(0.5, 60, spacing))
    assert len(queries) == 24
    assert min(position_error(a, b) for a, b in itertools.combinations(mapping, 2)) >= 2.0 - 1e-9
    pairs = list(itertools.product(queries, mapping))
    assert min(position_error(q, m) for q, m in pairs) >= 1.0
    assert min(rotation_error(q, m) for q, m in pairs) >= 10.0
    assert all(abs(abs(query.center[1]) - LANE) > 0.9 for query in queries)  # lateral offsets never mapped


def test_close_views_are_refused() -> None:
    with pytest.raises(DataError, match=r"views 0 and 1 are 1\.90 m apart"):
        check_mapping([camera_pose(0, 0, 1.6, 0), camera_pose(1.9, 0, 1.6, 30)])
    mapping = [camera_pose(5, 0, 1.6, 20)]
    assert not clear_of(camera_pose(5, 0.9, 1.6, 0), mapping)  # far enough in heading, too near in place
    assert not clear_of(camera_pose(5, 3.0, 1.6, 12), mapping)  # far enough in place, too near in heading
    assert clear_of(camera_pose(5, 1.1, 1.6, 9), mapping)


def test_a_street_without_room_for_queries_is_named() -> None:
    mapping = [camera_pose(x, 0, 1.6, heading) for x in np.arange(0, 30, 0.5) for heading in (0, 180)]
    with pytest.raises(DataError, match="use another seed"):
        query_poses(1, 30, 3, mapping)
