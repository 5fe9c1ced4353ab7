"""Step rate of the HED^N GAN trainer over that of the reference's order of operations, side by side.

Both train copies of the same networks on the same images with the same optimisers, in rounds that alternate which goes
first, and must end with the same weights. The reference runs the detector six times where four do, lets gradients flow
into the frozen teacher (twice), and into discriminator and student while the generator learns.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.shared.result import Result
from gloam.networks.edges import create_detector
from gloam.training.translators.trainers.base import adam
from gloam.training.translators.trainers.hedgan import HedGANOptions, HedGANTrainer

TARGET = 1.3
BUDGET_SECONDS = 60.0
MOST_ROUNDS = 40
SIZES = {"cpu": (1, 96), "cuda": (10, 256)}  # batch, side; the paper's on a GPU; on a CPU small, for enough rounds


class ReferenceStep:
    """HED^N GAN as the reference orders it: no freezing, no reuse; written from a description of its steps.

    Args:
        trainer: whose networks are copied and whose options are taken.
    """

    def __init__(self, trainer: HedGANTrainer) -> None:
        options = trainer.options
        self.options, self.gan = options, trainer.gan
        self.generator, self.discriminator = copy.deepcopy(trainer.generator), copy.deepcopy(trainer.discriminator)
        self.teacher, self.student = copy.deepcopy(trainer.teacher), copy.deepcopy(trainer.finder)
        self.teacher.requires_grad_(True)
        betas = (options.beta1, options.beta2)
        groups = self.student.parameter_groups(options.student_learning_rate, options.student_weight_decay)
        student_betas = (options.student_beta1, options.student_beta2)
        self.optimizers = {
            "discriminator": adam(self.discriminator.parameters(), options.learning_rate, betas),
            "student": adam(groups, options.student_learning_rate, student_betas),
            "generator": adam(self.generator.parameters(), options.learning_rate, betas),
        }

    def networks(self) -> dict[str, nn.Module]:
        """What is compared in the end."""
        return {"generator": self.generator, "discriminator": self.discriminator, "student": self.student}

    def __call__(self, day: Tensor, night: Tensor) -> dict[str, float]:
        """One update: discriminator, student, generator; losses are read back at once, as in the reference."""
        fake = self.generator(day)
        judged = self.gan.discriminator(self.discriminator(night), self.discriminator(fake.detach()))
        losses = {"discriminator": self._update("discriminator", judged)}

        target = self.teacher(day, logits=True)
        by_day = F.l1_loss(self.student(day, logits=True), target)
        by_night = F.l1_loss(self.student(fake.detach(), logits=True), target)
        losses["student"] = self._update("student", self.options.student_weight * (by_day + by_night))

        adversarial = self.gan.generator(self.discriminator(fake))
        day_edges = self.teacher(day)
        edges = F.l1_loss(self.student(fake), day_edges)
        losses["logged"] = F.l1_loss(self.student(day), day_edges).item()
        total = self.options.adversarial_weight * adversarial + self.options.edge_weight * edges
        losses["generator"] = self._update("generator", total)
        return losses

    def _update(self, name: str, loss: Tensor) -> float:
        self.optimizers[name].zero_grad()
        loss.backward()
        self.optimizers[name].step()
        return loss.item()


def run() -> Result:
    """Median over rounds of (reference seconds / ours)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch, side = SIZES[device]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = create_detector("hed")
    trainer = HedGANTrainer(HedGANOptions(student=True), detector=detector)
    trainer.networks.to(device)
    reference = ReferenceStep(trainer)
    images = torch.Generator().manual_seed(1)
    pairs = [torch.rand(2, batch, 3, side, side, generator=images).to(device) * 2 - 1 for _ in range(4)]
    steps: list[tuple[str, Callable[[Tensor, Tensor], Any]]] = [("ours", trainer.step), ("reference", reference)]
    seconds: dict[str, list[float]] = {"ours": [], "reference": []}
    cpu_seconds: dict[str, list[float]] = {"ours": [], "reference": []}
    began = time.perf_counter()
    for number in range(MOST_ROUNDS + 1):
        for name, step in steps if number % 2 else reversed(steps):
            wall, cpu = _timed(step, *pairs[number % len(pairs)])
            if number:  # the first round warms up
                seconds[name].append(wall)
                cpu_seconds[name].append(cpu)
        if number >= 3 and time.perf_counter() - began > BUDGET_SECONDS:
            break
    ratios = _ratios(seconds)
    value = statistics.median(ratios)
    detail = {
        "device": device,
        "threads": torch.get_num_threads(),
        "batch": batch,
        "side": side,
        "rounds": len(ratios),
        "seconds_per_step": {name: statistics.median(times) for name, times in seconds.items()},
        "ratio_quartiles": statistics.quantiles(ratios, n=4),
        "ratio_lowest_highest": [min(ratios), max(ratios)],
        "ratio_of_process_cpu_seconds": statistics.median(_ratios(cpu_seconds)),  # blind to a busy machine
        "steps_compared": len(ratios) + 1,
        "weights_max_abs_difference": _difference(trainer, reference),
    }
    return Result(value, "ratio of step rates, ours / reference order", f">= {TARGET}", value >= TARGET, detail)


def _timed(step: Callable[[Tensor, Tensor], Any], day: Tensor, night: Tensor) -> tuple[float, float]:
    """Wall and CPU seconds of one step."""
    if day.is_cuda:
        torch.cuda.synchronize()
    began, began_cpu = time.perf_counter(), time.process_time()
    step(day, night)
    if day.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began, time.process_time() - began_cpu


def _ratios(seconds: dict[str, list[float]]) -> list[float]:
    return [slow / fast for slow, fast in zip(seconds["reference"], seconds["ours"], strict=True)]


def _difference(trainer: HedGANTrainer, reference: ReferenceStep) -> dict[str, float]:
    """Largest difference of any weight after the same number of steps, by network."""
    found = {}
    for name, network in reference.networks().items():
        ours = trainer.networks[name].state_dict()
        found[name] = max(
            float((ours[key].float() - value.float()).abs().max()) for key, value in network.state_dict().items()
        )
    return found
