"""Descriptors by the C++ and Node programs of ``examples/``, and in the container, against Python's on the same pixels.

Two models: the demo's embedder, and a ResNet of a fixed profile, which takes padded images and their sizes. The pixels
are photographs of the data packs, as PPM at their native size, so the programs resize them by the card's rule, too.
Beside it the same photographs as JPEGs: what each program's decoder changes in levels, and what that costs in cosine.
Each runs the model's self-test.

The tools that the programs need (g++, cmake, apt, node, npm) must be there; what they download stays in a temporary
folder, or below the one named by ``GLOAM_BENCH_RUNS``, where it is found again. The container is the image of target
``runtime`` of ``docker/``, or the one named by ``GLOAM_IMAGE``; where no engine has it, nothing is judged.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.shared.callers import LANGUAGES, build, call, write_explained, write_ppm
from benchmarks.shared.container import container
from benchmarks.shared.result import Result, data_pack, largest
from gloam.data.images import decode_image
from gloam.errors import DataError
from gloam.export.weights import ExportRequest, export_weights
from gloam.runtime.backends.placement import Placement
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.models.embedder import Embedder

PACKS = ("phototourism_samples", "strecha_herzjesu", "wxbs_daynight")
IMAGES = 12
TARGET = 1e-6


def run() -> Result:
    """Largest absolute difference of a descriptor's value, over programs, models and photographs."""
    with tempfile.TemporaryDirectory(prefix="gloam-callers-") as temporary:
        folder = Path(temporary)
        commands = {language: build(language, folder) for language in LANGUAGES}
        models = _models(folder)
        jpegs = _photographs()
        exact = [write_ppm(folder / f"{at:02d}.ppm", decode_image(file)) for at, file in enumerate(jpegs)]
        rows: dict[str, Any] = {}
        for name, model in models.items():
            embedder = Embedder.load(model, Placement(threads=1))
            truth = embedder([decode_image(file) for file in jpegs])
            for language, command in commands.items():
                called = call(command, model, [*exact, *jpegs])
                same, decoded = (
                    np.stack([called.descriptors[str(file)] for file in files]) - truth for files in (exact, jpegs)
                )
                rows[f"{name}, {language}"] = {
                    "max abs, same pixels": float(np.abs(same).max()),
                    "max abs, own decoder": float(np.abs(decoded).max()),
                    "self-test": called.selftest,
                    "exit code": called.code,
                }
            rows[f"{name}, container"] = _in_container(folder, model, exact, jpegs, truth)
        detail = {
            "photographs": len(jpegs),
            "sides": [list(Image.open(file).size) for file in jpegs],
            "by program": rows,
            "decoders of Node against Pillow's": _decoders(commands["Node"], folder, jpegs, models["demo"]),
            "versions": {"node": _said("node", "--version"), "g++": _said("g++", "-dumpfullversion")},
        }
    ran = [row for row in rows.values() if "not run" not in row]
    value = largest(row["max abs, same pixels"] for row in ran)
    tested = all(row["self-test"][0] <= row["self-test"][1] if row["self-test"] else False for row in ran)
    good = value <= TARGET and tested and all(row["exit code"] == 0 for row in ran)
    whole = len(ran) == len(rows)
    met = good if whole or not good else None
    return Result(value, "absolute difference", f"<= {TARGET:g}, every self-test passed", met, detail)


def _in_container(
    folder: Path, model: Path, exact: list[Path], jpegs: list[Path], truth: npt.NDArray[np.float32]
) -> dict[str, Any]:
    """``gloam extract`` and ``gloam check`` in the container, on the same files."""
    shared = folder / f"shared-{model.stem}"
    for kind, files in (("ppm", exact), ("jpg", jpegs)):
        (shared / kind).mkdir(parents=True)
        for at, file in enumerate(files):
            shutil.copy(file, shared / kind / f"{at:02d}.{kind}")
    shutil.copy(model, shared / "model.onnx")
    for path in (folder, shared):  # the container's user is another
        path.chmod(0o777)
    found: dict[str, Any] = {}
    try:
        with container(shared) as gloam:
            for kind in ("ppm", "jpg"):
                words = ["extract", f"/shared/{kind}", "-o", f"/shared/{kind}-store", "--model", "/shared/model.onnx"]
                done = _ran(*gloam, *words, "--dtype", "float32", "--threads", "1")
                if done.returncode:
                    break
                made = DescriptorStore.open(shared / f"{kind}-store").load()
                what = "max abs, same pixels" if kind == "ppm" else "max abs, own decoder"
                found[what] = float(np.abs(made - truth).max())
            else:
                done = _ran(*gloam, "check", "/shared/model.onnx", "--json")
                told = json.loads(done.stdout)
                found["self-test"] = [told["selftest"]["max_abs"], told["selftest"]["tolerance"]]
    except DataError as error:
        return {"not run": str(error)}
    return {"max abs, same pixels": float("inf"), "self-test": None, **found, "exit code": done.returncode}


def _models(folder: Path) -> dict[str, Path]:
    demo, fixed = folder / "demo.onnx", folder / "fixed.onnx"
    write_explained(demo)
    export_weights(
        ExportRequest(
            fixed,
            network="gem_resnet18",
            random_init=0,
            options={"width": 16},
            profile="fixed",
            sides=(256, 512),
            max_batch=4,
        )
    )
    return {"demo": demo, "fixed profile": fixed}


def _photographs() -> list[Path]:
    by_name = {file.stem: file for pack in PACKS for file in sorted(data_pack(pack).rglob("*.jp*g"))}
    found = list(by_name.values())
    return found[:: max(len(found) // IMAGES, 1)][:IMAGES]


def _decoders(node: list[str], folder: Path, jpegs: list[Path], model: Path) -> dict[str, Any]:
    """Levels and cosine that another decoder costs; photographs without an orientation, which jpeg-js does not read."""
    plain = [file for file in jpegs if Image.open(file).getexif().get(0x0112, 1) == 1]
    subprocess.run(
        [node[0], str(Path(node[1]).with_name("decoders.mjs")), str(folder), *map(str, plain)], check=True, timeout=600
    )
    embedder = Embedder.load(model, Placement(threads=1))
    own = [decode_image(file) for file in plain]
    truth = embedder(own)
    costs = {}
    for decoder in ("sharp", "jpeg-js"):
        pixels = [np.asarray(Image.open(folder / decoder / f"{file.stem}.ppm")) for file in plain]
        levels = [np.abs(ours.astype(int) - theirs) for ours, theirs in zip(own, pixels, strict=True)]
        lost = 1 - (embedder(pixels).astype(np.float64) * truth).sum(1)
        costs[decoder] = {
            "photographs": len(plain),
            "largest difference, levels": int(max(each.max() for each in levels)),
            "mean difference, levels": float(np.mean([each.mean() for each in levels])),
            "largest loss, 1 - cosine": float(lost.max()),
        }
    return costs


def _said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def _ran(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=600)
