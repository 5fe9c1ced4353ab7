"""Mistakes planted in exports of other programs, or in what a user states of them: does ``gloam adopt`` name each?

Networks of rule-made weights are exported plainly by ``torch.onnx``, by both of its exporters, as a program without
gloam does it; what that program makes of rendered photographs is computed by torch. A mistake is found where ``gloam
adopt`` names that very mistake, as a refusal or as what it repaired; a file without one must be adopted without a word.
The control is what a careful user does today: onnx's checker, and one run.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.shared.plain_exports import (
    AcrossTheBatch,
    Plain,
    PooledByItsSize,
    Unnormalised,
    export,
    network,
    references,
)
from benchmarks.shared.result import Result
from gloam.data.images import resize_image
from gloam.data.town import render_training_views
from gloam.errors import GloamError
from gloam.export.adopt.adopt import AdoptRequest, adopt
from gloam.export.adopt.feeding import CAFFE, IMAGENET, ONE, ZERO, Feeding
from gloam.export.adopt.findings import Mistake, NotAdoptedError
from gloam.export.precision.half import to_half
from gloam.model_card import InputRule

STREET = 913  # of the photographs
SIZE = (160, 112)  # width and height of them
FREE = {0: "batch", 2: "height", 3: "width"}
FREE_LAST = {0: "batch", 1: "height", 2: "width"}
EXAMPLE = (2, 3, 131, 163)
STRETCHED = 96  # pixels
STATED: dict[str, Any] = {"mean": IMAGENET[0], "std": IMAGENET[1], "channels": "rgb"}
RGB = Feeding("nchw", "rgb", *IMAGENET)


@dataclass(frozen=True)
class Case:
    """A file and what a user states of it.

    Attributes:
        name: for the table.
        make: writes the file into a folder; gives it and more of what is stated.
        stated: fields of a request.
        mistake: that is planted; None in a right file.
    """

    name: str
    make: Callable[[Path], tuple[Path, dict[str, Any]]]
    stated: dict[str, Any] = field(default_factory=dict)
    mistake: Mistake | None = None


def photographs() -> dict[str, np.ndarray[Any, Any]]:
    """Two, in the light of the day and of the dusk, with a cast of colour."""
    views = render_training_views(STREET, places=2, views_per_place=1, conditions=("day", "dusk"), size=SIZE).images
    cast = np.array([90, 20, 0], np.uint8)
    return {f"photo{at}": view // 2 + cast for at, view in enumerate(views)}


def plain(
    folder: Path,
    name: str = "gem_resnet18",
    example: tuple[int, ...] = EXAMPLE,
    free: dict[int, str] | None = None,
    traced: bool = False,
    truth: Feeding | None = None,
    stretch: InputRule | None = None,
    **around: Any,
) -> tuple[Path, dict[str, Any]]:
    """A network's export, and with a truth its program's descriptors of the photographs."""
    module = Plain(network(name), **around)
    free = FREE if free is None else free
    path = export(module, folder / "theirs.onnx", torch.zeros(example), free, traced)
    if truth is None:
        return path, {}
    seen = {
        name: pixels if stretch is None else resize_image(pixels, stretch) for name, pixels in photographs().items()
    }
    pairs = references(module, truth, seen, folder)
    if stretch is not None:  # the photographs as they are, and what was made of them stretched
        from PIL import Image

        for name, pixels in photographs().items():
            Image.fromarray(pixels).save(folder / f"{name}.png")
    return path, {"reference": pairs}


def last(images: Tensor) -> Tensor:
    """Channels last to channels first, as it should be."""
    return images.permute(0, 3, 1, 2)


def reshaped(images: Tensor) -> Tensor:
    """The same shape, and the pixels at other places."""
    return images.reshape(images.shape[0], 3, images.shape[1], images.shape[2])


def normalised(images: Tensor) -> Tensor:
    """Of 0..255."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    return (images / 255 - mean) / std


def stretched(images: Tensor) -> Tensor:
    """To one size, whatever the aspect."""
    return functional.interpolate(images, (STRETCHED, STRETCHED), mode="bilinear", align_corners=False)


def whole_bytes(images: Tensor) -> Tensor:
    """uint8 channels last to what the network sees."""
    return normalised(last(images.to(torch.float32)))


