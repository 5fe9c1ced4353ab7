"""The recording, read back by Rerun's own reader, has the made-up world: points, cameras, poses and true matches."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rerun import RecordingStream
from rerun.chunk import RrdReader

from gloam.errors import DataError, MissingExtraError, StoreError, UsageError
from gloam.eval.localization import rerun_file
from gloam.eval.localization.localize import localize
from gloam.eval.localization.match_pictures import reduced_size
from gloam.eval.localization.request import LocalizeRequest
from tests.eval.localization.test_localize import request_of, write_features  # noqa: F401  # a fixture
from tests.runtime.localization.exact_world import CAMERA, MAP, POINTS, POSES, project

Columns = dict[str, dict[str, list[Any]]]


def recorded(path: Path) -> Columns:
    """Values by entity and component, a row a time that it was logged."""
    found: Columns = {}
    for chunk in RrdReader(str(path)).stream().to_chunks():
        batch = chunk.to_record_batch()
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if not str(column.type).startswith("timestamp"):  # when it was logged; of nanoseconds, which Python lacks
                found.setdefault(chunk.entity_path, {}).setdefault(name, []).extend(column.to_pylist())
    return found


def centre(columns: Columns, entity: str, row: int = 0) -> np.ndarray:
    return np.array(columns[entity]["Transform3D:translation"][row][0])


def turn(columns: Columns, entity: str) -> np.ndarray:
    return np.array(columns[entity]["Transform3D:mat3x3"][0][0]).reshape(3, 3).T  # column after column


@pytest.mark.parametrize("methods", [("2b", "2a", "top1"), ("2a",)])
def test_the_world_is_in_the_recording(request_of: Any, tmp_path: Path, methods: tuple[str, ...]) -> None:  # noqa: F811
    path = tmp_path / "shown" / "map.rrd"
    given = request_of(features=str(write_features(tmp_path / "made")), methods=methods, workers=1, rerun=path)
    found = localize(given)
    assert found.summary["rerun"] == str(path)
    assert f"open it by `rerun {path}`" in found.to_text()
    assert list(path.parent.iterdir()) == [path]
    columns = recorded(path)
    assert columns["/"]["ViewCoordinates:xyz"] == [[[3, 2, 5]]]  # right, down, forward
    cameras = [entity for entity in columns if entity.startswith("/map/cameras/")]
    assert sorted(cameras) == [f"/map/cameras/{name}" for name in sorted(MAP)]
    for name in MAP:
        entity = f"/map/cameras/{name}"
        np.testing.assert_allclose(centre(columns, entity), POSES[name].center, atol=1e-5)
        np.testing.assert_allclose(turn(columns, entity), POSES[name].rotation.T, atol=1e-5)
        matrix = np.array(columns[entity]["Pinhole:image_from_camera"][0][0]).reshape(3, 3).T
        np.testing.assert_allclose(matrix, [[500, 0, 320], [0, 510, 240], [0, 0, 1]], atol=1e-3)
        assert columns[entity]["Pinhole:resolution"][0][0] == [640, 480]
    points = np.array(columns["/map/points" if methods[0] == "2b" else "/query/points"]["Points3D:positions"][0])
    assert len(points) > 80
    assert np.linalg.norm(points[:, None] - POINTS[None], axis=2).min(1).max() < 1e-2
    # One query has a pose; the other has no map image.
    assert [row[0] for row in columns["/query/name"]["TextDocument:text"]] == ["q.png"]
    np.testing.assert_allclose(centre(columns, "/query/camera"), POSES["q.png"].center, atol=1e-2)
    rays = np.array(columns["/query/matches"]["LineStrips3D:strips"][0])
    agree = np.array(columns["/query/camera/agree"]["Points2D:positions"][0])
    assert len(rays) == len(agree) > 40
    assert columns["/query/camera/differ"]["Points2D:positions"][0] == []
    np.testing.assert_allclose(rays[:, 0], np.broadcast_to(POSES["q.png"].center, (len(rays), 3)), atol=1e-2)
    np.testing.assert_allclose(project(POSES["q.png"], rays[:, 1]), agree, atol=0.5)
    assert len(columns["/query/camera/picture"]["EncodedImage:blob"]) == 1


def test_large_images_are_shown_small() -> None:
    size, shrunk = reduced_size(dataclasses.replace(CAMERA, width=3200, height=1001))
    assert size.tolist() == [800, 250]
    np.testing.assert_allclose(shrunk, [0.25, 250 / 1001])
    assert reduced_size(CAMERA)[1].tolist() == [1, 1]


@pytest.mark.parametrize("name", ["map.txt", "map", "folder.rrd", "file/map.rrd"])
def test_a_path_that_cannot_be_is_refused_before_the_work(request_of: Any, tmp_path: Path, name: str) -> None:  # noqa: F811
    (tmp_path / "folder.rrd").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises((UsageError, StoreError)) as caught:
        localize(request_of(rerun=tmp_path / name))
    assert str(tmp_path / name.partition("/")[0]) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(request_of: Any, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(StoreError, match=r"/proc/.*map\.rrd"):
        localize(request_of(rerun=Path("/proc/gloam/map.rrd")))
    assert not (tmp_path / "out").exists()


def test_a_recording_that_fails_is_closed_and_leaves_nothing(
    request_of: Any,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise DataError("no such camera")

    closed: list[str] = []
    plain = RecordingStream.disconnect
    monkeypatch.setattr(RecordingStream, "disconnect", lambda stream: [closed.append("disconnect"), plain(stream)])
    monkeypatch.setattr(rerun_file, "_log_query", fail)
    features = str(write_features(tmp_path / "made"))
    with pytest.raises(DataError, match="no such camera"):
        localize(request_of(features=features, methods=("2b",), workers=1, rerun=tmp_path / "shown" / "map.rrd"))
    assert closed == ["disconnect"]
    assert list((tmp_path / "shown").iterdir()) == []


def test_methods_without_matches_and_places_inside_a_dataset_are_refused(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"mapping": Path("m"), "query": Path("q"), "output": Path("o"), "pairs": Path("p")}
    with pytest.raises(UsageError, match="--rerun shows the matches of methods 2a and 2b"):
        LocalizeRequest(**plain, methods=("top1",), rerun=Path("a.rrd"))
    with pytest.raises(UsageError, match="lies inside"):
        LocalizeRequest(**plain, rerun=Path("m/a.rrd"))


def test_without_the_package_the_extra_is_named(
    request_of: Any,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gloam\[rerun\]'"):
        localize(request_of(rerun=tmp_path / "a.rrd"))
    assert not (tmp_path / "out").exists()
