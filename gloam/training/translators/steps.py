"""The one loop of all translators' trainers: draw, step, log, sample, save; killed at any moment, it carries on.

A step depends on nothing but the state before it and its number: batches are a pure function of the number, what a
trainer draws comes from its own generators (part of the state), and what draws from torch's global generator (dropout)
is seeded anew before every step. A resumed run therefore equals an uninterrupted one bit for bit on the same machine
with the same number of threads and processes. A time limit ends a run between two steps and changes none of them, and
the first state is saved within the first minute, at whatever step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from gloam.errors import DivergenceError, UsageError
from gloam.files import sha256_json
from gloam.heartbeat import Heartbeat, Say
from gloam.training.run_state import RunState, write_torch
from gloam.training.translators.company import Company
from gloam.training.translators.config import TranslatorConfig
from gloam.training.translators.fabric import FabricEngine
from gloam.training.translators.monitor import Monitor
from gloam.training.translators.trainers.base import Trainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FIRST_SAVE = 40  # seconds of a run without a state, before it saves one without waiting for its turn
NAMES_SHOWN = 8  # of a batch, in an error
SAMPLE_BATCH = 8
CYCLES = {"cycle_L1": ("source", "cycle"), "night_cycle_L1": ("night", "night_cycle")}  # a score's two pictures

Batch = (
    tuple[Tensor, Tensor, list[str]]
    | tuple[Tensor, Tensor, list[str], Tensor]
    | tuple[Tensor, Tensor, list[str], Tensor, Company]
)
Judge = Callable[[Mapping[str, Tensor], Tensor], dict[str, float]]


class Batches(Protocol):
    """Where images come from: :class:`gloam.training.translators.batches.Batches`, or anything like it."""

    steps_per_epoch: int
    identity: dict[str, Any]

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Day and night float32 ``[B, C, H, W]`` in [-1, 1], and file names; a pure function of its arguments. Of many
        domains source and target, their names, and int64 ``[B, 2]``, the domains of both; then their company, where
        the trainer asks for it."""

    def held_out(self, count: int) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
        """Day and night images that are never trained on; of many domains also int64 ``[n, 2]``, those of both."""

    def whole_test(self, chunk: int) -> Iterator[tuple[Tensor, Tensor, int, int]]:
        """All day and night images that are never trained on, so many at a time, and how many of each are new."""


