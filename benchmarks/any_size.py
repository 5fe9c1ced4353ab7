"""Every kind of exported file at any size and batch: does it give what torch gives?

A tracing exporter makes what its example had by accident part of the graph: one cell, a batch of two, a square, a side
below a kernel. Real architectures with few channels are exported by the product, then run at sizes from their minimum
to 1024 px, long ones, squares and odd ones among them, in batches of 1, 2 and 5, and compared value by value with torch
run on each image alone, at native size. Files with something in front are compared with their parts, keypoints as sets:
of two neighbours that score the same, rounding chooses.

It takes an hour on a core. A folder named by ``GLOAM_BENCH_RUNS`` keeps what is done, and the same command
carries on, for as long as no code changes.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from PIL import Image

from benchmarks.padding_exact import lively
from benchmarks.shared.result import KEPT, Result, code_state
from benchmarks.shared.tiny import HEADED, TRANSFORMERS
from gloam.data.images import MIN_SIDE
from gloam.export.edges import export_edges
from gloam.export.embedder import export_embedder
from gloam.export.front.put import put_in_front
from gloam.export.keypoints import export_keypoints
from gloam.export.local_features import export_local_features
from gloam.export.precision.release_check import textured_image
from gloam.export.translator import export_translator
from gloam.files import sha256_json, write_json
from gloam.model_card import ModelCard
from gloam.networks.clahe import ClaheLayer
from gloam.networks.edges import DETECTORS, create_detector
from gloam.networks.embedders import EMBEDDERS, DescriptorPipeline, EmbedderNetwork, create_embedder
from gloam.networks.local_features import EXTRACTORS, create_extractor
from gloam.networks.translators import GENERATORS, create_generator
from gloam.padding import DEFAULT_SIDES, PaddingProfile, next_multiple
from gloam.runtime.descriptors.whitening import Whitening
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.translator import Translator

LARGEST, COUNT, BATCHES = 1024, 40, (1, 2, 5)
BATCH = (1, max(BATCHES))
FIXED = PaddingProfile.fixed(batch=BATCH)
RESIZE = 200  # pixels
SCALES = (1.0, 2**-0.5, 0.5)

Values = npt.NDArray[Any]
Images = npt.NDArray[np.uint8]
VGG: dict[str, Any] = {"stages": ((8, 1), (16, 2), (16, 1))}
RESNET: dict[str, Any] = {"width": 8}
INSIDE = {"name": "gem_vgg16", "options": VGG}
SMALL: dict[str, dict[str, Any]] = {
    **{name: RESNET for name in EMBEDDERS if "resnet" in name},
    **{name: VGG for name in EMBEDDERS if name.endswith("_vgg16")},
    **TRANSFORMERS,
    **HEADED,
    "netvlad_vgg16": {**VGG, "clusters": 8},
    "hedmac_vgg16": {**VGG, "detector_options": {"width": 4}},
    "rcfmac_vgg16": {**VGG, "detector_options": {"width": 4}},
    "photometric_unet": {"embedder": INSIDE, "levels": 3, "width": 8},
    "mduit_content": {"width": 2, "blocks": 1},
    "ensemble": {"members": [INSIDE, {"name": "gem_resnet18", "options": RESNET, "mean": (0.5,) * 3}]},
}
# What changes a generator's layers, at least once each.
TRANSLATORS: dict[str, tuple[dict[str, Any], ...]] = {
    "resnet": (
        {"width": 4, "blocks": 1},
        {"width": 4, "blocks": 1, "antialias": True},
        {"width": 4, "blocks": 1, "norm": "batch", "padding": "zero"},
        {"width": 4, "blocks": 1, "norm": "batch", "track_running_stats": False},
        {"width": 4, "blocks": 1, "norm": "none", "padding": "replicate", "channels": 1},
    ),
    "unet": ({"width": 4, "levels": 4}, {"width": 4, "levels": 8, "norm": "instance", "residual": True}),
    "encoder_decoder": ({"width": 4, "blocks": 1},),
    "cyeda": ({"width": 4},),
    "todaygan": ({"width": 4, "encoder_blocks": 1, "decoder_blocks": 1},),
    "drit": ({"width": 4}, {"width": 4, "mode": "feature"}),
    "weakly_paired": (
        {"width": 2, "hidden": 4, "base": [2, 2], "latent": 4},
        {"width": 2, "hidden": 4, "base": [2, 2], "mask": False},
        {
            "width": 2,
            "hidden": 4,
            "base": [1, 1],
            "latent": 4,
            "norm": "layer",
            "padding": "replicate",
            "resizing": "area",
        },
    ),
    "spade": ({"width": 2, "hidden": 4, "base": [2, 2], "latent": 4},),
    "ganimation": ({"width": 4, "blocks": 1},),
    "adain": ({"stages": [[4, 1], [6, 2], [6, 1]]},),
    "mduit": ({"width": 2, "blocks": 1, "stages": [[4, 1], [4, 1], [4, 1]]},),
}
# The variants with the fewest channels.
KEYPOINTS = 256
VARIANTS = {"aliked": {"variant": "t16"}, "alike": {"variant": "t"}}
SHARED, PIXEL = 0.99, 1e-2  # of the keypoints, both ways
SLOW = {"r2d2": 160}  # largest side: full resolution at several scales takes half a minute a megapixel


@dataclass(frozen=True)
class Case:
    """One kind of exported file.

    Attributes:
        name: of the kind.
        write: exports it to a path and returns its card, and what torch or the parts give for one image uint8
            ``[h, w, C]``: a tuple of outputs, each without the batch's axis where the card's output has it.
        largest: side, pixels.
    """

    name: str
    write: Callable[[Path], tuple[ModelCard, Callable[[Images], tuple[Values, ...]]]]
    largest: int = LARGEST


def run() -> Result:
    """The number of kinds that fail or differ at any size and batch."""
    found = {case.name: _of_earlier_run(case) for case in cases()}
    failed = {name: item for name, item in found.items() if item["failed"]}
    detail = {"sizes": COUNT, "batches": BATCHES, "kinds": len(found), "failed": sorted(failed), "found": found}
    return Result(float(len(failed)), "kinds", "0", not failed, detail)


def _of_earlier_run(case: Case) -> dict[str, Any]:
    """What came of a case; read where an earlier run of the same code and versions kept it."""
    folder = os.environ.get(KEPT)
    if not folder:
        return measure(case)
    versions = [torch.__version__, onnxruntime.__version__, code_state("gloam", "benchmarks")]
    file = Path(folder) / "any_size" / f"{sha256_json([case.name, case.largest, versions])[:16]}.json"
    if not file.is_file():
        write_json(file, measure(case))
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def measure(
    case: Case, count: int = COUNT, batches: Sequence[int] = BATCHES, largest: int | None = None
) -> dict[str, Any]:
    """Export a kind and compare it with torch.

    Args:
        case: the kind.
        count: of sizes.
        batches: cut to the largest that the file takes.
        largest: side, pixels; the case's own by default.

    Returns:
        ``minimum`` (pixels), ``worst`` (largest difference of a value, over the largest value where that is above 1),
        ``tolerance``, and ``failed``: what went wrong first, or None.
    """
    with tempfile.TemporaryDirectory(prefix="gloam-any-size-") as folder, torch.no_grad():
        path = Path(folder) / "model.onnx"
        try:
            card, truth = case.write(path)
        except Exception as error:  # whatever it is, the kind cannot be exported
            return {"failed": f"export: {error}"}
        session = onnxruntime.InferenceSession(str(path))
        assert card.selftest is not None
        tolerance = card.selftest.tolerance["fp32"]
        result: dict[str, Any] = {"minimum": _smallest(card), "tolerance": tolerance, "worst": 0.0, "failed": None}
        for height, width in sizes(card, count, largest or case.largest):
            images = pictures(height, width, max(batches), card.inputs[0].shape[3])
            try:
                expected = [truth(image) for image in images[: min(max(batches), card.profile.batch[1])]]
            except Exception as error:  # one kind's; the others are still measured
                return result | {"failed": f"torch, {width}x{height}: {error}"}
            for batch in sorted({min(batch, card.profile.batch[1]) for batch in batches}):
                place = f"{batch} of {width}x{height}"
                try:
                    outputs = session.run(None, feed(card, images[:batch]))
                except Exception as error:  # ONNX Runtime's exceptions share no base class
                    return result | {"failed": f"{place}: {str(error).splitlines()[0]}"}
                difference = _difference(card, outputs, expected[:batch])
                result["worst"] = max(result["worst"], difference)
                if not difference <= tolerance:
                    return result | {"failed": f"{place}: differs by {difference:.1e}"}
    return result


def sizes(card: ModelCard, count: int, largest: int) -> list[tuple[int, int]]:
    """Heights and widths that a file takes: the corners first, then log-uniform, every fourth a square."""
    if card.profile.kind == "square":
        return [(card.profile.heights[0], card.profile.widths[0])]
    least, multiple = _smallest(card), card.profile.multiple if card.profile.reflects else card.profile.cell
    largest = largest // card.profile.cell * card.profile.cell
    rng = np.random.default_rng(0)
    found = [(least, least), (least, largest), (largest, least), (least + 1, least), (largest, largest)]
    while len(found) < count:
        height, width = np.exp(rng.uniform(np.log(least), np.log(largest), 2)).astype(int).tolist()
        found.append((height, height if len(found) % 4 == 0 else width))
    if card.resize is not None:  # the reduced image may not be narrower than what is behind takes
        found = [
            (max(h, max(h, w) * least // card.resize + 1), max(w, max(h, w) * least // card.resize + 1))
            for h, w in found
        ]
    return [(next_multiple(height, multiple), next_multiple(width, multiple)) for height, width in found[:count]]


def pictures(height: int, width: int, count: int, channels: Any) -> Images:
    """Parts of noisy textures, uint8 ``[count, height, width, channels]``."""
    whole = _textures()
    return np.ascontiguousarray(whole[:count, :height, :width, : int(channels)])


def feed(card: ModelCard, images: Images) -> dict[str, Values]:
    """Inputs of the graph; images of a masked file get the padded shape that holds them."""
    if all(spec.default is not None for spec in card.inputs[1:]):
        return {"images": images} | {spec.name: spec.filled(*images.shape[:3]) for spec in card.inputs[1:]}
    batch, valid = card.profile.pad(list(images), card.profile.shape_for(images.shape[1], images.shape[2]))
    return {"images": batch, "sizes": valid}


def cases() -> Iterator[Case]:
    """Every kind that the product exports."""
    for name in EMBEDDERS:
        for profile in ("dynamic", "fixed") if _embedder(name).padding_exact else ("dynamic",):
            yield Case(f"{name}, {profile}", partial(_write_embedder, partial(_embedder, name), profile))
    for name, options in PIPELINES.items():
        for profile in ("dynamic", "fixed"):
            yield Case(f"gem_resnet18 {name}, {profile}", partial(_write_embedder, partial(_piped, options), profile))
    yield Case("gem_resnet18 --resize", partial(_write_front, "dynamic", None, RESIZE))
    for profile in ("dynamic", "fixed"):
        yield Case(f"gem_resnet18 --translate, {profile}", partial(_write_front, profile, "resnet", None))
    yield Case("gem_resnet18 --resize --translate", partial(_write_front, "dynamic", "resnet", RESIZE))
    for name in EMBEDDERS:
        if name.startswith("how_"):
            yield Case(f"{name} --local-features", partial(_write_local, name))
    for name, variants in TRANSLATORS.items():
        for options in variants:
            stated = " ".join(f"{key}={value}" for key, value in options.items())
            yield Case(f"{name} {stated}", partial(_write_translator, name, options, PaddingProfile.dynamic()))
    yield Case("resnet width=4 blocks=1, fixed", partial(_write_translator, *_QUICK, FIXED))
    for name in DETECTORS:
        yield Case(name, partial(_write_detector, name))
    for name in EXTRACTORS:
        yield Case(name, partial(_write_extractor, name), SLOW.get(name, LARGEST))


_QUICK = ("resnet", TRANSLATORS["resnet"][0])
assert set(TRANSLATORS) == set(GENERATORS)
PIPELINES: dict[str, Mapping[str, Any]] = {
    "--scales": {"scales": SCALES},
    "--whitening": {"whitening": True},
    "--bake-clahe": {"clahe": True},
    "--scales --whitening --bake-clahe": {"scales": SCALES, "whitening": True, "clahe": True},
}
_kept: list[Images] = []


def _textures() -> Images:
    if not _kept:
        rng = np.random.default_rng(0)
        shape = (max(BATCHES), LARGEST, LARGEST, 3)
        smooth = np.stack([textured_image(rng, *shape[1:3]) for _ in range(shape[0])])
        # Half noise: an instance norm over a few cells of nearly one colour divides float32's rounding by nothing.
        _kept.append(smooth // 2 + rng.integers(0, 128, shape, dtype=np.uint8))
    return _kept[0]


def _smallest(card: ModelCard) -> int:
    return card.profile.minimum if card.kind in ("translator", "edges") else max(card.profile.minimum, MIN_SIDE)


def _embedder(name: str) -> EmbedderNetwork:
    torch.manual_seed(0)
    return lively(create_embedder(name, **SMALL.get(name, {})))


def _piped(options: Mapping[str, Any]) -> EmbedderNetwork:
    model = _embedder("gem_resnet18")
    rng = np.random.default_rng(0)
    projection = rng.normal(size=(model.dimension // 2, model.dimension))
    whitening = Whitening(rng.normal(size=model.dimension) * 0.1, projection) if options.get("whitening") else None
    clahe = ClaheLayer() if options.get("clahe") else None
    return DescriptorPipeline(model, scales=options.get("scales", (1.0,)), whitening=whitening, clahe=clahe).eval()


def _write_embedder(build: Callable[[], EmbedderNetwork], profile: str, path: Path) -> Any:
    model = build()
    sides = [side // model.cell * model.cell for side in DEFAULT_SIDES]
    fixed = PaddingProfile.fixed(sides, sides, BATCH, model.cell)
    card = export_embedder(model, path, profile=fixed if profile == "fixed" else None, provenance={})
    return card, lambda image: (model.describe_uint8(torch.from_numpy(image)[None])[0].numpy(),)


def _write_front(profile: str, translator: str | None, max_side: int | None, path: Path) -> Any:
    inner, before = path.with_name("embedder.onnx"), None
    export_embedder(_embedder("gem_resnet18"), inner, profile=FIXED if profile == "fixed" else None, provenance={})
    if translator is not None:
        before = path.with_name("translator.onnx")
        export_translator(_generator(*_QUICK), before, FIXED)
    card = put_in_front(inner, path, translator=before, max_side=max_side)
    embed, translate = Embedder.load(inner), None if before is None else Translator.load(before)

    def parts(image: Images) -> tuple[Values, ...]:
        if max_side is not None:
            whole = Image.fromarray(image)
            small = whole.copy()
            small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=None)
            # The width first, as the graph states it: of a tall image Pillow's thumbnail begins with the height.
            narrow = whole.resize((small.width, whole.height), Image.Resampling.LANCZOS)
            image = np.array(narrow.resize(small.size, Image.Resampling.LANCZOS))
        return (embed([image if translate is None else translate([image])[0]])[0],)

    return card, parts


def _write_local(name: str, path: Path) -> Any:
    model: Any = _embedder(name)
    card = export_local_features(model, path)

    def features(image: Images) -> tuple[Values, ...]:
        cells, attention, positions, scales = model.local_features(torch.from_numpy(image)[None])
        return cells[0].numpy(), attention[0].numpy(), positions.numpy(), scales.numpy()

    return card, features


def _generator(name: str, options: Mapping[str, Any]) -> Any:
    torch.manual_seed(0)
    return create_generator(name, **options).eval()


def _write_translator(name: str, options: Mapping[str, Any], profile: PaddingProfile, path: Path) -> Any:
    model = _generator(name, options)
    card = export_translator(model, path, profile)
    exact = copy.deepcopy(model).double()  # a batch norm's sums over a million cells are 8e-5 off in torch's float32

    def translate(image: Images) -> tuple[Values, ...]:
        pixels = torch.from_numpy(image)[None].permute(0, 3, 1, 2).double() / 127.5 - 1.0
        return (exact(pixels)[0].permute(1, 2, 0).numpy(),)

    return card, translate


def _write_detector(name: str, path: Path) -> Any:
    torch.manual_seed(0)
    model = create_detector(name, width=4).eval()
    card = export_edges(model, path)
    return card, lambda image: (model.edges_uint8(torch.from_numpy(image)[None])[0].numpy(),)


def _write_extractor(name: str, path: Path) -> Any:
    torch.manual_seed(0)
    model = create_extractor(name, **VARIANTS.get(name, {})).eval()
    card = export_keypoints(model, path, keypoints=KEYPOINTS, threshold=0.0, provenance={})

    def features(image: Images) -> tuple[Values, ...]:
        return tuple(item[0].numpy() for item in model.extract_uint8(torch.from_numpy(image)[None], KEYPOINTS, 0.0))

    return card, features


def _difference(card: ModelCard, outputs: Sequence[Values], expected: Sequence[tuple[Values, ...]]) -> float:
    """Largest difference of any output; infinite where a shape is another or a value is not finite."""
    if card.keypoints is not None:
        return max(_apart(*(item[row] for item in outputs), *truth) for row, truth in enumerate(expected))
    worst = 0.0
    for at, (spec, found) in enumerate(zip(card.outputs, outputs, strict=True)):
        truth = np.stack([row[at] for row in expected]) if spec.shape[0] == "batch" else expected[0][at]
        if found.shape != truth.shape or not np.isfinite(found).all():
            return float("inf")
        worst = max(worst, float(np.abs(found - truth).max() / max(1.0, np.abs(truth).max())))
    return worst


def _apart(*values: Values) -> float:
    """Largest difference of a descriptor, of keypoints that both have; infinite where they share too few.

    Args:
        values: keypoints, scores, descriptors and number of one image from the file, and the same from torch.
    """
    (found, _, described, count), (points, _, truth, number) = values[:4], values[4:]
    found, points = found[: int(count)], points[: int(number)]
    if not len(points):
        return 0.0 if not len(found) else float("inf")
    distance = np.abs(found[:, None] - points[None]).max(2)
    same = distance < PIXEL
    if not len(found) or min(same.any(0).mean(), same.any(1).mean()) < SHARED:
        return float("inf")
    rows = np.flatnonzero(same.any(1))
    return float(np.abs(described[rows] - truth[distance.argmin(1)[rows]]).max())
