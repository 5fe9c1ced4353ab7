"""The folder of an embedder's run, with invented numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_embedder_run(folder: Path, epochs: int = 6) -> Path:
    """``train.json`` and two sample strips."""
    (folder / "samples").mkdir(parents=True)
    for epoch in (0, epochs):
        pixels = np.random.default_rng(epoch).integers(0, 255, (300, 900, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "samples" / f"epoch-{epoch:05d}.png")
    history = [
        {
            "epoch": epoch,
            "loss": 1 / epoch if epoch else None,
            "p": 3 + 0.1 * epoch,
            "validation": {"loss": 0.9 - 0.1 * epoch, "mAP": 0.2 + 0.08 * epoch, "chance_mAP": 0.125, "queries": 24},
        }
        for epoch in range(epochs + 1)
    ]
    record = {
        "recipe": "town_night25",
        "device": "cpu",
        "seconds": 372.4,
        "config": {
            "network": "gem_resnet18",
            "seed": 0,
            "epochs": epochs,
            "query_condition": "night",
            "map_condition": "day",
            "night": {"mode": "per_epoch", "share": 0.25},
            "data": {"train": {"kind": "town", "seeds": [101, 102]}, "validation": {"kind": "town", "seeds": [201]}},
        },
        "weights_sha256": "77ab" * 16,
        "versions": {"gloam": "0.1.0", "torch": "2.13.0"},
        "best_epoch": epochs,
        "untrained": history[0]["validation"],
        "validation": history[-1]["validation"],
        "history": history,
    }
    (folder / "train.json").write_text(json.dumps(record))
    return folder
