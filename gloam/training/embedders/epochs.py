"""The epochs of metric learning, from the newest saved state to the end.

A state is saved at every epoch's end, and within long epochs between two steps of the optimiser: the first one within
a minute, so that whatever ends the run costs minutes at most.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gloam.data.retrieval_sets.sets import RetrievalSet
from gloam.errors import DivergenceError, StoreError, UsageError
from gloam.heartbeat import Heartbeat, Say
from gloam.networks.embedders import EmbedderNetwork
from gloam.networks.embedders.gem import GeM
from gloam.networks.embedders.how import HOW
from gloam.networks.embedders.netvlad import NetVLADVGG16
from gloam.training.embedders.asmk_validation import asmk_mAP
from gloam.training.embedders.batch_norm import freeze_batch_norm, settle_batch_norm
from gloam.training.embedders.config import MetricConfig
from gloam.training.embedders.how_init import whiten_cells
from gloam.training.embedders.losses import LOSSES, Loss, contrastive_loss
from gloam.training.embedders.netvlad_init import cluster_cells
from gloam.training.embedders.samples import write_samples
from gloam.training.embedders.tuples.batch import LossPart, batch_losses
from gloam.training.embedders.tuples.images import Described, TupleImages, describe_images
from gloam.training.embedders.tuples.mine import Tuples, mine_epoch
from gloam.training.embedders.validation import Validation, validate, validation_truth
from gloam.training.run_state import RunState

NAMES_SHOWN = 3
FIRST_SAVE, SAVE_EVERY = 30.0, 600.0  # seconds of training without a save within an epoch, for the first and later ones
SETTLE_IMAGES = 256
WHITENED_CELLS = 200  # of each image: 5000 images make 2 GiB of ResNet-18's


@dataclass
class Partial:
    """An epoch under way, between two steps of the optimiser.

    Attributes:
        epoch: which.
        tuples: done.
        total: of their losses.
        mine, train: seconds.
        rows, night, distance: of the mined tuples, see :class:`Tuples`; None where negatives come from the batch.
        draws: of the last part, see :class:`LossPart`.
    """

    epoch: int
    tuples: int = 0
    total: float = 0.0
    mine: float = 0.0
    train: float = 0.0
    rows: Tensor | None = None
    night: Tensor | None = None
    distance: float | None = None
    draws: Tensor | None = None

    def mined(self) -> Tuples | None:
        """The epoch's tuples, where they were mined."""
        if self.rows is None or self.night is None or self.distance is None:
            return None
        return Tuples(self.rows.numpy(), self.night.numpy(), self.distance)


@dataclass
class Progress:
    """All that an epoch hands to the next."""

    saves: int = 0  # so far; numbers them
    updates: int = 0  # of the optimiser
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def make_optimizer(config: MetricConfig, model: EmbedderNetwork) -> torch.optim.Adam:
    """Adam with L2 in the gradient; GeM's p has its own rate and no decay."""
    groups = [
        {
            **group,
            "lr": config.learning_rate * group["factor"],
            "weight_decay": config.weight_decay if group["weight_decay"] else 0.0,
        }
        for group in model.parameter_groups(config.pool_learning_rate_factor)
    ]
    return torch.optim.Adam(groups, lr=config.learning_rate)


