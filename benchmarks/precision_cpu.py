"""The CPU at its limit: fp32, bf16 and int8 of this product against the plain PyTorch loop, one image at a time.

Real photographs at native mixed sizes, decoding included on both sides; ratios of interleaved rounds in one process.
The backend, threads and runs at once of each precision are chosen beforehand by ``gloam bench``'s own rule, on other
photographs. VGG16, ResNet-101 and the ResNet-9 generator have random He-initialised weights here, so that their cosines
are an indication only; the MobileNetV2 whose int8 retrieval is scored has ImageNet weights.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from benchmarks.amos_retrieval import INPUT, NETWORK, WEIGHTS, export, read_images
from benchmarks.padding_exact import lively
from benchmarks.shared.result import Result, data_pack
from gloam.data.images import decode_image
from gloam.data.sources import ImageItem, find_images
from gloam.eval.retrieval.ground_truth import read_ground_truth
from gloam.eval.retrieval.scores import evaluate
from gloam.export.precision.convert import convert_precision
from gloam.export.translator import export_translator
from gloam.networks.checkpoints import load_checkpoint
from gloam.networks.embedders import create_embedder
from gloam.networks.translators import create_generator
from gloam.padding import crop_back, reflect_to
from gloam.runtime.backends.open import open_choice
from gloam.runtime.backends.openvino import capabilities
from gloam.runtime.backends.placement import BACKENDS, Placement
from gloam.runtime.backends.processor import find_processor
from gloam.runtime.backends.session import Session
from gloam.runtime.backends.tuning import Choice
from gloam.runtime.bench.compare import best, candidates, compare_choices
from gloam.runtime.bulk.extract import ExtractOptions, extract
from gloam.runtime.bulk.pictures import PictureOptions, run_images
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.image_model import ImageModel
from gloam.runtime.models.translator import Translator

EMBEDDERS = ("gem_vgg16", "gem_resnet101")
GENERATOR = "resnet"
# Least ratio to the plain loop, and least cosine to it
RATIO = {"fp32": 1.25, "bf16": 2.2, "int8": 4.0}
COSINE = {"fp32": 0.99999, "bf16": 0.9999, "int8": 0.999}
GENERATOR_BF16, MAP_LOSS = 2.5, 0.01
TRIES = 2  # rounds of the choosing
CALIBRATION, CALIBRATION_SIDE = ("wxbs_daynight", "night_street_unpaired"), 320
INT8_LOSS = 1e-3  # that decides which convolutions stay in float32

Calls = dict[str, Callable[[int], Any]]


@dataclass(frozen=True)
class Plan:
    """How much is run; the defaults are the benchmark.

    Attributes:
        embedders: whose rates are measured.
        images, generator_images, tuning: folders below ``images/`` of the photographs' pack; each gives its first.
        rounds: timed ones; one more warms up.
        options: of a network, by its name.
        calibration: photographs for int8 of the embedders, half of them to check it on; at 320 px.
        side: longer side, pixels; None keeps native sizes.
    """

    embedders: tuple[str, ...] = EMBEDDERS
    images: tuple[str, ...] = ("cam01/day", "cam03/night", "cam05/day", "cam06/night")
    generator_images: tuple[str, ...] = ("cam01/day", "cam05/day")
    tuning: tuple[str, ...] = ("cam02/day", "cam04/night")
    rounds: int = 5
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    calibration: int = 16
    side: int | None = None


@dataclass(frozen=True)
class Abilities:
    """What this processor can be judged by, and what it cannot for which reason."""

    bf16: str | None
    int8: str | None

    @classmethod
    def here(cls) -> Abilities:
        processor, computes = find_processor(), capabilities()
        bf16 = int8 = None
        if not processor.bf16 or "BF16" not in computes:
            bf16 = f"no AVX512_BF16 or AMX in {processor.model}; OpenVINO computes {', '.join(computes)}"
        if not processor.int8 or "INT8" not in computes:
            int8 = f"no VNNI in {processor.model}; int8 ran all the same"
        return cls(bf16, int8)


def run(plan: Plan | None = None) -> Result:
    """The worst bf16 ratio of the embedders, or none where the processor has no bf16; the rest in the detail."""
    plan, can = plan or Plan(), Abilities.here()
    before = torch.get_num_threads()
    torch.set_num_threads(find_processor().cores)
    start = time.perf_counter()
    detail: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "rounds": plan.rounds,
        "weights": "He-initialised at random (VGG16, ResNet-101, ResNet-9): their cosines are an indication only",
        "not judged": {name: why for name, why in vars(can).items() if why is not None},
    }
    try:
        with tempfile.TemporaryDirectory(prefix="gloam-precision-") as folder, torch.no_grad():
            for name in plan.embedders:
                detail[name] = embedder_rates(name, plan, can, Path(folder))
                print(f"{name} after {time.perf_counter() - start:.0f} s", file=sys.stderr)
            detail[GENERATOR] = generator_rates(plan, can, Path(folder))
            print(f"{GENERATOR} after {time.perf_counter() - start:.0f} s", file=sys.stderr)
            detail["int8 retrieval"] = int8_retrieval(Path(folder))
    finally:
        torch.set_num_threads(before)
    detail["seconds"] = time.perf_counter() - start
    return judged(detail, plan.embedders, can)


def judged(detail: dict[str, Any], embedders: tuple[str, ...], can: Abilities) -> Result:
    """The verdicts, each beside its numbers; None where the processor lacks what is needed."""
    for precision in RATIO:
        rows = [detail[name][precision] for name in embedders if precision in detail[name]]
        ratio = min((row["ratio"] for row in rows), default=None)
        cosine = min((row["worst_cosine"] for row in rows), default=None)
        detail[f"{precision}_worst_ratio"], detail[f"{precision}_worst_cosine"] = ratio, cosine
        detail[f"{precision}_met"] = (
            None
            if getattr(can, precision, None) is not None or ratio is None or cosine is None
            else ratio >= RATIO[precision] and cosine >= COSINE[precision]
        )
    generator = detail[GENERATOR].get("bf16", {}).get("ratio")
    detail["bf16_generator_ratio"] = generator
    if detail["bf16_met"] is not None:
        detail["bf16_met"] = detail["bf16_met"] and generator is not None and generator >= GENERATOR_BF16
    mAP = detail["int8 retrieval"]["mAP"]
    loss = max(abs(mAP["fp32"] - value) for value in mAP.values())
    detail["int8_mAP_loss"] = loss
    if detail["int8_met"] is not None:
        detail["int8_met"] = detail["int8_met"] and loss <= MAP_LOSS
    verdicts = [detail[f"{precision}_met"] for precision in RATIO]
    met = None if detail["bf16_met"] is None else all(verdict is not False for verdict in verdicts)
    target = (
        f"bf16 >= {RATIO['bf16']} (cosine {COSINE['bf16']}; generator >= {GENERATOR_BF16}), fp32 >= {RATIO['fp32']}, "
        f"int8 >= {RATIO['int8']} (cosine {COSINE['int8']}, mAP within {MAP_LOSS})"
    )
    return Result(detail["bf16_worst_ratio"], "ratio", target, met, detail)


def embedder_rates(name: str, plan: Plan, can: Abilities, folder: Path) -> dict[str, Any]:
    """One embedder: the plain loop, then ``extract`` in each precision."""
    torch.manual_seed(0)
    model = lively(create_embedder(name, **plan.options.get(name, {})))
    path = export(model, folder / f"{name}.onnx")
    items, tuning = photographs(plan.images, folder, plan.side), decoded(plan.tuning, folder, plan.side)
    choices = {"fp32": chosen(path, tuning, "f32")}
    paths = {"fp32": path, "bf16": path, "int8": path.with_name(f"{name}-int8.onnx")}
    if can.bf16 is None:
        choices["bf16"] = chosen(path, tuning, "bf16")
    conversion = to_int8(path, paths["int8"], folder / "calibration", plan.calibration, can)
    choices["int8"] = chosen(paths["int8"], tuning, "int8")
    sessions = {precision: open_choice(paths[precision], choice) for precision, choice in choices.items()}
    embedders = {precision: Embedder(session) for precision, session in sessions.items()}
    found: dict[str, npt.NDArray[np.float32]] = {}

    def plain(number: int) -> None:
        found["loop"] = embedder_loop(model, items)

    def bulk(precision: str) -> Callable[[int], None]:
        def run_once(number: int) -> None:
            out = folder / f"{name}-{precision}-{number}"
            extract(items, embedders[precision], out, ExtractOptions(max_side=0, dtype="float32"))
            found[precision] = DescriptorStore.open(out).load()

        return run_once

    calls: Calls = {"loop": plain} | {precision: bulk(precision) for precision in choices}
    seconds = interleaved(calls, plan.rounds)
    rows = {
        precision: ratios(seconds, precision, session) | {"worst_cosine": worst_cosine(found[precision], found["loop"])}
        for precision, session in sessions.items()
    }
    rows["int8"] |= conversion
    sizes = [Image.open(item.path).size for item in items]
    return {"loop_images_per_second": len(items) / statistics.median(seconds["loop"]), "sizes": sizes, **rows}


def generator_rates(plan: Plan, can: Abilities, folder: Path) -> dict[str, Any]:
    """The generator: the plain loop, then ``translate``; both write JPEG files. int8 was measured to be of no use."""
    torch.manual_seed(0)
    model = create_generator(GENERATOR, **plan.options.get(GENERATOR, {})).eval()
    path = folder / "generator.onnx"
    card = export_translator(model, path)
    items, tuning = photographs(plan.generator_images, folder, plan.side), decoded(plan.tuning[:1], folder, plan.side)
    choices = {"fp32": chosen(path, tuning, "f32")}
    if can.bf16 is None:
        choices["bf16"] = chosen(path, tuning, "bf16")
    sessions = {precision: open_choice(path, choice) for precision, choice in choices.items()}
    (folder / "loop").mkdir()

    def translated(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        padded, corner = reflect_to(image, card.profile.shape_for(*image.shape[:2]), card.profile.anchor)
        whole = model.translate_uint8(torch.from_numpy(np.ascontiguousarray(padded))[None])[0].numpy()
        return crop_back(whole, corner, (image.shape[0], image.shape[1]))

    def plain(number: int) -> None:
        for item in items:
            values = translated(np.array(Image.open(item.path).convert("RGB")))
            pixels = np.rint((values + 1) * np.float32(127.5)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "loop" / f"{item.path.stem}.jpg", quality=95)

    def bulk(precision: str) -> Callable[[int], None]:
        def run_once(number: int) -> None:
            out = folder / f"generator-{precision}-{number}"
            run_images(items, Translator(sessions[precision]), out, PictureOptions(None, "jpg"))

        return run_once

    calls: Calls = {"loop": plain} | {precision: bulk(precision) for precision in choices}
    seconds = interleaved(calls, plan.rounds)
    image = decode_image(items[0].path)
    truth = translated(image)
    rows = {
        precision: ratios(seconds, precision, session)
        | {"largest_difference": float(np.abs(ImageModel(session).maps([image])[0] - truth).max())}
        for precision, session in sessions.items()
    }
    return {"loop_images_per_second": len(items) / statistics.median(seconds["loop"]), **rows}


def int8_retrieval(folder: Path) -> dict[str, Any]:
    """Night-to-day mAP of MobileNetV2-GeM in float32 and int8; calibrated on photographs of other places."""
    pack = data_pack("amos_daynight")
    truth = read_ground_truth(pack / "retrieval_gnd.json", "night2day")
    names = sorted({*truth.map_names, *truth.query_names})
    images = read_images(pack, names)
    model = load_checkpoint(data_pack("weights") / WEIGHTS, NETWORK, padding="tf", **INPUT).model
    path = export(model, folder / "mobilenet.onnx")
    conversion = to_int8(path, folder / "mobilenet-int8.onnx", folder / "calibration", None, Abilities(None, None))
    cores = find_processor().cores
    found = {"fp32": Embedder.load(path, Placement(backend="onnxruntime"))(images)}
    for backend in BACKENDS:
        session = open_choice(folder / "mobilenet-int8.onnx", Choice(backend, cores, 1))
        found[f"int8, {backend}"] = Embedder(session)(images)
    scores = {label: evaluate(names, rows, names, rows, truth).mAP for label, rows in found.items()}
    cosines = {label: worst_cosine(rows, found["fp32"]) for label, rows in found.items()}
    return {"mAP": scores, "worst_cosine": cosines, "images": len(names), **conversion}


def chosen(path: Path, images: list[npt.NDArray[np.uint8]], precision: str) -> Choice:
    """The fastest way to run a file with all cores, by ``gloam bench``: exact for f32, whatever it costs for others."""
    cores = find_processor().cores
    rows = compare_choices(path, images, candidates(cores, BACKENDS, precision == "bf16", cores), TRIES).rows
    if precision == "f32":
        return best(rows).choice
    wanted = "bf16" if precision == "bf16" else "f32"
    return max((row for row in rows if row.choice.cpu_precision == wanted), key=lambda row: row.rate).choice


def to_int8(path: Path, out: Path, folder: Path, count: int | None, can: Abilities) -> dict[str, Any]:
    """Convert, calibrated on photographs of other packs; where int8 is not judged, without a search for what stays."""
    if not folder.exists():
        folder.mkdir()
        root = data_pack("wxbs_daynight").parent
        for pack in CALIBRATION:
            for source in sorted(path for path in (root / pack).rglob("*") if path.suffix.lower() in (".jpg", ".png")):
                reduced = Image.fromarray(decode_image(source, max_side=CALIBRATION_SIDE))
                reduced.save(folder / f"{len(list(folder.iterdir())):02d}.png")
    items = find_images(folder)
    items = items if count is None else items[:: max(1, len(items) // count)][:count]
    tolerance = INT8_LOSS if can.int8 is None else 1.0
    _, report = convert_precision(path, out, "int8", items=items, tolerance=tolerance, accept=True)
    return {name: report.details[name] for name in ("quantized", "kept")}


def photographs(folders: tuple[str, ...], folder: Path, side: int | None) -> list[ImageItem]:
    """The first photograph of each folder of the pack, as a list of files; smaller copies where a side is given."""
    found = []
    for name in folders:
        path = sorted((data_pack("amos_daynight") / "images" / name).iterdir())[0]
        copied = folder / f"{name.replace('/', '-')}{path.suffix}"
        if side is None:
            shutil.copyfile(path, copied)
        else:
            Image.fromarray(decode_image(path, max_side=side)).save(copied)
        found.append(ImageItem(copied.name, copied))
    return found


def decoded(folders: tuple[str, ...], folder: Path, side: int | None) -> list[npt.NDArray[np.uint8]]:
    """The same, in memory."""
    return [decode_image(item.path) for item in photographs(folders, folder, side)]


def embedder_loop(model: Any, items: list[ImageItem]) -> npt.NDArray[np.float32]:
    """What researchers write: open, to tensor, forward, one image at a time."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (model.mean, model.std))
    rows = []
    for item in items:
        pixels = torch.from_numpy(np.array(Image.open(item.path).convert("RGB")))
        rows.append(model((pixels.permute(2, 0, 1)[None].float() / 255 - mean) / std)[0].numpy())
    return np.stack(rows)


def interleaved(calls: Calls, rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, by round; a first round more counts for nothing."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call(number)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratios(seconds: Mapping[str, list[float]], name: str, session: Session) -> dict[str, Any]:
    """How much quicker than the loop, by round and in the median; and what really ran."""
    rounds = [loop / own for loop, own in zip(seconds["loop"], seconds[name], strict=True)]
    kept = ("backend", "threads", "requests", "precision", "inference_precision", "convolutions")
    ran = {key: value for key, value in session.backend.to_dict().items() if key in kept}
    return {"ratio": statistics.median(rounds), "rounds": rounds, "ran": ran}


def worst_cosine(found: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]) -> float:
    """Smallest cosine between rows of equal index."""
    first, second = (rows.astype(np.float64) for rows in (found, truth))
    return float(((first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)).min())
