"""The retrieval networks of Figure 7: NetVLAD of Pittsburgh, and one that is trained on the weak pairs themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gloam.data.published.names import find_published
from gloam.data.town.drives.config import LOOK
from gloam.heartbeat import Say
from gloam.training.config_changes import merge
from gloam.training.train import train
from gloam.workflows.demo_embedder import SHIPPED
from gloam.workflows.reproduce.models import load_embedder, model_folder
from gloam.workflows.reproduce.rows import EXPERIMENTS, TRAINED, WEIGHTS, Missing
from gloam.workflows.reproduce.weakly_paired.miniature import Miniature
from gloam.workflows.reproduce.weakly_paired.request import OF_FIGURE, WeaklyPairedRequest

PITTSBURGH, OF_THE_PAIRS = OF_FIGURE
DEMO = "demo's GeM"
RECIPE = "weakly_paired_netvlad"
# From random weights, in minutes: a small VGG, blocks of the map as small as its streets.
BLOCKS = {"kind": "weak_pairs", "side": 8.0, "apart": 6.0}
IN_MINIATURE: dict[str, Any] = {
    "weights": None,
    "network_options": {"clusters": 16, "stages": [[16, 2], [32, 2], [64, 3]]},
    "cluster_images": 40,
    "epochs": 8,
    "tuples": 96,
    "batch": 8,
    "negatives": 3,
    "forward_images": 40,
    "learning_rate": 5e-4,
    "learning_rate_decay": 0.85,
    "negative_pool": 300,
    "image_side": 128,
    "validate_every": 1,
    "workers": 0,
    "device": "cpu",
}


def find_networks(
    request: WeaklyPairedRequest, miniature: Miniature | None, pairs: Path, say: Say
) -> tuple[dict[str, Path], list[Missing]]:
    """Exported embedders by name, and what is missing for others.

    Args:
        request: with weights of its own, or what to train.
        miniature: of the town, where the demo's embedder stands in for Pittsburgh's.
        pairs: that the second is trained on.
        say: gets one line per step.

    Raises:
        GloamError: a file that is there and cannot be used, or a training that cannot be done.
    """
    found: dict[str, Path] = {}
    missing: list[Missing] = []
    published = find_published("netvlad_pitts30k")
    pittsburgh = request.weights.get(PITTSBURGH, request.data / WEIGHTS / Path(published.urls[0]).name)
    if pittsburgh.is_file():
        found[PITTSBURGH] = _exported(pittsburgh, request.output)
    elif miniature is not None and PITTSBURGH not in request.weights:
        found[DEMO] = SHIPPED[LOOK]["trained"]
    else:
        missing.append(Missing(pittsburgh, f"{published.urls[0]}; or give --weights '{PITTSBURGH}=FILE'"))
    trained = request.weights.get(OF_THE_PAIRS)
    if trained is None:
        folder = request.data / EXPERIMENTS / RECIPE if miniature is None else request.output / "runs" / RECIPE
        trained = folder / TRAINED
        if miniature is not None or request.train:
            say(f"{OF_THE_PAIRS}: recipe {RECIPE}")
            train("metric", RECIPE, _changes(request, miniature, pairs), folder, data=request.data, say=say)
    if trained.is_file():
        found[OF_THE_PAIRS] = _exported(trained, request.output)
    else:
        how = f"--train trains recipe {RECIPE}; or give --weights '{OF_THE_PAIRS}=FILE'"
        missing.append(Missing(trained, how))
    return found, missing


def _changes(request: WeaklyPairedRequest, miniature: Miniature | None, pairs: Path) -> dict[str, Any]:
    changes: dict[str, Any] = {"seed": request.seed}
    if miniature is None:
        return changes
    of_pairs = {
        name: {**BLOCKS, "path": str(pairs), "every": every} for name, every in (("train", -3), ("validation", 3))
    }
    return merge(merge(merge(changes, IN_MINIATURE), {"data": of_pairs}), miniature.network_changes)


def _exported(weights: Path, output: Path) -> Path:
    """A file of one scale and no whitening beyond its own, exported once."""
    if weights.suffix == ".onnx":
        return weights
    from gloam.export.embedder import export_embedder

    model = model_folder([weights], output) / "model.onnx"
    if not model.is_file():
        network, photometric, provenance = load_embedder([weights], scales=(1.0,))
        export_embedder(network, model, photometric=photometric, provenance=provenance)
    return model
