"""What decides an engine, beside the model and the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gloam.errors import UsageError
from gloam.runtime.backends.tensorrt.api import ARCHITECTURES

TURING = "sm75"  # computes neither bf16 nor float32 matrix products there, as whitening and CLAHE in the graph have
DEFAULT = tuple(name for name in ARCHITECTURES if name != TURING)


@dataclass(frozen=True)
class BuildOptions:
    """What decides an engine, beside the model and the machine.

    Attributes:
        heights, widths: padded sides to build, pixels; all of the model's by default. Each pair is a profile, and each
            profile takes its time and memory.
        batch: smallest, preferred and largest batch; by default the model's, preferring 16.
        tf32: let fp32 layers use TensorFloat-32 (10 bits of mantissa); off, because descriptors are to be fp32's.
        workspace: bytes that a layer may use; TensorRT's own limit by default.
        level: 0 (quickest build) to 5 (slowest, maybe a faster engine).
        hardware: ``same-gpu``, ``compute-capability`` or ``ampere-plus``: the GPUs that may run the engine.
        version_compatible: later versions of the same major TensorRT may run it; brings code for the host.
        target: ``tensorrt``, for the GPU of this machine, or ``rtx``: TensorRT for RTX, ahead of time.
        architectures: RTX: of the GPUs that may run the engine, of :data:`ARCHITECTURES`; None: all from Ampere
            on, for which every file can be built.
    """

    heights: tuple[int, ...] | None = None
    widths: tuple[int, ...] | None = None
    batch: tuple[int, int, int] | None = None
    tf32: bool = False
    workspace: int | None = None
    level: int = 3  # TensorRT's own default
    hardware: str = "same-gpu"
    version_compatible: bool = False
    target: Literal["tensorrt", "rtx"] = "tensorrt"
    architectures: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 5:
            raise UsageError(f"the builder's optimisation level is 0 to 5, not {self.level}")
        if self.batch is not None and not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise UsageError(f"the batch is MIN,OPT,MAX, ascending from 1, not {','.join(map(str, self.batch))}")
        if self.workspace is not None and self.workspace < 1:
            raise UsageError("the workspace must be 1 byte or more")
        if self.target == "rtx":
            self._refuse_for_rtx()
        elif self.architectures is not None:
            raise UsageError("TensorRT builds for the GPU of this machine; --gpu goes with --for rtx")

    def _refuse_for_rtx(self) -> None:
        if self.hardware != "same-gpu":
            raise UsageError("TensorRT for RTX has no --hardware; name the GPUs that may run the engine with --gpu")
        if self.version_compatible:
            raise UsageError(
                "TensorRT for RTX builds no engines for other versions: the library that they need is in none of its "
                "packages; leave out --version-compatible, and build again where the version changes"
            )
        unknown = [name for name in self.architectures or () if name not in ARCHITECTURES]
        if unknown or self.architectures == ():
            raise UsageError(
                f"TensorRT for RTX does not build for {', '.join(unknown) or 'no GPU'}; "
                f"--gpu takes {', '.join(ARCHITECTURES)}"
            )

    def architectures_of(self, precision: str) -> tuple[str, ...]:
        """Of the GPUs that an engine for RTX is for, in ascending order; empty for TensorRT.

        Raises:
            UsageError: one that cannot compute in the precision of the model.
        """
        if self.target != "rtx":
            return ()
        wanted = DEFAULT if self.architectures is None else self.architectures
        if precision == "bf16" and TURING in wanted:
            raise UsageError(
                f"{TURING} has no bf16, which the model computes in; leave it out of --gpu, or export the model in fp16"
            )
        return tuple(name for name in ARCHITECTURES if name in wanted)

    def deciding(self) -> dict[str, Any]:
        """What enters an engine's key, beside its shapes and architectures."""
        common = {"tf32": self.tf32, "workspace": self.workspace, "level": self.level}
        if self.target == "rtx":
            return common
        return common | {"hardware": self.hardware, "version_compatible": self.version_compatible}
