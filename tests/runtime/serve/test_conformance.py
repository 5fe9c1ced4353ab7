"""Every answer is one that OpenAPI describes, whatever is asked: by schemathesis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies

from gloam.runtime.serve.app import make_app
from gloam.runtime.serve.options import Limits, ServeRequest
from gloam.runtime.serve.service import Service
from tests.runtime.serve.services import encoded, picture, write_indexed

IMAGES = [encoded(picture(seed, size), kind) for kind in ("PNG", "JPEG") for seed, size in enumerate([(64, 48), (33, 90)])]
for kind in ("image/png", "image/jpeg", "application/octet-stream"):
    schemathesis.openapi.media_type(kind, strategies.sampled_from(IMAGES))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    folder: Path = write_indexed(tmp_path_factory.mktemp("api"))
    request = ServeRequest(folder / "tiny.onnx", index=folder / "index", limits=Limits(body=100_000))
    app = make_app(Service.open(request))
    yield schemathesis.openapi.from_asgi("/openapi.json", app, base_url="http://localhost")


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@hypothesis.settings(max_examples=40, deadline=None, database=None, derandomize=True)
def test_answers_are_as_described(case: schemathesis.Case) -> None:
    case.call_and_validate()
