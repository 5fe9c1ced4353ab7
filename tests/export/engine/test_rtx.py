"""Real exports through the parser and the builder of TensorRT for RTX, which need no GPU. No engine runs here."""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from gloam.cli.main import main
from gloam.errors import DeviceError, GloamError, ImageError, ModelError, StoreError, UsageError
from gloam.export.engine import build as build_module
from gloam.export.engine.build import BuiltEngine, build_engine
from gloam.export.engine.options import BuildOptions
from gloam.export.engine.serialize import _expect_types, serialize
from gloam.export.precision.int8 import to_int8
from gloam.export.weights import ExportRequest, export_weights
from gloam.files import write_json
from gloam.model_card import ModelCard
from gloam.record import to_json
from gloam.runtime.backends.cuda.driver import Driver
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.selftest_formulas import selftest_digest, selftest_inputs
from gloam.runtime.backends.tensorrt.api import EngineLog, create_network, load_rtx, make_logger
from gloam.runtime.backends.tensorrt.engine_card import read_engine_card
from gloam.runtime.backends.tensorrt.session import TensorRTSession
from gloam.runtime.descriptors.whitening import Whitening
from tests.damage import without_checksum
from tests.tiny_translators import write_tiny_translator

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="TensorRT for RTX is not installed; pip install 'gloam[tensorrt-rtx]'",
)
ALL = BuildOptions(target="rtx")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A padding-exact ResNet, narrow."""
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_weights(
        ExportRequest(
            path,
            network="gem_resnet18",
            random_init=0,
            options={"width": 8},
            profile="fixed",
            sides=(256,),
            max_batch=4,
        )
    )
    return path


@pytest.fixture(scope="module")
def built(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> BuiltEngine:
    return build_engine(exported, tmp_path_factory.mktemp("engine"), ALL)


@pytest.fixture
def copied(built: BuiltEngine, tmp_path: Path) -> Path:
    """A folder with the engine, to be spoilt."""
    for name in ("model.engine", "model.json"):
        (tmp_path / name).write_bytes(built.plan.with_name(name).read_bytes())
    return tmp_path


def one_line(error: BaseException) -> str:
    assert isinstance(error, GloamError)
    assert "\n" not in str(error)
    assert len(str(error)) < 700
    return str(error)


def test_an_export_becomes_an_engine_with_a_card_and_a_sentence(built: BuiltEngine) -> None:
    key, card = built.card.key, built.card
    assert key.target == "rtx"
    assert key.architectures == ("sm80", "sm86", "sm89", "sm120", "sm121")
    assert key.tensorrt == load_rtx().__version__
    assert (key.gpu, key.driver) == ("", "")
    assert card.plan_bytes == built.plan.stat().st_size > 100_000
    assert card.build["memory"]["activations"]["256x256"] > 1_000_000
    assert card.build["memory"]["weights"] > 100_000
    assert card.build["layers"]["CONVOLUTION"] == {"FLOAT": 20}
    text = str(built)
    assert f"TensorRT for RTX {key.tensorrt}: runs on all of them with this version; kernels are compiled" in text
    assert "GPU memory for a batch of 4: 256x256 " in text
    assert not (built.plan.parent / "timing.cache").exists()


def test_the_same_is_used_again_and_another_list_is_built(exported: Path, copied: Path) -> None:
    assert build_engine(exported, copied, ALL).reused
    fewer = dataclasses.replace(ALL, architectures=("sm89", "sm80"))
    assert not build_engine(exported, copied, fewer).reused
    again = build_engine(exported, copied, dataclasses.replace(ALL, architectures=("sm80", "sm89")))
    assert again.reused  # the order says nothing
    assert again.card.key.architectures == ("sm80", "sm89")


def test_a_truncated_plan_is_named_and_built_again(exported: Path, copied: Path) -> None:
    plan = copied / "model.engine"
    plan.write_bytes(plan.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"truncated, .*; build it again with `gloam engine --for rtx`") as caught:
        TensorRTSession(copied)
    one_line(caught.value)
    plan.write_bytes(plan.read_bytes() + b"x" * 1000)
    with pytest.raises(ModelError, match="not the engine that its card describes"):
        TensorRTSession(copied)
    assert not build_engine(exported, copied, ALL).reused


def test_a_plan_of_another_version_is_named_and_built_again(exported: Path, copied: Path) -> None:
    card = read_engine_card(copied / "model.engine")
    key = dataclasses.replace(card.key, tensorrt="1.6.0.35")
    stated = json.loads((copied / "model.json").read_text()) | {"key": to_json(key), "key_sha256": key.digest()}
    write_json(copied / "model.json", stated)
    here = load_rtx().__version__
    with pytest.raises(DeviceError, match=rf"of TensorRT for RTX 1\.6\.0\.35, but {here} is here; build it") as caught:
        TensorRTSession(copied)
    one_line(caught.value)
    assert not build_engine(exported, copied, ALL).reused


def test_without_a_gpu_an_engine_is_refused_in_one_line(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gloam.runtime.backends.cuda.driver.find_driver", lambda: Driver(None, [], "no NVIDIA driver"))
    with pytest.raises(DeviceError, match="no NVIDIA driver") as caught:
        TensorRTSession(copied)
    one_line(caught.value)


def test_a_log_on_a_full_disk_ends_the_build_and_not_the_process(exported: Path, tmp_path: Path) -> None:
    """The library calls the log from its own code, which no exception may cross."""
    (tmp_path / "build.log").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"build\.log: the disk is full") as caught:
        build_engine(exported, tmp_path, ALL)
    one_line(caught.value)
    assert not (tmp_path / "model.engine").exists()


def test_a_plan_on_a_full_disk_leaves_what_was_there(
    exported: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (copied / "model.engine").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gloam.files.os.fsync", full)
    with pytest.raises(StoreError, match=r"model\.engine: the disk is full") as caught:
        build_engine(exported, copied, dataclasses.replace(ALL, architectures=("sm89",)))
    one_line(caught.value)
    assert (copied / "model.engine").read_bytes() == before
    assert not list(copied.glob(".tmp-*"))


def unwelcome(exported: Path, path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> Path:
    """A file with the card of a real export and a graph that the parser refuses."""
    model = onnx.load(exported)
    model.graph.CopyFrom(helper.make_graph(nodes, "unwelcome", inputs, outputs))
    onnx.save(without_checksum(model), path)
    return path


def test_a_refusal_of_the_parser_says_node_reason_and_what_to_do(exported: Path, tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    floats, counts = value("x", TensorProto.FLOAT, [1, 4]), value("i", TensorProto.INT64, [1, 4])
    graphs = {
        r"the node 'turn' \(Transpose\): .* input has type UInt8 .*; export the model again, with this gloam": (
            [helper.make_node("Transpose", ["x"], ["t"], "turn"), helper.make_node("Cast", ["t"], ["y"], "c", to=1)],
            [value("x", TensorProto.UINT8, [4, 4])],
            [value("y", TensorProto.FLOAT, [4, 4])],
        ),
        r"the node 'count' \(ScatterElements\): Unsupported reduction type; export the model again": (
            [helper.make_node("ScatterElements", ["x", "i", "x"], ["y"], "count", axis=1, reduction="add")],
            [floats, counts],
            [value("y", TensorProto.FLOAT, [1, 4])],
        ),
        r"the node 'where' \(NonZero\): .*NonZero.* was not found .*; run the ONNX file, or update TensorRT": (
            [helper.make_node("NonZero", ["x"], ["y"], "where")],
            [floats],
            [value("y", TensorProto.INT64, [2, "n"])],
        ),
    }
    for reason, graph in graphs.items():
        with pytest.raises(ModelError, match=f"TensorRT for RTX .* cannot take {reason}") as caught:
            build_engine(unwelcome(exported, tmp_path / "u.onnx", *graph), tmp_path / "e", ALL)
        assert "cudaError" not in one_line(caught.value)
    assert not (tmp_path / "e" / "model.engine").exists()


@pytest.mark.parametrize("workspace", [1000, 1_000_000])
def test_a_workspace_that_is_too_small_is_called_that(exported: Path, tmp_path: Path, workspace: int) -> None:
    with pytest.raises(UsageError, match=r"a workspace of .* MiB is too small .*; give a larger --workspace") as caught:
        build_engine(exported, tmp_path, dataclasses.replace(ALL, workspace=workspace))
    assert "memory of the GPU" not in one_line(caught.value)


def test_what_rtx_has_not_is_refused_before_anything_is_read() -> None:
    for options, reason in (
        ({"version_compatible": True}, "the library that they need is in none of its packages"),
        ({"hardware": "ampere-plus"}, "has no --hardware; name the GPUs .* with --gpu"),
        ({"architectures": ("sm80", "sm90")}, "does not build for sm90; --gpu takes sm75, sm80"),
        ({"architectures": ()}, "does not build for no GPU"),
        ({"target": "tensorrt", "architectures": ("sm80",)}, "--gpu goes with --for rtx"),
    ):
        with pytest.raises(UsageError, match=reason) as caught:
            BuildOptions(**({"target": "rtx"} | options))  # type: ignore[arg-type]
        one_line(caught.value)


def serialized(path: Path, card: ModelCard | None = None) -> Any:
    given = card or read_card(path)
    shapes = {spec.name: [spec.sized(1, 256, 256, "here")] * 3 for spec in given.inputs}
    return serialize(load_rtx(), path, given, [shapes], ALL, EngineLog())


@pytest.mark.parametrize(("precision", "narrow"), [("fp16", "HALF"), ("bf16", "BF16")])
def test_half_precision_is_what_the_card_says(exported: Path, tmp_path: Path, precision: str, narrow: str) -> None:
    export_weights(
        ExportRequest(tmp_path / "h.onnx", weights=exported, precision=precision, accept_loss=True)  # type: ignore[arg-type]
    )
    made = serialized(tmp_path / "h.onnx")
    assert made.layers["CONVOLUTION"] == {narrow: 20}
    assert made.layers["REDUCE"] == {"FLOAT": made.layers["REDUCE"]["FLOAT"]}  # sums of pooling and of the norm
    lie = dataclasses.replace(read_card(tmp_path / "h.onnx"), precision="fp32")
    with pytest.raises(
        ModelError, match=rf"would compute \w+ layers in {narrow}, which a model in fp32 keeps"
    ) as caught:
        serialized(tmp_path / "h.onnx", lie)
    one_line(caught.value)


@pytest.mark.parametrize(("precision", "narrow"), [("fp16", "HALF"), ("bf16", "BF16")])
def test_a_transformer_is_built_with_its_body_in_half(tmp_path: Path, precision: str, narrow: str) -> None:
    exact = tmp_path / "m.onnx"
    options = {"width": 32, "depth": 2, "heads": 2, "table": 5}
    export_weights(ExportRequest(exact, network="dinov2_vits14", random_init=0, options=options, max_batch=2))
    export_weights(ExportRequest(tmp_path / "h.onnx", weights=exact, precision=precision, accept_loss=True))  # type: ignore[arg-type]
    card = read_card(tmp_path / "h.onnx")
    shapes = {spec.name: [spec.sized(1, 252, 252, "here")] * 3 for spec in card.inputs}
    layers = serialize(load_rtx(), tmp_path / "h.onnx", card, [shapes], ALL, EngineLog()).layers
    # Six products and a softmax a block, and all norms but the last, are half; positions and the tail are float32.
    assert layers["MATRIX_MULTIPLY"] == {"FLOAT": 2, narrow: 12}
    assert layers["SOFTMAX"] == {narrow: 2}
    assert layers["NORMALIZATION"] == {"FLOAT": 1, narrow: 4}
    assert layers["REDUCE"] == {"FLOAT": layers["REDUCE"]["FLOAT"]}


def test_products_are_half_in_a_transformers_body_alone(tmp_path: Path, exported: Path) -> None:
    half = dataclasses.replace(read_card(exported), precision="fp16")
    body = {"MATRIX_MULTIPLY": {"HALF": 3}, "SOFTMAX": {"HALF": 1}, "NORMALIZATION": {"HALF": 2}}
    _expect_types(half, body, tmp_path, "TensorRT")
    for precision, layers, kind in (
        ("fp16", {"MATRIX_MULTIPLY": {"HALF": 3}}, "matrix_multiply"),
        ("fp16", body | {"NORMALIZATION": {"FLOAT": 2}}, "matrix_multiply"),
        ("bf16", body, "matrix_multiply"),
        ("int8", body | {"NORMALIZATION": {"INT8": 1}}, "matrix_multiply"),
        ("fp16", body | {"REDUCE": {"HALF": 1}}, "reduce"),
    ):
        with pytest.raises(ModelError, match=f"would compute {kind} layers"):
            _expect_types(dataclasses.replace(half, precision=precision), layers, tmp_path, "TensorRT")


def test_int8_of_a_convolution_with_a_bias_is_taken(tmp_path: Path) -> None:
    """The parser refuses int32 biases; ONNX Runtime makes them itself, and computes in int8 all the same."""
    rng = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in (("w", (4, 3, 3, 3)), ("b", (4,)), ("v", (4, 4, 3, 3)), ("c", (4,)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["y"], "first", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["y"], ["z"], "relu"),
        helper.make_node("Conv", ["z", "v", "c"], ["out"], "second", kernel_shape=[3, 3]),
    ]
    value = helper.make_tensor_value_info
    given, made = value("x", TensorProto.FLOAT, [1, 3, 16, 16]), value("out", TensorProto.FLOAT, [1, 4, 12, 12])
    graph = helper.make_graph(nodes, "biased", [given], [made], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    feeds = [{"x": rng.normal(size=(1, 3, 16, 16)).astype(np.float32)} for _ in range(8)]
    quantized, report = to_int8(proto, feeds, lambda model: 0.0, 1.0)
    assert report.quantized == 2
    assert not [item.name for item in quantized.graph.initializer if item.data_type == TensorProto.INT32]
    trt, log = load_rtx(), EngineLog()
    logger = make_logger(trt, log)
    builder = trt.Builder(logger)
    network = create_network(trt, builder)
    assert trt.OnnxParser(network, logger).parse(quantized.SerializeToString()), log.errors
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(quantized.SerializeToString(), options)
    loaded = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert loaded.count("QLinearConv") == 2


@pytest.mark.slow
def test_turing_is_built_for_where_it_can_be_and_is_said(exported: Path, tmp_path: Path) -> None:
    older = dataclasses.replace(ALL, architectures=("sm75", "sm80"))
    assert build_engine(exported, tmp_path / "e", older).card.key.architectures == ("sm75", "sm80")
    export_weights(ExportRequest(tmp_path / "h.onnx", weights=exported, precision="bf16", accept_loss=True))
    with pytest.raises(UsageError, match=r"sm75 has no bf16, .*; leave it out of --gpu, or export the model in fp16"):
        build_engine(tmp_path / "h.onnx", tmp_path / "e", older)
    whitening = Whitening(np.zeros(64), np.eye(64)).save(tmp_path / "whitening.npz")
    export_weights(
        ExportRequest(
            tmp_path / "w.onnx",
            network="gem_resnet18",
            random_init=0,
            options={"width": 8},
            profile="fixed",
            sides=(256,),
            whitening=whitening,
        )
    )
    with pytest.raises(
        UsageError, match=r"for sm75 \(.*FP32 GEMM is not supported.*\); leave it out of --gpu"
    ) as caught:
        build_engine(tmp_path / "w.onnx", tmp_path / "e", older)
    one_line(caught.value)
    assert not build_engine(tmp_path / "w.onnx", tmp_path / "e", ALL).reused


def test_the_command_builds_reuses_and_reports(
    exported: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["engine", str(exported), "-o", str(copied), "--for", "rtx", "--json"]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["reused"] is True
    assert report["target"] == "rtx"
    assert report["architectures"][0] == "sm80"
    assert main([*command, "--gpu", "SM89,sm80"]) == 0
    assert json.loads(capsys.readouterr().out)["architectures"] == ["sm80", "sm89"]
    assert main([*command, "--timing-cache", str(copied / "t")]) == 2
    assert capsys.readouterr().err == (
        "gloam engine: TensorRT for RTX times nothing when it builds; leave out --timing-cache\n"
    )
    assert main([*command, "--gpu", "sm90"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_driver_is_looked_for(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "open_device", lambda: pytest.fail("a GPU was asked for"))
    monkeypatch.setattr("gloam.runtime.backends.cuda.driver.find_driver", lambda: pytest.fail("a driver was asked for"))
    assert not build_engine(exported, tmp_path, ALL).reused


def test_a_file_of_any_size_is_built_for_the_sizes_of_a_camera(tmp_path: Path) -> None:
    """It has a self-test at one of them, by ONNX Runtime, and takes images of these sizes alone."""
    path = tmp_path / "edges.onnx"
    write_tiny_translator(path, kind="edges")
    with pytest.raises(UsageError, match=r"name those of your images, e.g. --heights 576 --widths 1024"):
        build_engine(path, tmp_path / "engine", ALL)
    with pytest.raises(UsageError, match=r"a side of 101 px; the model takes sides of .* multiples of 4"):
        build_engine(path, tmp_path / "engine", dataclasses.replace(ALL, heights=(101,), widths=(128,)))
    sizes = dataclasses.replace(ALL, heights=(96, 64), widths=(128,), batch=(1, 1, 2))
    built = build_engine(path, tmp_path / "engine", sizes)
    assert built.shapes == ["128x64", "128x96"]
    card = read_engine_card(built.plan).session_card()
    assert (card.profile.kind, card.profile.heights, card.profile.widths) == ("dynamic", (64, 96), (128,))
    assert card.selftest is not None
    assert card.selftest.shape == (1, 64, 128)
    found = selftest_digest("edges", list(OrtSession(path).run(selftest_inputs(card, card.selftest)).values()))
    assert card.selftest.output == tuple(found.reshape(-1))
    assert card.profile.shape_for(96, 128) == (96, 128)
    with pytest.raises(
        ImageError, match=r"is none of the sizes that this engine was built for \(widths 128; heights 64, 96"
    ):
        card.profile.shape_for(128, 128)
    assert build_engine(path, tmp_path / "engine", sizes).reused
