"""The learning-rate rule of CycleGAN and its descendants."""

from __future__ import annotations

from gloam.errors import UsageError


def linear_factor(epoch: int, epochs: int, decay_epochs: int) -> float:
    """Factor on the learning rate: 1, and in the last ``decay_epochs`` epochs a straight line towards 0.

    The line reaches 1 / (decay_epochs + 1) in the last epoch, never 0, although papers say that it does.

    Args:
        epoch: counted from 0.
        epochs: of the whole run.
        decay_epochs: how many of them the rate falls in, at most ``epochs``.

    Raises:
        UsageError: the run has no such epoch.
    """
    if not 0 <= epoch < epochs:
        raise UsageError(f"epoch {epoch}: the run has epochs 0 to {epochs - 1}")
    return 1.0 - max(0, epoch + 1 - (epochs - decay_epochs)) / (decay_epochs + 1)
