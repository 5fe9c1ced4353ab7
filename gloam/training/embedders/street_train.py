"""Train an embedder on procedural streets: render, fit, write the weights and what they came from."""

from __future__ import annotations

import importlib.metadata
import io
import platform
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam import __version__
from gloam.errors import StoreError
from gloam.files import atomic_write, sha256_json, write_json
from gloam.training.embedders.street_config import TrainConfig
from gloam.training.embedders.street_sampling import PlaceImages

__all__ = ["TrainConfig", "TrainSummary", "render_places", "train_embedder"]

WEIGHTS_FILE = "embedder.safetensors"
RECORD_FILE = "train.json"
VERSIONED = ("numpy", "torch", "opencv-python-headless", "safetensors")


@dataclass(frozen=True)
class TrainSummary:
    """What a run gave.

    Attributes:
        weights: the written ``.safetensors`` checkpoint.
        weights_sha256: of its tensors.
        best_epoch: the epoch whose weights these are, 1-based.
        validation_mAP: of that epoch, on a street that was not trained on.
        untrained_mAP: of the same network before training.
        chance_mAP: of a random ranking.
        history: one record per epoch; epoch 0 is the untrained network.
        images: how many training images.
        seconds: of this call, rendering included.
    """

    weights: Path
    weights_sha256: str
    best_epoch: int
    validation_mAP: float
    untrained_mAP: float
    chance_mAP: float
    history: list[dict[str, Any]]
    images: int
    seconds: float


def train_embedder(
    config: TrainConfig, folder: str | Path, *, recipe: str = "town", say: Callable[[str], None] | None = None
) -> TrainSummary:
    """Train, keep the best epoch, and write ``embedder.safetensors`` and ``train.json``.

    Rendered images and the state after each epoch stay in ``folder``: the same call carries on after a kill, and a
    finished run is only read.

    Args:
        config: sizes, seeds and streets.
        folder: output folder, created where it is missing.
        recipe: name that goes into the weights' provenance.
        say: gets one line per stage and epoch.

    Raises:
        StoreError: ``folder`` holds a run with another configuration.
        ModelError: no such network, or not with these options.
        DivergenceError: training gave a value that is not finite.
    """
    import torch

    from gloam.networks.checkpoints import save_checkpoint
    from gloam.networks.embedders import create_embedder
    from gloam.training.embedders.street_fit import fit

    started = time.perf_counter()
    create_embedder(config.network, **config.network_options)  # a wrong name is refused before minutes of rendering
    folder = Path(folder)
    train = cached_places(config.street_seeds, config, folder, say)
    validation = cached_places((config.validation_seed,), config, folder, say)
    fitted = fit(config, train, validation, folder, say=say)
    best = fitted.history[fitted.best_epoch]
    provenance = save_checkpoint(
        folder / WEIGHTS_FILE,
        fitted.model,
        {
            "recipe": recipe,
            "data": f"procedural streets {', '.join(map(str, config.street_seeds))}",
            "licence": "Apache-2.0",
            "config_sha256": sha256_json(config.to_dict()),
            "best_epoch": fitted.best_epoch,
            "validation_mAP": best["validation_mAP"],
        },
    )
    summary = TrainSummary(
        weights=folder / WEIGHTS_FILE,
        weights_sha256=provenance["weights_sha256"],
        best_epoch=fitted.best_epoch,
        validation_mAP=best["validation_mAP"],
        untrained_mAP=fitted.history[0]["validation_mAP"],
        chance_mAP=fitted.chance_mAP,
        history=fitted.history,
        images=len(train),
        seconds=time.perf_counter() - started,
    )
    record = {
        "recipe": recipe,
        "config": config.to_dict(),
        "weights_sha256": summary.weights_sha256,
        "best_epoch": summary.best_epoch,
        "validation": {
            "street_seed": config.validation_seed,
            "queries": fitted.queries,
            "mAP": summary.validation_mAP,
            "untrained_mAP": summary.untrained_mAP,
            "chance_mAP": summary.chance_mAP,
        },
        "history": summary.history,
        "training_images": summary.images,
        "threads": torch.get_num_threads(),
        "versions": {"gloam": __version__, "python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in VERSIONED},
    }
    write_json(folder / RECORD_FILE, record)
    return summary


def render_places(seeds: Sequence[int], config: TrainConfig) -> PlaceImages:
    """Render the places of several streets; labels of different streets differ."""
    from gloam.data.town.training_views import render_training_views

    images: list[npt.NDArray[np.uint8]] = []
    places: list[npt.NDArray[np.int64]] = []
    conditions: list[str] = []
    names: list[str] = []
    for street, seed in enumerate(seeds):
        views = render_training_views(
            seed, config.places, config.views_per_place, config.conditions, (config.width, config.height)
        )
        images.extend(views.images)
        places.append(views.places + street * config.places)
        conditions.extend(views.conditions)
        names.extend(
            f"street{seed}/place{place:03d}-{index:04d}-{condition}"
            for index, (place, condition) in enumerate(zip(views.places, views.conditions, strict=True))
        )
    return PlaceImages(np.stack(images), np.concatenate(places), tuple(conditions), tuple(names))


def cached_places(
    seeds: Sequence[int], config: TrainConfig, folder: Path, say: Callable[[str], None] | None = None
) -> PlaceImages:
    """The images of :func:`render_places`, kept in ``folder`` so that a resumed run does not render again."""
    from gloam.data.town.config import REVISION

    what = [list(seeds), config.places, config.views_per_place, list(config.conditions), config.width, config.height]
    path = folder / f"views-{sha256_json([*what, REVISION])[:16]}.npz"
    if path.is_file():
        try:
            with np.load(path) as kept:
                conditions, names = tuple(kept["conditions"].tolist()), tuple(kept["names"].tolist())
                return PlaceImages(kept["images"], kept["places"], conditions, names)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise StoreError(f"{path}: not readable ({error}); remove it to render again") from error
    if say is not None:
        say(f"rendering {config.places * config.views_per_place} images of each street {list(seeds)}")
    rendered = render_places(seeds, config)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        images=rendered.images,
        places=rendered.places,
        conditions=np.array(rendered.conditions),
        names=np.array(rendered.names),
    )
    with atomic_write(path) as handle:
        handle.write(buffer.getbuffer())
    return rendered
