"""ONNX Runtime with arrays that stay on the device: one copy in and one out, no allocation from run to run.

The plain way, ``InferenceSession.run``, allocates every input on the device again; it is the twin that tests compare.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

KEPT = 8  # sets of shapes whose arrays stay allocated; the one that was not used for longest goes first

Array = npt.NDArray[Any]


class BoundRunner:
    """Runs a session with inputs that are allocated once per set of shapes.

    Args:
        ort: the ``onnxruntime`` module.
        session: an ``InferenceSession``.
        device: ``cuda`` or ``cpu``, where the inputs lie.
        kept: sets of shapes to keep.
    """

    def __init__(self, ort: Any, session: Any, device: str, kept: int = KEPT) -> None:
        self._ort, self._session, self._device, self._kept = ort, session, device, kept
        self._bound: OrderedDict[tuple[Any, ...], tuple[Any, dict[str, Any]]] = OrderedDict()

    def run(self, names: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Outputs by those names, in the host's memory; the caller's own.

        Args:
            names: of the outputs.
            inputs: arrays by input name.
        """
        arrays = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        key = (*names, *((name, array.shape, array.dtype.str) for name, array in sorted(arrays.items())))
        if key not in self._bound:
            self._bound[key] = self._bind(names, arrays)
            while len(self._bound) > self._kept:
                self._bound.popitem(last=False)
        self._bound.move_to_end(key)
        binding, values = self._bound[key]
        for name, array in arrays.items():
            values[name].update_inplace(array)
        binding.synchronize_inputs()
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        found: list[Array] = binding.copy_outputs_to_cpu()
        return found

    def release(self) -> None:
        """Give back what is kept."""
        self._bound.clear()

    def _bind(self, names: Sequence[str], arrays: Mapping[str, Array]) -> tuple[Any, dict[str, Any]]:
        binding = self._session.io_binding()
        values = {}
        for name, array in arrays.items():
            value = self._ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, self._device, 0)
            binding.bind_ortvalue_input(name, value)
            values[name] = value
        for name in names:  # the sizes of some outputs depend on the graph: ONNX Runtime allocates them
            binding.bind_output(name, self._device)
        return binding, values
