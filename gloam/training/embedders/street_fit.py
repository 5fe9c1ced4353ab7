"""The contrastive training loop: draw, mine, step, validate, save; killed at any moment, the same call carries on.

Every random choice of an epoch comes from (seed, epoch), so an epoch depends on nothing but the state before it and a
resumed run equals an uninterrupted one bit for bit (same machine, same number of threads).
"""

from __future__ import annotations

import copy
import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gloam.errors import DivergenceError, StoreError
from gloam.eval.retrieval.ground_truth import GroundTruth
from gloam.eval.retrieval.scores import RetrievalScores, evaluate
from gloam.files import atomic_write, sha256_json
from gloam.networks.embedders import EmbedderNetwork, create_embedder
from gloam.training.embedders.augmentation import augment_places
from gloam.training.embedders.batch_norm import freeze_batch_norm, settle_batch_norm
from gloam.training.embedders.hard_negatives import mine_negatives
from gloam.training.embedders.losses import contrastive_loss
from gloam.training.embedders.street_config import TrainConfig
from gloam.training.embedders.street_sampling import PlaceImages, draw_batch

STATE_FILE = "state.pt"
STATE_FORMAT = 1
DESCRIBE_BATCH = 32


@dataclass(frozen=True)
class Fitted:
    """The end of a run.

    Attributes:
        model: weights of the best epoch, in eval mode, batch norm settled on the training images unless it was frozen.
        best_epoch: 1-based; the highest validation mAP, the earliest of equals.
        history: one record per epoch with ``epoch``, ``loss`` (mean per tuple), ``learning_rate``,
            ``validation_mAP``, ``p`` and ``seconds``; epoch 0 is the untrained network with its batch norm settled on
            the training images, which is the strongest that random weights give.
        chance_mAP: of the validation.
        queries: how many images validation retrieves with.
    """

    model: EmbedderNetwork
    best_epoch: int
    history: list[dict[str, Any]]
    chance_mAP: float
    queries: int


@dataclass
class _State:
    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    best_epoch: int
    best: dict[str, Tensor]
    history: list[dict[str, Any]] = field(default_factory=list)


def fit(
    config: TrainConfig,
    train: PlaceImages,
    validation: PlaceImages,
    folder: str | Path,
    *,
    say: Callable[[str], None] | None = None,
) -> Fitted:
    """Train an embedder with the contrastive loss on mined tuples.

    Args:
        config: everything but the images.
        train: training images.
        validation: images of a held-out street.
        folder: holds the state; created where it is missing.
        say: gets one line per epoch.

    Raises:
        StoreError: ``folder`` holds the state of another configuration.
        DivergenceError: the loss or a descriptor is not finite; step and images are named.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    model = create_embedder(config.network, **config.network_options)
    optimizer = make_optimizer(config, model)
    state_path = Path(folder) / STATE_FILE
    identity = _identity(config, train, validation)
    state = _read_state(state_path, identity)
    if state is None:
        untrained = validate(_judged(model, train, config), validation, config)
        record = _record(0, None, 0.0, untrained.mAP, model, 0.0)
        state = _State(0, model.state_dict(), optimizer.state_dict(), 0, {}, [record])
        _tell(say, record, config.epochs)
    else:
        model.load_state_dict(state.model)
        optimizer.load_state_dict(state.optimizer)
        if say is not None and state.epoch < config.epochs:
            say(f"carrying on after epoch {state.epoch} of {config.epochs}")
    scores: RetrievalScores | None = None
    for epoch in range(state.epoch + 1, config.epochs + 1):
        started = time.perf_counter()
        rate = config.learning_rate * config.learning_rate_decay ** (epoch - 1)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        loss = train_epoch(config, model, optimizer, train, epoch)
        judged = _judged(model, train, config)
        scores = validate(judged, validation, config)
        record = _record(epoch, loss, rate, scores.mAP, model, time.perf_counter() - started)
        state.history.append(record)
        state.epoch = epoch
        if state.best_epoch == 0 or scores.mAP > state.history[state.best_epoch]["validation_mAP"]:
            state.best_epoch = epoch
            state.best = judged.state_dict()
        state.model, state.optimizer = model.state_dict(), optimizer.state_dict()
        _write_state(state_path, state, identity)
        _tell(say, record, config.epochs)
    model.load_state_dict(state.best)
    model.eval()
    if scores is None:
        scores = validate(model, validation, config)
    return Fitted(model, state.best_epoch, state.history, scores.chance_mAP, scores.queries)


def make_optimizer(config: TrainConfig, model: EmbedderNetwork) -> torch.optim.Adam:
    """Adam with L2 in the gradient; GeM's p has its own rate and no decay."""
    groups = [
        {**group, "weight_decay": config.weight_decay if group["weight_decay"] else 0.0}
        for group in model.parameter_groups(config.pool_learning_rate_factor)
    ]
    return torch.optim.Adam(groups, lr=config.learning_rate)


