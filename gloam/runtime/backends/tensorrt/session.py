"""TensorRTSession: an engine behind the same Session as every other backend, numpy in, numpy out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from gloam.errors import DeviceError, ModelError, UsageError
from gloam.model_card import ModelCard
from gloam.runtime.backends.cuda.device import Array, Device, DeviceMemoryError
from gloam.runtime.backends.cuda.open import open_device
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.backends.tensorrt.api import (
    EngineLog,
    EngineProfile,
    RuntimeCache,
    engine_profiles,
    engine_tensors,
    load_rtx,
    load_tensorrt,
    make_logger,
    start_library,
)
from gloam.runtime.backends.tensorrt.engine_card import (
    kernels_path,
    plan_path,
    read_engine_card,
    read_plan,
)
from gloam.runtime.backends.tensorrt.lane import Lane, Runner

CONTEXTS = 2  # one computes while the other copies


class TensorRTSession:
    """An engine on a GPU, of TensorRT or of TensorRT for RTX.

    The latter compiles its kernels at the first run on a GPU; they are kept beside the engine for the next load.

    A batch larger than the engine takes is cut; the parts run over several execution contexts, copies of one beside the
    computing of another. Where the GPU's memory runs out in the middle, the parts are halved and the run carries on.

    Args:
        path: engine folder of ``gloam engine``, or a ``.engine`` file with its card beside it.
        device: the GPU; the first one by default, through cuda-python or pycuda.
        contexts: execution contexts, each with memory of its own.
        batch: largest part of a batch; the engine's by default.
        cuda_graphs: capture a graph per padded shape and batch, for models whose launches take longer than their work.
        fingerprint: of the model that the engine must be of; not compared by default.

    Attributes:
        card: the model's card, narrowed to the shapes that the engine has.
        fingerprint: of the model.
        backend: see :class:`gloam.runtime.backends.session.Session`.

    Raises:
        ModelError: no such engine, truncated, changed, or of another model.
        DeviceError: no driver; an engine for another GPU or TensorRT; no memory left.
        MissingExtraError: TensorRT, or both cuda-python and pycuda, are not installed.
        UsageError: arguments out of range.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: Device | None = None,
        contexts: int = CONTEXTS,
        batch: int | None = None,
        cuda_graphs: bool = False,
        fingerprint: str | None = None,
    ) -> None:
        if contexts < 1 or (batch is not None and batch < 1):
            raise UsageError("an engine needs 1 execution context and a batch of 1 or more")
        plan = plan_path(path)
        self._where = str(plan)
        engine_card = read_engine_card(plan)
        if fingerprint is not None:
            engine_card.expect_model(fingerprint, self._where)
        content = read_plan(plan, engine_card)
        rtx = engine_card.key.target == "rtx"
        trt = load_rtx() if rtx else load_tensorrt()
        engine_card.expect_version(trt.__version__, self._where)
        self.device = open_device() if device is None else device
        engine_card.expect_machine(self.device.info, self._where)
        self._lock = threading.Lock()
        self._lanes: list[Lane] = []
        self._ran: set[int] = set()  # profiles whose kernels are compiled
        self._log = EngineLog()
        self._logger = make_logger(trt, self._log)
        with self.device.current():
            self._runtime = start_library(trt.Runtime, self._logger, self._log, "runtime")
            if engine_card.key.options.get("version_compatible"):
                # Such a plan brings code for the host; its sha256 is that of the card by now.
                self._runtime.engine_host_code_allowed = True
            engine = self._runtime.deserialize_cuda_engine(content)
            del content  # it may be large, and the engine has its own copy
            if engine is None:
                raise self._log.failure(f"{plan}: TensorRT cannot read the engine", engine_card.key.build_again)
            self.card: ModelCard = engine_card.session_card()
            self._tensors = engine_tensors(trt, engine, self._where)
            self._inputs = {tensor.name: tensor for tensor in self._tensors if tensor.is_input}
            engine_card.expect_tensors(self._tensors, self._where)
            profiles = engine_profiles(engine, self._tensors, self.card)
            engine_card.expect_profiles(profiles, self._where)
            self._profiles = {profile.shape: profile for profile in profiles}
            kernels = kernels_path(plan, self.device.info)
            self._compiled = RuntimeCache(trt, engine, kernels) if rtx else None
            runner = Runner(trt, engine, self._tensors, self.device, self._log, self._compiled)
            self._lanes = [Lane(runner, cuda_graphs) for _ in range(contexts)]
        self._limits = {
            shape: min(batch or profile.batch[2], profile.batch[2]) for shape, profile in self._profiles.items()
        }
        self.fingerprint = engine_card.key.fingerprint
        gpu = self.device.info
        self.backend = BackendFacts(
            "tensorrt-rtx" if rtx else "tensorrt",
            (gpu.name,),
            self.card.precision,
            device="cuda",
            threads=1,
            version=trt.__version__,
            tf32=bool(engine_card.key.options.get("tf32")),
            gpu={"name": gpu.name, "compute_capability": gpu.compute_capability, "driver": gpu.driver},
            layer=self.device.layer,
            contexts=contexts,
            cuda_graphs=cuda_graphs,
            engine=engine_card.key.digest(),
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the engine.

        Args:
            inputs: arrays by the card's input names, ``[B, ...]`` each, any B from 1 on.

        Returns:
            arrays by the card's output names, ``[B, ...]`` each.

        Raises:
            UsageError: an input is missing, unknown, or of another dtype.
            ModelError: a shape that the engine was not built for.
            DeviceMemoryError: no room for the smallest batch.
            DeviceError: TensorRT or CUDA failed.
        """
        with self._lock, self.device.current():
            if not self._lanes:
                raise UsageError(f"{self._where}: the session is closed")
            profile, rows = self._profile_of(inputs)
            try:
                outputs = self._run_parts(profile, rows, inputs)
            except BaseException:
                self._settle()
                raise
            self._note_graphs()
            if self._compiled is not None and profile.index not in self._ran:
                self._ran.add(profile.index)
                self._compiled.save()
        return {spec.name: outputs[spec.name] for spec in self.card.outputs}

    def close(self) -> None:
        """Give the GPU's memory back; the session runs nothing afterwards."""
        with self._lock, self.device.current():
            if self._compiled is not None and self._lanes:
                self._compiled.save()
            for lane in self._lanes:
                lane.close()
            self._lanes = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _profile_of(self, inputs: Mapping[str, Array]) -> tuple[EngineProfile, int]:
        """The profile of the images' padded shape, and the number of images."""
        if set(inputs) != set(self._inputs):
            raise UsageError(f"{self._where}: inputs {', '.join(inputs)} given, {', '.join(self._inputs)} needed")
        images = inputs[self.card.inputs[0].name]
        shape = self.card.padded({name: values.shape for name, values in inputs.items()})
        profile = self._profiles.get(shape)
        if profile is None:
            built = ", ".join(f"{width}x{height}" for height, width in self._profiles)
            raise ModelError(
                f"{self._where}: {shape[1]}x{shape[0]} is outside the engine's shapes ({built}); pad to one of them, "
                "or build an engine with it by `gloam engine`"
            )
        rows = len(images)
        for name, values in inputs.items():
            wanted = self._inputs[name].dtype
            if values.dtype != wanted:
                raise UsageError(f"{self._where}: {name!r} must be {wanted}, not {values.dtype}")
            if values.shape != (rows, *profile.inputs[name][1:]):
                expected = [rows, *profile.inputs[name][1:]]
                raise ModelError(f"{self._where}: {name!r} must be {expected}, not {list(values.shape)}")
        if rows == 0:
            raise UsageError(f"{self._where}: a batch without images")
        return profile, rows

    def _run_parts(self, profile: EngineProfile, rows: int, inputs: Mapping[str, Array]) -> dict[str, Array]:
        outputs: dict[str, Array] = {}
        waiting = _parts(0, rows, self._limits[profile.shape])
        flying: deque[tuple[Lane, int, int]] = deque()

        def collect() -> None:
            lane, start, stop = flying.popleft()
            for name, values in lane.finish().items():
                if name not in outputs:
                    outputs[name] = np.empty((rows, *values.shape[1:]), values.dtype)
                outputs[name][start:stop] = values[: stop - start]
            idle.append(lane)

        idle = deque(self._lanes)
        while waiting or flying:
            if not waiting or not idle:
                collect()
                continue
            start, stop = waiting[0]
            try:
                idle[0].start(profile, _rows(inputs, start, stop, profile.batch[0]))
            except DeviceMemoryError as error:
                while flying:  # what is on the GPU is finished and kept
                    collect()
                self._make_room(profile, stop - start, error)
                idle = deque(self._lanes)
                waiting = _parts(start, rows, self._limits[profile.shape])
                continue
            waiting.popleft()
            flying.append((idle.popleft(), start, stop))
        return outputs

    def _make_room(self, profile: EngineProfile, tried: int, error: DeviceMemoryError) -> None:
        """Give back what the lanes hold, and run with half the batch, at the end with one context."""
        for lane in self._lanes:
            lane.release_memory()
        height, width = profile.shape
        if tried > profile.batch[0]:
            self._limits[profile.shape] = max(tried // 2, profile.batch[0])
            reduced = {**(self.backend.reduced or {}), f"{width}x{height}": self._limits[profile.shape]}
            self.backend = replace(self.backend, reduced=reduced)
        elif len(self._lanes) > 1:
            for lane in self._lanes[1:]:
                lane.close()
            del self._lanes[1:]
            self.backend = replace(self.backend, contexts=1)
        else:
            gpu = self.device.info
            raise DeviceMemoryError(
                f"{self._where}: {gpu.name} ({gpu.memory / 2**30:.0f} GiB) has no room for a batch of {tried} at "
                f"{width}x{height} ({error}); use a smaller --max-side, or stop what else runs on the GPU"
            ) from error

    def _settle(self) -> None:
        """After an error: nothing is left running that uses the lanes' memory."""
        for lane in self._lanes:
            try:
                lane.release_memory()
            except DeviceError:  # the GPU is lost; the first error says so
                return

    def _note_graphs(self) -> None:
        problem = next((lane.graph_problem for lane in self._lanes if lane.graph_problem), None)
        if problem is not None:
            self.backend = replace(self.backend, cuda_graphs=f"off: {problem}")


def _parts(start: int, stop: int, size: int) -> deque[tuple[int, int]]:
    return deque((first, min(first + size, stop)) for first in range(start, stop, size))


def _rows(inputs: Mapping[str, Array], start: int, stop: int, least: int) -> dict[str, Array]:
    """Rows of the inputs; the last one is repeated where the engine takes no batch as small as that."""
    taken = {name: values[start:stop] for name, values in inputs.items()}
    if stop - start >= least:
        return taken
    missing = least - (stop - start)
    return {name: np.concatenate([values, np.repeat(values[-1:], missing, axis=0)]) for name, values in taken.items()}
