"""Memory of bulk extraction is bounded: peak at 5000 images over peak at 1000, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.shared.result import Result
from gloam.export.embedder import export_embedder
from gloam.networks.embedders import create_embedder

COUNTS = (1000, 5000)
LIMIT = 1.10
CHILD = """
import json, resource, sys
from gloam.data.sources import find_images
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.bulk.extract import extract
summary = extract(find_images(sys.argv[1]), Embedder.load(sys.argv[2]), sys.argv[3])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"peak_mib": peak, "images_per_second": summary.images_per_second, "described": summary.described}))
"""


def write_images(folder: Path, count: int) -> None:
    """Small photographs-like JPEGs of a few sizes."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        height, width = ((64, 48), (48, 64), (64, 64))[number % 3]
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        cv2.imwrite(
            str(folder / f"{number:05d}.jpg"), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        )


def run() -> Result:
    """Extract 1000 and 5000 images in fresh processes and compare their peaks."""
    with tempfile.TemporaryDirectory(prefix="gloam-memory-") as temporary:
        root = Path(temporary)
        torch.manual_seed(0)
        export_embedder(create_embedder("gem_resnet18", width=16), root / "model.onnx", provenance={})
        detail = {}
        for count in COUNTS:
            write_images(root / str(count), count)
            command = [
                sys.executable,
                "-c",
                CHILD,
                str(root / str(count)),
                str(root / "model.onnx"),
                str(root / f"o{count}"),
            ]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            detail[str(count)] = json.loads(done.stdout.splitlines()[-1])
    ratio = detail["5000"]["peak_mib"] / detail["1000"]["peak_mib"]
    return Result(ratio, "ratio", f"<= {LIMIT:.2f}", ratio <= LIMIT, detail)
