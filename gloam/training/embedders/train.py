"""Metric learning on mined tuples with made nights (Mohwald et al. 2023; Radenović et al. 2019).

An epoch draws anchors, mines their negatives under the current network, and takes steps on batches of tuples; every so
many epochs a held-out set is scored. All choices of an epoch come from (seed, epoch), so the same call carries on after
a kill and, on a CPU with as many threads, ends with the same weights bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.errors import DataError, ModelError, UsageError
from gloam.files import sha256_json
from gloam.heartbeat import Say
from gloam.model_card import Photometric
from gloam.networks.checkpoints import checkpoint_kind, load_checkpoint, load_detector, save_checkpoint, weights_sha256
from gloam.networks.edges import EdgeDetectorNetwork
from gloam.networks.embedders import EmbedderNetwork, create_embedder
from gloam.networks.embedders.dinov2 import DinoV2, DinoV2Embedder
from gloam.networks.embedders.edge_mac import EDGE_MACS
from gloam.runtime.models.image_model import ImageOperation
from gloam.training.embedders.config import MetricConfig
from gloam.training.embedders.epochs import MetricRun
from gloam.training.embedders.nights import NightCache
from gloam.training.embedders.tuples.images import TupleImages
from gloam.training.run_contents import RunContents
from gloam.training.run_record import RunRecord
from gloam.training.run_state import RunState, has_state

WEIGHTS_FILE = "embedder.safetensors"
NIGHTS_FOLDER = "nights"
PCA, CENTRES = "dim_reduction.", ("pool.conv.", "pool.centroids")  # keys of HOW and NetVLAD, learned from cells first
FILTER, DETECTOR = "filter.", "detector."  # keys of EdgeMAC and its kin: constants at first, and given
RECORDED = ("best_epoch", "epochs", "validation", "untrained", "images", "seconds")


@dataclass(frozen=True)
class MetricSummary:
    """What a run gave.

    Attributes:
        weights: the written ``.safetensors`` checkpoint of the best epoch.
        weights_sha256: of its tensors.
        best_epoch: 1-based, among the validated ones.
        epochs: done; fewer than asked for where ``max_minutes`` ended the run.
        validation: ``loss``, ``mAP``, ``chance_mAP`` and ``queries`` of the best epoch.
        untrained: the same of the initial weights.
        history: one record per epoch, see ``train.json``; epoch 0 are the initial weights.
        images: how many training images, real pairs' included.
        seconds: of all calls together.
        config: of the run.
    """

    weights: Path
    weights_sha256: str
    best_epoch: int
    epochs: int
    validation: dict[str, float]
    untrained: dict[str, float]
    history: list[dict[str, Any]]
    images: int
    seconds: float
    config: MetricConfig

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "weights": str(self.weights),
            "weights_sha256": self.weights_sha256,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "validation": self.validation,
            "untrained": self.untrained,
            "validation_mAP": self.validation["mAP"],
            "untrained_mAP": self.untrained["mAP"],
            "chance_mAP": self.validation["chance_mAP"],
            "seconds": round(self.seconds, 1),
        }

    def __str__(self) -> str:
        """Lines for people: the best epoch beside the initial weights and chance."""
        found, initial, config = self.validation, self.untrained, self.config
        which = f", {config.query_condition} against {config.map_condition}" if config.query_condition else ""
        return (
            f"{self.weights}: best of {self.epochs} epochs is {self.best_epoch}\n"
            f"validation{which}: loss {found['loss']:.4f}, mAP {found['mAP']:.3f} (initial weights "
            f"{initial['loss']:.4f}, {initial['mAP']:.3f}; chance mAP {found['chance_mAP']:.3f})"
        )


def train_metric(
    config: MetricConfig,
    train: RetrievalSet,
    validation: RetrievalSet,
    folder: str | Path,
    *,
    night: ImageOperation | None = None,
    weights: str | Path | None = None,
    detector: str | Path | None = None,
    real: RetrievalSet | None = None,
    nights: str | Path | None = None,
    recipe: str = "custom",
    origin: Mapping[str, str] | None = None,
    say: Say | None = None,
) -> MetricSummary:
    """Train an embedder and write ``embedder.safetensors`` (the best epoch) and ``train.json``.

    The same call carries on after a kill, and with more epochs after the last; a finished run is only read.

    Args:
        config: everything but images and networks.
        train, validation: sets of images, clusters and pairs; of places that they do not share.
        folder: output folder, created where it is missing.
        night: makes nights; needed where ``config.night`` asks for any.
        weights: initial weights, native or a state dict; random ones where None.
        detector: native checkpoint of the edge detector of a network that describes edges; it is not trained.
        real: real pairs of night and day, ``config.real_share`` of the tuples.
        nights: folder that keeps made nights, to be shared by runs; ``folder/nights`` by default.
        recipe: name that goes into the weights' provenance.
        origin: ``data`` and ``licence`` of the provenance, where the caller knows better than counts and a caution.
        say: gets one line per epoch.

    Raises:
        UsageError: nights or real pairs are asked for and not given, or the device is absent.
        DataError: a set without pairs or with too few clusters, or an image that cannot be read.
        ModelError: no such network, or weights of another.
        StoreError: ``folder`` holds another run, or cannot be written.
        DivergenceError: a loss, descriptor or GeM's p has left what can be trained; epoch, step and images are named.
    """
    _check(config, train, validation, night, real)
    device = torch.device(device_of(config.device))
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    model = initial_model(config, weights, detector).to(device)
    place = Path(folder)
    cache = NightCache(night, nights if nights is not None else place / NIGHTS_FOLDER) if night is not None else None
    sets = [train] if real is None else [train, real]
    contents = RunContents(place, say)
    identity = {
        "config": config.trajectory(),
        "train": _identity(train, contents),
        "validation": _identity(validation, contents),
        "real": _identity(real, contents) if real is not None else None,
        "night": night.fingerprint if night is not None and config.night.active else None,
        "weights": weights_sha256(model.state_dict()),
    }
    contents.note(has_state(place))
    photometric = Photometric(config.photometric, clip=config.clahe_clip, grid=config.clahe_grid)
    if config.photometric == "none":
        photometric = Photometric()
    room = config.cache_mib << 20
    with ExitStack() as stack:
        share = room * len(validation) // (len(validation) + sum(len(part) for part in sets))
        shown = stack.enter_context(
            TupleImages([validation], photometric, config.image_side, cache, share, config.workers)
        )
        seen = stack.enter_context(
            TupleImages(sets, photometric, config.image_side, cache, room - share, config.workers)
        )
        run = MetricRun(config, model, device, train, validation, real, seen, shown, RunState(place, identity), say)
        state = run.run()
    model.load_state_dict(state.best)
    best = state.history[state.best_epoch]
    provenance = save_checkpoint(
        place / WEIGHTS_FILE,
        model.cpu().eval(),
        {
            "recipe": recipe,
            "data": f"{len(train)} images, {len(train.queries)} pairs",
            "data_sha256": train.identity()["sha256"],
            "night_maker": night.name if identity["night"] and night is not None else "none",
            "photometric": {"name": photometric.name, "clip": photometric.clip, "grid": photometric.grid},
            "licence": "Apache-2.0 for the code; the terms of the training images and initial weights apply",
            **(origin or {}),
            "config_sha256": sha256_json(config.to_dict()),
            "best_epoch": state.best_epoch,
            "validation_mAP": best["validation"]["mAP"],
        },
    )
    summary = MetricSummary(
        weights=place / WEIGHTS_FILE,
        weights_sha256=provenance["weights_sha256"],
        best_epoch=state.best_epoch,
        epochs=len(state.history) - 1,
        validation=best["validation"],
        untrained=state.history[0]["validation"],
        history=state.history,
        images=sum(len(part) for part in sets),
        seconds=state.seconds,
        config=config,
    )
    RunRecord(
        recipe,
        config.to_dict(),
        summary.weights_sha256,
        str(device),
        summary.history,
        {
            "weights": WEIGHTS_FILE,
            "identity": identity,
            **{name: getattr(summary, name) for name in RECORDED},
        },
    ).write(place)
    return summary


def initial_model(
    config: MetricConfig, weights: str | Path | None = None, detector: str | Path | None = None
) -> EmbedderNetwork:
    """The network before training: of random weights, or of a file's.

    Args:
        config: its network and options.
        weights: native, or a backbone's state dict; a network on DINOv2 also begins with the backbone of a native
            checkpoint of that.
        detector: native checkpoint of the edge detector in front, where the network has one that learns elsewhere.

    Raises:
        ModelError: no such network, or a file holds another.
        UsageError: the file's network or backbone is not the config's; or no detector where one is needed, or one where
            none is.
    """
    native = weights is not None and checkpoint_kind(weights) is not None
    found = _detector(config.network, detector, weights if native else None)
    options = {**config.network_options, **({} if found is None else {"detector_options": found.options})}
    if weights is None:
        model = create_embedder(config.network, **options)
    elif native:
        model = load_checkpoint(weights).model
        if isinstance(model, DinoV2Embedder) and model.name != config.network:
            model = _with_backbone(create_embedder(config.network, **options), model, weights)
        if model.name != config.network:
            raise UsageError(f"{weights}: holds {model.name}, the recipe trains {config.network}; set network to it")
    else:
        learned = (
            PCA,
            *(CENTRES if config.cluster_images else ()),
            *((FILTER,) if config.network in EDGE_MACS else ()),
        )
        learned += () if found is None else (DETECTOR,)
        model = load_checkpoint(weights, config.network, learned_first=learned, **options).model
    if found is not None:
        model.get_submodule("detector").load_state_dict(found.state_dict())
    return model


def _with_backbone(model: EmbedderNetwork, source: DinoV2Embedder, file: str | Path | None) -> EmbedderNetwork:
    """A network of random weights with the backbone of a checkpoint of DINOv2; that itself where it has none such."""
    features = getattr(model, "features", None)
    if not isinstance(features, DinoV2):
        return source
    for name in ("width", "depth", "heads", "registers", "table", "position"):
        found, needed = source.features.options[name], features.options[name]
        if found != needed:
            raise UsageError(
                f"{file}: its DINOv2 has {name} {found}, the recipe's {needed}; set network_options.{name} to {found}"
            )
    state = source.features.state_dict()
    features.load_state_dict({key: state[key] for key in features.state_dict()})
    return model


def _detector(network: str, file: str | Path | None, native: str | Path | None) -> EdgeDetectorNetwork | None:
    """The trained detector of a network that describes edges; ``native`` weights have theirs."""
    wanted = EDGE_MACS.get(network)
    if wanted is None and file is not None:
        kin = " and ".join(name for name, detector in EDGE_MACS.items() if detector)
        raise UsageError(f"detector_weights is for {kin}, not for {network}; leave it out")
    if native is not None and file is not None:
        raise UsageError(f"{native}: has a detector of its own; leave detector_weights out")
    if wanted is None or native is not None:
        return None
    if file is None:
        raise UsageError(
            f"{network} describes what a trained detector finds: set detector_weights to a checkpoint of {wanted} that "
            "'gloam train edges', 'gloam train translator' (the student) or 'gloam import' has written"
        )
    found = load_detector(file).model
    if found.name != wanted:
        raise ModelError(f"{file}: holds the detector {found.name!r}, but {network} takes {wanted!r}")
    return found


def _identity(part: RetrievalSet, contents: RunContents) -> dict[str, Any]:
    """Of a set, and of what its files hold."""
    if part.pixels is not None:
        return part.identity()
    return {**part.identity(), "contents": contents.sha256(item.path for item in part.images)}


def _check(
    config: MetricConfig,
    train: RetrievalSet,
    validation: RetrievalSet,
    night: ImageOperation | None,
    real: RetrievalSet | None,
) -> None:
    """Refuse what does not fit together, before anything is loaded."""
    if config.night.active and night is None:
        raise UsageError(f"night {config.night.mode} needs something that makes nights; name a maker")
    if config.real_share > 0 and real is None:
        raise UsageError(f"real_share {config.real_share} needs real pairs of night and day; give data.real")
    for label, part in (("training", train), ("validation", validation)):
        if not len(part.queries):
            raise DataError(f"the {label} set has no pairs of a query and a positive; `gloam dataset check` says why")
        if part.cluster_count <= config.negatives:
            raise DataError(
                f"the {label} set has {part.cluster_count} clusters; {config.negatives} negatives of other clusters "
                f"need at least {config.negatives + 1}"
            )


def device_of(name: str) -> str:
    """``cpu`` or ``cuda`` of a config's ``device``.

    Raises:
        UsageError: there is no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: none found; choose device cpu or auto")
    return name