def train_epoch(
    config: TrainConfig, model: EmbedderNetwork, optimizer: torch.optim.Optimizer, train: PlaceImages, epoch: int
) -> float:
    """One epoch; the negatives of each batch are mined in it, from the descriptors of that very step.

    Returns:
        Mean loss per tuple.

    Raises:
        DivergenceError: naming epoch, step and the first images of the batch.
    """
    random = np.random.default_rng([config.seed, epoch])
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    count = config.batch_places * config.images_per_place
    place = np.repeat(np.arange(config.batch_places), config.images_per_place)
    siblings = np.stack([np.flatnonzero((place == place[row]) & (np.arange(count) != row)) for row in range(count)])
    same = torch.zeros(count, config.images_per_place - 1 + config.negatives)
    same[:, : config.images_per_place - 1] = 1
    mean, std = torch.tensor(model.mean).view(3, 1, 1), torch.tensor(model.std).view(3, 1, 1)
    model.train()
    if config.freeze_batch_norm:
        freeze_batch_norm(model)
    total = 0.0
    for step in range(config.batches_per_epoch):
        rows = draw_batch(train.places, config.batch_places, config.images_per_place, random)
        images = torch.from_numpy(train.images[rows]).permute(0, 1, 4, 2, 3).float() / 255.0
        if config.augment:
            images = augment_places(images, generator)
        found = model(((images - mean) / std).flatten(0, 1))
        negatives = mine_negatives(np.arange(count), found.detach().numpy(), place, config.negatives)
        others = torch.from_numpy(np.concatenate([siblings, negatives], axis=1))
        picked = found.index_select(0, others.flatten())  # unlike found[others], its gradient adds in a fixed order
        loss = contrastive_loss(found, picked.unflatten(0, (count, -1)), same, config.margin)
        if not math.isfinite(loss.item()):
            names = ", ".join(train.names[index] for index in rows[:, 0])
            raise DivergenceError(
                f"the loss is {loss.item()} at epoch {epoch}, step {step + 1} of {config.batches_per_epoch} "
                f"(first images of its places: {names}); try a lower learning_rate"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        optimizer.step()
        total += loss.item()
    return total / (config.batches_per_epoch * count)


@torch.no_grad()
def describe(model: EmbedderNetwork, images: PlaceImages) -> npt.NDArray[np.float32]:
    """Descriptors of all images in eval mode, float32 ``[n, D]``.

    Raises:
        DivergenceError: a descriptor is not finite.
    """
    model.eval()
    blocks = [
        model.describe_uint8(torch.from_numpy(images.images[start : start + DESCRIBE_BATCH])).numpy()
        for start in range(0, len(images), DESCRIBE_BATCH)
    ]
    descriptors: npt.NDArray[np.float32] = np.concatenate(blocks).astype(np.float32)
    finite = np.isfinite(descriptors).all(axis=1)
    if not finite.all():
        name = images.names[int(np.argmin(finite))]
        raise DivergenceError(f"the descriptor of {name} is not finite; try a lower learning_rate")
    return descriptors


def validation_truth(images: PlaceImages, config: TrainConfig) -> GroundTruth:
    """Images of the query condition against those of the map condition; right is what shows the same place."""
    condition = np.array(images.conditions)
    queries = np.flatnonzero(condition == config.query_condition)
    database = np.flatnonzero(condition == config.map_condition)
    return GroundTruth(
        tuple(images.names[index] for index in database),
        tuple(images.names[index] for index in queries),
        tuple(np.flatnonzero(images.places[database] == images.places[query]) for query in queries),
        tuple(np.flatnonzero(database == query) for query in queries),
    )


def validate(model: EmbedderNetwork, images: PlaceImages, config: TrainConfig) -> RetrievalScores:
    """Retrieval scores of the query condition against the map condition."""
    descriptors = describe(model, images)
    return evaluate(images.names, descriptors, images.names, descriptors, validation_truth(images, config))


def _judged(model: EmbedderNetwork, train: PlaceImages, config: TrainConfig) -> EmbedderNetwork:
    """A copy whose batch norm describes the training images.

    The running statistics lag behind weights that move fast, and make validation jump from one epoch to the next.
    """
    copied = copy.deepcopy(model)
    if not config.freeze_batch_norm:
        settle_batch_norm(copied, train.images)
    return copied


def _identity(config: TrainConfig, train: PlaceImages, validation: PlaceImages) -> str:
    value = {key: item for key, item in config.to_dict().items() if key != "threads"}
    return sha256_json({"config": value, "train": list(train.names), "validation": list(validation.names)})


def _write_state(path: Path, state: _State, identity: str) -> None:
    buffer = io.BytesIO()
    torch.save({"format": STATE_FORMAT, "identity": identity, **vars(state)}, buffer)
    with atomic_write(path) as handle:
        handle.write(buffer.getbuffer())


def _read_state(path: Path, identity: str) -> _State | None:
    if not path.is_file():
        return None
    try:
        value = torch.load(path, weights_only=True)
    except Exception as error:  # torch raises pickle, zip and runtime errors alike
        raise StoreError(f"{path}: the training state is not readable; remove it to train from the start") from error
    if not isinstance(value, Mapping) or value.get("format") != STATE_FORMAT:
        raise StoreError(f"{path}: the training state is of another version of gloam; choose another folder")
    if value["identity"] != identity:
        raise StoreError(f"{path}: belongs to a run with another configuration; choose another folder or remove it")
    return _State(**{key: item for key, item in value.items() if key not in ("format", "identity")})


def _record(
    epoch: int, loss: float | None, rate: float, mean_ap: float, model: EmbedderNetwork, seconds: float
) -> dict[str, Any]:
    power = model.scale_power()
    return {
        "epoch": epoch,
        "loss": loss,
        "learning_rate": rate,
        "validation_mAP": mean_ap,
        "p": None if power is None else float(power.detach()),
        "seconds": round(seconds, 3),
    }


def _tell(say: Callable[[str], None] | None, record: Mapping[str, Any], epochs: int) -> None:
    if say is None:
        return
    if record["epoch"] == 0:
        say(f"untrained: validation mAP {record['validation_mAP']:.3f}")
    else:
        say(
            f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.4f}, "
            f"validation mAP {record['validation_mAP']:.3f}, {record['seconds']:.1f} s"
        )
