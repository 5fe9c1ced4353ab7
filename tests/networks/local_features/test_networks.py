"""The networks of local features: public counts and keys, any size, and what the authors' programs give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gloam.errors import ModelError, UsageError
from gloam.networks.foreign.read import import_network
from gloam.networks.local_features import EXTRACTORS, create_extractor
from gloam.networks.local_features.aliked import DeformableConv
from gloam.networks.local_features.r2d2 import R2D2
from gloam.networks.local_features.superpoint import SuperPoint
from gloam.networks.local_features.xfeat import XFeat
from gloam.runtime.backends.selftest_formulas import keypoint_summary, selftest_images

COUNTS = [  # parameters and tensors of the public files, counters of batches left out
    ("aliked", {"variant": "t16"}, 192_100, 68),
    ("aliked", {"variant": "n16"}, 677_356, 68),
    ("aliked", {"variant": "n32"}, 979_500, 68),
    ("alike", {"variant": "t"}, 82_728, 51),
    ("alike", {"variant": "s"}, 175_992, 51),
    ("alike", {"variant": "n"}, 329_168, 51),
    ("xfeat", {}, 657_910, 77),
    ("disk", {}, 1_092_369, 26),
    ("r2d2", {}, 484_387, 38),
    ("superpoint", {"layout": "magicleap"}, 1_300_865, 24),
    ("superpoint", {"layout": "mit"}, 1_304_067, 72),
]


@pytest.mark.parametrize(("name", "options", "parameters", "tensors"), COUNTS)
def test_networks_have_the_public_counts(name: str, options: dict[str, str], parameters: int, tensors: int) -> None:
    model = create_extractor(name, **options)
    kept = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    assert (sum(value.numel() for value in model.parameters()), len(kept)) == (parameters, tensors)


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize("size", [(32, 32), (47, 83)])
def test_every_network_gives_its_keypoints_at_any_size(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = create_extractor(name, **({"variant": "t16"} if name == "aliked" else {})).eval()
    images = torch.from_numpy(selftest_images((2, *size), ()))
    with torch.no_grad():
        points, scores, descriptors, count = model.extract_uint8(images, 50, 0.0)
        alone = model.extract_uint8(images[1:], 50, 0.0)
    assert points.shape == (2, 50, 2)
    assert descriptors.shape == (2, 50, model.dimension)
    for row, number in enumerate(count.tolist()):
        assert 0 < number <= 50
        inside = points[row, :number]
        assert bool(((inside >= 0) & (inside <= torch.tensor((size[1] - 1, size[0] - 1)))).all())
        assert bool((scores[row, :number] > 0).all())
        assert torch.linalg.vector_norm(descriptors[row, :number], dim=1).numpy() == pytest.approx(1, abs=1e-5)
        for item in (points, scores, descriptors):
            assert not item[row, number:].any()
    for together, single in zip((points, scores, descriptors, count), alone, strict=True):
        assert together[1:].numpy() == pytest.approx(single.numpy(), abs=1e-4)


def test_a_deformable_convolution_against_a_loop() -> None:
    torch.manual_seed(3)
    conv = DeformableConv(2, 3).eval()
    x = torch.randn(1, 2, 6, 9)
    with torch.no_grad():
        offsets = (conv.offset_conv(x) * 4).clamp(-9 / 4, 9 / 4)[0].numpy()
        conv.offset_conv.weight *= 4
        assert conv.offset_conv.bias is not None
        conv.offset_conv.bias *= 4
        found = conv(x)[0].numpy()
    assert np.abs(offsets).max() == 9 / 4  # some are held back
    plane, weight = np.pad(x[0].numpy(), ((0, 0), (4, 5), (4, 5))), conv.regular_conv.weight.detach().numpy()
    expected = np.zeros_like(found)
    for row in range(6):
        for column in range(9):
            for tap in range(9):
                y = row + tap // 3 - 1 + offsets[2 * tap, row, column]
                across = column + tap % 3 - 1 + offsets[2 * tap + 1, row, column]
                top, left = int(np.floor(y)), int(np.floor(across))
                corners = plane[:, top + 4 : top + 6, left + 4 : left + 6]
                value = corners @ [1 - across + left, across - left] @ [1 - y + top, y - top]
                expected[:, row, column] += weight[:, :, tap // 3, tap % 3] @ value
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("name", "variant"), [("alike", "t"), ("aliked", "t16")])
def test_images_are_continued_to_multiples_of_32_as_published(name: str, variant: str) -> None:
    torch.manual_seed(0)
    model: Any = create_extractor(name, variant=variant).eval()
    image = torch.rand(1, 3, 41, 70)
    if name == "alike":  # zeros at the right and bottom
        whole, top, left = functional.pad(image, (0, 26, 0, 23)), 0, 0
    else:  # the border's pixels, half on each side
        whole, top, left = functional.pad(image, (13, 13, 11, 12), mode="replicate"), 11, 13
    with torch.no_grad():
        for found, expected in zip(model.maps(image), model.maps(whole), strict=True):
            assert torch.allclose(found, expected[..., top : top + 41, left : left + 70], atol=1e-6)


@pytest.mark.parametrize(
    ("min_scale", "last"),
    [
        (0.25, [76, 64, 54, 45, 38, 32, 27, 23]),
        (0.3, [76, 64, 54, 45, 38, 32]),  # as the authors' loop: while scale + 0.001 >= 0.3
        (0.5, [76, 64, 54, 45]),
    ],
)
def test_scales_of_r2d2_are_looked_at_between_256_and_1024_px(min_scale: float, last: list[int]) -> None:
    torch.manual_seed(0)
    model = R2D2(min_scale).eval()
    seen: list[tuple[int, int]] = []

    def maps(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen.append((x.shape[2], x.shape[3]))
        ones = torch.ones(1, *x.shape[2:])
        if x.shape[2:] == (2, 2):  # a corner of what is too large
            return torch.ones(1, 128, 2, 2), ones, ones
        peak = functional.pad(torch.ones(1, 1, 1), (3, x.shape[3] - 4, 2, x.shape[2] - 3))  # x 3, y 2
        return torch.ones(1, 128, *x.shape[2:]), ones, peak

    model.maps = maps  # type: ignore[method-assign]
    found = []
    for size in ((271, 362), (40, 60), (1200, 90)):
        seen.clear()
        with torch.no_grad():
            points, _, _, kept = model(torch.rand(1, 3, *size), 20, 0.7)
        places = points[0][kept[0]]
        found.append([round(3 * size[1] / float(x)) for x, _ in places])
        assert [round(2 * size[0] / float(y)) for _, y in places] == [
            height for height, width in seen if width in found[-1]
        ]
        assert max(max(shape) for shape in seen) <= 1024  # nothing larger is computed
    assert found[0] == [362, 304, 256]  # round(side * 2^(-n / 4)) while 256 or more
    assert found[1] == [60]  # a small image as it is
    assert found[2] == last  # 1200 px is beyond what it is looked at


def test_a_least_scale_of_r2d2_is_part_of_it() -> None:
    assert (R2D2().options, R2D2().largest) == ({}, 4096)
    assert (R2D2(0.5).options, R2D2(0.5).largest) == ({"min_scale": 0.5}, 2048)
    assert create_extractor("r2d2", **R2D2(0.3).options).largest == 3413
    for wrong in (0.2, 1.5, float("nan")):
        with pytest.raises(UsageError, match=r"r2d2: the least scale is 0\.25 to 1, not"):
            R2D2(wrong)


def test_both_samplings_of_superpoint() -> None:
    torch.manual_seed(0)
    corners, cells = (SuperPoint("magicleap", sampling).eval() for sampling in ("corners", "cells"))  # type: ignore[arg-type]
    cells.load_state_dict(corners.state_dict())
    image = torch.rand(1, 3, 48, 64)
    with torch.no_grad():
        points, _, published, found = corners(image, 30, 0.0)
        same, _, centred, _ = cells(image, 30, 0.0)
        _, described = corners.maps(image)
    assert torch.equal(points, same)
    assert bool(found.all())
    x, y = points[0].T.numpy()
    for values, grid, aligned in (
        (published, ((x - 3.5) / (64 - 4.5), (y - 3.5) / (48 - 4.5)), True),
        (centred, ((x + 0.5) / 64, (y + 0.5) / 48), False),
    ):
        places = torch.from_numpy(2 * np.stack(grid, -1) - 1).float()[None, None]
        expected = functional.grid_sample(described, places, align_corners=aligned)[0, :, 0].T
        assert values[0].numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    assert SuperPoint().options == {"layout": "mit", "sampling": "cells"}


def test_xfeat_looks_places_up_as_published() -> None:
    torch.manual_seed(0)
    model = XFeat().eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        points, scores, _, found = model(image, 40, 0.0)
        _, logits, reliability = model.maps(image)
    heat = functional.pixel_shuffle(logits.softmax(1)[:, :-1], 8)
    grid = 2 * points / torch.tensor((95.0, 63.0)) - 1

    def look(maps: Tensor, mode: str) -> Tensor:
        return functional.grid_sample(maps, grid[:, None], mode=mode, align_corners=False)[0, :, 0].T

    expected = look(heat, "nearest") * look(reliability, "bilinear")
    assert scores[0][found[0]].numpy() == pytest.approx(expected[:, 0][found[0]].numpy(), abs=1e-6)
    assert float(points[0].amax()) < 95


def test_unknown_names_and_options_are_named() -> None:
    with pytest.raises(ModelError, match="unknown network of local features 'aliket'; did you mean alike"):
        create_extractor("aliket")
    with pytest.raises(ModelError, match="variant 'n64' is not one of"):
        create_extractor("aliked", variant="n64")
    with pytest.raises(ModelError, match="layout 'caffe' is not mit or magicleap"):
        create_extractor("superpoint", layout="caffe")
    with pytest.raises(ModelError, match="sampling 'no' is not cells or corners"):
        create_extractor("superpoint", sampling="no")


PEERS = {  # what the authors' programs give, by :func:`keypoint_summary`: the first ten, and the first of descriptors
    "aliked/aliked-t16.pth": (100, [0.393815, 0.412732, 1.501073, 1.470701, 0.017609, 0.040271, 0.084701, -0.062692,
                                    0.080684, -0.421594, -0.038896, -0.008701, 0.06451]),
    "aliked/aliked-n16.pth": (100, [0.265582, 0.0917, 1.07995, 1.306508, 0.167292, 0.105672, 0.153349, 0.091746,
                                    0.263684, -0.141603, -0.048119, 0.040643, -0.025396]),
    "xfeat/xfeat_without_fine_matcher.pth": (100, [0.037346, 0.156635, 0.8297, 1.090111, -0.03725, -0.123407, 0.211867,
                                                   -0.039399, 0.281118, -0.141189, 0.192938, -0.032699, -0.015376]),
    "disk/disk_depth_fp16.pth": (100, [0.991519, 0.338741, 2.036866, 1.010806, 0.0093, -0.043947, -0.047105, -0.040528,
                                       0.185398, -0.053158, -0.001479, -0.07573, -0.131928]),
}  # fmt: skip


@pytest.mark.parametrize("file", PEERS)
def test_real_weights_give_what_the_authors_programs_give(file: str, data_pack: Callable[[str], Path]) -> None:
    model = import_network(data_pack("weights") / file).model
    images = torch.from_numpy(selftest_images((1, 125, 168), ()))
    with torch.no_grad():
        outputs = [item.numpy() for item in model.extract_uint8(images, 100, model.threshold)]
    count, expected = PEERS[file]
    assert outputs[3].tolist() == [count]
    assert keypoint_summary(*outputs)[0, :13] == pytest.approx(expected, abs=2e-4)
