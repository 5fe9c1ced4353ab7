"""The ONNX Runtime backend. What runs is stated, and another device than the one asked for is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gloam.artifact import METADATA_KEY, ModelCard
from gloam.errors import DeviceError, ModelError, UsageError, require
from gloam.files import sha256_file

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
QUIET = 3  # errors only; warnings about providers are answered by an error of ours


class OrtSession:
    """A model on ONNX Runtime.

    Args:
        path: ``.onnx`` file with a model card.
        device: ``cpu`` or ``cuda``.
        threads: intra-op threads; all cores of this process by default.

    Raises:
        ModelError: the file is absent, truncated, or without a card.
        DeviceError: the device is not active in the session; the providers that are merely listed do not count.
    """

    def __init__(self, path: str | Path, *, device: str = "cpu", threads: int | None = None) -> None:
        if device not in PROVIDERS:
            raise UsageError(f"unknown device {device!r}; choose {' or '.join(PROVIDERS)}")
        file = Path(path)
        if not file.is_file():
            raise ModelError(f"{file}: no such model file")
        ort = require("onnxruntime", "gpu" if device == "cuda" else "cpu", "run a model")
        threads = threads or len(os.sched_getaffinity(0))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = QUIET
        providers = [PROVIDERS[device]] if device == "cpu" else [PROVIDERS[device], PROVIDERS["cpu"]]
        try:
            self._session = ort.InferenceSession(str(file), options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            reason = str(error).strip().splitlines()[0][:200]
            raise ModelError(f"{file}: not a readable ONNX model, or truncated ({reason})") from error
        active = self._session.get_providers()
        if PROVIDERS[device] not in active:
            raise DeviceError(
                f"{file}: device {device!r} was asked for, but only {', '.join(active)} is active; "
                "run `gloam doctor`, or ask for --device cpu"
            )
        self.card = _card(self._session, file)
        self.fingerprint = self.card.fingerprint(sha256_file(file))
        self.backend: dict[str, Any] = {
            "backend": "onnxruntime",
            "version": ort.__version__,
            "providers": active,
            "device": device,
            "threads": threads,
            "precision": self.card.precision,
        }

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the graph once.

        Args:
            inputs: arrays by the card's input names.

        Returns:
            arrays by the card's output names.
        """
        names = [spec.name for spec in self.card.outputs]
        outputs = self._session.run(names, {name: np.ascontiguousarray(value) for name, value in inputs.items()})
        return dict(zip(names, outputs, strict=True))


def read_card(path: str | Path) -> ModelCard:
    """The card of a model file."""
    return OrtSession(path, threads=1).card


def available_backends() -> list[dict[str, Any]]:
    """The devices that ONNX Runtime lists here; listed is not active, a session decides."""
    ort = require("onnxruntime", "cpu", "run a model")
    listed = ort.get_available_providers()
    return [
        {"backend": "onnxruntime", "version": ort.__version__, "device": device, "listed": provider in listed}
        for device, provider in PROVIDERS.items()
    ]


def _card(session: Any, file: Path) -> ModelCard:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(f"{file}: an ONNX file without a gloam model card; export it with `gloam export`")
    return ModelCard.from_json(text, str(file))
