"""Another precision of an exported file, and the release check that lets it be written."""

import json

import cv2
import numpy as np
import onnx
import pytest
import torch

from gloam.cli.main import main
from gloam.data.sources import find_images
from gloam.errors import IncompatibleError, ModelError, UsageError
from gloam.export.embedder import export_embedder
from gloam.export.precision.convert import convert_precision
from gloam.export.precision.int8 import _float_between, _named, _Quantizer, _ranges_behind, to_int8
from gloam.export.precision.release_check import textured_image
from gloam.export.translator import export_translator
from gloam.networks.embedders import create_embedder
from gloam.networks.translators import create_generator
from gloam.padding import PaddingProfile
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.ort import OrtSession
from gloam.runtime.backends.placement import Placement
from gloam.runtime.backends.selftest import run_selftest
from gloam.runtime.models.embedder import Embedder


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("exact") / "embedder.onnx"
    export_embedder(create_embedder("gem_resnet18", width=8).eval(), path, provenance={})
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Four places with five images each; what a place shows is the same but for noise."""
    folder = tmp_path_factory.mktemp("photographs")
    for place in range(4):
        scene = textured_image(np.random.default_rng(place), 96, 128).astype(np.int16)
        for view in range(5):
            noise = np.random.default_rng([place, view]).integers(-20, 20, scene.shape)
            (folder / f"place{place}").mkdir(exist_ok=True)
            cv2.imwrite(str(folder / f"place{place}" / f"{view}.png"), (scene + noise).clip(0, 255).astype(np.uint8))
    return folder


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_converted_embedder_describes_nearly_the_same(exact, photographs, tmp_path, precision):
    items = find_images(photographs)
    out = tmp_path / "made.onnx"
    card, done = convert_precision(exact, out, precision, items=items, tolerance=1e-2)
    assert done.passed
    assert 0 < done.loss <= 1e-2
    assert done.images == len(items) // 2
    assert done.task["mAP"] == pytest.approx(done.task["mAP_fp32"], abs=0.1)
    model, original = Embedder.load(out), Embedder.load(exact)
    assert model.card.precision == card.precision == precision
    assert model.space == original.space
    assert model.fingerprint != original.fingerprint
    image = textured_image(np.random.default_rng(9), 100, 80)
    found, truth = model([image])[0], original([image])[0]
    assert 1 - float(found @ truth) < 1e-2
    assert not np.array_equal(found, truth)
    difference, allowed = run_selftest(OrtSession(out))
    assert difference <= allowed


def test_bf16_is_judged_by_a_twin_that_rounds_and_loses_more_than_fp16(exact, photographs, tmp_path):
    items, out = find_images(photographs), tmp_path / "bf16.onnx"
    card, done = convert_precision(exact, out, "bf16", items=items)
    _, half = convert_precision(exact, tmp_path / "fp16.onnx", "fp16", items=items)
    assert done.passed
    assert half.loss < done.loss < 1e-3
    assert done.task["mAP"] == pytest.approx(done.task["mAP_fp32"], abs=0.1)
    assert (card.precision, read_card(out)) == ("bf16", card)
    proto = onnx.load(out)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == 22
    assert done.details["half"]["Conv"] == sum(node.op_type == "Conv" for node in proto.graph.node)
    with pytest.raises(ModelError, match=r"bf16.onnx: ONNX Runtime lacks an operator in bf16 .*Conv.*gloam engine"):
        Embedder.load(out)
    model = Embedder.load(out, Placement(backend="openvino"))
    image = textured_image(np.random.default_rng(9), 100, 80)
    loss = 1 - float(model([image])[0] @ Embedder.load(exact)([image])[0])
    assert done.loss / 10 < loss < 3 * done.loss  # weights in bf16, whatever the processor adds in
    assert model.session.backend.precision == "bf16"


def test_an_overflow_of_fp16_fails_the_check_on_any_machine(tmp_path):
    """ONNX Runtime's CPU computes fp16 in float32, and would let it pass."""
    torch.manual_seed(0)
    model = create_embedder("gem_resnet18", width=8).eval()
    with torch.no_grad():
        next(layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)).weight.mul_(3e5)
    export_embedder(model, tmp_path / "m.onnx", provenance={})
    with pytest.raises(IncompatibleError, match=r"half.onnx: not written, because fp16 misses the release check"):
        convert_precision(tmp_path / "m.onnx", tmp_path / "half.onnx", "fp16")
    assert not (tmp_path / "half.onnx").exists()
    assert convert_precision(tmp_path / "m.onnx", tmp_path / "bf16.onnx", "bf16")[1].passed