def tuple_loss(
    model: EmbedderNetwork,
    pixels: list[Any],  # uint8 [h, w, 3] each, T * (2 + N) of them
    members: int,
    margin: float,
    device: torch.device,
    loss: Loss = contrastive_loss,
) -> Tensor:
    """Loss of whole tuples, summed; images of one size go through the network together.

    Args:
        model: in train mode; with batch norm on its running statistics the result is that of one image at a time.
        pixels: anchor, positive and negatives of one tuple after the other.
        members: 2 + N.
        margin, device: of the loss and the model.
        loss: of a tuple's descriptors.
    """
    found = describe_images(model, pixels, device).view(len(pixels) // members, members, -1)
    same = torch.zeros(found.shape[0], members - 1, device=device)
    same[:, 0] = 1
    return loss(found[:, 0], found[:, 1:], same, margin)


class MetricRun:
    """Epochs from the newest saved state to the end."""

    def __init__(
        self,
        config: MetricConfig,
        model: EmbedderNetwork,
        device: torch.device,
        train: RetrievalSet,
        validation: RetrievalSet,
        real: RetrievalSet | None,
        seen: TupleImages,
        shown: TupleImages,
        saves: RunState,
        say: Say | None,
    ) -> None:
        self.config, self.model, self.device, self.say = config, model, device, say
        self.train, self.validation, self.real = train, validation, real
        self.seen, self.shown, self.saves = seen, shown, saves
        self.optimizer = make_optimizer(config, model)
        self.state = Progress()
        self.partial: Partial | None = None  # of an epoch that the newest save is within
        self._counted = self._saved = time.perf_counter()  # up to when the seconds are; when a save was made
        self._save_after = FIRST_SAVE

    def run(self) -> Progress:
        config = self.config
        self._resume()
        self._counted = self._saved = time.perf_counter()
        if not self.state.history:
            self._whiten()
            self._cluster()
            self._settle()
            self._finish_epoch(0, {"loss": None}, self._validate(0))
        for epoch in range(len(self.state.history), config.epochs + 1):
            if config.max_minutes is not None and self.state.seconds >= 60 * config.max_minutes:
                self._tell(f"ended by max_minutes {config.max_minutes:g} after epoch {epoch - 1}")
                break
            record = self._train_epoch(epoch)
            scores = None
            if epoch % config.validate_every == 0 or epoch == config.epochs:
                began = time.perf_counter()
                scores = self._validate(epoch)
                record["seconds"]["validate"] = round(time.perf_counter() - began, 3)
            self._finish_epoch(epoch, record, scores)
        if not self.state.best_epoch:
            self._validate_last()
        return self.state

    def _validate_last(self) -> None:
        """A run that time ended before its first validation is judged by its last epoch, 0 included."""
        last = self.state.history[-1]
        if last["validation"] is None:
            last["validation"] = self._validate(last["epoch"]).to_dict()
        self.state.best_epoch, self.state.best = last["epoch"], _copied(self.model)

    def _train_epoch(self, epoch: int) -> dict[str, Any]:
        config = self.config
        began = time.perf_counter()
        rate = config.learning_rate * config.learning_rate_decay ** (epoch - 1)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        partial, self.partial = self.partial, None
        if partial is None:
            partial = Partial(epoch)
            if config.negatives_from == "pool":
                described = Described(self.model, self.seen, self.device, config.describe_batch, self.say)
                tuples = mine_epoch(config, self.train, self.real, self.seen, described, epoch)
                partial.rows, partial.night = torch.from_numpy(tuples.rows), torch.from_numpy(tuples.night)
                partial.distance = tuples.distance
            partial.mine = time.perf_counter() - began
        mined, done = partial.mined(), partial.tuples
        if mined is not None:
            parts = self._pool_losses(mined, done)
        else:
            parts = batch_losses(config, self.model, self.device, self.train, self.seen, epoch, done, partial.draws)
        self._steps(parts, partial, config.tuples if mined is None else len(mined.rows))
        self._settle()
        return {
            "loss": partial.total / partial.tuples,
            "learning_rate": rate,
            "tuples": partial.tuples,
            "night": 0.0 if mined is None else float(mined.night.mean()),
            "negative_distance": partial.distance,
            "seconds": {"mine": round(partial.mine, 3), "train": round(partial.train, 3)},
        }

    def _pool_losses(self, tuples: Tuples, done: int) -> Iterator[LossPart]:
        """Forwards of as many whole tuples as memory allows, but for those done; several make an optimiser step."""
        config, members = self.config, tuples.rows.shape[1]
        count = len(tuples.rows)
        batches = max(count // config.batch, 1)
        part = max(config.forward_images // members, 1)
        bounds = [
            (first, min(first + part, last))
            for start in range(0, batches * config.batch, config.batch)
            for last in (min(start + config.batch, count),)
            for first in range(start, last, part)
            if first >= done
        ]
        requests = ((tuples.rows[a:b].ravel(), tuples.night[a:b].ravel()) for a, b in bounds)
        for (first, last), pixels in zip(bounds, self.seen.batches(requests), strict=True):
            loss = tuple_loss(self.model, pixels, members, config.margin, self.device, LOSSES[config.loss])
            yield LossPart(loss, last, tuples.rows[first:last, 0], last % config.batch == 0 or last == count)

    def _steps(self, parts: Iterator[LossPart], partial: Partial, planned: int) -> None:
        """Take the steps of an epoch that are left, of ``planned`` tuples in all, and add to what it has done."""
        epoch = partial.epoch
        what = f"epoch {epoch}/{self.config.epochs}"
        beat = Heartbeat(self.say, what, planned, "tuples", done=partial.tuples)
        began = time.perf_counter() - partial.train
        self.model.train()
        if self.config.freeze_batch_norm:
            freeze_batch_norm(self.model)
        self.optimizer.zero_grad()
        self._seed(partial)
        for part in parts:
            value = part.loss.item()
            if not math.isfinite(value):
                raise self._diverged(f"the loss is {value}", part.anchors, epoch)
            part.loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
            beat.update(part.tuples - partial.tuples)
            partial.total, partial.tuples = partial.total + value, part.tuples
            partial.draws, partial.train = part.draws, time.perf_counter() - began
            self._seed(partial)
            if part.last:
                self._update(part.anchors, epoch)
                if time.perf_counter() - self._saved >= self._save_after:
                    self._save(partial)

    def _seed(self, partial: Partial) -> None:
        """Dropout's choices in the next part come from what is done, so that a run that carries on makes the same."""
        drawn = np.random.default_rng([self.config.seed, partial.epoch, partial.tuples, 4]).integers(2**62)
        torch.manual_seed(int(drawn))

    def _update(self, anchors: Any, epoch: int) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.updates += 1
        power = _lowest_power(self.model)
        if power is not None and not power > 0:
            raise self._diverged(
                f"GeM's p has become {power:.3g}, and only a positive one is a mean",
                anchors,
                epoch,
                "learning_rate or pool_learning_rate_factor",
            )

    def _whiten(self) -> None:
        """HOW's ``dim_reduction`` from the cells of the first training images, as they are."""
        count = min(self.config.whiten_images, len(self.train))
        if not count:
            return
        if not isinstance(self.model, HOW):
            raise UsageError(f"whiten_images is for HOW networks, not for {self.model.name}; set it to 0")
        rows = np.arange(count)
        requests = ((rows[start : start + 1], np.zeros(1, bool)) for start in rows)
        images = (torch.from_numpy(pixels[0])[None].to(self.device) for pixels in self.seen.batches(requests))
        cells = whiten_cells(self.model, images, WHITENED_CELLS)
        self._tell(f"dim_reduction: whitening of {cells} cells of {count} images")

    def _cluster(self) -> None:
        """NetVLAD's centres from cells of training images, as they are."""
        count = min(self.config.cluster_images, len(self.train))
        if not count:
            return
        if not isinstance(self.model, NetVLADVGG16):
            raise UsageError(f"cluster_images is for NetVLAD, not for {self.model.name}; set it to 0")
        rows = np.sort(np.random.default_rng([self.config.seed, 3]).permutation(len(self.train))[:count])
        requests = ((rows[at : at + 1], np.zeros(1, bool)) for at in range(count))
        images = (torch.from_numpy(pixels[0])[None].to(self.device) for pixels in self.seen.batches(requests))
        cells = cluster_cells(self.model, images, self.config.seed)
        self._tell(f"centres: k-means of {cells} cells of {count} images")

    def _settle(self) -> None:
        """Running statistics of training images, where they learn: those of training lag behind the weights, and make
        validation jump from one epoch to the next. Of some images; of all where negatives come from the batch.
        """
        if self.config.freeze_batch_norm:
            return
        rows = np.arange(len(self.train))
        if self.config.negatives_from == "pool":
            rows = np.random.default_rng([self.config.seed, 2]).permutation(len(rows))[:SETTLE_IMAGES]
        pixels = self.seen.load(rows, np.zeros(len(rows), bool))
        same = np.stack([image for image in pixels if image.shape == pixels[0].shape])
        device_less = self.model.cpu()
        settle_batch_norm(device_less, same)
        device_less.to(self.device)

    def _validate(self, epoch: int) -> Validation:
        described = Described(self.model, self.shown, self.device, self.config.describe_batch, self.say)
        scores = validate(self.config, self.validation, self.shown, described)
        write_samples(self.saves.folder.parent, epoch, self.config, self.validation, self.shown, described)
        if self.config.select != "ASMK":
            return scores
        asked = validation_truth(self.config, self.validation)
        score = asmk_mAP(self.config, self.model, self.device, self.seen, self.shown, *asked)
        return replace(scores, asmk_mAP=score)

    def _finish_epoch(self, epoch: int, record: dict[str, Any], scores: Validation | None) -> None:
        """Add the record, keep the best weights, save."""
        state = self.state
        full = {"epoch": epoch, **record, "p": _lowest_power(self.model), "updates": state.updates}
        full["validation"] = scores.to_dict() if scores is not None else None
        state.history.append(full)
        if scores is not None and epoch > 0:
            best = state.history[state.best_epoch]["validation"] if state.best_epoch else None
            if best is None or _better(self.config.select, full["validation"], best):
                state.best_epoch, state.best = epoch, _copied(self.model)
        self._save(None)
        said = "" if scores is None else f"validation loss {scores.loss:.4f}, mAP {scores.mAP:.3f}"
        if epoch:
            said = f"loss {record['loss']:.4f}{', ' if said else ''}{said}"
        self._tell(f"epoch {epoch}/{self.config.epochs}: {said}, {state.seconds:.0f} s")

    def _save(self, partial: Partial | None) -> None:
        """Everything up to now; ``partial`` of an epoch under way."""
        state, now = self.state, time.perf_counter()
        number = state.saves
        state.saves += 1
        state.seconds += now - self._counted
        self._counted = now
        values = {**vars(state), "partial": None if partial is None else vars(partial)}
        self.saves.save(number, {**values, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()})
        if partial is not None or state.history[1:]:  # that of the initial weights keeps no training
            self._saved, self._save_after = time.perf_counter(), SAVE_EVERY

    def _resume(self) -> None:
        kept = self.saves.load(self.say)
        if kept is None:
            return
        try:
            self.model.load_state_dict(kept["model"])
            self.optimizer.load_state_dict(kept["optimizer"])
            self.state = Progress(**{item.name: kept[item.name] for item in fields(Progress)})
            self.partial = None if kept["partial"] is None else Partial(**kept["partial"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise StoreError(f"{self.saves.folder}: is not the state of such a run; choose another folder") from error
        done = len(self.state.history) - 1
        if done < self.config.epochs:
            within = "" if self.partial is None else f" and {self.partial.tuples} tuples"
            self._tell(f"carrying on after epoch {done} of {self.config.epochs}{within}")

    def _diverged(self, what: str, anchors: Any, epoch: int, lower: str = "learning_rate") -> DivergenceError:
        names = ", ".join(self.seen.names[int(row)] for row in anchors[:NAMES_SHOWN])
        return DivergenceError(
            f"{what} at epoch {epoch}, step {self.state.updates} (anchors {names}); the same command carries on from "
            f"the last save before it; try a lower {lower}"
        )

    def _tell(self, line: str) -> None:
        if self.say is not None:
            self.say(line)


def _better(select: str, new: dict[str, float], old: dict[str, float]) -> bool:
    if select == "loss":
        return new["loss"] < old["loss"]
    figure = "asmk_mAP" if select == "ASMK" else "mAP"
    return new[figure] > old[figure]


def _lowest_power(model: EmbedderNetwork) -> float | None:
    """The lowest p of all GeM layers; None for a network without one."""
    powers = [float(part.p.detach().min()) for part in model.modules() if isinstance(part, GeM)]
    return min(powers, default=None) if not np.isnan(powers).any() else math.nan


def _copied(model: EmbedderNetwork) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
