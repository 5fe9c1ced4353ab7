"""Placement: where and how a model is to run."""

from __future__ import annotations

from dataclasses import dataclass

from gloam.errors import UsageError

ON_GPU = ("cuda", "tensorrt", "tensorrt-rtx")
DEVICES = ("auto", "cpu", *ON_GPU)
BACKENDS = ("onnxruntime", "openvino")  # on a CPU
CPU_PRECISIONS = ("f32", "bf16")  # that a float32 file can be computed in


@dataclass(frozen=True)
class Placement:
    """What is asked for; what became of it is in :class:`gloam.runtime.backends.facts.BackendFacts`.

    On a CPU, where neither ``threads`` nor ``backend`` nor ``cpu_precision`` is given, the profile that
    ``gloam bench --tune`` wrote beside the model decides, if it holds here; without one it is ONNX Runtime.

    Attributes:
        device: ``cpu``, ``cuda``, ``tensorrt`` (ONNX Runtime's provider), ``tensorrt-rtx`` (its plugin of that name),
            or ``auto``: CUDA where it is really active, else the CPU. A device by name is refused where it is not
            active.
        threads: of the backend on a CPU; None: all cores of this process.
        backend: ``onnxruntime`` or ``openvino``, which runs on the CPU alone; None: the profile's, or ONNX Runtime.
        cpu_precision: ``f32``, or ``bf16`` by OpenVINO where the processor has it: then another fingerprint. None: the
            profile's, or ``f32``.
        requests: runs at once on a CPU, whatever the profile says; None: the backend's own number, see
            :class:`gloam.runtime.backends.openvino.OpenVinoSession`.

    Raises:
        UsageError: an unknown device, backend or precision, or numbers below 1.
    """

    device: str = "cpu"
    threads: int | None = None
    backend: str | None = None
    cpu_precision: str | None = None
    requests: int | None = None

    def __post_init__(self) -> None:
        for word, value, known in (
            ("device", self.device, DEVICES),
            ("backend", self.backend, BACKENDS),
            ("CPU precision", self.cpu_precision, CPU_PRECISIONS),
        ):
            if value is not None and value not in known:
                raise UsageError(f"unknown {word} {value!r}; choose one of {', '.join(known)}")
        for word, number in (("threads", self.threads), ("requests", self.requests)):
            if number is not None and number < 1:
                raise UsageError(f"{number} {word}: 1 or more are needed")

    @property
    def chosen(self) -> bool:
        """Whether it is said how a CPU runs the model, so that no profile is asked."""
        return not (self.threads is None and self.backend is None and self.cpu_precision is None)
