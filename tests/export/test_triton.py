"""A model repository for Triton: its own message parses the configuration, and the model is the file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from gloam.cli.main import main
from gloam.errors import ModelError, UsageError
from gloam.export.triton import write_config
from gloam.export.weights import ExportRequest, export_weights
from gloam.files import sha256_file, write_bytes
from gloam.model_card import ModelCard
from gloam.padding import PaddingProfile
from gloam.runtime.backends.onnx_file import read_card
from tests.fakes.triton_config import DATA_TYPES, model_config
from tests.model_card.test_schema import keypoints, matcher, translator
from tests.tiny_models import write_tiny_embedder


def configuration(folder: Path) -> Any:
    return text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), model_config())


def parameters(stated: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in stated.parameters}


def tensors(stated: Any) -> dict[str, tuple[str, list[int]]]:
    return {each.name: (DATA_TYPES[each.data_type], list(each.dims)) for each in stated}


def test_an_exported_file_is_copied_and_configured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = write_tiny_embedder(tmp_path / "tiny.onnx")
    folder = tmp_path / "models" / "night-2.1"
    assert main(["export", str(tmp_path / "tiny.onnx"), "-o", str(folder), "--triton", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == str(folder / "1" / "model.onnx")
    assert (folder / "1" / "model.onnx").read_bytes() == (tmp_path / "tiny.onnx").read_bytes()
    assert sorted(path.name for path in folder.rglob("*")) == ["1", "config.pbtxt", "model.onnx"]
    stated = configuration(folder)
    assert (stated.name, stated.backend, stated.max_batch_size) == ("night-2.1", "onnxruntime", 64)
    assert stated.default_model_filename == "model.onnx"
    assert stated.HasField("dynamic_batching")
    assert tensors(stated.input) == {"images": ("TYPE_UINT8", [-1, -1, 3])}
    assert tensors(stated.output) == {"descriptors": ("TYPE_FP32", [6])}
    told = parameters(stated)
    assert told["gloam.space"] == card.space()
    assert told["gloam.fingerprint"] == card.fingerprint(sha256_file(tmp_path / "tiny.onnx"))
    assert json.loads(told["gloam.card"])["kind"] == "embedder"


def test_a_fixed_profile_takes_sizes_and_a_batch_of_one_is_stated_in_full(tmp_path: Path) -> None:
    write_tiny_embedder(tmp_path / "tiny.onnx", PaddingProfile.fixed((256,), (256, 512), (1, 1)))
    export_weights(ExportRequest(tmp_path / "m", tmp_path / "tiny.onnx", triton=True))
    stated = configuration(tmp_path / "m")
    assert stated.max_batch_size == 0
    assert not stated.HasField("dynamic_batching")
    assert tensors(stated.input) == {"images": ("TYPE_UINT8", [1, -1, -1, 3]), "sizes": ("TYPE_INT32", [1, 2])}
    assert tensors(stated.output) == {"descriptors": ("TYPE_FP32", [1, 6])}


@pytest.mark.parametrize(
    ("make", "inputs", "outputs"),
    [
        (
            matcher,
            {"keypoints0": ("TYPE_FP32", [-1, 2]), "counts": ("TYPE_INT32", [2]), "scales1": ("TYPE_FP32", [-1])},
            {"matches": ("TYPE_INT32", [9])},
        ),
        (translator, {"domain": ("TYPE_FP32", [3]), "noise": ("TYPE_FP32", [5])}, {"out": ("TYPE_FP32", [4])}),
        (
            keypoints,
            {"images": ("TYPE_UINT8", [-1, -1, 3])},
            {"keypoints": ("TYPE_FP32", [9, 2]), "count": ("TYPE_FP32", [1])},
        ),
    ],
)
def test_every_kind_is_configured(
    tmp_path: Path, make: Callable[[], ModelCard], inputs: dict[str, Any], outputs: dict[str, Any]
) -> None:
    write_bytes(tmp_path / "m" / "1" / "model.onnx", write_tiny(tmp_path))
    write_config(tmp_path / "m", make())
    stated = configuration(tmp_path / "m")
    assert inputs.items() <= tensors(stated.input).items()
    assert outputs.items() <= tensors(stated.output).items()
    assert [list(each.reshape.shape) for each in stated.output if each.HasField("reshape")] == (
        [[]] if make is keypoints else []
    )
    assert {"takes", "keypoints"} & set(json.loads(parameters(stated)["gloam.card"])) == (
        {"takes"} if make is matcher else {"keypoints"} if make is keypoints else set()
    )


def write_tiny(folder: Path) -> bytes:
    write_tiny_embedder(folder / "tiny.onnx")
    return (folder / "tiny.onnx").read_bytes()


@pytest.mark.slow
def test_weights_are_exported_into_the_folder_with_every_option(tmp_path: Path) -> None:
    request = ExportRequest(
        tmp_path / "m", network="gem_resnet18", random_init=0, options={"width": 4}, max_side=320, triton=True
    )
    exported = export_weights(request)
    assert exported.output == tmp_path / "m" / "1" / "model.onnx"
    told = json.loads(parameters(configuration(tmp_path / "m"))["gloam.card"])
    assert told["input_rule"]["max_side"] == 320
    assert told["decoding"]["orientation"] == "upright"
    assert read_card(exported.output) == exported.card


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m.onnx", "name it as the model, without .onnx"),
        ("a file", "name it as the model"),
        ("no good", "of letters, digits"),
        ("-x", "of letters, digits"),
        ('a"b', "of letters, digits"),
    ],
)
def test_what_is_no_folder_of_a_repository_is_refused_before_the_work(tmp_path: Path, name: str, message: str) -> None:
    write_tiny_embedder(tmp_path / "tiny.onnx")
    (tmp_path / "a file").write_text("")
    with pytest.raises(UsageError, match=message) as caught:
        export_weights(ExportRequest(tmp_path / name, tmp_path / "tiny.onnx", triton=True))
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "tiny.onnx"]


def test_a_file_that_is_no_model_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelError, match=r"text\.onnx"):
        export_weights(ExportRequest(tmp_path / "m", tmp_path / "text.onnx", triton=True))
    assert not (tmp_path / "m").exists()


PARSE = """
import sys
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
for path in sys.argv[1:]:
    found = text_format.Parse(open(path, encoding="utf-8").read(), model_config_pb2.ModelConfig())
    print(found.name, found.max_batch_size, len(found.input), len(found.output), sorted(found.parameters))
"""


@pytest.mark.foreign
def test_tritons_own_message_parses_every_kind(tmp_path: Path) -> None:
    folders = []
    for make in (matcher, translator, keypoints):
        folders.append(tmp_path / "models" / make.__name__)
        write_bytes(folders[-1] / "1" / "model.onnx", write_tiny(tmp_path))
        write_config(folders[-1], make())
    python = str(tmp_path / "env" / "bin" / "python")  # of its own: it takes an older protobuf than onnx may
    for words in (
        [sys.executable, "-m", "venv", str(tmp_path / "env")],
        [python, "-m", "pip", "install", "--quiet", "tritonclient[grpc]"],
    ):
        subprocess.run(words, check=True, capture_output=True)
    files = [str(folder / "config.pbtxt") for folder in folders]
    said = subprocess.run([python, "-c", PARSE, *files], check=True, capture_output=True, text=True).stdout.splitlines()
    told = "['gloam.card', 'gloam.fingerprint', 'gloam.space']"
    assert said == [f"matcher 64 11 2 {told}", f"translator 64 3 1 {told}", f"keypoints 64 1 4 {told}"]