class Clock:
    """How much of its time a run has used, those calls included that were killed after a save.

    Args:
        kind: ``cpu`` counts the processor seconds of all threads and finished children of this process, ``wall`` the
            seconds that pass while it is on.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.before = 0.0  # seconds of earlier calls
        self._started = self._now()

    def spent(self) -> float:
        """Seconds of this process."""
        return self.before + self._now() - self._started

    def _now(self) -> float:
        return sum(os.times()[:4]) if self.kind == "cpu" else time.perf_counter()


@dataclass(frozen=True)
class LoopEnd:
    """How a run ended.

    Attributes:
        step: steps done, all calls together.
        steps: steps that the recipe asks for.
        seconds: by the run's clock, all calls together; ``cpu`` seconds are summed over processes.
        limited: True where ``max_minutes`` ended it.
    """

    step: int
    steps: int
    seconds: float
    limited: bool


class Loop:
    """A run of one trainer.

    Args:
        config: cadence, limits and seed.
        folder: of the run.
        fabric: launched; decides device, precision and processes.
        engine: the one that ``trainer`` was built with.
        trainer: on the CPU; it is moved here.
        batches: of the global batch size ``config.batch``.
        clock: started when the run's work began.
        say: gets one line per epoch and more in long ones, in the first process.
        judge: gives scores by name from samples of ``config.held_out`` images and as many real night images.
    """

    def __init__(
        self,
        config: TranslatorConfig,
        folder: Path,
        fabric: Fabric,
        engine: FabricEngine,
        trainer: Trainer,
        batches: Batches,
        clock: Clock,
        say: Say | None = None,
        judge: Judge | None = None,
    ) -> None:
        self.config, self.folder, self.fabric, self.engine = config, folder, fabric, engine
        self.trainer, self.batches, self.clock, self.judge = trainer, batches, clock, judge
        self.first = fabric.global_rank == 0
        self.say: Say = say if say is not None and self.first else lambda line: None
        self.per_epoch = config.steps_per_epoch or batches.steps_per_epoch
        self.steps = self.per_epoch * trainer.options.epochs
        self.step = 0
        self.monitor: Monitor | None = None
        self._sums: dict[str, Tensor] = {}  # of losses since the last logged row
        self._counts: dict[str, int] = {}  # of the steps that gave each: some do not update every network
        self._began = time.monotonic()
        identity = {**config.identity(), "content": batches.identity, "steps_per_epoch": self.per_epoch}
        self.state = RunState(folder, identity, fabric.global_rank, fabric.world_size, fabric.barrier)

    def run(self) -> LoopEnd:
        """Train to the last step or the time limit, from the newest saved state.

        Raises:
            StoreError: the folder belongs to another run, or cannot be written.
            DivergenceError: a loss is not finite; step, file names and the saved state are named.
            UsageError: images do not fit the networks.
            DataError: an image cannot be read.
        """
        self._move()
        resumed = self._resume()
        if self.first:
            self.monitor = Monitor(self.folder, self.step if resumed else -1, self.config.tensorboard)
        try:
            if resumed and self.step < self.steps:
                self.say(f"carrying on after step {self.step} of {self.steps}")
            if not resumed:
                self._sample()
            limited = self._train(saved=self.step if resumed else -1)
        finally:
            if self.monitor is not None:
                self.monitor.close()
        return LoopEnd(self.step, self.steps, self._spent(), limited)

    def _train(self, saved: int) -> bool:
        """Steps up to the end; True where time ran out before it. ``saved``: the step of the newest save."""
        epoch = -1
        beat = Heartbeat(self.say, "training", self.steps, "steps", done=self.step)
        while self.step < self.steps and not self._out_of_time():
            if epoch != self.step // self.per_epoch:
                epoch = self.step // self.per_epoch
                self.trainer.set_progress(epoch)
                self.trainer.begin_epoch(epoch, self.batches, self.say)
            self._one_step(*self.batches.batch(self.step, self.fabric.global_rank, self.fabric.world_size))
            beat.update(limit=self._seconds_left())
            ended = self.step % self.per_epoch == 0
            if ended or self.step % self.config.log_every == 0:
                self._log(epoch, tell=ended)
            if ended:
                beat.postpone()
            if ended and (epoch + 1) % self.config.sample_every == 0:
                self._sample()
            if ended or self.step % self.config.save_every == 0 or (saved < 0 and self._first_save_due()):
                self._save()
                saved = self.step
        if self.monitor is not None and self.monitor.sampled != self.step:  # also where the last call could not
            self._sample()
        if self.step != saved:
            self._save()
        return self.step < self.steps

    def _one_step(
        self,
        day: Tensor,
        night: Tensor,
        names: list[str],
        domains: Tensor | None = None,
        company: Company | None = None,
    ) -> None:
        self._check(day, night)
        torch.manual_seed(int(sha256_json([self.config.seed, self.step, self.fabric.global_rank])[:15], 16))
        try:
            images = self._to_device(day), self._to_device(night)
            if domains is None:
                losses = self.trainer.step(*images)
            elif company is None:
                losses = self.trainer.step_between(*images, domains)
            else:
                losses = self.trainer.step_among(*images, domains, company.moved(self._to_device))
        except DivergenceError as error:
            raise self._diverged(error, day, night, names) from error
        self.engine.end_of_step()
        self.trainer.follow()
        self.step += 1
        for name, value in losses.items():
            total = self._sums.get(name)
            self._sums[name] = value.double() if total is None else total + value.double()
            self._counts[name] = self._counts.get(name, 0) + 1

    def _check(self, day: Tensor, night: Tensor) -> None:
        """Refuse images that the networks would fail on with a message of torch's."""
        channels = self.trainer.options.channels
        networks = list(self.trainer.networks.values())
        multiple = max(int(getattr(network, "multiple", 1)) for network in networks)
        minimum = max(int(getattr(network, "minimum", 1)) for network in networks)
        for images in (day, night):
            if images.shape[1] != channels:
                raise UsageError(f"the images have {images.shape[1]} channels, the networks {channels}")
            height, width = images.shape[2:]
            if height % multiple or width % multiple or min(height, width) < minimum:
                raise UsageError(
                    f"images of {width}x{height} px: the networks need sides that are multiples of {multiple}, "
                    f"at least {minimum}"
                )

    def _move(self) -> None:
        """Networks to the run's device, number format and memory layout; parameters stay the objects they were."""
        self.trainer.networks.to(self.fabric.device, self.config.dtype())
        if self.config.channels_last:
            self.trainer.networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not listed

    def _to_device(self, images: Tensor) -> Tensor:
        if self.fabric.device.type == "cuda":
            images = images.pin_memory()
        moved = images.to(self.fabric.device, self.config.dtype(), non_blocking=True)
        return moved.contiguous(memory_format=torch.channels_last) if self.config.channels_last else moved

    def _log(self, epoch: int, tell: bool) -> None:
        """A row of mean losses since the last one, over all processes, each over the steps that have it."""
        means = {
            name: self.engine.total(float(total) / self._counts[name]) / self.engine.world
            for name, total in self._sums.items()
        }
        self._sums, self._counts = {}, {}
        seconds = self._spent()
        if self.monitor is not None:
            rate = max(group["lr"] for item in self.trainer.optimizers.values() for group in item.param_groups)
            self.monitor.losses(self.step, epoch + 1, seconds, rate, means)
        if tell:
            shown = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
            self.say(
                f"epoch {epoch + 1}/{self.trainer.options.epochs}, step {self.step}: {shown} "
                f"({seconds:.0f} s {self.clock.kind})"
            )
            for line in self.trainer.remarks(means):
                self.say(line)

    def _sample(self) -> None:
        """Strip and scores of images that are never trained on, by the first process."""
        if self.monitor is None or not self.config.held_out:
            return
        day, night, *domains = self.batches.held_out(self.config.held_out)
        self._check(day, night)
        parts: dict[str, list[Tensor]] = {}
        for start in range(0, len(day), SAMPLE_BATCH):
            stop = start + SAMPLE_BATCH
            images = self._to_device(day[start:stop]), self._to_device(night[start:stop])
            found = self.trainer.samples(*images, *(part[start:stop] for part in domains))
            for name, picture in found.items():
                parts.setdefault(name, []).append(picture.float().cpu())
        pictures = {name: torch.cat(part) for name, part in parts.items()}
        scores = self._cycle_errors_of_all() if self.config.score_all else sample_cycle_errors(pictures)
        if self.judge is not None:
            scores |= self.judge(pictures, night)
        shown = {name: picture[: self.config.strip_rows] for name, picture in pictures.items()}
        self.monitor.held_out(self.step, -(-self.step // self.per_epoch), scores, shown)

    def _cycle_errors_of_all(self) -> dict[str, float]:
        """As :func:`sample_cycle_errors`, over all images that are never trained on."""
        totals, counts = dict.fromkeys(CYCLES, 0.0), dict.fromkeys(CYCLES, 0)
        for day, night, *fresh in self.batches.whole_test(SAMPLE_BATCH):
            pictures = self.trainer.samples(self._to_device(day), self._to_device(night))
            for (name, (image, back)), count in zip(CYCLES.items(), fresh, strict=True):
                if image in pictures and back in pictures and count:
                    error = (pictures[image][:count].double() - pictures[back][:count].double()).abs()
                    totals[name] += float(error.flatten(1).mean(1).sum())
                    counts[name] += count
        return {name: total / counts[name] for name, total in totals.items() if counts[name]}

    def _spent(self) -> float:
        """Seconds of the run by its clock: processor time of all processes together, or the time that passed."""
        seconds = self.engine.total(self.clock.spent())
        return seconds if self.clock.kind == "cpu" else seconds / self.engine.world

    def _first_save_due(self) -> bool:
        """Whether any process has been at work for long enough; all give one answer."""
        return self.engine.total(time.monotonic() - self._began >= FIRST_SAVE) > 0

    def _seconds_left(self) -> float | None:
        """Until the time limit, as time passes; None without one."""
        if self.config.max_minutes is None:
            return None
        spent = max(self.clock.spent() - self.clock.before, 1e-9)
        rest = 60 * self.config.max_minutes - self.clock.spent()
        return max(rest, 0.0) * (time.monotonic() - self._began) / spent

    def _out_of_time(self) -> bool:
        return self.config.max_minutes is not None and self._spent() >= 60 * self.config.max_minutes

    def _save(self) -> None:
        state = {
            "trainer": self.trainer.state_dict(),
            "engine": self.engine.state_dict(),
            "sums": self._sums,
            "counts": self._counts,
            "seconds": self.clock.spent(),
        }
        self.state.save(self.step, state)

    def _resume(self) -> bool:
        state = self.state.load(self.say)
        if state is None:
            return False
        self.trainer.load_state_dict(state["trainer"])
        self.engine.load_state_dict(state["engine"])
        self._sums = {name: total.to(self.fabric.device) for name, total in state["sums"].items()}
        # older states have one count for all
        self._counts = state["counts"] if "counts" in state else dict.fromkeys(self._sums, state["counted"])
        self.step, self.clock.before = state["step"], state["seconds"]
        return True

    def _diverged(self, error: DivergenceError, day: Tensor, night: Tensor, names: list[str]) -> DivergenceError:
        """Keep everything of the failed step for a look at it, and say where it is."""
        path = self.folder / f"diverged-rank{self.fabric.global_rank}.pt"
        step = self.step + 1
        state = {"step": step, "error": str(error), "names": names, "day": day, "night": night}
        write_torch(path, {**state, "trainer": self.trainer.state_dict()})
        reports = self.engine.gather((self.engine.finite_here, str(error), list(names)))
        guilty = [(text, files) for finite, text, files in reports if not finite]
        files = [name for _, found in guilty for name in found]
        shown = ", ".join(files[:NAMES_SHOWN]) + (f" and {len(files) - NAMES_SHOWN} more" * (len(files) > NAMES_SHOWN))
        what = guilty[0][0].partition(";")[0] if guilty else str(error)
        return DivergenceError(
            f"{what} at step {step} of {self.steps} (images {shown}); the state of that step is in {path}, the same "
            "command carries on from the last save before it; try a lower learning_rate"
        )


def sample_cycle_errors(pictures: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean absolute difference, in units of [-1, 1], of every image and its translation there and back.

    Args:
        pictures: what a trainer's ``samples`` gives.
    """
    return {
        name: float((pictures[image] - pictures[back]).abs().mean())
        for name, (image, back) in CYCLES.items()
        if image in pictures and back in pictures
    }
