"""Every answer is one that OpenAPI describes, whatever is asked: by schemathesis."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies
from schemathesis import GenerationMode

from gloam.runtime.serve.app import make_app
from gloam.runtime.serve.options import Limits, ServeRequest
from gloam.runtime.serve.service import Service
from tests.runtime.serve.services import encoded, picture, write_indexed

IMAGES = [
    encoded(picture(seed, size), kind) for kind in ("PNG", "JPEG") for seed, size in enumerate([(64, 48), (33, 90)])
]
for kind in ("image/png", "image/jpeg", "application/octet-stream"):
    schemathesis.openapi.media_type(kind, strategies.sampled_from(IMAGES))


OPERATIONS = ["GET /health", "GET /metrics", "POST /v1/embed", "POST /v1/search"]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = write_indexed(tmp_path_factory.mktemp("api"))
    request = ServeRequest(folder / "tiny.onnx", index=folder / "index", limits=Limits(body=100_000))
    app = make_app(Service.open(request), local=False)  # it asks by another name
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def test_every_operation_is_asked(api: Any) -> None:
    asked = {operation.ok().label for operation in api.get_all_operations()}
    assert asked == set(OPERATIONS)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_answers_are_as_described(api: Any, operation: str, mode: GenerationMode) -> None:
    method, path = operation.split()
    cases = api[path][method].as_strategy(generation_mode=mode)

    @hypothesis.given(case=cases)
    @hypothesis.settings(
        max_examples=12,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate()

    try:
        ask()
    except hypothesis.errors.Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # nothing can be wrong of what takes nothing
