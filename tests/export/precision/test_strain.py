"""Overflow and lost digits in attention and norms are found, and only what needs it stays in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks.padding_exact import lively
from benchmarks.shared.tiny import TRANSFORMERS
from gloam.export.embedder import export_embedder
from gloam.export.precision.convert import convert_precision
from gloam.export.precision.half import rounding_twin, to_half
from gloam.export.precision.release_check import COSINE_LOSS, textured_image
from gloam.export.precision.strain import strained
from gloam.export.written import write_model
from gloam.networks.embedders import create_embedder
from gloam.padding import PaddingProfile
from gloam.runtime.backends.onnx_file import read_card

Feed = dict[str, npt.NDArray[Any]]
SIDE, WIDTH = 84, 32


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow DINOv2 of two blocks, float32, of a fixed profile."""
    torch.manual_seed(0)
    model: Any = lively(create_embedder("dinov2_vits14", **TRANSFORMERS["dinov2_vits14"])).eval()
    file = tmp_path_factory.mktemp("strain") / "model.onnx"
    export_embedder(model, file, profile=PaddingProfile.fixed((SIDE,), (SIDE,), cell=model.cell), provenance={})
    return file


def planted(source: Path, plant: str | None = None) -> Any:
    """The model with weights that strain half precision and nothing else."""
    proto = onnx.load(source)
    tensors = {item.name: item for item in proto.graph.initializer}
    changes: list[tuple[str, Any, float]] = []
    if plant in ("attention", "scores"):
        # The same in the score of every key, so that the softmax stays: in the one case out of the range, in the other
        # so large that neighbours differ by 32.
        bias = "model.features.blocks.1.attn.qkv.bias"
        product = next(node.input[0] for node in proto.graph.node if bias in node.input)
        weight = next(node.input[1] for node in proto.graph.node if product in node.output)
        height = 600.0 if plant == "attention" else 400.0
        for at in (0, WIDTH):
            changes += [(weight, (slice(None), at), 0.0), (bias, at, height)]
    if plant == "norm":  # 400 less the mean, squared, is beyond 65504
        changes.append(("model.features.patch_embed.proj.bias", 0, 400.0))
    for name, at, value in changes:
        values = numpy_helper.to_array(tensors[name]).copy()
        values[at] = value
        tensors[name].CopyFrom(numpy_helper.from_array(values, name))
    return proto


def feeds() -> list[Feed]:
    rng = np.random.default_rng(3)
    given = []
    for height, width in ((56, 84), (84, 84)):
        whole = np.zeros((1, SIDE, SIDE, 3), np.uint8)
        whole[0, :height, :width] = textured_image(rng, height, width)
        given.append({"images": whole, "sizes": np.array([[height, width]], np.int32)})
    return given


def run(proto: Any, given: list[Feed]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["descriptors"], feed)[0] for feed in given])


def loss(found: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]) -> float:
    cosine = (found * truth).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(truth, axis=1)
    return float(1 - cosine.min())


def operators(proto: Any, names: dict[str, str]) -> list[str]:
    return sorted(node.op_type for node in proto.graph.node if not names.keys().isdisjoint(node.output))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_sound_transformer_is_half_throughout(source: Path, precision: Any, tmp_path: Path) -> None:
    proto = planted(source)
    kept = strained(proto, precision, feeds(), tmp_path)
    assert kept == {}
    made, report = to_half(proto, precision, kept)
    # Two blocks of six products and a softmax; of five norms the last, behind which is the tail, is float32.
    assert {name: report.half[name] for name in ("MatMul", "Softmax", "LayerNormalization", "Gelu")} == {
        "MatMul": 12,
        "Softmax": 2,
        "LayerNormalization": 4,
        "Gelu": 2,
    }
    onnx.checker.check_model(made, full_check=True)
    lost = loss(run(rounding_twin(made), feeds()), run(proto, feeds()))
    assert 0 < lost < COSINE_LOSS[precision]


@pytest.mark.parametrize(
    ("plant", "operator", "reason", "expected"),
    [
        ("attention", "Softmax", "overflow", {"Add", "MatMul", "Softmax"}),
        ("scores", "Softmax", "loses", {"Add", "MatMul", "Softmax"}),
        ("norm", "LayerNormalization", "overflow", {"LayerNormalization"}),
    ],
)
def test_only_what_overflows_or_loses_its_digits_stays_in_float32(
    source: Path, plant: str, operator: str, reason: str, expected: set[str], tmp_path: Path
) -> None:
    proto = planted(source, plant)
    truth = run(proto, feeds())
    assert np.isfinite(truth).all()
    plain = rounding_twin(to_half(proto)[0])
    assert not loss(run(plain, feeds()), truth) < COSINE_LOSS["fp16"] / 10
    kept = strained(proto, "fp16", feeds(), tmp_path)
    operators = {name: node.op_type for node in proto.graph.node for name in node.output if name in kept}
    assert set(operators.values()) == expected
    assert {kept[name].split()[0] for name, found in operators.items() if found == operator} == {reason}
    made, report = to_half(proto, "fp16", kept)
    assert report.kept == kept
    assert report.half["MatMul"] == 12 - list(operators.values()).count("MatMul") >= 11
    assert loss(run(rounding_twin(made), feeds()), truth) < COSINE_LOSS["fp16"] / 10


def test_the_cpu_alone_passes_a_norm_that_overflows(source: Path) -> None:
    """Which is why outputs of a plain file are no proof."""
    proto = planted(source, "norm")
    plain, _ = to_half(proto)
    truth = run(proto, feeds())
    assert loss(run(plain, feeds()), truth) < COSINE_LOSS["fp16"]
    assert not loss(run(rounding_twin(plain), feeds()), truth) < COSINE_LOSS["fp16"]


@pytest.mark.parametrize("plant", ["attention", "norm"])
def test_a_converted_file_says_what_it_keeps_and_why(source: Path, plant: str, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    proto = planted(source, plant)
    proto.ClearField("metadata_props")
    write_model(proto, read_card(source), file)
    # Accepted, for its self-test is that of other weights.
    _, conversion = convert_precision(file, tmp_path / "half.onnx", "fp16", accept=True)
    assert conversion.passed
    assert "overflow" in conversion.details["kept"].values()


def test_a_network_without_norms_has_no_body(tmp_path: Path) -> None:
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"])], "graph", [given], [made])
    assert strained(helper.make_model(graph), "fp16", [], tmp_path) == {}
