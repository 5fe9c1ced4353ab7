"""Device, precision and processes of a run: Lightning Fabric owns them, and this is how a trainer reaches it."""

from __future__ import annotations

import importlib
import os
import pickle
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from gloam.errors import DivergenceError, GloamError, UsageError, require

if TYPE_CHECKING:
    from lightning_fabric import Fabric

R = TypeVar("R")

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed", "64": "64-true"}  # ours -> Fabric's
DEVICES = ("auto", "cpu", "cuda")
GRACE = 3.0  # seconds by which the process whose error is the cause is ahead of those that only lost their partner


class FabricEngine:
    """Device, precision and processes of a trainer, owned by Lightning Fabric.

    Networks stay bare: torch's DDP wrapper wants every forward followed by its own backward, which frozen
    discriminators break. Gradients are averaged here instead, one flat all-reduce per optimiser step.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.world = fabric.world_size
        self.finite_here = True  # in the last backward; False in the process whose images are to blame
        self._scaler: torch.amp.GradScaler | None = getattr(fabric.strategy.precision, "scaler", None)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward in the run's precision."""
        return self.fabric.autocast()

    def backward(self, name: str, loss: Tensor) -> None:
        """Add the gradients of a loss, scaled where the precision asks for it.

        Raises:
            DivergenceError: the loss is not finite in some process; it is then raised in all of them.
        """
        self.finite_here = bool(torch.isfinite(loss.detach()).all())
        if self.total(0.0 if self.finite_here else 1.0):
            raise DivergenceError(
                f"the {name} loss is {float(loss.detach()) if not self.finite_here else 'not finite'}"
            )
        self.fabric.backward(loss)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Average the optimiser's gradients over all processes, then update."""
        if self.world > 1:
            self._average(optimizer)
        if self._scaler is None:
            self.fabric.strategy.optimizer_step(optimizer)
        else:
            self._scaler.step(optimizer)  # its scale follows when the trainer's whole step has ended

    def end_of_step(self) -> None:
        """Let the loss scale of fp16 follow what all optimisers of this step have met."""
        if self._scaler is not None:
            self._scaler.update()

    def total(self, value: float) -> float:
        """Sum of a number over all processes; every process must call it."""
        if self.world == 1:
            return value
        summed = self.fabric.all_reduce(torch.tensor(value, dtype=torch.float64), reduce_op="sum")
        return float(summed)  # type: ignore[arg-type]  # of a tensor it is a tensor

    def gather(self, value: R) -> list[R]:
        """What every process gives, in the order of their ranks; every process must call it."""
        if self.world == 1:
            return [value]
        gathered: list[R] = [value] * self.world
        torch.distributed.all_gather_object(gathered, value)
        return gathered

    def state_dict(self) -> dict[str, Any]:
        """The loss scale of fp16; empty for other precisions."""
        return dict(self.fabric.strategy.precision.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        if state:
            self.fabric.strategy.precision.load_state_dict(dict(state))

    def _average(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        mean = self.fabric.all_reduce(flat, reduce_op="mean")
        assert isinstance(mean, Tensor)
        parts = torch.split(mean, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))


def make_fabric(device: str = "auto", processes: int = 1, precision: str = "32") -> Fabric:
    """Fabric for one machine.

    Args:
        device: ``cpu``, ``cuda``, or ``auto``: CUDA where there is one.
        processes: one per GPU, or several on the CPU.
        precision: ``32``, ``bf16`` or ``fp16`` (autocast, weights stay float32), or ``64``.

    Raises:
        UsageError: this machine has no such device, or too few of them, or cannot do the precision.
        MissingExtraError: Lightning Fabric is not installed.
    """
    require("lightning_fabric", "train", "train a translator")
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    chosen = ("cuda" if found else "cpu") if device == "auto" else device
    if chosen == "cuda" and found < processes:
        raise UsageError(f"device cuda: {processes} wanted, {found} found; choose fewer processes or device cpu")
    if chosen == "cpu" and precision == "fp16":
        raise UsageError("precision fp16 needs a CUDA device; choose bf16 or 32")
    spawned = DDPStrategy(start_method="spawn", process_group_backend="gloo" if chosen == "cpu" else None)
    return Fabric(
        accelerator=chosen,
        devices=processes,
        strategy=spawned if processes > 1 else "auto",
        precision=PRECISIONS[precision],  # type: ignore[arg-type]  # a literal of Fabric's
        plugins=[LightningEnvironment()],  # whatever cluster variables are set: the processes are ours
    )


def launch(fabric: Fabric, worker: Callable[..., R], *arguments: Any) -> R:
    """Run ``worker(fabric, *arguments)`` in every process and return what the first one gives.

    Args:
        fabric: from :func:`make_fabric`.
        worker: importable function; with several processes, arguments and result must be picklable.
        arguments: of the worker.

    Raises:
        GloamError: of whichever process raised one first.
    """
    if fabric.strategy.launcher is None:
        result: R = fabric.launch(worker, *arguments)
        return result
    from torch.multiprocessing.spawn import ProcessRaisedException

    port = os.environ.get("MASTER_PORT")
    try:
        # As bytes, because Fabric walks through what it passes on, and refuses frozen dataclasses.
        returned = fabric.launch(_patient, pickle.dumps((worker, arguments)))  # type: ignore[arg-type]  # two arguments
    except ProcessRaisedException as error:
        raised = _error_of(str(error))
        if raised is None:
            raise
        raise raised from error
    finally:
        if port is None:
            os.environ.pop("MASTER_PORT", None)  # the next launch finds itself a free one
    result = pickle.loads(returned)
    return result


def _patient(fabric: Fabric, call: bytes) -> bytes:
    """A pickled call of a worker, in one process of several; what it gives, pickled."""
    worker, arguments = pickle.loads(call)
    try:
        return pickle.dumps(worker(fabric, *arguments))
    except GloamError:
        raise
    except Exception:
        time.sleep(GRACE)  # most likely the partner has gone; its own error is the one to show
        raise


def _error_of(text: str) -> GloamError | None:
    """The GloamError at the end of a child's traceback."""
    for line in reversed(text.strip().splitlines()):
        match = re.fullmatch(r"(gloam[\w.]*)\.(\w+): (.*)", line.strip())
        if match:
            kind = getattr(importlib.import_module(match[1]), match[2], None)
            if isinstance(kind, type) and issubclass(kind, GloamError):
                return kind(match[3])
    return None
