"""BackendFacts: what a session really runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

ASKED = "asked for"


@dataclass(frozen=True)
class BackendFacts:
    """As it really is, not as it was asked for; None where the backend does not know such a thing.

    Attributes:
        backend: its name, e.g. ``onnxruntime``.
        providers: devices or providers that are active, e.g. ``CPUExecutionProvider``.
        precision: of the model, e.g. ``fp32``.
        device: ``cpu``, ``cuda`` or ``tensorrt``.
        threads: of all runs together.
        requests: runs at once that the threads are shared out for.
        version: of the backend.
        why: for what reason this device was chosen, where :func:`gloam.runtime.backends.open.open_session` chose it.
        reduced: after memory ran out, the batch that was cut to, by the ``WIDTHxHEIGHT`` of the images it ran out at.
        inference_precision: OpenVINO: what is computed in that is not quantised, ``f32`` or ``bf16``.
        convolutions: OpenVINO: how many run in which element type.
        tf32: TensorRT: whether fp32 layers may use TensorFloat-32.
        gpu: TensorRT: ``name``, ``compute_capability`` and ``driver``.
        layer: TensorRT: the package that talks to CUDA.
        contexts: TensorRT: execution contexts.
        cuda_graphs: TensorRT: whether launches are captured, or why not any more.
        engine: TensorRT: digest of the engine's key.
    """

    backend: str
    providers: tuple[str, ...]
    precision: str
    device: str | None = None
    threads: int | None = None
    requests: int | None = None
    version: str | None = None
    why: str | None = None
    reduced: Mapping[str, int] | None = None
    inference_precision: str | None = None
    convolutions: Mapping[str, int] | None = None
    tf32: bool | None = None
    gpu: Mapping[str, str] | None = None
    layer: str | None = None
    contexts: int | None = None
    cuda_graphs: bool | str | None = None
    engine: str | None = None

    @property
    def on_cpu(self) -> bool:
        """Whether a model runs on the CPU."""
        return self.device == "cpu"

    @property
    def runs_at_once(self) -> int:
        """How many threads should call the session together."""
        return self.requests or 1

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what is known, by the names of the attributes."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
            for name, value in known.items()
            if value is not None
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> BackendFacts:
        """What :meth:`to_dict` gave."""
        return cls(**{**value, "providers": tuple(value["providers"])})

    def __str__(self) -> str:
        """For people: a line, and another one where there was something to choose."""
        at_once = f", {self.requests} runs at once" if self.runs_at_once > 1 else ""
        line = (
            f"backend {self.backend} on {', '.join(self.providers)}, {self.threads} threads{at_once}, {self.precision}"
        )
        return line if self.why in (None, ASKED) else f"{line}\n{self.why}"
