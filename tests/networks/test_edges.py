"""HED and RCF: golden counts and keys, any size, the input scale, the learning-rate multipliers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gloam.errors import ModelError
from gloam.networks.edges import DETECTORS, HED, RCF, EdgeDetectorNetwork, create_detector
from gloam.networks.edges.rcf import _bilinear


def small(name: str, **options: float) -> EdgeDetectorNetwork:
    torch.manual_seed(0)
    return create_detector(name, width=4, **options).eval()


@pytest.mark.parametrize(("name", "parameters", "tensors"), [("hed", 14_716_171, 38), ("rcf", 14_803_781, 64)])
def test_detectors_have_the_public_counts(name: str, parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        model = create_detector(name)
    assert (sum(p.numel() for p in model.parameters()), len(model.state_dict())) == (parameters, tensors)


def test_keys_of_hed_and_rcf() -> None:
    convolutions = {1: (0, 2), 2: (1, 3), 3: (1, 3, 5), 4: (1, 3, 5), 5: (1, 3, 5)}
    hed = {f"vgg{s}.{i}" for s, indices in convolutions.items() for i in indices}
    hed |= {f"score{s}" for s in range(1, 6)} | {"fusion.0"}
    rcf = {f"conv{s}_{i + 1}{end}" for s, own in convolutions.items() for i in range(len(own)) for end in ("", "_down")}
    rcf |= {f"score_dsn{s}" for s in range(1, 6)} | {"score_fuse"}
    for name, keys in (("hed", hed), ("rcf", rcf)):
        assert {key.rsplit(".", 1)[0] for key in small(name).state_dict()} == keys


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("size", [(16, 16), (17, 33), (61, 40)])
def test_edges_come_at_the_size_of_the_image(name: str, size: tuple[int, int]) -> None:
    model = small(name)
    images = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    x = images.permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        edges, logits, exported = model(x), model(x, logits=True), model.edges_uint8(images)
        sides, fused = model.side_logits(x)
    assert edges.shape == (2, 1, *size)
    assert torch.equal(edges, logits.sigmoid())
    assert torch.equal(exported, edges[:, 0])
    assert torch.equal(fused, logits)
    assert [side.shape for side in sides] == [edges.shape] * 5


def test_an_image_that_is_too_small_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match="at least 16 px a side and got 15x40"):
        small("hed")(torch.zeros(1, 3, 15, 40))


@pytest.mark.parametrize("name", DETECTORS)
def test_folding_255_into_the_first_layer_is_the_other_input_scale(name: str) -> None:
    raw, folded = small(name, input_scale=255), small(name, input_scale=1)
    first = "vgg1.0.weight" if name == "hed" else "conv1_1.weight"
    with torch.no_grad():
        raw.get_parameter(first).div_(255)
    state = raw.state_dict()
    folded.load_state_dict({**state, first: state[first] * 255})
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(raw(x, logits=True), folded(x, logits=True), atol=1e-4)


def test_the_input_is_caffes() -> None:
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
    expected = torch.tensor([0 - 104.00698793, 0 - 116.66876762, 255 - 122.67891434])  # BGR
    assert torch.allclose(small("hed", input_scale=255).normalize(red).flatten(), expected, atol=1e-4)
    with pytest.raises(ModelError, match="input_scale is 255 or 1, not 2"):
        create_detector("rcf", width=4, input_scale=2)


def test_hed_learns_at_caffes_rates() -> None:
    model = small("hed")
    groups = {group["name"]: group for group in model.parameter_groups(1e-6, 2e-4)}
    rates = [
        groups[f"{part}.{kind}"]["lr"] for part in ("vgg", "vgg5", "score", "fusion") for kind in ("weight", "bias")
    ]
    assert rates == pytest.approx([1e-6, 2e-6, 1e-4, 2e-4, 1e-8, 2e-8, 1e-9, 2e-9])
    assert all(group["weight_decay"] == (2e-4 if name.endswith("weight") else 0) for name, group in groups.items())
    assert [len(groups[f"{part}.weight"]["params"]) for part in ("vgg", "vgg5", "score", "fusion")] == [10, 3, 5, 1]
    listed = [id(p) for group in groups.values() for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())
    (single,) = small("rcf").parameter_groups(1e-6, 2e-4)
    assert (single["lr"], single["weight_decay"], len(single["params"])) == (1e-6, 2e-4, 64)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_fused_map_starts_as_the_mean_of_the_sides(name: str) -> None:
    model = small(name)
    with torch.no_grad():
        sides, fused = model.side_logits(torch.rand(1, 3, 32, 48) * 2 - 1)
    assert torch.allclose(torch.stack(sides).mean(0), fused, atol=1e-5)


def test_bilinear_kernels_upsample_ramps_exactly() -> None:
    assert torch.allclose(_bilinear(4)[0, 0, 1], torch.tensor([0.25, 0.75, 0.75, 0.25]) * 0.75)
    ramp = torch.arange(8.0).expand(1, 1, 8, 8).contiguous()
    for kernel, stride, first in ((4, 2, 1), (8, 4, 2), (16, 8, 4)):
        up = F.conv_transpose2d(ramp, _bilinear(kernel), stride=stride)[0, 0, 4 * stride, first:][: 8 * stride]
        expected = F.interpolate(ramp, scale_factor=stride, mode="bilinear", align_corners=False)[0, 0, 0]
        inside = slice(stride, -stride)  # at the border the transposed convolution fades to zero
        assert torch.allclose(up[inside], expected[inside], atol=1e-5)


def test_hed_is_the_plain_reading_of_its_paper() -> None:
    """A twin that spells the layers out one by one."""
    model = small("hed")
    assert isinstance(model, HED)
    x = torch.rand(1, 3, 40, 52) * 2 - 1
    state = model.state_dict()

    def twin(image: Tensor) -> Tensor:
        y, maps = model.normalize(image), []
        for stage in range(1, 6):
            if stage > 1:
                y = F.max_pool2d(y, 2)
            for key in sorted(k for k in state if k.startswith(f"vgg{stage}.") and k.endswith("weight")):
                y = F.relu(F.conv2d(y, state[key], state[key.replace("weight", "bias")], padding=1))
            score = F.conv2d(y, state[f"score{stage}.weight"], state[f"score{stage}.bias"])
            maps.append(F.interpolate(score, (40, 52), mode="bilinear", align_corners=False))
        return F.conv2d(torch.cat(maps, 1), state["fusion.0.weight"], state["fusion.0.bias"])

    with torch.no_grad():
        assert torch.allclose(model(x, logits=True), twin(x), atol=1e-5)


def test_rcf_dilates_its_last_stage() -> None:
    model = small("rcf")
    assert isinstance(model, RCF)
    last = [m for name, m in model.named_modules() if name in ("conv5_1", "conv5_2", "conv5_3")]
    assert all(isinstance(m, nn.Conv2d) and m.dilation == (2, 2) and m.padding == (2, 2) for m in last)
