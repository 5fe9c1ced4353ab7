"""The ONNX Runtime backend. What runs is stated, and another device than the one asked for is refused."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.errors import DeviceError, ModelError, UsageError, require
from gloam.model_card import ModelCard
from gloam.runtime.backends.cuda.device import DeviceMemoryError
from gloam.runtime.backends.cuda.driver import find_driver
from gloam.runtime.backends.facts import BackendFacts
from gloam.runtime.backends.onnx_file import model_sha256, read_card
from gloam.runtime.backends.ort_binding import BoundRunner
from gloam.runtime.backends.ort_plugin import PROVIDER, RTX, add_plugin
from gloam.runtime.backends.processor import usable_cores
from gloam.runtime.backends.session import expect_graph, threads_of_a_run

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
QUIET = 3  # errors only; warnings about providers are answered by an error of ours


class OrtSession:
    """A model on ONNX Runtime.

    Args:
        path: ``.onnx`` file with a model card.
        device: ``cpu``, ``cuda``, or ``tensorrt``, ONNX Runtime's provider of that name: it builds an engine for the
            padded shapes of a fixed profile at its first use and keeps it in a folder beside the model.
            ``tensorrt-rtx``: the same by the plugin of TensorRT for RTX.
        threads: of all runs together; all cores of this process by default.
        requests: runs at once that the threads are shared out for; 1 by default. On a CPU any number may call together.

    Raises:
        ModelError: the file is absent, truncated, or without a card.
        DeviceError: the device is not active in the session; the providers that are merely listed do not count.
    """

    def __init__(
        self, path: str | Path, *, device: str = "cpu", threads: int | None = None, requests: int | None = None
    ) -> None:
        known = {**PROVIDERS, RTX: PROVIDER}
        if device not in known:
            raise UsageError(f"unknown device {device!r}; choose one of {', '.join(known)}")
        file = Path(path)
        self.card = read_card(file)
        ort = require("onnxruntime", "cpu" if device == "cpu" else "gpu", "run a model")
        threads = threads or usable_cores()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads_of_a_run(threads, requests or 1)
        options.inter_op_num_threads = 1
        options.log_severity_level = QUIET
        # With a pattern kept for every size of image, memory was twice as much and more with each; runs take as long.
        options.enable_mem_pattern = self.card.profile.kind != "dynamic"
        if device == RTX:
            providers = None  # a plugin goes by its devices; by name, ONNX Runtime runs on the CPU and says nothing
            add_plugin(ort, options, _rtx_options(self.card, file))
        else:
            providers = _providers(device, file, self.card)
            if device != "cpu":
                _load_libraries(ort, device)
        try:
            self._session = ort.InferenceSession(str(file), options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ModelError(_why_not(error, file, self.card)) from error
        active = self._session.get_providers()
        if known[device] not in active:
            raise DeviceError(
                f"{file}: device {device!r} was asked for, but only {', '.join(active)} is active; "
                "run `gloam doctor`, or ask for --device cpu"
            )
        ports = (self._session.get_inputs(), self._session.get_outputs())
        expect_graph(self.card, str(file), *({port.name: port.shape for port in side} for side in ports))
        self._limit = sys.maxsize  # images of a run, once memory ran out
        # On the CPU the inputs lie where the session reads them; elsewhere they are kept on the device, which an ONNX
        # Runtime without CUDA, as the plugin may have, cannot do.
        self._bound = None if device in ("cpu", RTX) else BoundRunner(ort, self._session, "cuda")
        self._divisible = all(spec.shape[:1] == ("batch",) for spec in (*self.card.inputs, *self.card.outputs))
        self.fingerprint = self.card.fingerprint(model_sha256(file))
        self.backend = BackendFacts(
            "onnxruntime",
            tuple(active),
            self.card.precision,
            device=device,
            threads=threads,
            requests=requests or 1,
            version=ort.__version__,
        )

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the graph once, or in parts: where memory runs out, the batch is halved and the run carries on.

        Args:
            inputs: arrays by the card's input names.

        Returns:
            arrays by the card's output names.

        Raises:
            ModelError: ONNX Runtime could not run the graph on them.
        DeviceMemoryError: not even one image fits into the memory of the GPU, or of the host.
        """
        names = [spec.name for spec in self.card.outputs]
        rows = len(next(iter(inputs.values())))
        limit = min(self._limit, max(rows, 1))
        parts: list[list[npt.NDArray[Any]]] = []
        start = 0
        while start < rows or not parts:
            part = {name: value[start : start + limit] for name, value in inputs.items()}
            try:
                parts.append(self._run(names, part))
                start += limit
            except Exception as error:  # ONNX Runtime's exceptions share no base class
                if not _out_of_memory(error):
                    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                    raise ModelError(f"{self.card.name}: the model failed on {_size(part)} ({reason})") from error
                if self._bound is not None:
                    self._bound.release()
                if limit == 1 or not self._divisible:
                    place = "memory" if self._bound is None else "the GPU"
                    images = "one image" if limit == 1 else f"{limit} images"
                    raise DeviceMemoryError(
                        f"{self.card.name}: {place} has no room for {images} of {_size(part)}; use a smaller "
                        "--max-side, or stop what else runs there"
                    ) from error
                limit = self._limit = limit // 2
                reduced = {**(self.backend.reduced or {}), _size(part): limit}
                self.backend = replace(self.backend, reduced=reduced)
        if len(parts) == 1:
            return dict(zip(names, parts[0], strict=True))
        return {name: np.concatenate(found) for name, found in zip(names, zip(*parts, strict=True), strict=True)}

    def _run(self, names: list[str], inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        if self._bound is not None:
            return self._bound.run(names, inputs)
        found: list[npt.NDArray[Any]] = self._session.run(
            names, {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        )
        return found


def available_backends() -> list[dict[str, Any]]:
    """The devices that ONNX Runtime lists here; listed is not active, a session decides."""
    ort = require("onnxruntime", "cpu", "run a model")
    listed = ort.get_available_providers()
    return [
        {"backend": "onnxruntime", "version": ort.__version__, "device": device, "listed": provider in listed}
        for device, provider in PROVIDERS.items()
    ]


def _providers(device: str, file: Path, card: ModelCard) -> list[tuple[str, dict[str, str]]]:
    """The provider of a device with its options, and those that take the operators it cannot run.

    Raises:
        ModelError: TensorRT is asked for a model of native sizes.
    """
    wanted: list[tuple[str, dict[str, str]]] = []
    if device == "tensorrt":
        wanted.append((PROVIDERS["tensorrt"], _tensorrt_options(card, file)))
    if device != "cpu":
        # TF32 keeps 10 bits of a float32; an exhaustive search for the best convolution starts anew with every size.
        wanted.append((PROVIDERS["cuda"], {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}))
    return [*wanted, (PROVIDERS["cpu"], {})]


def _tensorrt_options(card: ModelCard, file: Path) -> dict[str, str]:
    """One optimisation profile per padded shape; engines and timings beside the model."""
    cache = str(file.with_name(f"{file.stem}.trt"))
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": cache,
        **_shape_options(card, file, "trt"),
    }


def _rtx_options(card: ModelCard, file: Path) -> dict[str, str]:
    """The same for the plugin of TensorRT for RTX; what it compiles is kept beside the model."""
    several = len(card.profile.heights) * len(card.profile.widths) > 1
    return {
        "nv_multi_profile_enable": "1" if several else "0",
        "nv_runtime_cache_path": str(file.with_name(f"{file.stem}.rtx")),
        **_shape_options(card, file, "nv"),
    }


def _shape_options(card: ModelCard, file: Path, prefix: str) -> dict[str, str]:
    """The smallest, preferred and largest shapes of every padded size, as a provider's options.

    Raises:
        ModelError: a model of native sizes.
    """
    profile = card.profile
    if profile.kind == "dynamic":
        raise ModelError(
            f"{file}: has the dynamic profile, and TensorRT would build an engine for every image size; export it with "
            "--profile fixed, or ask for --device cuda"
        )
    options = {}
    sides = list(itertools.product(profile.heights, profile.widths))
    for bound, batch in (("min", profile.batch[0]), ("opt", profile.batch[1]), ("max", profile.batch[1])):
        shapes = [
            f"{spec.name}:{'x'.join(map(str, spec.sized(batch, *side, str(file))))}"
            for side in sides
            for spec in card.inputs
        ]
        options[f"{prefix}_profile_{bound}_shapes"] = ",".join(shapes)
    return options


def _load_libraries(ort: Any, device: str) -> None:
    """CUDA's and TensorRT's libraries as pip installs them, where no others are on the loader's path."""
    if find_driver().problem is not None:
        return  # TensorRT's library aborts without a driver; the session says what is active
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    if device == "tensorrt":
        require("tensorrt", "tensorrt", "run ONNX Runtime's TensorRT provider")


def _out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    signs = ("failed to allocate", "out of memory", "alloc_failed", "bad_alloc", "bad allocation")
    return isinstance(error, MemoryError) or any(sign in text for sign in signs)


def _size(inputs: Mapping[str, npt.NDArray[Any]]) -> str:
    shape = next(iter(inputs.values())).shape
    return f"{shape[2]}x{shape[1]}" if len(shape) == 4 else str(list(shape))


def _why_not(error: Exception, file: Path, card: ModelCard) -> str:
    """Why ONNX Runtime does not load a model, in a line; a node that it has no kernel for is named."""
    reason = str(error).strip().splitlines()[0]
    _, lacking, what = reason.partition("NOT_IMPLEMENTED : ")
    if not lacking:
        return f"{file}: not a readable ONNX model, or truncated ({reason[:200]})"
    advice = "update ONNX Runtime, or export the model again"
    if card.precision == "bf16":
        advice = "build an engine with `gloam engine`, or ask for --backend openvino"
    return f"{file}: ONNX Runtime lacks an operator in {card.precision} ({what[:200]}); {advice}"