def test_int8_holds_quantised_convolutions_per_channel(exact, photographs, tmp_path):
    out = tmp_path / "int8.onnx"
    _, done = convert_precision(exact, out, "int8", items=find_images(photographs), tolerance=1.0)
    graph = onnx.load(out).graph
    made_by = {name: node for node in graph.node for name in node.output}
    weights = {item.name: item for item in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert done.details["quantized"] == len(convolutions)
    for node in convolutions:
        assert made_by[node.input[0]].op_type == made_by[node.input[1]].op_type == "DequantizeLinear"
        scale = weights[made_by[node.input[1]].input[1]]
        assert list(scale.dims) == [weights[made_by[node.input[1]].input[0]].dims[0]]
    for node in graph.node:
        if node.op_type in ("Pow", "ReduceMean", "ReduceL2"):
            assert made_by[node.input[0]].op_type != "DequantizeLinear"


def test_int8_gives_a_convolution_the_range_behind_its_relu_and_leaves_a_bit(exact, photographs, tmp_path):
    out = tmp_path / "int8.onnx"
    convert_precision(exact, out, "int8", items=find_images(photographs), tolerance=1.0)
    graph = onnx.load(out).graph
    values = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    rectified = 0
    for node in graph.node:
        if node.op_type == "Conv":
            assert np.abs(values[made_by[node.input[1]].input[0]]).max() <= 64  # 7 bits: no overflow without VNNI
        if node.op_type == "QuantizeLinear" and made_by.get(node.input[0], node).op_type == "Relu":
            before = made_by[made_by[node.input[0]].input[0]]  # DequantizeLinear of what the convolution gave
            if before.op_type == "DequantizeLinear" and made_by[made_by[before.input[0]].input[0]].op_type == "Conv":
                assert values[before.input[1]] == values[node.input[1]]
                rectified += 1
    assert rectified > 3


def test_the_range_behind_a_relu_is_found_behind_the_masks_too(tmp_path):
    def node(kind, *names):
        return onnx.helper.make_node(kind, names[:-1], names[-1:])

    chain = [node("Conv", "x", "w", "c"), node("Clip", "c", "r"), node("Mul", "r", "rows", "m"),
             node("Mul", "m", "columns", "n"), node("Conv", "n", "w", "d"), node("Relu", "d", "e"),
             node("Relu", "d", "f")]  # fmt: skip
    graph = onnx.helper.make_graph(chain, "g", [], [])
    ends = {"lowest": {"data": [0.0]}, "highest": {"data": [6.0]}}
    (tmp_path / "ranges").write_text(json.dumps({"data": {"n": ends, "e": ends}}))
    found = _ranges_behind(onnx.helper.make_model(graph), tmp_path / "ranges")
    assert found == {"c": [{"rmin": 0.0, "rmax": 6.0}]}  # "d" is read twice, and its range is its own


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        (("Clip", "c", "least", "most", "y"), (1e-6, 6.0)),
        (("Clip", "c", "least", "y"), (1e-6, 30.0)),
        (("Clip", "c", "", "most", "y"), (-40.0, 6.0)),
        (("Relu", "c", "y"), (0.0, 30.0)),
    ],
)
def test_where_only_float_operators_read_a_relu_its_own_ends_count(tmp_path, behind, expected):
    """As behind the last convolution: a step of the whole range would be coarse below 6."""
    values = [onnx.numpy_helper.from_array(np.float32(end), name) for name, end in (("least", 1e-6), ("most", 6.0))]
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], ["c"]), onnx.helper.make_node(behind[0], behind[1:-1], ["y"])]
    nodes.append(onnx.helper.make_node("Pow", ["y", "p"], ["z"]))
    graph = onnx.helper.make_graph(nodes, "g", [], [], values)
    (tmp_path / "ranges").write_text(
        json.dumps({"data": {"c": {"lowest": {"data": [-40.0]}, "highest": {"data": [30.0]}}}})
    )
    found = _ranges_behind(onnx.helper.make_model(graph), tmp_path / "ranges")["c"][0]
    assert (found["rmin"], found["rmax"]) == (np.float32(expected[0]), np.float32(expected[1]))


