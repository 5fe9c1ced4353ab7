"""An exported graph holds nothing that could have been folded, and no more nodes than the network needs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from gloam.export.embedder import export_embedder
from gloam.export.front.compose import Stage, compose
from gloam.export.front.reflection import cropping_graph, padding_graph
from gloam.export.front.shrink import shrinking_graph
from gloam.export.graph import OPSET
from gloam.export.translator import export_translator
from gloam.networks.clahe import ClaheLayer
from gloam.networks.embedders import DescriptorPipeline
from gloam.networks.translators import create_generator
from gloam.padding import Anchor, PaddingProfile
from tests.networks.embedders.test_embedders import randomized

ANCHORS: tuple[Anchor, ...] = ("center", "top-left")
PIXELS = 5  # nodes from uint8 images to the network's input: transpose, cast, scale, shift; behind a generator one more
MASK_STAGE = (
    35  # nodes that a stage's mask takes: the valid size behind a stride, the comparison, the shape; their product
)
MASKS = 10  # nodes that all stages share
THIN_VGG16 = {"stages": ((8, 2), (8, 2), (8, 3), (8, 3), (8, 3))}  # node counts do not depend on the width


def constant_only(model: Any) -> list[str]:
    """Nodes that compute from initialisers and constants alone."""
    known = {item.name for item in model.graph.initializer}
    found = []
    for node in model.graph.node:
        given = [name for name in node.input if name]
        if node.op_type == "Constant" or (given and all(name in known for name in given)):
            known.update(node.output)
            if node.op_type != "Constant":
                found.append(node.name or node.op_type)
    return found


def batch_norms_behind_convolutions(model: Any) -> list[str]:
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    return [node.name for node in norms if made_by.get(node.input[0]) in ("Conv", "ConvTranspose")]


def weight_bytes(model: Any) -> int:
    return sum(numpy_helper.to_array(item).nbytes for item in model.graph.initializer)


def check(model: Any) -> None:
    assert constant_only(model) == []
    assert batch_norms_behind_convolutions(model) == []
    assert not [node for node in model.graph.node if node.op_type in ("Constant", "Identity", "Dropout", "If", "Loop")]
    used = {name for node in model.graph.node for name in node.input}
    assert {item.name for item in model.graph.initializer} <= used


def exported(model: nn.Module, path: Path, profile: PaddingProfile | None = None) -> Any:
    if hasattr(model, "translate_uint8"):
        export_translator(model, path, profile)
    else:
        export_embedder(model, path, profile=profile, provenance={})
    return onnx.load(path)


def test_the_checks_see_what_they_look_for() -> None:
    """The control: an unfolded graph, a batch norm behind a convolution."""
    value = helper.make_tensor_value_info
    floats = onnx.TensorProto.FLOAT
    names = ("scale", "bias", "mean", "variance")
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["scale", "bias"], ["sum"], name="folded"),
            helper.make_node("Mul", ["sum", "mean"], ["product"], name="folded too"),
            helper.make_node("Conv", ["x", "weights"], ["c"], name="conv"),
            helper.make_node("BatchNormalization", ["c", "product", *names[1:]], ["y"], name="norm"),
        ],
        "g",
        [value("x", floats, [1, 1, 4, 4])],
        [value("y", floats, None)],
        [helper.make_tensor("weights", floats, [1, 1, 1, 1], [1.0])]
        + [helper.make_tensor(name, floats, [1], [1.0]) for name in names],
    )
    model = helper.make_model(graph)
    assert constant_only(model) == ["folded", "folded too"]
    assert batch_norms_behind_convolutions(model) == ["norm"]
    with pytest.raises(AssertionError):
        check(model)


def test_batch_norms_are_folded_into_convolutions_of_both_kinds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_generator("resnet", width=4, blocks=0, norm="batch").eval()
    proto = exported(model, tmp_path / "m.onnx")
    check(proto)
    kinds = Counter(node.op_type for node in proto.graph.node)
    assert (kinds["Conv"], kinds["ConvTranspose"], kinds["BatchNormalization"]) == (4, 2, 0)


@pytest.mark.slow
def test_a_residual_network_is_folded_and_fused(tmp_path: Path) -> None:
    model = randomized("gem_resnet18", width=8)
    proto = exported(model, tmp_path / "m.onnx")
    check(proto)
    kinds = Counter(node.op_type for node in proto.graph.node)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert kinds["Conv"] == convolutions == 20
    assert kinds["BatchNormalization"] == 0
    # 20 convolutions, 17 activations of which GeM's clamp takes the last, a pooling, 8 sums, GeM 4, L2 3, pixels 4
    assert len(proto.graph.node) <= 20 + 16 + 1 + 8 + 4 + 3 + PIXELS


def test_graphs_in_front_hold_nothing_constant() -> None:
    padding = [padding_graph(fixed, 256, 1, anchor) for fixed in (False, True) for anchor in ANCHORS]
    for graph in (shrinking_graph(64), *padding):
        onnx.checker.check_model(graph, full_check=True)
        assert constant_only(graph) == []
    cropping = [cropping_graph(fixed, anchor) for fixed in (False, True) for anchor in ANCHORS]
    assert [constant_only(graph) for graph in cropping] == [[]] * 4
    whole = compose(
        [
            Stage("shrink", shrinking_graph(64)),
            Stage("pad", padding_graph(False, 4, 8), {"images": "shrink.resized"}),
        ]
    )
    assert [item.name for item in whole.graph.input] == ["images"]
    assert [item.name for item in whole.graph.output] == ["padded"]
    assert whole.opset_import[0].version == OPSET
    names = [name for node in whole.graph.node for name in node.output]
    assert len(names) == len(set(names))
    for graph in (whole, shrinking_graph(64), *padding, *cropping):
        check(graph)


def test_scales_and_clahe_share_the_weights(tmp_path: Path) -> None:
    model = randomized("gem_vgg16", stages=((64, 1),))
    plain = exported(model, tmp_path / "plain.onnx")
    scaled = exported(DescriptorPipeline(model, scales=(1.0, 0.5)), tmp_path / "scaled.onnx")
    check(scaled)
    heaviest = max(numpy_helper.to_array(item).nbytes for item in plain.graph.initializer)
    kinds = [Counter(node.op_type for node in proto.graph.node) for proto in (plain, scaled)]
    assert kinds[1]["Conv"] == 2 * kinds[0]["Conv"] == 2
    assert 0 <= weight_bytes(scaled) - weight_bytes(plain) < heaviest / 100


@pytest.mark.slow
def test_clahe_adds_its_table_alone(tmp_path: Path) -> None:
    model, clahe = randomized("gem_vgg16", stages=((64, 1), (64, 1))), ClaheLayer()
    plain = exported(model, tmp_path / "plain.onnx")
    baked = exported(DescriptorPipeline(model, scales=(1.0, 0.5), clahe=clahe), tmp_path / "baked.onnx")
    check(baked)
    table = clahe.get_buffer("_lab").numel() * 4
    assert table <= weight_bytes(baked) - weight_bytes(plain) <= 1.1 * table


CASES: list[tuple[str, dict[str, Any], int]] = [
    # nodes of the networks, as measured on graphs of float images without masks
    ("gem_vgg16", THIN_VGG16, 36),
    ("gem_resnet101", {"width": 8}, 248),
    ("resnet", {"width": 4}, 91),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "nodes"), CASES)
def test_networks_take_no_more_nodes_than_they_need(
    name: str, options: dict[str, Any], nodes: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = create_generator(name, **options).eval() if name == "resnet" else randomized(name, **options)
    proto = exported(model, tmp_path / "m.onnx")
    check(proto)
    assert len(proto.graph.node) <= nodes + PIXELS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "nodes", "masked", "stages"),
    [("gem_vgg16", THIN_VGG16, 40, 13, 5), ("gem_resnet18", {"width": 8}, 56, 18, 6)],
)
def test_masks_are_made_once_a_stage(
    name: str, options: dict[str, Any], nodes: int, masked: int, stages: int, tmp_path: Path
) -> None:
    """``masked`` kernels larger than 1, each behind one product with its stage's mask; the rest is per stage."""
    profile = PaddingProfile.fixed((256,), (256,))
    proto = exported(randomized(name, **options), tmp_path / "m.onnx", profile)
    check(proto)
    assert len(proto.graph.node) <= nodes + masked + MASK_STAGE * stages + MASKS
