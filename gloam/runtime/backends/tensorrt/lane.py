"""Lane: one stream with its execution contexts, its page-locked and device buffers, and its activation memory.

Everything of a lane happens on its stream in order: copy in, compute, copy out. Lanes overlap with each other: while
one computes, another copies. All contexts of a lane share one block of activation memory, for only one of them runs.

A captured graph holds the addresses and the state of the context that it was captured from, so with graphs each
(profile, batch) has a context of its own that is not touched afterwards.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import DeviceError, ModelError
from gloam.runtime.backends.cuda.device import Array, Device, DeviceBuffer, Graph, PinnedBuffer, Resource
from gloam.runtime.backends.tensorrt.api import EngineLog, EngineProfile, RuntimeCache, Tensor

ADVICE = "run `gloam doctor`, or build the engine again"


@dataclass
class Buffers:
    """Input and output memory of one profile for up to ``rows`` images; kept from run to run."""

    rows: int
    device: dict[str, DeviceBuffer] = field(default_factory=dict)
    pinned: dict[str, PinnedBuffer] = field(default_factory=dict)


@dataclass
class Context:
    """An execution context of one profile, the batch that it is set to, and the shapes of its outputs at it."""

    handle: Any
    batch: int = 0
    outputs: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Runner:
    """What the lanes of a session share: the module, the engine, its tensors, the device, the log, and for RTX what
    was compiled."""

    trt: Any
    engine: Any
    tensors: tuple[Tensor, ...]
    device: Device
    log: EngineLog
    compiled: RuntimeCache | None = None


class Lane:
    """See the module.

    Args:
        runner: what it shares with the other lanes.
        graphs: capture a CUDA graph for each (profile, batch) at its first run, and launch it afterwards.

    Attributes:
        graph_problem: why graphs are not used although they were asked for.
    """

    def __init__(self, runner: Runner, graphs: bool) -> None:
        self._runner = runner
        self._device = runner.device
        self._use_graphs = graphs
        self.graph_problem: str | None = None
        self._stream = self._device.stream()
        self._done = self._device.event()
        self._contexts: dict[tuple[int, int], Context] = {}
        self._buffers: dict[int, Buffers] = {}
        self._graphs: dict[tuple[int, int], Graph] = {}
        self._activations: DeviceBuffer | None = None
        self._running: tuple[Context, Buffers] | None = None

    def start(self, profile: EngineProfile, inputs: Mapping[str, Array]) -> None:
        """Put one batch on the stream; :meth:`finish` waits for it.

        Args:
            profile: whose shape the images have.
            inputs: by name, ``[B, ...]`` each, of the engine's types, B within the profile's range.

        Raises:
            DeviceMemoryError: no room for this batch; nothing was started.
            DeviceError: TensorRT or CUDA failed.
        """
        batch = len(next(iter(inputs.values())))
        where = (profile.index, batch)
        context = self._context(profile, batch)
        buffers = self._room(profile, context)
        for name, values in inputs.items():
            buffers.pinned[name].view(values.shape, values.dtype)[...] = values
        graph = self._graphs.get(where)
        if graph is not None:
            self._device.launch(graph, self._stream)
        else:
            self._enqueue(context, buffers, inputs)
            if self._use_graphs:
                self._capture(where, context, buffers, inputs)
        self._device.record(self._done, self._stream)
        self._running = context, buffers

    def finish(self) -> dict[str, Array]:
        """Wait for the batch; its outputs by name ``[B, ...]``, valid until the next :meth:`start`."""
        if self._running is None:
            raise DeviceError("nothing was started on this stream")
        self._device.synchronize(self._done)
        context, buffers = self._running
        self._running = None
        return {
            tensor.name: buffers.pinned[tensor.name].view(context.outputs[tensor.name], tensor.dtype)
            for tensor in self._runner.tensors
            if not tensor.is_input
        }

    def release_memory(self) -> None:
        """Give back every buffer and graph, once the stream is done; the next run allocates what it needs."""
        self._device.synchronize(self._stream)
        self._running = None
        for profile in list(self._buffers):
            self._drop_buffers(profile)
        if self._activations is not None:
            self._drop_graphs(None)
            self._device.release(self._activations)
            self._activations = None

    def close(self) -> None:
        """Give back everything."""
        self.release_memory()
        self._contexts.clear()
        self._device.release(self._done)
        self._device.release(self._stream)

    def _context(self, profile: EngineProfile, batch: int) -> Context:
        key = (profile.index, batch if self._use_graphs else 0)
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = self._new_context(profile)
        if context.batch == batch:
            return context
        handle, runner = context.handle, self._runner
        context.batch = 0  # until all of it is known
        for name, most in profile.inputs.items():
            if not handle.set_input_shape(name, (batch, *most[1:])):
                raise runner.log.failure(f"TensorRT refuses the shape {[batch, *most[1:]]} of {name!r}", ADVICE)
        if missing := handle.infer_shapes():
            raise ModelError(f"the engine leaves the shapes of {', '.join(missing)} open; {ADVICE}")
        for tensor in runner.tensors:
            if not tensor.is_input:
                shape = tuple(int(side) for side in handle.get_tensor_shape(tensor.name))
                if not shape or shape[0] != batch:
                    raise ModelError(f"the engine's output {tensor.name!r} {list(shape)} is not one row per image")
                context.outputs[tensor.name] = shape
        context.batch = batch
        return context

    def _new_context(self, profile: EngineProfile) -> Context:
        runner = self._runner
        managed = runner.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        handle = runner.engine.create_execution_context(managed if runner.compiled is None else runner.compiled.config)
        if handle is None:
            raise runner.log.failure("TensorRT could not create an execution context", ADVICE)
        if not handle.set_optimization_profile_async(profile.index, self._stream.handle):
            raise runner.log.failure(f"TensorRT refuses the optimisation profile {profile.index}", ADVICE)
        return Context(handle)

    def _room(self, profile: EngineProfile, context: Context) -> Buffers:
        """Buffers and activation memory for the context's shapes, with the context pointed at them."""
        need = int(context.handle.update_device_memory_size_for_shapes())
        if need == 0:  # nothing is needed, or TensorRT does not know it for these shapes alone
            need = int(self._runner.engine.get_device_memory_size_for_profile_v2(profile.index))
        if need > (0 if self._activations is None else self._activations.nbytes):
            self._device.synchronize(self._stream)
            self._drop_graphs(None)
            if self._activations is not None:
                self._device.release(self._activations)
                self._activations = None
            self._activations = self._device.allocate(need)
        buffers = self._buffers.get(profile.index)
        if buffers is None or buffers.rows < context.batch:
            self._device.synchronize(self._stream)
            self._drop_buffers(profile.index)
            buffers = self._buffers[profile.index] = self._new_buffers(profile, context)
        return buffers

    def _new_buffers(self, profile: EngineProfile, context: Context) -> Buffers:
        buffers = Buffers(context.batch)
        made: list[Resource] = []
        try:
            for tensor in self._runner.tensors:
                shape = (
                    (context.batch, *profile.inputs[tensor.name][1:])
                    if tensor.is_input
                    else context.outputs[tensor.name]
                )
                size = math.prod(shape) * tensor.dtype.itemsize
                buffers.device[tensor.name] = self._device.allocate(size)
                made.append(buffers.device[tensor.name])
                buffers.pinned[tensor.name] = self._device.pinned(size)
                made.append(buffers.pinned[tensor.name])
        except DeviceError:
            for resource in made:
                self._device.release(resource)
            raise
        return buffers

    def _enqueue(self, context: Context, buffers: Buffers, inputs: Mapping[str, Array]) -> None:
        """Copy in, compute, copy out, on the stream."""
        handle, device, runner = context.handle, self._device, self._runner
        if self._activations is not None:
            handle.set_device_memory(self._activations.address, self._activations.nbytes)
        for tensor in runner.tensors:
            if not handle.set_tensor_address(tensor.name, buffers.device[tensor.name].address):
                raise runner.log.failure(f"TensorRT refuses the address of {tensor.name!r}", ADVICE)
        for name, values in inputs.items():
            source = buffers.pinned[name].view(values.shape, values.dtype)
            device.copy_to_device(buffers.device[name], source, self._stream)
        if not handle.execute_async_v3(self._stream.handle):
            raise runner.log.failure("the engine failed", ADVICE)
        for tensor in runner.tensors:
            if not tensor.is_input:
                target: npt.NDArray[Any] = buffers.pinned[tensor.name].view(
                    context.outputs[tensor.name], np.dtype(tensor.dtype)
                )
                device.copy_to_host(target, buffers.device[tensor.name], self._stream)

    def _capture(self, where: tuple[int, int], context: Context, buffers: Buffers, inputs: Mapping[str, Array]) -> None:
        """Record the same work again as a graph; the run before it has settled TensorRT's own state."""
        device = self._device
        device.synchronize(self._stream)
        try:
            device.begin_capture(self._stream)
            try:
                self._enqueue(context, buffers, inputs)
            except DeviceError:
                with contextlib.suppress(DeviceError):
                    device.release(device.end_capture(self._stream))
                raise
            self._graphs[where] = device.end_capture(self._stream)
        except DeviceError as error:  # the batch itself has already run; carry on without, and say so
            self._use_graphs, self.graph_problem = False, str(error)
            self._drop_graphs(None)

    def _drop_buffers(self, profile: int) -> None:
        buffers = self._buffers.pop(profile, None)
        if buffers is None:
            return
        self._drop_graphs(profile)
        held: list[Resource] = [*buffers.device.values(), *buffers.pinned.values()]
        for resource in held:
            self._device.release(resource)

    def _drop_graphs(self, profile: int | None) -> None:
        """Graphs hold addresses: they go with the memory behind them."""
        for key in [key for key in self._graphs if profile is None or key[0] == profile]:
            self._device.release(self._graphs.pop(key))
