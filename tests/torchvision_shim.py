"""torchvision's wheel from the public index is a CUDA build: beside a CPU torch its own operators are absent, and its
import fails on registering them. What torch-fidelity needs of it is plain Python."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def torchvision_without_operators() -> Iterator[None]:
    """Within the block, fakes of ``torchvision::*`` operators are not registered."""
    original = torch.library.register_fake

    def register(name: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        return original(name, *arguments, **options)

    torch.library.register_fake = register
    try:
        yield
    finally:
        torch.library.register_fake = original
