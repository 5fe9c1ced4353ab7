"""Small runs for the tests of translators' training: smooth noise in folders, narrow networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from gloam.training.config_changes import merge
from gloam.training.translators.config import TranslatorConfig, fill_translator_config
from gloam.training.translators.train import TranslatorSummary, train_translator

SMALL: dict[str, Any] = {
    "trainer": "cyclegan",
    "options": {
        "epochs": 2,
        "decay_epochs": 1,
        "generator": "resnet",
        "generator_options": {"norm": "instance", "width": 8, "blocks": 1},
        "discriminator_options": {"norm": "instance", "width": 8, "layers": 2},
        "pool_size": 3,  # full after two of the six steps
    },
    "data": {"kind": "folders", "transform": "scalecrop", "size": 32, "held_out_share": 0.25},
    "batch": 2,
    "steps_per_epoch": 3,
    "device": "cpu",
    "log_every": 2,
    "save_every": 2,
    "held_out": 2,
    "strip_rows": 2,
    "threads": 1,
    "tensorboard": False,
}
NARROW = {key: SMALL["options"][key] for key in ("epochs", "decay_epochs", "discriminator_options")}
OTHERS: dict[str, dict[str, Any]] = {
    "cut": {
        "options": {
            **NARROW,
            "generator_options": SMALL["options"]["generator_options"],
            "layers": [4, 8],
            "patches": 16,
            "flip_equivariance": True,
        }
    },
    "hedgan": {
        "options": {
            **NARROW,
            "generator_options": {"norm": "batch", "width": 8, "blocks": 1},
            "student": True,
            "student_learning_rate": 1e-3,
        }
    },
    "pix2pix": {
        "options": {
            **NARROW,
            "discriminator_options": {"norm": "batch", "width": 8, "layers": 2},
            "generator_options": {"norm": "batch", "levels": 5, "width": 4, "dropout": True},
        },
        "data": {"kind": "paired_folders"},
    },
}


def write_images(root: Path, count: int = 10) -> Path:
    """``root/day`` and ``root/night`` with PNGs of smooth noise, bright and dark, of the same names."""
    random = np.random.default_rng(7)
    for domain, level in (("day", 170), ("night", 50)):
        folder = root / domain
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            coarse = random.normal(level, 40, (5, 5, 3)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(coarse, (40, 36)))
    return root


def small_config(images: Path, trainer: str = "cyclegan", **changes: Any) -> TranslatorConfig:
    """A run of six steps on images of :func:`write_images`."""
    value = SMALL if trainer == "cyclegan" else {**SMALL, **OTHERS[trainer], "trainer": trainer}
    value = {**value, "data": {**SMALL["data"], **value["data"], "root": str(images)}}
    return fill_translator_config(merge(value, changes), "test")


def newest_state(run: Path, step: int, rank: int = 0) -> dict[str, Any]:
    """All that a process of a run saved after some step."""
    state: dict[str, Any] = torch.load(run / "state" / f"step-{step:08d}-rank{rank}.pt", weights_only=True)
    return state


def tensors_of(value: Any, name: str = "") -> dict[str, Tensor]:
    """Every tensor in nested dicts and lists, by its path."""
    if isinstance(value, Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {key: item for part, inner in items for key, item in tensors_of(inner, f"{name}/{part}").items()}


def curve(run: Path, name: str = "losses.csv") -> list[list[str]]:
    """Rows of a table without its seconds."""
    rows = [line.split(",") for line in (run / name).read_text().splitlines()]
    return [[cell for title, cell in zip(rows[0], row, strict=True) if title != "seconds"] for row in rows]


def train(config: TranslatorConfig, run: Path) -> TranslatorSummary:
    """Without a word."""
    return train_translator(config, run)
