"""Which exported files a real TensorRT builds: families, profiles, precisions and pipelines that gloam lets one export.

The builder is that of TensorRT for RTX, which needs no GPU; its parser is TensorRT's own. Nothing is run. Networks are
narrow where their family has such an option; what a file is made of does not depend on that. What ``gloam export``
refuses is no file: its sentences are in the detail.

It takes an hour or more on two cores. A folder named by ``GLOAM_BENCH_RUNS`` keeps what is done, and the same command
carries on, for as long as no code changes; ``GLOAM_BENCH_ONLY`` names families, separated by commas, to run those
alone.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.shared.result import Result, kept_rows
from benchmarks.shared.tiny import HEADED, TRANSFORMERS
from gloam.errors import GloamError
from gloam.export.engine.options import BuildOptions
from gloam.export.engine.serialize import Shapes, serialize
from gloam.export.precision import PRECISIONS
from gloam.export.weights import ExportRequest, export_weights
from gloam.model_card import ModelCard
from gloam.networks.edges import DETECTORS
from gloam.networks.embedders import EMBEDDERS, create_embedder
from gloam.networks.local_features import EXTRACTORS
from gloam.networks.matchers import MATCHERS
from gloam.networks.translators import GENERATORS
from gloam.padding import next_multiple
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.tensorrt.api import EngineLog, load_rtx
from gloam.runtime.descriptors.whitening import Whitening

ONLY = "GLOAM_BENCH_ONLY"
PROFILES = ("dynamic", "fixed")
SIDE = 256  # pixels, of the fixed profile; a dynamic one is built from 64 to 512
IMAGES = 16  # that calibrate int8 and judge what was converted
ANY_LOSS = 1e9  # what is measured here is what is built, not what it loses
VGG: dict[str, Any] = {"stages": ((8, 1), (16, 2), (16, 1))}
INSIDE = {"name": "gem_vgg16", "options": VGG}
NARROW: dict[str, dict[str, Any]] = {
    **{name: {"width": 8} for name in EMBEDDERS if "resnet" in name},
    **{name: VGG for name in EMBEDDERS if "vgg16" in name},
    **{name: {**VGG, "detector_options": {"width": 4}} for name in ("hedmac_vgg16", "rcfmac_vgg16")},
    **TRANSFORMERS,
    **HEADED,
    "netvlad_vgg16": {**VGG, "clusters": 8},
    "ciconv_resnet101": {"width": 16},  # of fewer channels, random ones, float32 rounds more than the self-test allows
    "photometric_unet": {"embedder": INSIDE, "levels": 3, "width": 8},
    "ensemble": {"members": [INSIDE, {"name": "gem_resnet18", "options": {"width": 8}}]},
    **{name: {"width": 4} for name in (*GENERATORS, *DETECTORS)},
    "adain": {"stages": [[4, 1], [6, 2], [6, 1]]},
    "aliked": {"variant": "t16"},
    "alike": {"variant": "t"},
    **{name: {"layers": 1, "width": 32, "heads": 2} for name in MATCHERS},
}
SELFTEST = "its self-test failed"
VARIANTS = ("plain", "scales", "whitening", "bake-clahe", "resize", "translate", "local-features")


@dataclass(frozen=True)
class Case:
    """One float32 export and its conversions."""

    family: str
    profile: str
    variant: str

    @property
    def label(self) -> str:
        return f"{self.family}, {self.profile}, {self.variant}"


def run() -> Result:
    """Share of the files that are built; rows and refusals in the detail."""
    only = tuple(filter(None, os.environ.get(ONLY, "").split(",")))
    every = (*EMBEDDERS, *GENERATORS, *DETECTORS, *EXTRACTORS, *MATCHERS)
    families = [name for name in every if not only or name in only]
    version = load_rtx().__version__
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="gloam-engines-") as temporary:
        folder = Path(temporary)
        for case in (Case(*item) for item in _cases(families)):
            rows += kept_rows("engine_build", [dataclasses.asdict(case), version], partial(rows_of, case, folder))
    files = [row for row in rows if "refused" not in row]
    built = [row for row in files if "problem" not in row]
    refusals: dict[str, list[str]] = {}
    for row in rows:
        if "refused" in row:
            refusals.setdefault(row["refused"], []).append(f"{row['file']}, {row['precision']}")
    detail = {
        "builder": f"TensorRT for RTX {version}, ahead of time, no GPU: built, not run",
        "families": families,
        "files": len(files),
        "built": len(built),
        "not built": {f"{row['file']}, {row['precision']}": row["problem"] for row in files if "problem" in row},
        "refused by gloam export": refusals,
        "seconds of a build, most": max((row["seconds"] for row in built), default=None),
        "rows": {f"{row['file']}, {row['precision']}": _figures(row) for row in built},
    }
    share = len(built) / len(files) if files else None
    return Result(share, "share", "= 1", None if only or share is None else share == 1, detail)


def _cases(families: list[str]) -> Iterator[tuple[str, str, str]]:
    """Every family by itself first, and the deepest with something else last, so that a run that is stopped says
    something of all of them."""
    plain, *others = VARIANTS
    deep = [family for family in families if "101" in family]
    rest = [family for family in families if family not in deep]
    for chosen, variants in ((families, (plain,)), (rest, others), (deep, others)):
        yield from ((family, profile, variant) for variant in variants for family in chosen for profile in PROFILES)


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("layers", "seconds", "MB", "scratch MB")}


def rows_of(case: Case, folder: Path) -> list[dict[str, Any]]:
    """A row for each precision: built, not built, or refused by the export."""
    exact = folder / "exact.onnx"
    exact.unlink(missing_ok=True)
    rows = []
    for precision in ("fp32", *PRECISIONS):
        row: dict[str, Any] = {"file": case.label, "precision": precision}
        path = exact if precision == "fp32" else folder / "converted.onnx"
        try:
            if precision == "fp32":
                export_weights(_request(case, exact, folder))
            else:
                export_weights(
                    ExportRequest(
                        path,
                        weights=exact,
                        precision=precision,  # type: ignore[arg-type]  # one of PRECISIONS
                        calibrate=_photographs(folder),
                        tolerance=ANY_LOSS,
                        accept_loss=True,
                    )
                )
        except GloamError as error:
            refused = SELFTEST not in str(error)  # which is no refusal
            row["refused" if refused else "problem"] = str(error).replace(f"{folder}/", "")
        else:
            row |= build(path)
        rows.append(row)
        gc.collect()
        if precision == "fp32" and not exact.is_file():
            break  # there is nothing to convert
    return rows


def build(path: Path) -> dict[str, Any]:
    """What the builder makes of a file, for one optimisation profile: layers, seconds, MB; or its problem."""
    card = read_card(path)
    log = EngineLog()
    clock = time.perf_counter()
    try:
        made = serialize(load_rtx(), path, card, [shapes_of(card)], BuildOptions(target="rtx"), log)
    except GloamError as error:
        return {"problem": str(error).replace(f"{path.parent}/", "")}
    return {
        "layers": made.number,
        "seconds": round(time.perf_counter() - clock, 2),
        "MB": round(len(made.plan) / 1e6, 2),
        "scratch MB": round(sum(made.memory) / 1e6, 1),
        "types": made.layers,
    }


def shapes_of(card: ModelCard) -> Shapes:
    """Smallest, preferred and largest shapes of the inputs, within what the model takes."""
    profile = card.profile
    if profile.kind != "dynamic":
        sides = [profile.heights[0]] * 3
    else:
        multiple = profile.multiple if profile.reflects else profile.cell
        sides = [next_multiple(max(side, profile.minimum), multiple) for side in (64, 256, 512)]
    batches = [min(size, profile.batch[1]) for size in (1, 2, 4)]
    return {
        spec.name: [spec.sized(batch, side, side, card.name) for batch, side in zip(batches, sides, strict=True)]
        for spec in card.inputs
    }


def _request(case: Case, output: Path, folder: Path) -> ExportRequest:
    """The export of a case, with random weights."""
    options = NARROW.get(case.family, {})
    cell = create_embedder(case.family, **options).cell if case.family in EMBEDDERS else 1
    more: dict[str, Any] = {}
    if case.variant == "scales":
        more["scales"] = (1.0, 0.7071, 0.5)
    elif case.variant == "whitening":
        more["whitening"] = _whitening(case.family, options, folder)
    elif case.variant == "bake-clahe":
        more["bake_clahe"] = True
    elif case.variant == "resize":
        more["resize"] = SIDE
    elif case.variant == "translate":
        more["translate"] = _translator(folder, case.profile)
    elif case.variant == "local-features":
        more["local_features"] = True
    return ExportRequest(
        output,
        network=case.family,
        random_init=0,
        options=options,
        profile=case.profile,  # type: ignore[arg-type]  # one of PROFILES
        sides=(SIDE // cell * cell,),
        max_batch=4,
        **more,
    )


def _whitening(family: str, options: dict[str, Any], folder: Path) -> Path:
    """A whitening of random directions, of half the descriptor's numbers; of any size for what is no embedder."""
    size = create_embedder(family, **options).dimension if family in EMBEDDERS else 8
    rng = np.random.default_rng(0)
    path = folder / f"whitening-{size}.npz"
    if not path.exists():
        Whitening(rng.normal(size=size) * 0.01, rng.normal(size=(size // 2, size))).save(path)
    return path


def _translator(folder: Path, profile: str) -> Path:
    """A small generator of the same profile, exported once."""
    path = folder / f"translator-{profile}.onnx"
    if not path.exists():
        case = Case("resnet", profile, "plain")
        export_weights(dataclasses.replace(_request(case, path, folder), options={"width": 4, "blocks": 1}))
    return path


def _photographs(folder: Path) -> Path:
    """Smooth colours with noise."""
    place = folder / "images"
    if not place.exists():
        place.mkdir()
        rng = np.random.default_rng(0)
        for index in range(IMAGES):
            coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((160, 120), Image.Resampling.BICUBIC), np.int16)
            noisy = np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(place / f"{index:02d}.png")
    return place