def of_bytes(folder: Path) -> tuple[Path, dict[str, Any]]:
    module = Plain(network("gem_vgg16"), before=whole_bytes)
    example = torch.zeros((2, 131, 163, 3), dtype=torch.uint8)
    return export(module, folder / "theirs.onnx", example, FREE_LAST), {}


def half(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Convolutions in halves, pooling and L2 in float32, as a careful converter leaves them."""
    path, _ = plain(folder)
    onnx.save(to_half(onnx.load(path), "fp16")[0], path)
    return path, {}


def all_half(folder: Path) -> tuple[Path, dict[str, Any]]:
    """``model.half()``: GeM's third power leaves the range where a map is above 40."""
    model: Any = network("gem_resnet18")
    with torch.no_grad():
        _last_norm(model).mul_(30)
    path = export(Plain(model).half(), folder / "theirs.onnx", torch.zeros(EXAMPLE).half(), FREE)
    return path, {}


def _last_norm(model: Any) -> Tensor:
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    weight: Tensor = norms[-1].weight
    return weight


def without_l2(folder: Path) -> tuple[Path, dict[str, Any]]:
    return export(Unnormalised(network("gem_resnet18")), folder / "theirs.onnx", torch.zeros(EXAMPLE), FREE), {}


def pooled_by_its_size(folder: Path) -> tuple[Path, dict[str, Any]]:
    module = PooledByItsSize(network("gem_resnet18"))
    return export(module, folder / "theirs.onnx", torch.zeros(2, 3, 224, 224), FREE, traced=True), {}


def of_one_grid(folder: Path) -> tuple[Path, dict[str, Any]]:
    """DINOv2 whose positions are the table at the size of the example, as most programs have them."""
    model: Any = network("dinov2_vits14")
    images = torch.zeros(2, 3, 224, 224)
    with torch.no_grad():
        grid = model.features._positions(model.features.patch_embed.proj(images), None)
    model.features._positions = lambda patches, masks: grid
    return export(Plain(model), folder / "theirs.onnx", images, FREE, traced=True), {}


def across_the_batch(folder: Path) -> tuple[Path, dict[str, Any]]:
    module = AcrossTheBatch(network("gem_resnet18"))
    return export(module, folder / "theirs.onnx", torch.zeros(EXAMPLE), FREE), {}


def normalise(descriptors: Tensor) -> Tensor:
    return functional.normalize(descriptors, dim=1)


def drop(descriptors: Tensor) -> Tensor:
    return functional.normalize(functional.dropout(descriptors, 0.2, training=True), dim=1)


MIX = InputRule(None, (64, 64), "bilinear", True)
VIT = (2, 3, 70, 98)
TRACED = partial(plain, traced=True)
PLANTED = (
    Case(
        "forgotten normalisation: stated as pixels / 255",
        partial(TRACED, truth=RGB),
        {"range": 1, "mean": ZERO, "std": ONE, "channels": "rgb"},
        "normalisation",
    ),
    Case(
        "BGR: its program reads by OpenCV, stated as RGB",
        partial(plain, truth=Feeding("nchw", "bgr", *IMAGENET)),
        STATED,
        "channel_order",
    ),
    Case(
        "NCHW/NHWC: a reshape in place of a transpose",
        partial(TRACED, example=(2, 131, 163, 3), free=FREE_LAST, before=reshaped),
        STATED,
        "layout",
    ),
    Case("0-255: the graph divides by 255, stated as [0, 1]", partial(TRACED, before=normalised), STATED, "range"),
    Case("baked size: pooled by a traced kernel, with free axes", pooled_by_its_size, STATED, "baked_size"),
    Case("batch coupling: attention across the batch", across_the_batch, STATED, "batch_coupling"),
    Case("no L2", without_l2, STATED, "no_l2"),
    Case("double L2", partial(TRACED, after=normalise), STATED, "double_l2"),
    Case("silent stretch inside the graph", partial(TRACED, before=stretched), STATED, "silent_stretch"),
    Case("frozen token count: positions of one grid, with free axes", of_one_grid, STATED, "frozen_tokens"),
    Case("fp16 overflow: all of it in halves", all_half, STATED, "half_overflow"),
    Case("dropout left on", partial(plain, after=drop), STATED, "dropout"),
)
RIGHT = (
    Case("GeM ResNet, channels first, any size, stated", plain, STATED),
    Case("GeM ResNet, nothing stated, two references", partial(TRACED, truth=RGB)),
    Case("GeM ResNet, Caffe's bytes of BGR by two references", partial(TRACED, truth=Feeding("nchw", "bgr", *CAFFE))),
    Case(
        "GeM MobileNetV2, channels last",
        partial(TRACED, name="gem_mobilenet_v2", example=(2, 131, 163, 3), free=FREE_LAST, before=last),
        STATED,
    ),
    Case("GeM VGG16, bytes, normalises itself, nothing stated", of_bytes),
    Case(
        "MixVPR of one size, stated with its filter and two references",
        partial(TRACED, name="mixvpr", example=(1, 3, 64, 64), free={}, truth=RGB, stretch=MIX),
        {**STATED, "stretch": MIX.stretch, "filter": MIX.filter},
    ),
    Case("DINOv2 of any size", partial(plain, name="dinov2_vits14", example=VIT), STATED),
    Case("SALAD on DINOv2", partial(plain, name="salad_dinov2", example=VIT), STATED),
    Case("GeM ResNet, convolutions in fp16", half, STATED),
    Case(
        "CosPlace, a batch of one",
        partial(TRACED, name="cosplace_resnet18", example=(1, 3, 131, 163), free={2: "height", 3: "width"}),
        STATED,
    ),
    Case(
        "GeM ResNet, a stretch inside that is stated",
        partial(TRACED, before=stretched),
        {**STATED, "stretch": (STRETCHED, STRETCHED)},
    ),
)


def named(case: Case) -> tuple[list[str], str]:
    """The mistakes that are named, and the line; nothing of a file that is adopted without a word."""
    with tempfile.TemporaryDirectory(prefix="gloam-adopt-") as temporary:
        folder = Path(temporary)
        path, more = case.make(folder)
        try:
            adopted = adopt(AdoptRequest(path, folder / "ours.onnx", **case.stated, **more))
        except NotAdoptedError as refused:
            names = [finding.name for finding in refused.findings]
            return [*names], str(refused).replace(temporary, "")[:300]
        except GloamError as error:
            return ["refused"], str(error).replace(temporary, "")[:300]
        return [finding.name for finding in adopted.findings], adopted.ruled.because


def found_by_a_careful_user(case: Case) -> bool:
    """Whether onnx's checker, a run at another size, and a look at lengths and values would have told."""
    with tempfile.TemporaryDirectory(prefix="gloam-adopt-") as temporary:
        path, _ = case.make(Path(temporary))
        try:
            onnx.checker.check_model(str(path), full_check=True)
            session = onnxruntime.InferenceSession(str(path))
            port = session.get_inputs()[0]
            sides = iter((160, 192))
            shape = [
                axis if isinstance(axis, int) else 1 if at == 0 else next(sides) for at, axis in enumerate(port.shape)
            ]
            values = np.random.default_rng(0).random(shape)
            dtype = np.float16 if "float16" in port.type else np.float32
            row = session.run(None, {port.name: values.astype(dtype)})[0]
        except Exception:
            return True
        return not np.isfinite(row).all()


def run() -> Result:
    """Planted mistakes that are found, less alarms on right files."""
    rows: list[dict[str, Any]] = []
    found = alarms = control = 0
    for case in (*PLANTED, *RIGHT):
        names, line = named(case)
        if case.mistake is None:
            alarms += bool(names)
        else:
            found += names == [case.mistake]
            control += found_by_a_careful_user(case)
        rows.append({"file": case.name, "planted": case.mistake, "named": names, "line": line})
        print(rows[-1], file=sys.stderr, flush=True)
    detail = {
        "planted": len(PLANTED),
        "found": found,
        "right": len(RIGHT),
        "false_alarms": alarms,
        "control_checker_and_one_run": control,
        "list": rows,
    }
    value = found - alarms
    return Result(value, "planted mistakes found less false alarms", f"{len(PLANTED)}", value == len(PLANTED), detail)
