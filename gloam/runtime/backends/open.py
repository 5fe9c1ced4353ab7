"""One way from a path to a session: an ONNX file runs on ONNX Runtime or OpenVINO, an engine on TensorRT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gloam.errors import DeviceError, UsageError
from gloam.runtime.backends.cuda.driver import find_driver
from gloam.runtime.backends.facts import ASKED
from gloam.runtime.backends.openvino import OpenVinoSession
from gloam.runtime.backends.ort import OrtSession, available_backends
from gloam.runtime.backends.placement import BACKENDS, CPU_PRECISIONS, ON_GPU, Placement
from gloam.runtime.backends.session import Session
from gloam.runtime.backends.tensorrt.engine_card import NAMES, is_engine, plan_path, read_engine_card
from gloam.runtime.backends.tensorrt.session import TensorRTSession
from gloam.runtime.backends.tuning import Choice, find_profile, profile_path

# The device by name and the reason of an engine, by its target.
ENGINES = {
    "tensorrt": ("tensorrt", "the model is a TensorRT engine"),
    "rtx": ("tensorrt-rtx", "the model is an engine of TensorRT for RTX"),
}


def open_session(path: str | Path, placement: Placement | None = None) -> Session:
    """Load a model.

    Args:
        path: ``.onnx`` file, engine folder, or ``.engine`` file.
        placement: where and how it runs.

    Returns:
        the session; its ``backend`` says under ``device`` what was chosen and under ``why`` for what reason.

    Raises:
        UsageError: a device, backend and precision that do not go together, or not with the model.
        ModelError: unreadable, the device is not active, or the profile is damaged.
    """
    wanted = placement or Placement()
    session: Session
    if is_engine(path):
        if wanted.device == "cpu":
            raise DeviceError(f"{path}: a TensorRT engine runs on a GPU alone; ask for --device cuda, or auto")
        if wanted.backend is not None or wanted.cpu_precision is not None:
            raise UsageError(f"{path}: a TensorRT engine has its own backend; leave out --backend and --cpu-precision")
        session, why = _engine(path, wanted.device)
    elif wanted.device in ON_GPU:
        if _for_the_cpu(wanted):
            raise UsageError("OpenVINO, and with it bf16, runs on the CPU here; ask for --device cpu")
        session, why = OrtSession(path, device=wanted.device, threads=wanted.threads), ASKED
    else:
        active, note = None, ""
        if wanted.device == "auto" and not _for_the_cpu(wanted):
            active, note = _cuda(path, wanted.threads)
        if active is not None:
            session, why = active, note
        else:
            session, why = _on_cpu(path, wanted)
            if note:
                why = note if why == ASKED else f"{note}; {why}"
    session.backend = replace(session.backend, why=why)
    return session


def _engine(path: str | Path, device: str) -> tuple[Session, str]:
    """The session of an engine, where the device that is asked for is its own, and why."""
    target = read_engine_card(plan_path(path)).key.target
    own, why = ENGINES[target]
    if device not in ("auto", "cuda", own):
        raise UsageError(f"{path}: is an engine of {NAMES[target]}; ask for --device {own}, or auto")
    return TensorRTSession(path), why


def _for_the_cpu(wanted: Placement) -> bool:
    return wanted.backend == "openvino" or wanted.cpu_precision == "bf16"


def open_choice(path: str | Path, choice: Choice) -> Session:
    """Load a model exactly so on the CPU.

    Raises:
        UsageError: bf16 by another backend than OpenVINO.
        ModelError: unreadable, or the processor does not run it so.
    """
    return _open(path, choice.backend, choice.cpu_precision, choice.threads, choice.requests)


def _open(path: str | Path, backend: str, precision: str, threads: int | None, requests: int | None) -> Session:
    if backend == "openvino":
        return OpenVinoSession(path, threads=threads, requests=requests, precision=precision)
    if precision != "f32":
        raise UsageError(f"ONNX Runtime computes a file as it is, not in {precision}; ask for --backend openvino, too")
    return OrtSession(path, device="cpu", threads=threads, requests=requests)


def _on_cpu(path: str | Path, wanted: Placement) -> tuple[Session, str]:
    """The session that was asked for, or the profile's, and why."""
    why = ASKED
    if not wanted.chosen:
        profile, found = find_profile(path)
        if profile is not None:
            choice = profile.choice
            requests = wanted.requests or choice.requests
            return _open(path, choice.backend, choice.cpu_precision, choice.threads, requests), found
        why = found or ASKED
    elif profile_path(path).is_file():
        why = f"{ASKED}; {profile_path(path).name} is left aside"
    backend, precision = wanted.backend or BACKENDS[0], wanted.cpu_precision or CPU_PRECISIONS[0]
    return _open(path, backend, precision, wanted.threads, wanted.requests), why


def _cuda(path: str | Path, threads: int | None) -> tuple[Session | None, str]:
    """On CUDA where ONNX Runtime's provider is active in the session, or why not."""
    listed = any(row["device"] == "cuda" and row["listed"] for row in available_backends())
    driver = find_driver()
    if not listed:
        return None, "auto: this ONNX Runtime has no CUDA provider; pip install 'gloam[gpu]' for one"
    if driver.problem is not None:
        return None, f"auto: CUDA cannot be used, {driver.problem}"
    try:
        session = OrtSession(path, device="cuda", threads=threads)
    except DeviceError:  # the provider is listed but did not start: CUDA's libraries or cuDNN are missing
        return None, "auto: ONNX Runtime's CUDA provider is installed but did not start; run `gloam doctor`"
    return session, f"auto: ONNX Runtime's CUDA provider is active on {driver.gpus[0].name}"
