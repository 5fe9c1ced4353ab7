"""One way from a path to a session: an ONNX file runs on ONNX Runtime, an engine on TensorRT."""

from __future__ import annotations

from pathlib import Path

from gloam.errors import DeviceError, UsageError
from gloam.runtime.doctor import find_driver
from gloam.runtime.ort import OrtSession, available_backends
from gloam.runtime.session import Session
from gloam.runtime.tensorrt.engine_card import is_engine
from gloam.runtime.tensorrt.session import TensorRTSession

DEVICES = ("auto", "cpu", "cuda", "tensorrt")


def open_session(path: str | Path, device: str = "cpu", threads: int | None = None) -> Session:
    """Load a model.

    Args:
        path: ``.onnx`` file, engine folder, or ``.engine`` file.
        device: ``cpu``, ``cuda``, ``tensorrt`` (ONNX Runtime's provider), or ``auto``: CUDA where it is really active,
            else the CPU.
        threads: of the backend on a CPU; all cores by default.

    Returns:
        the session; its ``backend`` says under ``device`` what was chosen and under ``why`` for what reason.

    Raises:
        UsageError: an unknown device.
        ModelError: unreadable, or the device is not active.
    """
    if device not in DEVICES:
        raise UsageError(f"unknown device {device!r}; choose one of {', '.join(DEVICES)}")
    session: Session
    if is_engine(path):
        if device == "cpu":
            raise DeviceError(f"{path}: a TensorRT engine runs on a GPU alone; ask for --device cuda, or auto")
        session, why = TensorRTSession(path), "the model is a TensorRT engine"
    elif device == "auto":
        session, why = _best(path, threads)
    else:
        session, why = OrtSession(path, device=device, threads=threads), "asked for"
    session.backend["why"] = why
    return session


def _best(path: str | Path, threads: int | None) -> tuple[Session, str]:
    """On CUDA where ONNX Runtime's provider is active in the session, else on the CPU, with the reason."""
    listed = any(row["device"] == "cuda" and row["listed"] for row in available_backends())
    driver = find_driver()
    if not listed:
        why = "auto: this ONNX Runtime has no CUDA provider; pip install 'gloam[gpu]' for one"
    elif driver.problem is not None:
        why = f"auto: CUDA cannot be used, {driver.problem}"
    else:
        try:
            session = OrtSession(path, device="cuda", threads=threads)
        except DeviceError:  # the provider is listed but did not start: CUDA's libraries or cuDNN are missing
            why = "auto: ONNX Runtime's CUDA provider is installed but did not start; run `gloam doctor`"
        else:
            return session, f"auto: ONNX Runtime's CUDA provider is active on {driver.gpus[0].name}"
    return OrtSession(path, device="cpu", threads=threads), why
