"""One way from a path to a session: an ONNX file runs on ONNX Runtime or OpenVINO, an engine on TensorRT."""

from __future__ import annotations

from pathlib import Path

from gloam.errors import DeviceError, UsageError
from gloam.runtime.backends.cuda.driver import find_driver
from gloam.runtime.backends.openvino import OpenVinoSession
from gloam.runtime.backends.ort import OrtSession, available_backends
from gloam.runtime.backends.session import Session
from gloam.runtime.backends.tensorrt.engine_card import is_engine
from gloam.runtime.backends.tensorrt.session import TensorRTSession
from gloam.runtime.backends.tuning import BACKENDS, CPU_PRECISIONS, Choice, find_profile, profile_path

DEVICES = ("auto", "cpu", "cuda", "tensorrt")
ASKED = "asked for"


def open_session(
    path: str | Path,
    device: str = "cpu",
    threads: int | None = None,
    *,
    backend: str | None = None,
    cpu_precision: str | None = None,
    requests: int | None = None,
) -> Session:
    """Load a model.

    On a CPU, where neither ``threads`` nor ``backend`` nor ``cpu_precision`` is given, the profile that
    ``gloam bench --tune`` wrote beside the model decides, if it holds here; without one it is ONNX Runtime.

    Args:
        path: ``.onnx`` file, engine folder, or ``.engine`` file.
        device: ``cpu``, ``cuda``, ``tensorrt`` (ONNX Runtime's provider), or ``auto``: CUDA where it is really active,
            else the CPU.
        threads: of the backend on a CPU; all cores by default.
        backend: ``onnxruntime`` or ``openvino``, which runs on the CPU alone.
        cpu_precision: ``f32``, or ``bf16`` by OpenVINO where the processor has it: then another fingerprint.
        requests: runs at once on a CPU, see :class:`OpenVinoSession`; whatever the profile says.

    Returns:
        the session; its ``backend`` says under ``device`` what was chosen and under ``why`` for what reason.

    Raises:
        UsageError: an unknown device, backend or precision, or such that do not go together.
        ModelError: unreadable, the device is not active, or the profile is damaged.
    """
    for word, value, known in (
        ("device", device, DEVICES),
        ("backend", backend, BACKENDS),
        ("CPU precision", cpu_precision, CPU_PRECISIONS),
    ):
        if value is not None and value not in known:
            raise UsageError(f"unknown {word} {value!r}; choose one of {', '.join(known)}")
    session: Session
    if is_engine(path):
        if device == "cpu":
            raise DeviceError(f"{path}: a TensorRT engine runs on a GPU alone; ask for --device cuda, or auto")
        if backend is not None or cpu_precision is not None:
            raise UsageError(f"{path}: a TensorRT engine has its own backend; leave out --backend and --cpu-precision")
        session, why = TensorRTSession(path), "the model is a TensorRT engine"
    elif device in ("cuda", "tensorrt"):
        if backend == "openvino" or cpu_precision == "bf16":
            raise UsageError("OpenVINO, and with it bf16, runs on the CPU here; ask for --device cpu")
        session, why = OrtSession(path, device=device, threads=threads), ASKED
    else:
        active, note = None, ""
        if device == "auto" and backend != "openvino" and cpu_precision != "bf16":
            active, note = _cuda(path, threads)
        if active is not None:
            session, why = active, note
        else:
            session, why = _on_cpu(path, threads, backend, cpu_precision, requests)
            if note:
                why = note if why == ASKED else f"{note}; {why}"
    session.backend["why"] = why
    return session


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


def _on_cpu(
    path: str | Path, threads: int | None, backend: str | None, cpu_precision: str | None, requests: int | None
) -> tuple[Session, str]:
    """The session that was asked for, or the profile's, and why."""
    why = ASKED
    if threads is None and backend is None and cpu_precision is None:
        profile, found = find_profile(path)
        if profile is not None:
            choice = profile.choice
            return _open(path, choice.backend, choice.cpu_precision, choice.threads, requests or choice.requests), found
        why = found or ASKED
    elif profile_path(path).is_file():
        why = f"{ASKED}; {profile_path(path).name} is left aside"
    return _open(path, backend or BACKENDS[0], cpu_precision or "f32", threads, requests), why


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
