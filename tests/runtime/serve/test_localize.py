"""Poses over HTTP are the localizer's, whatever the image's orientation, and say what they were found by."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from gloam.data.scene import Camera, Scene
from gloam.data.town import TownConfig
from gloam.runtime.localization.colmap import project
from gloam.runtime.localization.localizer import Localizer
from gloam.runtime.serve.app import make_app
from gloam.runtime.serve.options import ServeRequest
from gloam.runtime.serve.service import Service, exif_focal
from tests.runtime.serve.services import HERE, refused
from tests.runtime.serve.towns import MODEL, ONE, write_served

TOWN = TownConfig(
    seed=5, length=30.0, width=192, height=144, focal=158, texels=12, queries=2, spacing=6.0, conditions=("day",)
)


@dataclass(frozen=True)
class Place:
    """A served town, its queries and the localizer beside it."""

    folder: Path
    query: Scene
    client: TestClient
    localizer: Localizer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("town")
    query = write_served(folder, TOWN)
    images = folder / "town" / "mapping" / "sensors" / "records_data"
    request = ServeRequest(MODEL, map=folder / "map", images=images, placement=ONE)
    localizer = Localizer.open(folder / "map", embedder=MODEL, placement=ONE)
    with TestClient(make_app(Service.open(request)), base_url=HERE) as client:  # type: ignore[arg-type]
        yield Place(folder, query, client, localizer)


def turned(content: bytes, orientation: int) -> bytes:
    """The same stored pixels, said to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    Image.open(io.BytesIO(content)).save(out, "PNG", exif=exif)
    return out.getvalue()


def stated(camera: Camera) -> str:
    return ",".join(map(str, (camera.model, camera.width, camera.height, *camera.params)))


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_poses_are_the_localizer_s(place: Place, orientation: int) -> None:
    found = 0
    for name in place.query.names:
        content, camera = place.query.image_path(name).read_bytes(), place.query.camera(name)
        content = content if orientation == 1 else turned(content, orientation)
        answer = place.client.post("/v1/localize", params={"camera": stated(camera), "name": name}, content=content)
        assert answer.status_code == 200, answer.text
        told, wanted = answer.json(), place.localizer(content, camera, name)
        assert told["localized"] == (wanted.pose is not None)
        assert told["retrieved"] == list(wanted.retrieved)
        assert (told["inliers"], told["correspondences"]) == (wanted.inliers, wanted.correspondences)
        assert told["reason"] == wanted.reason
        if wanted.pose is not None:
            found += 1
            assert tuple(told["pose"]["quaternion"]) == wanted.pose.quaternion
            assert tuple(told["pose"]["translation"]) == wanted.pose.translation
            np.testing.assert_array_equal(told["pose"]["position"], wanted.pose.center)
            assert told["position_std"] > 0
        assert told["matched"] is None
    assert found == 2 or orientation != 1


def test_matches_agree_with_the_pose_that_was_found(place: Place) -> None:
    name = place.query.names[0]
    camera, content = place.query.camera(name), place.query.image_path(name).read_bytes()
    told = place.client.post("/v1/localize?matches=true", content=content).json()
    assert told["camera"]["source"] == "map"
    assert [each["image"] for each in told["matched"]] != []
    assert {each["image"] for each in told["matched"]} <= set(told["retrieved"])
    counts = [each["inliers"] for each in told["matched"]]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 0
    found, matched = place.localizer.with_matches(content, camera)
    assert found.pose is not None
    for each in (each for each in matched if each.agree.any()):
        points = place.localizer.world.arrays["points"]
        pixels = project(camera, found.pose.transform(points))
        nearest = np.nanmin(np.linalg.norm(pixels[None] - each.query[each.agree][:, None], axis=2), axis=1)
        assert (nearest <= place.localizer.world.card.pose.max_error).all()
        assert not (each.agree & ~each.seen).any()
    best = told["matched"][0]
    assert len(best["query"]) == len(best["other"]) == len(best["inlier"]) == min(best["matches"], 200)
    assert best["inlier"] == sorted(best["inlier"], reverse=True)


