"""Over HTTP: the descriptors of `gloam extract` to the bit, the neighbours of the index, and errors of one line."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from gloam.data.sources import find_images
from gloam.model_card import InputRule
from gloam.padding import PaddingProfile
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.search.index import DescriptorIndex
from gloam.runtime.serve import page
from gloam.runtime.serve.app import Desk
from gloam.runtime.serve.meters import Meters
from gloam.runtime.serve.options import Keys, Limits, ServeRequest
from gloam.runtime.serve.service import Describer, Service
from tests.runtime.models.test_input_rule import AUTHORS, write_model
from tests.runtime.serve.services import asked, encoded, picture, refused, write_indexed
from tests.tiny_models import write_tiny_embedder

KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_indexed(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with asked(folder, index=folder / "index", limits=Limits(body=100_000, memory=200_000, pixels=20_000)) as made:
        yield made


def row(answer: Any) -> np.ndarray[Any, Any]:
    assert answer.status_code == 200, answer.text
    return np.float32(answer.json()["descriptor"])


def test_descriptors_are_those_of_a_store_to_the_bit(folder: Path, client: TestClient) -> None:
    store = DescriptorStore.open(folder / "store")
    for name, wanted in zip(store.names, store.load(), strict=True):
        answer = client.post("/v1/embed", content=(folder / "images" / name).read_bytes())
        np.testing.assert_array_equal(row(answer), wanted)
        told = answer.json()
        assert (told["space"], told["fingerprint"]) == (store.space, store.fingerprint)
        assert (told["width"], told["height"]) == (64, 48)  # as stored, also of the one that is turned


@pytest.mark.parametrize("rule", AUTHORS, ids=["side", "stretched"])
def test_images_are_read_as_a_network_s_authors_do(tmp_path: Path, rule: InputRule) -> None:
    write_model(tmp_path / "tiny.onnx", rule)
    (tmp_path / "a.png").write_bytes(encoded(picture(0, (1200, 900)), orientation=6))
    store = tmp_path / "store"
    embedder = Embedder.load(tmp_path / "tiny.onnx")
    extract(find_images(tmp_path / "a.png"), embedder, store, ExtractOptions(dtype="float32"))
    with asked(tmp_path) as client:
        found = row(client.post("/v1/embed", content=(tmp_path / "a.png").read_bytes()))
    np.testing.assert_array_equal(found, DescriptorStore.open(store).load()[0])


@pytest.mark.parametrize("profile", [None, PaddingProfile.fixed((256,), (256,), (1, 4))], ids=["dynamic", "fixed"])
def test_what_is_asked_beside_it_changes_no_bit(tmp_path: Path, profile: PaddingProfile | None) -> None:
    write_tiny_embedder(tmp_path / "tiny.onnx", *([] if profile is None else [profile]))
    embedder = Embedder.load(tmp_path / "tiny.onnx")
    images = [picture(number, (50 + number % 3, 40)) for number in range(24)]
    bodies = [encoded(image) for image in images]
    alone = [embedder([np.asarray(image)])[0] for image in images]
    with asked(tmp_path) as client, ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda body: row(client.post("/v1/embed", content=body)), bodies * 2))
    for got, wanted in zip(found, alone * 2, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_no_more_images_are_unpacked_than_keep_the_model_at_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body, held, most = encoded(picture(0)), 0, 0
    read, describe = Describer.read, Describer.describe

    def reading(self: Describer, content: bytes) -> Any:
        nonlocal held, most
        held += 1
        most = max(most, held)
        return read(self, content)

    def describing(self: Describer, images: Any) -> Any:
        nonlocal held
        time.sleep(0.01)
        held -= len(images)
        return describe(self, images)

    monkeypatch.setattr(Describer, "read", reading)
    monkeypatch.setattr(Describer, "describe", describing)
    desk = Desk(Service.open(ServeRequest(folder / "tiny.onnx")), Meters)
    room = desk.decoded._value

    async def many() -> list[Any]:
        return await asyncio.gather(*(desk.describe(desk.service.describer, body) for _ in range(4 * room)))

    assert len(asyncio.run(many())) == 4 * room
    assert 1 < most <= room


def test_neighbours_are_the_index_s(folder: Path, client: TestClient) -> None:
    index, store = DescriptorIndex.open(folder / "index"), DescriptorStore.open(folder / "store")
    for name, query in zip(store.names, store.load(), strict=True):
        answer = client.post("/v1/search?k=3", content=(folder / "images" / name).read_bytes())
        names, scores = index.search(query[None], 3, space=store.space)
        told = answer.json()["results"]
        assert [each["image"] for each in told] == names[0]
        assert np.array_equal(np.float32([each["score"] for each in told]), scores[0])
        assert told[0]["image"] == name
    assert len(client.post("/v1/search", content=encoded(picture(0))).json()["results"]) == 6


def test_bodies_that_are_no_image_are_refused_in_a_line(client: TestClient) -> None:
    photo = encoded(picture(0), "JPEG")
    for body, status, part in (
        (b"", 422, "the body is empty"),
        (b"no image at all", 422, "not an image that can be decoded"),
        (photo[: len(photo) // 2], 422, "corrupt or truncated"),
        (encoded(picture(0, (20, 20))), 422, "20x20 is too small"),
        (encoded(picture(0, (200, 101)).convert("1")), 422, "200x101 is more than 20000 pixels"),
        (b"\xff" * 100_001, 413, "larger than 100000 bytes"),
        (b"GIF89a" + b"\0" * 30, 422, ""),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", 422, "not an image"),
    ):
        for route in ("/v1/embed", "/v1/search"):
            refused(client.post(route, content=body), status, part)
    refused(client.post("/v1/embed", files={"file": photo}), 415, "no form or JSON")
    refused(client.post("/v1/embed", json={"image": "x"}), 415, "no form or JSON")
    assert client.post("/v1/embed", content=photo).status_code == 200


def test_a_body_without_a_length_is_cut_where_it_grows_too_large(client: TestClient) -> None:
    refused(client.post("/v1/embed", content=iter([b"x" * 60_000] * 3)), 413, "larger than 100000 bytes")


def test_routes_methods_and_values_that_are_none(client: TestClient) -> None:
    refused(client.get("/v2"), 404, "no route /v2")
    refused(client.post("/v1/localize", content=b"x"), 404, "no route /v1/localize")  # no map is served
    refused(client.get("/v1/map"), 404)
    answer = client.get("/v1/embed")
    refused(answer, 405)
    assert answer.headers["allow"] == "POST"
    for k in ("0", "1001", "many", "", "-1"):
        refused(client.post(f"/v1/search?k={k}", content=encoded(picture(0))), 422, "k: ")


def test_health_metrics_openapi_and_page(folder: Path, client: TestClient) -> None:
    told = client.get("/health").json()
    assert (told["status"], told["keys"], told["index"], told["map"]) == ("ok", False, 6, None)
    before = client.get("/metrics").text
    client.post("/v1/embed", content=encoded(picture(3)))
    client.post("/v1/embed", content=b"no image")
    after = client.get("/metrics").text
    for status in ("200", "422"):
        name = re.escape(f'gloam_requests_total{{route="/v1/embed",status="{status}"}}')
        counts = [float(found[1]) if (found := re.search(rf"{name} (\S+)", text)) else 0 for text in (before, after)]
        assert counts[1] == counts[0] + 1
    for name in ("gloam_request_seconds_bucket", "gloam_queue_length", "gloam_batch_images_sum", "gloam_requests_open"):
        assert name in after
    schema = client.get("/openapi.json").json()
    assert {*schema["paths"]} == {"/health", "/metrics", "/v1/embed", "/v1/search"}
    assert "image/jpeg" in schema["paths"]["/v1/embed"]["post"]["requestBody"]["content"]


def test_the_page_loads_nothing_of_others(client: TestClient) -> None:
    shown = client.get("/")
    assert shown.headers["content-type"].startswith("text/html")
    assert "'unsafe" not in shown.headers["content-security-policy"]
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"https?://|src=|@import|url\(", shown.text)
    assert "innerHTML" not in shown.text
    assert page.policy().count("sha256-") == 2
    for route in ("/docs", "/redoc"):
        refused(client.get(route), 404)


def test_a_key_is_asked_for_where_there_are_keys(folder: Path) -> None:
    photo = encoded(picture(0))
    with asked(folder, keys=Keys([KEY, "another-key-of-20-ch"])) as client:
        assert client.get("/health").json()["keys"] is True
        assert client.get("/").status_code == 200
        for header in ({}, {"authorization": "Basic x"}, {"authorization": "Bearer "}):
            answer = client.post("/v1/embed", content=photo, headers=header)
            refused(answer, 401, "a key is needed")
            assert answer.headers["www-authenticate"] == "Bearer"
        refused(client.get("/metrics"), 401)
        for wrong in (KEY[:-1], KEY + "0", KEY.upper(), "\xe9" * 16):
            header = {"authorization": f"Bearer {wrong}".encode("latin-1")}
            refused(client.post("/v1/embed", content=photo, headers=header), 401, "none of this service's")
        assert client.post("/v1/embed", content=photo, headers={"authorization": f"bearer {KEY}"}).status_code == 200


def test_other_sites_and_names_are_kept_out(client: TestClient) -> None:
    photo = encoded(picture(0))
    for host in ("evil.example:8000", "10.0.0.1:8000", "[::2]:8000", "127.0.0.1.evil.example"):
        refused(client.post("/v1/embed", content=photo, headers={"host": host}), 421, "localhost")
    for origin in ("http://evil.example", "null", "https://localhost.evil.example"):
        refused(client.post("/v1/embed", content=photo, headers={"origin": origin}), 403, "another site")
    for host in ("localhost:9", "127.0.0.1:8000", "127.0.0.2:8000", "[::1]:8000", "127.0.0.1"):
        same = {"host": host, "origin": f"http://{host}"}
        assert client.post("/v1/embed", content=photo, headers=same).status_code == 200


def test_a_fault_is_told_in_a_line_and_no_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with asked(folder) as client:
        monkeypatch.setattr("gloam.runtime.serve.service.Service.check", lambda self, content: 1 // 0)
        refused(client.post("/v1/embed", content=encoded(picture(0))), 500, "a fault of the service")
        assert "/v1/embed: ZeroDivisionError" in capsys.readouterr().err
        monkeypatch.undo()
        assert client.post("/v1/embed", content=encoded(picture(0))).status_code == 200
