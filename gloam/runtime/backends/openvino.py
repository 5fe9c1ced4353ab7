"""The OpenVINO backend on a CPU: the same ``.onnx`` file, in a precision that is always stated.

Left alone, OpenVINO computes float32 files in bfloat16 wherever the processor can. Here float32 is the default,
bfloat16 is asked for, refused where the processor has none, and read back from the compiled model: on other processors
OpenVINO takes the hint and runs float32 without a word. int8 comes from the file's own Q/DQ pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import DeviceError, ModelError, UsageError, require
from gloam.model_card import ModelCard
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.backends.onnx_file import model_sha256, read_card
from gloam.runtime.backends.processor import usable_cores
from gloam.runtime.backends.session import expect_graph, threads_of_a_run

PRECISIONS = {"f32": "fp32", "bf16": "bf16"}  # OpenVINO's names -> the cards'
MEETING = Lock()
REQUESTS = 2  # at once: one core's serial parts overlap the other's, measured to be the best of a small machine


class OpenVinoSession:
    """A model on OpenVINO's CPU device. Height and width stay as free as the file has them.

    Args:
        path: ``.onnx`` file with a model card.
        threads: of all runs together; all cores of this process by default.
        requests: runs at once, each with its share of the threads; 2 by default, 1 gives a single image back soonest.
        precision: ``f32``, or ``bf16`` for a float32 file on a processor that has it.

    Attributes:
        card: of the file; its precision is bf16 where that is what runs.
        fingerprint: another one in bf16, so that no store or cache mixes the two; the space is the same.

    Raises:
        ModelError: the file is absent, truncated, or without a card; or an operator is not supported.
        DeviceError: bf16 on a processor, or for a file, that does not run in it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        requests: int | None = None,
        precision: str = "f32",
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"unknown precision {precision!r} of the CPU; choose {' or '.join(PRECISIONS)}")
        threads = threads or usable_cores()
        requests = requests or min(REQUESTS, threads)
        threads_of_a_run(threads, requests)
        self._file = Path(path)
        card = read_card(self._file)
        library = require("openvino", "openvino", "run a model on OpenVINO")
        _meet_numpy(library)
        model = _read(self._file)
        ports = ({port.any_name: _shape(port) for port in side} for side in (model.inputs, model.outputs))
        expect_graph(card, str(self._file), *ports)
        core = library.Core()
        if precision == "bf16":
            if "BF16" not in capabilities(core):
                raise DeviceError(
                    f"{self._file}: bf16 was asked for, but this processor computes "
                    f"{', '.join(capabilities(core))}; ask for --cpu-precision f32"
                )
            if card.precision != "fp32":
                raise DeviceError(
                    f"{self._file}: bf16 was asked for, but the file is {card.precision}; give the float32 file, "
                    "or ask for --cpu-precision f32"
                )
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": requests,
        }
        try:
            self._compiled = core.compile_model(model, "CPU", settings)
        except Exception as error:  # OpenVINO's exceptions share no base class
            raise ModelError(f"{self._file}: OpenVINO cannot compile the model ({_reason(error)})") from error
        runs = inference_precision(self._compiled)
        if runs != precision:
            raise DeviceError(
                f"{self._file}: {precision} was asked for, but OpenVINO runs {runs}; ask for --cpu-precision {runs}, "
                "or --backend onnxruntime"
            )
        self.card: ModelCard = replace(card, precision=PRECISIONS[runs]) if card.precision == "fp32" else card
        self.fingerprint = self.card.fingerprint(model_sha256(self._file))
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in self.card.inputs}
        self._idle: SimpleQueue[Any] = SimpleQueue()
        streams = int(self._compiled.get_property("NUM_STREAMS"))
        for _ in range(streams):
            self._idle.put(self._compiled.create_infer_request())
        self.backend = BackendFacts(
            "openvino",
            tuple(self._compiled.get_property("EXECUTION_DEVICES")),
            self.card.precision,
            device="cpu",
            threads=int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            requests=streams,
            version=library.__version__.partition("-")[0],
            inference_precision=runs,
            convolutions=convolution_types(self._compiled),
        )

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the graph once; threads may call it together, and wait for one another beyond the requests.

        Args:
            inputs: arrays by the card's input names.

        Returns:
            arrays by the card's output names.

        Raises:
            UsageError: an input is missing, unknown, or of another dtype, which OpenVINO would convert silently.
            ModelError: a shape that the graph does not take, or the run failed.
        """
        given = {name: value.dtype for name, value in inputs.items()}
        if given != self._dtypes:
            wanted = ", ".join(f"{name} {dtype}" for name, dtype in self._dtypes.items())
            found = ", ".join(f"{name} {dtype}" for name, dtype in given.items())
            raise UsageError(f"{self._file}: inputs {found} given, {wanted} needed")
        arrays = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        request = self._idle.get()
        try:
            request.start_async(arrays, share_inputs=True)
            request.wait()
            # The request's own memory is written again by the next run.
            return {spec.name: np.array(request.get_tensor(spec.name).data) for spec in self.card.outputs}
        except Exception as error:  # OpenVINO's exceptions share no base class
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in arrays.items())
            raise ModelError(f"{self._file}: OpenVINO failed on {shapes} ({_reason(error)})") from error
        finally:
            self._idle.put(request)


def capabilities(core: Any = None) -> list[str]:
    """What OpenVINO computes in on this processor, e.g. ``FP32``, ``BF16``, ``INT8``.

    Args:
        core: OpenVINO's; a new one by default.
    """
    core = core or require("openvino", "openvino", "run a model on OpenVINO").Core()
    names = ("FP32", "BF16", "FP16", "INT8")
    found = set(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return [name for name in names if name in found]


def inference_precision(compiled: Any) -> str:
    """The precision that a compiled model runs what is not quantised in, as it says itself: ``f32`` or ``bf16``."""
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())


def convolution_types(compiled: Any) -> dict[str, int]:
    """How many convolutions a compiled model runs in which element type, e.g. ``{"u8": 20}`` where int8 really runs."""
    types: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ops():
        about = node.get_rt_info()
        if about["layerType"].astype(str) in ("Convolution", "Deconvolution"):
            types[about["runtimePrecision"].astype(str)] += 1
    return dict(sorted(types.items()))


def _meet_numpy(library: Any) -> None:
    """Load OpenVINO's view of numpy's types: two threads that did so at once, in their first runs, would wait for ever,
    one for the other's turn with Python's lock held and the other for that lock."""
    with MEETING:
        library.Type.f32.to_dtype()


def _read(file: Path) -> Any:
    """The graph, read by the ONNX front end alone: the others print when they are tried on a bad file."""
    managers = require("openvino.frontend", "openvino", "run a model on OpenVINO")
    front_end = managers.FrontEndManager().load_by_framework("onnx")
    try:
        return front_end.convert(front_end.load(str(file)))
    except Exception as error:  # OpenVINO's exceptions share no base class
        raise ModelError(f"{file}: not a readable ONNX model, or truncated ({_reason(error)})") from error


def _shape(port: Any) -> list[int | None]:
    """Lengths of a port's axes, None of a free one; empty where not even their number is known."""
    shape = port.get_partial_shape()
    return [] if shape.rank.is_dynamic else [axis.get_length() if axis.is_static else None for axis in shape]


def _reason(error: Exception) -> str:
    """The last line that says something: OpenVINO's messages begin with its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