@pytest.mark.parametrize("masked", [False, True])
def test_what_lies_between_float_convolutions_is_float(tmp_path, masked):
    """A sum rounded to int8 between them would cost cosine and gain nothing."""
    torch.manual_seed(0)
    profile = PaddingProfile.fixed((256,), (256,)) if masked else None
    export_embedder(
        create_embedder("gem_vgg16", stages=((8, 1), (16, 2))), tmp_path / "m.onnx", profile=profile, provenance={}
    )
    graph, convolutions = _named(onnx.load(tmp_path / "m.onnx"))
    feed = {"images": textured_image(np.random.default_rng(0), 256, 256)[None]}
    if masked:
        feed["sizes"] = np.array([[200, 256]], np.int32)
    quantizer = _Quantizer(graph, [feed] * 2, tmp_path)

    def quantised(excluded):
        return sum(node.op_type == "QuantizeLinear" for node in quantizer.quantize(excluded).graph.node)

    assert quantised(convolutions[1:]) == 2  # what goes into the first, and what comes out
    assert quantised(convolutions) == 0
    last = [name for name in convolutions if name != convolutions[-1]]
    assert quantised(last) == 2
    assert quantised(()) > 2 * len(convolutions)


def test_a_sum_with_a_constant_is_float():
    """TensorRT refuses the constant in int8 where another operator reads it too, and the formula would be rounded."""
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["a"], "first"),
        make("Add", ["a", "one"], ["b"], "constant"),
        make("Add", ["a", "b"], ["c"], "residual"),
        make("Conv", ["c", "w"], ["d"], "second"),
    ]
    weights = [onnx.numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")]
    weights.append(onnx.numpy_helper.from_array(np.float32(1), "one"))
    given, made = (onnx.helper.make_tensor_value_info(name, 1, [1, 4, 8, 8]) for name in ("x", "d"))
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [given], [made], weights))
    assert "constant" in _float_between(model, ())
    nodes[2].input[1] = "a"  # what is added comes from int8 alone
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [given], [made], weights))
    assert _float_between(model, ()) == ["constant"]


