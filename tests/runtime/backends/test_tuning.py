"""A tuning profile decides for its own model, machine and versions alone, and says so."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gloam.errors import ModelError
from gloam.files import sha256_file
from gloam.runtime.backends.open import open_session
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.processor import Processor, find_processor
from gloam.runtime.backends.tuning import Choice, TuneProfile, backend_versions, find_profile, profile_path
from gloam.runtime.models.embedder import Embedder
from tests.tiny_models import write_tiny_embedder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_tiny_embedder(tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


def profile_of(model: Path, choice: Choice, allowed: tuple[str, ...] = ()) -> TuneProfile:
    machine = find_processor()
    versions = backend_versions()
    return TuneProfile(
        "f" * 64, sha256_file(model), machine.model, machine.cores, versions, choice, 30.0, 20.0, allowed
    )


def test_a_profile_is_honoured_and_named(model: Path) -> None:
    plain = Embedder.load(model)
    path = profile_of(model, Choice("openvino", 1, 1)).save(model)
    assert path == profile_path(model) == model.with_name("tiny.onnx.tune.json")
    assert TuneProfile.read(path) == profile_of(model, Choice("openvino", 1, 1))
    tuned = Embedder.load(model)
    assert (tuned.session.backend.backend, tuned.session.backend.threads) == ("openvino", 1)
    expected = "tiny.onnx.tune.json: openvino, 1 thread, 1 at once was the fastest here, 1.50x the default"
    assert tuned.session.backend.why == expected
    assert (tuned.space, tuned.fingerprint) == (plain.space, plain.fingerprint)
    automatic = open_session(model, Placement("auto")).backend
    assert automatic.why.endswith(expected)
    assert automatic.why.startswith("auto: ")


def test_the_number_of_runs_at_once_can_be_said_apart(model: Path) -> None:
    profile_of(model, Choice("onnxruntime", 2, 2)).save(model)
    assert open_session(model).backend.requests == 2
    one = open_session(model, Placement(requests=1)).backend
    plain = open_session(model, Placement(threads=2, backend="onnxruntime")).backend
    assert one.why != plain.why
    assert replace(one, why="") == replace(plain, why="")


@pytest.mark.parametrize("options", [{"threads": 1}, {"backend": "onnxruntime"}, {"cpu_precision": "f32"}])
def test_what_is_asked_for_wins(model: Path, options: dict[str, Any]) -> None:
    profile_of(model, Choice("openvino", 2, 2)).save(model)
    backend = open_session(model, Placement(**options)).backend
    assert backend.backend == "onnxruntime"
    assert backend.why == "asked for; tiny.onnx.tune.json is left aside"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"onnx_sha256": "0" * 64}, "another model"),
        ({"cpu": "Pentium"}, "another machine .*Pentium"),
        ({"cores": 640}, "another machine .640 cores"),
        ({"versions": {"openvino": "2020.1"}}, "another version .*onnxruntime absent"),
    ],
)
def test_a_profile_of_something_else_is_left_aside_and_that_is_said(
    model: Path, change: dict[str, Any], said: str
) -> None:
    dataclasses.replace(profile_of(model, Choice("openvino", 1, 1)), **change).save(model)
    backend = open_session(model).backend
    assert backend.backend == "onnxruntime"
    profile, why = find_profile(model)
    assert profile is None
    assert backend.why == why
    assert why.startswith("tiny.onnx.tune.json is of another ")
    assert re.search(said, why)


def test_a_new_backend_makes_a_profile_old(model: Path) -> None:
    saved = profile_of(model, Choice("onnxruntime", 1, 1))
    saved.save(model)
    machine = Processor(saved.cpu, saved.cores)
    assert find_profile(model, machine, saved.versions)[0] == saved
    assert find_profile(model, machine, {**saved.versions, "onnxruntime-gpu": "1.31"})[0] is None
    assert find_profile(model.with_name("other.onnx")) == (None, "")


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: "",
        lambda value: "{",
        lambda value: "[]",
        lambda value: json.dumps({**value, "schema": 2}),
        lambda value: json.dumps({**value, "choice": {**value["choice"], "backend": "tvm"}}),
        lambda value: json.dumps({**value, "choice": {**value["choice"], "requests": 9}}),
        lambda value: json.dumps({**value, "choice": {**value["choice"], "cpu_precision": "bf16"}}),  # not allowed
        lambda value: json.dumps({**value, "choice": {"backend": "openvino"}}),
        lambda value: json.dumps({**value, "more": 1}),
        lambda value: json.dumps({**value, "images_per_second": "fast"}),
        lambda value: json.dumps({**value, "default_images_per_second": 0}),
        lambda value: json.dumps({**value, "images_per_second": float("nan")}),
        lambda value: json.dumps({**value, "versions": 3}),
        lambda value: json.dumps({name: value[name] for name in value if name != "cpu"}),
    ],
)
def test_a_damaged_profile_is_one_line(model: Path, damage: Any) -> None:
    path = profile_of(model, Choice("openvino", 1, 1)).save(model)
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(ModelError, match=r"tiny\.onnx\.tune\.json: not a readable tuning profile.*delete it") as caught:
        open_session(model)
    assert "\n" not in str(caught.value)
    assert open_session(model, Placement(backend="onnxruntime")).backend.backend == "onnxruntime"  # asked for: not read