def test_the_map_and_its_pictures_are_shown(place: Place) -> None:
    told = place.client.get("/v1/map").json()
    world = place.localizer.world
    assert [each["name"] for each in told["images"]] == world.names
    np.testing.assert_allclose(told["images"][0]["position"], world.card.images[0].pose.center, atol=1e-4)
    axes = np.array([told["right"], told["ahead"]])
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-9)
    assert abs(np.cross(*axes)[2]) > 0.99  # the town's z is up
    assert 0 < len(told["points"]) <= 4000
    assert told["pictures"]
    picture = place.client.get("/v1/map/picture", params={"name": world.names[0]})
    assert picture.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(picture.content)).size == (192, 144)
    for name in ("nothing.jpg", "../town.json", "", "/etc/passwd"):
        refused(place.client.get("/v1/map/picture", params={"name": name}), 404, "no image of the map")
    refused(place.client.get("/v1/map/picture"), 422, "name: ")


def with_exif(content: bytes, size: tuple[int, int], focal: int | None) -> bytes:
    exif = Image.Exif()
    if focal is not None:
        exif.get_ifd(0x8769)[0xA405] = focal
    out = io.BytesIO()
    Image.open(io.BytesIO(content)).resize(size).save(out, "JPEG", quality=95, exif=exif)
    return out.getvalue()


def test_intrinsics_are_the_request_s_the_map_s_or_exif_s(place: Place) -> None:
    content = place.query.image_path(place.query.names[0]).read_bytes()
    told = place.client.post("/v1/localize", content=with_exif(content, (384, 288), 30)).json()
    assert told["camera"]["source"] == "exif"
    assert told["camera"]["params"] == [320.0, 192.0, 144.0]  # 30 mm of 36
    assert exif_focal(b"no image") == exif_focal(content) == 0
    answer = place.client.post("/v1/localize", content=with_exif(content, (384, 288), None))
    refused(answer, 422, "the map has 0 cameras of 384x288", "give camera=MODEL,width,height,parameters")


@pytest.mark.parametrize(
    ("camera", "part"),
    [
        ("", "unknown model ''"),
        ("PINHOLE", "0 numbers where PINHOLE has 6"),
        ("FISH,1,2,3", "unknown model 'FISH'"),
        ("SIMPLE_PINHOLE,192,144,nan,96,72", "malformed intrinsics"),
        ("SIMPLE_PINHOLE,192,144,-1,96,72", "a focal length of -1 pixels"),
        ("SIMPLE_PINHOLE,640,480,500,320,240", "the image is 192x144 but its camera is 640x480"),
        ("x" * 501, "camera: "),
    ],
)
def test_intrinsics_that_are_none_are_refused(place: Place, camera: str, part: str) -> None:
    content = place.query.image_path(place.query.names[0]).read_bytes()
    refused(place.client.post("/v1/localize", params={"camera": camera}, content=content), 422, part)


def test_bodies_that_are_no_image_are_refused(place: Place) -> None:
    for body, part in (
        (b"", "empty"),
        (b"no image", "not an image"),
        (place.query.root.joinpath("sensors/sensors.txt").read_bytes(), "not an image"),
    ):
        refused(place.client.post("/v1/localize", content=body), 422, part)


def test_a_wrong_model_is_refused(place: Place, tmp_path: Path) -> None:
    from gloam.errors import IncompatibleError
    from tests.tiny_models import write_tiny_embedder

    write_tiny_embedder(tmp_path / "tiny.onnx")
    with pytest.raises(IncompatibleError, match="is not the map's"):
        Service.open(ServeRequest(tmp_path / "tiny.onnx", map=place.folder / "map"))


def test_nothing_of_the_world_is_a_pose(place: Place) -> None:
    black = io.BytesIO()
    Image.new("RGB", (192, 144)).save(black, "PNG")
    told: dict[str, Any] = place.client.post("/v1/localize?matches=1", content=black.getvalue()).json()
    assert (told["localized"], told["pose"], told["position_std"]) == (False, None, None)
    assert told["reason"] == "0 correspondences with the map, 12 are needed"
    assert all(each["matches"] == 0 for each in told["matched"])