def test_convolutions_that_cost_too_much_stay_in_float32(exact):
    proto = onnx.load(exact)
    feeds = [{"images": textured_image(np.random.default_rng(seed), 64, 64)[None]} for seed in range(8)]
    first = next(node.input[1] for node in proto.graph.node if node.op_type == "Conv")

    def measure(model):
        """As if quantising the first convolution alone cost anything."""
        made_by = {name: node for node in model.graph.node for name in node.output}
        node = next(node for node in model.graph.node if node.op_type == "Conv")
        return 0.5 if node.input[1] != first and node.input[1] in made_by else 1e-4

    made, report = to_int8(proto, feeds, measure, tolerance=1e-3)
    assert measure(made) == report.loss == 1e-4
    names = _named(proto)[1]
    assert report.float32 == (names[0],)  # of its group, the others returned
    assert report.kept == 1
    assert report.returned == -(-len(names) // 10) - 1 == len(report.losses) - 1
    assert report.losses[names[0]] == 0.5
    assert report.quantized + report.kept == sum(node.op_type == "Conv" for node in proto.graph.node)
    assert max(report.group_losses.values()) == 0.5
    assert min(report.group_losses.values()) == 1e-4


def test_single_convolutions_return_until_the_tolerance_is_full(exact):
    """Each costs its own number, and together they cost the sum: the cheapest that fit are in int8, and no more."""
    proto = onnx.load(exact)
    feeds = [{"images": textured_image(np.random.default_rng(seed), 64, 64)[None]} for seed in range(8)]
    weights = [node.input[1] for node in proto.graph.node if node.op_type == "Conv"]
    cost = {name: 2.0 ** (index % 7) for index, name in enumerate(weights)}
    ranked = []

    def measure(model):
        kept = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
        return sum(value for name, value in cost.items() if name not in kept)

    def rank(model):
        ranked.append(measure(model))
        return ranked[-1]

    tolerance = sum(cost.values()) / 2
    made, report = to_int8(proto, feeds, measure, tolerance, rank)
    assert report.loss == measure(made) <= tolerance
    left = [cost[weights[_named(proto)[1].index(name)]] for name in report.float32]
    assert report.loss + min(left) > tolerance  # the next one would be too much
    assert len(ranked) == len(report.losses) == report.kept + report.returned
    assert sorted(report.losses.values()) == sorted(ranked)


def test_where_every_group_costs_too_much_the_cheapest_convolutions_are_in_int8(exact):
    """One costly convolution in every group, so that no group is allowed; the others are cheap."""
    proto = onnx.load(exact)
    feeds = [{"images": textured_image(np.random.default_rng(seed), 64, 64)[None]} for seed in range(8)]
    weights = [node.input[1] for node in proto.graph.node if node.op_type == "Conv"]
    size = -(-len(weights) // 10)
    cheap = {name for index, name in enumerate(weights) if index % size}

    def measure(model):
        kept = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
        return sum(1e-5 if name in cheap else 1.0 for name in weights if name not in kept)

    _, report = to_int8(proto, feeds, measure, tolerance=1e-3)
    assert report.loss <= 1e-3
    assert report.quantized == report.returned == len(cheap) > 0
    assert len(report.losses) == len(weights)


def test_the_folder_is_halved_openly(exact, photographs, tmp_path, capsys):
    given = ["export", str(exact), "-o", str(tmp_path / "x.onnx"), "--precision", "int8", "--tolerance", "1"]
    assert main([*given, "--calibrate", str(photographs), "--json"]) == 0
    check = json.loads(capsys.readouterr().out)["release_check"]
    assert check["calibrated"] + check["images"] == len(find_images(photographs))
    assert check["calibrated"] == -(-len(find_images(photographs)) // 2)
    assert main([*given, "--calibrate", str(photographs)]) == 0
    said = (
        f"calibrated on {check['calibrated']} images of the folder, the first, the third and so on by name; judged on"
    )
    assert said in capsys.readouterr().out


def test_a_loss_beyond_the_tolerance_writes_nothing_unless_told(exact, photographs, tmp_path):
    items, out = find_images(photographs), tmp_path / "made.onnx"
    with pytest.raises(IncompatibleError, match=r"made.onnx: not written, because fp16 misses the release check"):
        convert_precision(exact, out, "fp16", items=items, tolerance=1e-15)
    assert not out.exists()
    _, done = convert_precision(exact, out, "fp16", items=items, tolerance=1e-15, accept=True)
    assert not done.passed
    assert out.is_file()


@pytest.mark.parametrize("moved", [0.2, 2.0])
def test_int8_that_no_selftest_could_tell_from_another_is_not_written(exact, photographs, tmp_path, monkeypatch, moved):
    monkeypatch.setattr("gloam.export.precision.convert.run_selftest", lambda session: (moved, 1.0))
    out = tmp_path / "made.onnx"
    with pytest.raises(IncompatibleError, match=r"made.onnx: not written, --accept-loss or not, because int8 moves"):
        convert_precision(exact, out, "int8", items=find_images(photographs), tolerance=1.0, accept=True)
    assert not out.exists()


def test_fp16_of_a_translator_is_checked_on_generated_images(tmp_path):
    torch.manual_seed(0)
    export_translator(create_generator("resnet", norm="instance", width=4, blocks=1), tmp_path / "exact.onnx")
    card, done = convert_precision(tmp_path / "exact.onnx", tmp_path / "half.onnx", "fp16")
    assert done.passed
    assert (done.unit, card.kind, done.task) == ("absolute difference", "translator", {})
    difference, allowed = run_selftest(OrtSession(tmp_path / "half.onnx"))
    assert difference <= allowed


def test_what_cannot_be_converted_is_one_line(exact, photographs, tmp_path):
    items = find_images(photographs)
    with pytest.raises(UsageError, match="int8 needs photographs to measure ranges on"):
        convert_precision(exact, tmp_path / "x.onnx", "int8")
    with pytest.raises(UsageError, match="5 calibration images: int8 needs 8 at least"):
        convert_precision(exact, tmp_path / "x.onnx", "int8", items=items[:10])
    convert_precision(exact, tmp_path / "half.onnx", "fp16")
    with pytest.raises(ModelError, match="is fp16 already; convert the float32 file"):
        convert_precision(tmp_path / "half.onnx", tmp_path / "x.onnx", "fp16")
    assert not (tmp_path / "x.onnx").exists()


def test_the_command_converts_files(exact, photographs, tmp_path, capsys):
    out = tmp_path / "half.onnx"
    assert main(["export", str(exact), "-o", str(out), "--precision", "fp16", "--calibrate", str(photographs)]) == 0
    said = capsys.readouterr().out
    assert "fp16" in said
    assert "same nearest neighbour for 100% of them, mAP" in said


@pytest.mark.slow
def test_the_command_converts_weights(tmp_path, capsys):
    random = ["export", "--random-init", "0", "--network", "gem_resnet18", "--option", "width=8"]
    arguments = [*random, "-o", str(tmp_path / "r.onnx"), "--precision", "fp16", "--json"]
    assert main(arguments) == 0
    check = json.loads(capsys.readouterr().out)["release_check"]
    assert check["passed"]
    assert check["details"]["half"]["Conv"] == 20
    assert main(["check", str(tmp_path / "r.onnx")]) == 0
    fixed = ["--profile", "fixed", "--sides", "256", "--precision", "bf16"]
    assert main([*random, "-o", str(tmp_path / "b.onnx"), *fixed]) == 0
    said = capsys.readouterr().out
    assert "by a float32 twin, rounded to bf16 behind each operator" in said
    assert f"next: gloam engine {tmp_path / 'b.onnx'} -o {tmp_path / 'b'}" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--calibrate", "x"], "--calibrate goes with --precision fp16, bf16, int8"),
        (["--tolerance", "1"], "--tolerance goes with --precision"),
        ([], "is exported already; give --precision"),
    ],
)
def test_the_command_says_what_goes_with_what(exact, tmp_path, capsys, arguments, message):
    assert main(["export", str(exact), "-o", str(tmp_path / "x.onnx"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_large_folder_is_sampled_evenly_not_held_whole(exact, photographs, tmp_path, monkeypatch):
    items = find_images(photographs)
    monkeypatch.setattr("gloam.export.precision.convert.MOST_IMAGES", 8)
    _, done = convert_precision(exact, tmp_path / "half.onnx", "fp16", items=items)
    assert (len(items), done.images) == (20, 4)


def test_a_fixed_profile_of_small_shapes_is_checked_at_what_it_takes(tmp_path, monkeypatch):
    monkeypatch.setattr("gloam.export.precision.convert.GENERATED", ((320, 200),))
    torch.manual_seed(0)
    model = create_embedder("gem_vgg16", stages=((8, 1), (16, 2))).eval()
    fixed = PaddingProfile.fixed((256,), (256,), (1, 2))
    export_embedder(model, tmp_path / "m.onnx", profile=fixed, provenance={})
    large = tmp_path / "large"
    large.mkdir()
    for number in range(2):
        image = textured_image(np.random.default_rng(number), 600, 400)
        cv2.imwrite(str(large / f"{number}.png"), image)
    for items in ((), find_images(large)):
        _, done = convert_precision(tmp_path / "m.onnx", tmp_path / "half.onnx", "fp16", items=items)
        assert done.passed
